"""Own results beside published ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pursuhint._util.output_folder import kind_of
from pursuhint.errors import PursuhintError
from pursuhint.published import PublishedResult, Table, published_results, relative_improvement
from pursuhint.published.names import DATASETS, method_parts, published_method, published_network
from pursuhint.study.comparison import Comparison
from pursuhint.study.grids.results import ALONE, GridResult, changed_settings, grid_results, unfinished_cells
from pursuhint.study.method import Method
from pursuhint.study.method_comparison import METHODS_FILE, MethodComparison, MethodResult
from pursuhint.training import Recipe, RunRecord

__all__ = ["beside_published"]

_BEST = "best epoch"
_PERCENT = ("top1", "mean accuracy", "top1 error")


@dataclass(frozen=True)
class OwnResult:
    """One method on one pair of networks, over seeds.

    Attributes:
        dataset: as papers call it; our name where they have none.
        teacher: likewise; empty without one.
        student: likewise.
        method: likewise, such as ``AT+KD``.
        detail: what else distinguishes it, such as the arm of a comparison; may be empty.
        proposed: whether hint points were chosen by clustering.
        accuracies: top-1 after the last epoch in percent, one a seed.
        figures: that are published for it; None to look for them by data, networks and method.
    """

    dataset: str
    teacher: str
    student: str
    method: str
    detail: str
    proposed: bool
    accuracies: tuple[float, ...]
    figures: tuple[PublishedResult, ...] | None = None

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def pair(self) -> tuple[str, str, str]:
        """Data, teacher and student."""
        return self.dataset, self.teacher, self.student

    def text(self) -> str:
        """``70.66``, or mean, standard deviation and number of seeds."""
        if len(self.accuracies) == 1:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ± {statistics.stdev(self.accuracies):.2f} ({len(self.accuracies)})"


def beside_published(folders: Sequence[Path | str]) -> Table:
    """Results of runs and comparisons beside the figures that papers publish for the same thing.

    Runs that differ by their seed alone count as one method. A row stands for one published figure, or for a
    method without one; the difference is ours minus the published figure, in percentage points. Where the
    folders hold KD and the student alone for a pair, and KD gains something, the last column has the
    improvement over KD relative to that gain (see `pursuhint.published.relative_improvement`).

    Args:
        folders: run folders, and folders of comparisons of arms or methods, or of a grid, whose finished
            cells count.

    Raises:
        PursuhintError: a folder holds something else or nothing finished.
    """
    own = _merged(result for folder in folders for result in _read(Path(folder)))
    rows: list[tuple[str, ...]] = []
    for result in own:
        name = f"{result.method}, {result.detail}" if result.detail else result.method
        pair = " → ".join(filter(None, (result.teacher, result.student)))
        head = (name, f"{pair} on {result.dataset}", result.text())
        gain = _gain(result, own)
        found = published_for(result)
        for published in found:
            value = accuracy(published)
            where = f"{published.source}, table {published.table}"
            note = f" ({published.note})" if published.note else ""
            rows.append(
                (*head, f"{value:.2f}", f"{result.mean - value:+.2f}", published.method + note, where, gain)
            )
        if not found:
            rows.append((*head, "", "", "", "", gain))
    heads = ("method", "pair", "ours", "published", "difference", "as", "source", "relative to KD (%)")
    return Table("Top-1 accuracy (%) after the last epoch, beside published figures", heads, tuple(rows))


def remarks_on(folder: Path) -> list[str]:
    """What has to be known of a grid's folder: what differs from the papers, and what is left out."""
    if kind_of(folder) != "grid":
        return []
    changes, number = changed_settings(folder), unfinished_cells(folder)
    said = [f"{folder} is not as in the paper: {'; '.join(changes)}"] * bool(changes)
    left_out = f"{folder}: {number} unfinished cell{'s' * (number > 1)} left out"
    return [*said, *[left_out] * bool(number)]


def published_line(recipe: Recipe, *, methods: bool = True) -> str | None:
    """One line with the figures that papers publish for a recipe's data and networks; None without any.

    Args:
        recipe: of a run or a comparison.
        methods: whether its losses are asked for; otherwise the student alone and KD.
    """
    own = _of_recipe(recipe, ())
    asked = [own] if methods else [replace(own, method=name, proposed=False) for name in ("vanilla", "KD")]
    parts = []
    for result in asked:
        values: dict[str, list[str]] = {}
        for one in published_for(result):
            values.setdefault(f"{accuracy(one):.2f}", []).append(f"{one.source} {one.table}")
        if values:
            shown = ", ".join(f"{value} ({', '.join(where)})" for value, where in values.items())
            parts.append(f"{result.method} {shown}")
    if not parts:
        return None
    pair = " → ".join(filter(None, (own.teacher, own.student)))
    return f"published for {pair} on {own.dataset}: {'; '.join(parts)}; see pursuhint table"


def published_for(result: OwnResult) -> list[PublishedResult]:
    """Figures for the same data, networks and method.

    A student whose hint points were chosen is compared with figures of proposed positions, any other one
    with the rest.
    """
    if result.figures is not None:
        return list(result.figures)
    return [
        one
        for one in published_results()
        if (one.dataset, one.teacher, one.student) == result.pair
        and one.metric in _PERCENT
        and method_parts(one.method) == method_parts(result.method)
        and (result.method == "vanilla" or _is_proposed(one) == result.proposed)
    ]


