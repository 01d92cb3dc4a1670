"""``pursuhint list``"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from .options import apply, examples

__all__ = ["command"]


def _models(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.models import create_model, model_names

    rows: list[dict[str, Any]] = [{"name": name} for name in model_names()]
    if verbose:
        from torch import device

        from pursuhint.models.checkpoint import count_parameters

        for row in rows:
            with device("meta"):
                row["parameters"] = count_parameters(create_model(row["name"], num_classes=100))
    rows += [
        {"name": "wrn_DEPTH_WIDTH", "about": "any wide ResNet of depth 6n + 4"},
        {"name": "torchvision:NAME", "about": "any classification network of torchvision"},
        {"name": "timm:NAME", "about": "any network of timm (pip install 'pursuhint[timm]')"},
        {"name": "package.module:factory", "about": "your own code, imported and called"},
    ]
    return rows


def _datasets(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.data import DATASETS
    from pursuhint.tables import resolve

    rows: list[dict[str, Any]] = [{"name": name} for name in DATASETS]
    if verbose:
        for row in rows:
            row["about"] = (resolve(DATASETS[row["name"]]).__doc__ or "").strip().splitlines()[0]
    return rows


def _losses(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.losses import LOSSES, get_loss

    rows: list[dict[str, Any]] = [{"name": name} for name in LOSSES]
    if verbose:
        for row in rows:
            loss = get_loss(row["name"])
            row |= {
                "title": loss.title,
                "looks_at": loss.looks_at,
                "default_weight": loss.default_weight,
                "weight_of_ce_beside_it": "contains it"
                if loss.contains_classification
                else loss.default_ce_weight,
                "paper": loss.paper,
            }
    return rows


def _metrics(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.similarity import METRICS, get_metric

    rows: list[dict[str, Any]] = [{"name": name} for name in METRICS]
    if verbose:
        for row in rows:
            row["about"] = get_metric(row["name"]).title
    return rows


def _recipes(verbose: bool) -> list[dict[str, Any]]:
    from pursuhint.recipes import RECIPES

    rows: list[dict[str, Any]] = [{"name": name} for name in RECIPES]
    if verbose:
        from pursuhint.training import Recipe

        for row in rows:
            recipe = Recipe.load(row["name"])
            teacher = f"{recipe.teacher.network} -> " if recipe.teacher else ""
            losses = " + ".join(recipe.losses) or "ce"
            networks = f"{teacher}{recipe.student.network}"
            row["about"] = f"{recipe.data.name}, {networks}, {losses}, {recipe.epochs} epochs"
    return rows


KINDS: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
    "models": _models,
    "datasets": _datasets,
    "losses": _losses,
    "metrics": _metrics,
    "recipes": _recipes,
}


@click.command(
    "list",
    epilog=examples("pursuhint list losses --verbose", "pursuhint list models"),
    short_help="List models, data sets, losses, metrics or recipes.",
)
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--verbose", "-v", is_flag=True, help="Say more about each.")
@apply("json")
def command(kind: str, verbose: bool, as_json: bool) -> None:
    """List what goes by name: models, datasets, losses, metrics or recipes."""
    rows = KINDS[kind](verbose)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        head, *rest = [
            f"{key.replace('_', ' ')}: {value}" for key, value in row.items() if key != "name"
        ] or [""]
        click.echo(f"{row['name']:{width}}  {head.removeprefix('about: ')}".rstrip())
        for line in rest:
            click.echo(" " * (width + 2) + line)
