"""The report of a crossed comparison: the arms over sets of losses and lengths of training."""

from __future__ import annotations

from pursuhint._util.text import capital
from pursuhint.report.cells import Cell, cells_of, has_landscape, landscape_of, proposed_arms
from pursuhint.report.figures import grouped_bars, length_curves, pairs_by_scheme, position_landscape
from pursuhint.report.page_model import Card, CrossedSection, FigureFolder, Grid, Page, Picture
from pursuhint.report.repeat import repeat_crossed
from pursuhint.report.text import (
    best_limit,
    count,
    environment_rows,
    footer,
    grain_limit,
    listed,
    loss_text,
    mean_std,
    network_text,
    percent,
    teacher_text,
    teacher_warning,
    toy_limit,
)
from pursuhint.study.arm_result import description_of, title_of
from pursuhint.study.arms import is_of_sweep
from pursuhint.study.comparison import Comparison
from pursuhint.study.crossed import CrossedComparison
from pursuhint.study.crossed_summary import summary_of
from pursuhint.study.paired_statistics import DECIDED
from pursuhint.training.recipe.schema import Recipe

_SPREAD = "Bars and bands are one standard deviation over the seeds."


def build_crossed_page(crossed: CrossedComparison, figure_folder: FigureFolder) -> Page:
    """The page of a crossed comparison.

    Args:
        crossed: a finished one.
        figure_folder: where pictures go.
    """
    first = crossed.comparisons[0]
    teacher, student, data = first.teacher, first.student, first.data
    fewest = min(len(comparison.seeds) for comparison in crossed.comparisons)
    seeds = count(len(crossed.seeds), "seed")
    if fewest < len(crossed.seeds):
        seeds = f"{fewest} to {seeds}"
    recipe = Recipe.from_dict(crossed.recipe)
    arms = [arm for arm in first.arms if not is_of_sweep(arm.name)]
    return Page(
        title=f"Where should {teacher.name} teach {student.name}, by which losses and for how long?",
        subtitle=f"A comparison with PursuHint on {data.name}: {count(len(first.arms), 'arm')}, "
        f"{count(len(crossed.loss_sets), 'set')} of losses, {count(len(crossed.lengths), 'length')}, "
        f"{seeds} each.",
        summary=(*teacher_warning(teacher.accuracy), *summary_of(crossed)),
        cards=(Card(percent(teacher.top1), f"{teacher.name}, the teacher"),),
        question=(
            "Does the place of the hints matter, and does the answer depend on the losses and on the length "
            "of training? The same student was trained in each of these ways, everything else being equal:",
        ),
        arms=tuple((arm.title, description_of(arm.name)) for arm in arms),
        setting_title="Teacher, student and data",
        setting=(
            ("Teacher", teacher_text(teacher.name, teacher.parameters, teacher.accuracy)),
            ("Student", network_text(student.name, student.parameters)),
            (
                "Data",
                f"{data.name}: {data.train:,} training and {data.test:,} test images, "
                f"{data.num_classes} classes",
            ),
            ("Sets of losses", "; ".join(_losses(crossed))),
            ("Lengths", f"{', '.join(map(str, crossed.lengths))} epochs"),
            ("Seeds", ", ".join(map(str, crossed.seeds))),
        ),
        crossed=_section(crossed, figure_folder),
        limits=(
            _chance(crossed, seeds),
            "A single hint at a layer says what that layer teaches alone, not what it adds to others.",
            *grain_limit(data.test),
            *best_limit(first.chosen_on),
            *toy_limit(data.name),
        ),
        repeat=("The same is done again by:",),
        commands=(repeat_crossed(crossed),),
        recipes=(("recipe.yaml of the study, without the losses", recipe.dump()),),
        environment=environment_rows(first.environment, crossed.provenance),
        footer=footer(first.environment, crossed.provenance),
    )


def _chance(crossed: CrossedComparison, seeds: str) -> str:
    """What the corrections cover."""
    cells, few = len(crossed.cells), f"{capital(seeds)} cannot show small differences"
    if crossed.error_over == "all":
        return (
            f"{few}. The chance of any wrong better or worse, and of any wrong equal, is bounded over all "
            f"{cells} comparisons together: each has an equal part of it."
        )
    return (
        f"{few}, and of {cells} comparisons some differ by chance: each is corrected for its own arms only."
    )


def _losses(crossed: CrossedComparison) -> list[str]:
    """The losses of every set with their weights."""
    found = {}
    for cell, comparison in zip(crossed.cells, crossed.comparisons):
        losses = Recipe.from_dict(comparison.recipe).losses
        weights = [
            f"{loss_text(name, loss.options)} ({loss.weight:g})"
            for name, loss in losses.items()
            if loss.weight is not None
        ]
        found[cell.loss_set] = f"{cell.loss_set}: {listed(weights)}"
    return list(found.values())