def accuracy(one: PublishedResult) -> float:
    """A figure as top-1 accuracy in percent; some papers print the error."""
    assert one.number is not None
    return 100 - one.number if one.metric == "top1 error" else one.number


def _is_proposed(one: PublishedResult) -> bool:
    return one.method.startswith("PURSUhInT") or one.note.startswith("proposed")


def _gain(result: OwnResult, own: Sequence[OwnResult]) -> str:
    """The improvement over KD relative to that of KD, where own runs of both are there.

    Where KD is no better than the student alone, the share would be undefined, or positive for a loss.
    """
    reference = {
        one.method: one.mean
        for one in own
        if (one.pair == result.pair and one.method == "KD")
        or (one.method == "vanilla" and one.pair in (result.pair, (result.dataset, "", result.student)))
    }
    if len(reference) < 2 or result.method in reference or reference["KD"] <= reference["vanilla"]:
        return ""
    return f"{relative_improvement([result.mean], [reference['KD']], [reference['vanilla']]):+.1f}"


def _merged(results: Iterable[OwnResult]) -> list[OwnResult]:
    merged: dict[OwnResult, tuple[float, ...]] = {}
    for result in results:
        key = replace(result, accuracies=())
        merged[key] = merged.get(key, ()) + result.accuracies
    return [replace(key, accuracies=accuracies) for key, accuracies in merged.items()]


def _read(folder: Path) -> list[OwnResult]:
    if (folder / METHODS_FILE).exists():
        return _of_methods(MethodComparison.load(folder))
    if (folder / Comparison.FILE).exists():
        return _of_arms(Comparison.load(folder))
    if kind_of(folder) == "grid":
        return [one for result in grid_results(folder) for one in _of_grid(result)]
    if (folder / "settings.json").exists():
        raise PursuhintError(f"the study in {folder} is not finished; run its command again to resume it")
    run = RunRecord.load_finished(folder)
    return [_of_recipe(run.recipe, (run.metrics[-1]["test_top1"],))]


def _of_grid(result: GridResult) -> Iterator[OwnResult]:
    """The runs of a method in a grid, which know their figures: those of the best epoch, and all others."""
    records = [RunRecord.load_finished(run) for run in result.runs]
    method, _, note = result.row.partition(" | ")
    own = _of_recipe(records[0].recipe, ())
    if result.row != ALONE:
        own = replace(own, method=method, detail=note)
    figures = [one for one in result.figures if one.metric in _PERCENT and one.dataset == own.dataset]
    best = tuple(one for one in figures if _BEST in one.note)
    others = tuple(one for one in figures if _BEST not in one.note)
    if best:
        top1 = tuple(record.best["test_top1"] for record in records)
        yield replace(own, detail=note or _BEST, accuracies=top1, figures=best)
    if others or not best:
        top1 = tuple(record.last["test_top1"] for record in records)
        yield replace(own, accuracies=top1, figures=others)


def _of_recipe(recipe: Recipe, accuracies: tuple[float, ...], detail: str = "") -> OwnResult:
    losses = {name: loss.options for name, loss in recipe.losses.items() if loss.weight != 0}
    return OwnResult(
        DATASETS.get(recipe.data.name, recipe.data.name),
        published_network(recipe.teacher.network) if recipe.teacher is not None else "",
        published_network(recipe.student.network),
        published_method(losses, optimizer=recipe.optimizer.name),
        detail,
        recipe.hints is not None and recipe.hints.strategy == "chosen",
        accuracies,
    )


def _of_arms(comparison: Comparison) -> list[OwnResult]:
    recipe = Recipe.from_dict(comparison.recipe, source=str(comparison.path))
    found = []
    for arm in comparison.arms:
        one = _of_recipe(recipe, tuple(run.last_top1 for run in arm.runs), arm.title)
        if arm.name == "alone":
            one = replace(one, method="vanilla", detail="", proposed=False)
        elif arm.name == "kd":
            method = published_method(["kd"], optimizer=recipe.optimizer.name)
            one = replace(one, method=method, detail="", proposed=False)
        else:
            one = replace(one, proposed=arm.name in ("kmeans", "segments", "kmedoids", "hierarchical"))
        found.append(one)
    return found


def _of_methods(study: MethodComparison) -> list[OwnResult]:
    recipe = Recipe.from_dict(study.recipe, source=str(study.path))
    return [
        replace(
            _of_recipe(recipe, tuple(run.last_top1 for run in method.runs)),
            method=published_method(_losses_of(method), optimizer=recipe.optimizer.name),
            proposed=False,
        )
        for method in study.methods
    ]


def _losses_of(method: MethodResult) -> dict[str, dict[str, Any]]:
    """The losses of a method with their hyperparameters, as far as its name still gives them."""
    given = {}
    if method.name != ALONE:
        with suppress(PursuhintError):  # a recipe that is gone, a loss that was passed from Python
            given = Method.parse(method.name).losses
    return {
        name: given[name].options if name in given else {}
        for name, weight in method.weights.items()
        if weight
    }
