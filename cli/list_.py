"""``pursuhint list``"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import click

from .options import apply, examples
from .terminal import columns, echo
from .titles import method_of, title_of


def _from_others(kind: str, builtin: Iterable[str]) -> list[dict[str, Any]]:
    """Names that other distributions register, with the distribution; their code is not imported."""
    from pursuhint._util.registry import plugins

    taken = {name.lower() for name in builtin}
    rows: list[dict[str, Any]] = []
    for plugin in plugins(kind):
        row = {"name": plugin.name, "from": plugin.distribution}
        clash = {"problem": "a built-in has this name"} if plugin.name.lower() in taken else {}
        rows.append(row | clash)
    return rows


def _models(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.models import MODELS, create_model, model_names

    rows: list[dict[str, Any]] = [{"name": name, "about": title_of(MODELS[name])} for name in model_names()]
    if verbose:
        from torch import device

        from pursuhint.models.checkpoint import count_parameters

        for row in rows:
            with device("meta"):
                row["parameters"] = count_parameters(create_model(row["name"], num_classes=100))
    rows += _from_others("network", MODELS)
    rows += [
        {"name": "wrn_DEPTH_WIDTH", "about": "any wide ResNet of depth 6n + 4"},
        {"name": "torchvision:NAME", "about": "any classification network of torchvision"},
        {"name": "timm:NAME", "about": "any network of timm (pip install 'pursuhint[timm]')"},
        {"name": "hf:NAME", "about": "any network of transformers (pip install 'pursuhint[hf]')"},
        {"name": "package.module:factory", "about": "your own code, imported and called"},
    ]
    return rows


def _datasets(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint._util.registry import resolve
    from pursuhint.data import DATASETS

    rows: list[dict[str, Any]] = [
        {"name": name, "about": title_of(DATASETS[name]).removeprefix("Load ")} for name in DATASETS
    ]
    if verbose:
        for row in rows:
            row["about"] = (resolve(DATASETS[row["name"]]).__doc__ or "").strip().splitlines()[0]
    return rows + _from_others("data set", DATASETS)


def _losses(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.losses import ALIASES, LOSSES

    rows: list[dict[str, Any]]
    if not verbose:
        rows = [
            {"name": name, "title": method_of(entry), "about": title_of(entry)}
            for name, entry in LOSSES.items()
        ]
        for row in rows:
            row["about"] += "".join(f"; also {alias}" for alias in ALIASES if ALIASES[alias] == row["name"])
        return rows + _from_others("loss", LOSSES)
    from pursuhint.distillation import summarize_losses

    rows = [
        {
            "name": loss.name,
            "title": loss.info.title,
            "compares": loss.info.compares,
            "taps": loss.info.taps,
            "learns": loss.info.learns,
            "default_weight": loss.info.default_weight,
            "weight_of_ce_beside_it": loss.ce_weight,
            "weights_beside_another_loss": loss.info.papers_weights(alone=False),
            "stages": [
                *({"name": stage.name, "epochs": stage.epochs} for stage in loss.stages),
                {"name": "main", "contains_loss": not loss.info.warm_up_only},
            ],
            "batch_coupled": loss.info.batch_coupled,
            "bytes_per_sample": loss.bytes_per_sample,
            "hyperparameters": loss.options,
            "paper": loss.info.paper,
        }
        for loss in summarize_losses()
    ]
    return rows + _from_others("loss", LOSSES)


def _loss_lines(row: dict[str, Any]) -> list[str]:
    """A loss in a few lines: features, weight, learned parts, stages, paper."""
    beside = row["weight_of_ce_beside_it"]
    weight = f"weight {row['default_weight']:g}, " + (
        "contains cross-entropy" if beside is None else f"cross-entropy {beside:g}"
    )
    own, of_ce = row["weights_beside_another_loss"]
    if own != row["default_weight"]:
        weight += f" (beside another loss {own:g} and {of_ce:g})"
    *warm_ups, main = row["stages"]
    stages = [f"{stage['epochs']} epochs of {stage['name']}" for stage in warm_ups]
    stages += ["main stage" if main["contains_loss"] else "main stage without it"]
    notes = [", then ".join(stages)]
    notes += [f"learns {row['learns']}"] if row["learns"] else []
    notes += ["couples the samples of a batch"] if row["batch_coupled"] else []
    notes += [f"keeps {row['bytes_per_sample']:g} bytes a sample"] if row["bytes_per_sample"] else []
    options = ", ".join(f"{key}={_plain(value)}" for key, value in row["hyperparameters"].items())
    return [
        f"{row['title']}: looks at {row['taps']}; {weight}",
        "; ".join(notes),
        *([f"options: {options}"] if options else []),
        row["paper"],
    ]


def _plain(value: Any) -> str:
    """A hyperparameter as it is typed."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _metrics(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.similarity import METRICS, get_metric

    rows: list[dict[str, Any]] = [{"name": name, "about": title_of(METRICS[name])} for name in METRICS]
    if verbose:
        for row in rows:
            metric = get_metric(row["name"])
            row["measures"] = _first_sentence(metric.pair)
            row["needs"] = [
                *["the features of all images in memory"] * (metric.needs == "rows"),
                *[f"{metric.samples_per_feature} images for each feature of the widest layer, or more"]
                * (metric.samples_per_feature > 0),
            ]
            row["note"] = "" if metric.symmetric else "that of x and y is not that of y and x"
    return rows + _from_others("metric", METRICS)