def _section(crossed: CrossedComparison, figure_folder: FigureFolder) -> CrossedSection:
    arms = [arm.name for arm in crossed.comparisons[0].arms if not is_of_sweep(arm.name)]
    rows = tuple(
        (capital(title_of(arm)), *(mean_std(comparison.arm(arm).last) for comparison in crossed.comparisons))
        for arm in arms
    )
    heads = ("Arm", *(cell.title for cell in crossed.cells))
    return CrossedSection(
        design="All students of a seed, over all sets of losses and lengths, start from the same weights and "
        f"share one pass of the teacher. The number that counts was fixed beforehand: {crossed.outcome}.",
        table=Grid(heads, rows, frozenset(range(1, len(heads)))),
        pictures=tuple(_pictures(crossed, arms, figure_folder)),
        cells=Grid(
            ("Losses and length", "Differences that are decided", "Report"),
            tuple(
                (cell.title, _decided(comparison), f"{cell.folder}/report.html")
                for cell, comparison in zip(crossed.cells, crossed.comparisons)
            ),
        ),
    )


def _decided(comparison: Comparison) -> str:
    """The verdicts of a cell that are not open, in words."""
    pairs = [pair for pairs in comparison.against.values() for pair in pairs if pair.verdict in DECIDED]
    said = [f"{title_of(pair.arm)} {pair.verdict} than {title_of(pair.control)}" for pair in pairs]
    return "; ".join(said).replace("equal than", "equal to") or "none"


def _pictures(
    crossed: CrossedComparison, arms: list[str], figure_folder: FigureFolder
) -> list[tuple[str, Picture]]:
    """Bars, baseline beside proposed, accuracy against length, landscapes: those that the study has."""
    found = []
    cells = cells_of(crossed)
    if arms:
        groups = {cell.title: {title_of(arm): cell.values(arm) for arm in arms} for cell in cells}
        bars = grouped_bars(groups)
        cut = " The axis does not begin at zero." if bars.axes[0].get_ylim()[0] > 0 else ""
        caption = f"Mean accuracy of every arm by losses and length. {_SPREAD}{cut}"
        picture = figure_folder.add("bars", bars, "Bars of all arms in groups", caption)
        found.append(("Arms by losses and length", picture))
    for number, proposed in enumerate(proposed_arms(arms), 1):
        if "conventional" in arms:
            schemes = {cell.title: (cell.values("conventional"), cell.values(proposed)) for cell in cells}
            names = (title_of("conventional"), title_of(proposed))
            picture = figure_folder.add(
                f"baseline-{number}",
                pairs_by_scheme(schemes, names=names),
                f"{capital(names[0])} beside {names[1]} positions for every set of losses and length",
                "Large marks are means, small ones single seeds.",
            )
            found.append((f"{capital(names[0])} beside {names[1]}", picture))
    if arms and len(crossed.lengths) > 1:
        for loss_set in crossed.loss_sets:
            lines = {
                title_of(arm): {
                    cell.epochs: cell.comparison.arm(arm).last.mean
                    for cell in cells
                    if cell.loss_set == loss_set
                }
                for arm in arms
            }
            picture = figure_folder.add(
                f"lengths-{crossed.loss_sets.index(loss_set) + 1}",
                length_curves(lines),
                f"Accuracy of every arm against the length of training with {loss_set}",
                f"Mean accuracy after the last epoch, by the length of training, with {loss_set}.",
            )
            found.append((f"Accuracy against length: {loss_set}", picture))
    for number, cell in enumerate(cells, 1):
        landscape = landscape_picture(cell, figure_folder, f"landscape-{number}")
        if landscape is not None:
            found.append((f"Every layer alone: {cell.title}", landscape))
    return found


def landscape_picture(cell: Cell, figure_folder: FigureFolder, name: str) -> Picture | None:
    """Accuracy with a single hint at every layer and the positions of all other arms; None without a sweep.

    Args:
        cell: of the arms.
        figure_folder: where the picture goes.
        name: of its file.
    """
    if not has_landscape(cell):
        return None
    landscape = landscape_of(cell)
    others = ", and the positions of the other arms" if landscape.arms else ""
    below = " Below, where the other arms have theirs." if landscape.arms else ""
    return figure_folder.add(
        name,
        position_landscape(landscape.layers, landscape.arms, baseline=landscape.baseline),
        f"Accuracy with a single hint at every layer{others}",
        f"Accuracy of students with one hint at one layer. {_SPREAD}{below}",
    )