def _first_sentence(function: Callable[..., Any]) -> str:
    """The first sentence of a docstring as plain text."""
    text = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    return re.sub(r",? *:math:`[^`]*`", "", text).replace("`", "").removesuffix(".")


def _recipes(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.recipes import RECIPES

    rows: list[dict[str, Any]] = [{"name": name, "about": about} for name, about in RECIPES.items()]
    if verbose:
        from pursuhint.training import Recipe
        from pursuhint.training.recipe.inheritance import variant_names

        for row in rows:
            recipe = Recipe.load(row["name"])
            teacher = f"{recipe.teacher.network} -> " if recipe.teacher else ""
            losses = " + ".join(recipe.losses) or "ce"
            networks = f"{teacher}{recipe.student.network}"
            row["settings"] = f"{recipe.data.name}, {networks}, {losses}, {recipe.epochs} epochs"
            row["variants"] = list(variant_names(row["name"]))
    return rows


def _lines(row: dict[str, Any]) -> list[str]:
    """The facts of a row, one line each, without empty ones."""
    texts = {key: ", ".join(value) if isinstance(value, list) else value for key, value in row.items()}
    title = texts.pop("title", "")
    if title:
        texts["about"] = f"{title}: {texts['about']}"
    lines = [
        f"{key.replace('_', ' ')}: {value}" for key, value in texts.items() if key != "name" and value != ""
    ]
    return [line.removeprefix("about: ") for line in lines]


def _arms(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.study.arms import ARMS, PATTERNS

    rows: list[dict[str, Any]] = [{"name": name, "about": arm.description} for name, arm in ARMS.items()]
    if verbose:
        for row, arm in zip(rows, ARMS.values()):
            row["needs"] = [
                *["an analysis"] * arm.clusters,
                *["training images"] * arm.images,
                *["the number of hints"] * arm.takes_k,
            ]
    return [*rows, *({"name": form, "about": about} for form, about in PATTERNS.items())]


def _figures(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.report import FIGURES

    rows: list[dict[str, Any]] = [{"name": name, "about": figure.about} for name, figure in FIGURES.items()]
    if verbose:
        for row, figure in zip(rows, FIGURES.values()):
            row["drawn_from"], row["published"] = figure.takes, figure.paper
            row["options"] = [f"--{setting.replace('_', '-')}" for setting in figure.settings]
    return rows


def _tables(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.published import paper_grids

    rows: list[dict[str, Any]] = [
        {"name": name, "about": grid.title} for name, grid in paper_grids().items() if grid.trains
    ]
    if verbose:
        for row in rows:
            grid = paper_grids()[row["name"]]
            trained = len(grid.cells) + len({*grid.teachers, *grid.students})
            row["trains"] = f"{trained} cells a seed, {grid.seeds} seeds"
            row["then"] = "; ".join(grid.commands)
            row["remark"] = grid.remark
    return rows


KINDS: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
    "models": _models,
    "datasets": _datasets,
    "losses": _losses,
    "metrics": _metrics,
    "recipes": _recipes,
    "arms": _arms,
    "figures": _figures,
    "tables": _tables,
}


@click.command(
    "list",
    epilog=examples("pursuhint list losses --verbose", "pursuhint list models"),
)
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@click.option("--verbose", "-v", is_flag=True, help="Say more about each.")
@apply("json")
def command(kind: str, verbose: bool, as_json: bool) -> None:
    """List the names of one KIND of thing, with a line about each.

    KIND is models, datasets, losses, metrics, recipes, arms (ways of choosing hint positions), figures (of
    the papers, to draw) or tables (of the papers, to train).
    """
    rows = KINDS[kind](verbose)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    room = max(min(columns() or 100, 100) - 2, width + 20)
    for row in rows:
        lines = _loss_lines(row) if "paper" in row else _lines(row)
        head, *rest = [part for line in lines for part in _wrapped(line, room - width)] or [""]
        echo(f"{row['name']:{width}}  {head}".rstrip())
        for line in rest:
            echo(" " * (width + 2) + line)


def _wrapped(line: str, width: int) -> list[str]:
    """Wrap a line at a width, with indented continuation lines."""
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
