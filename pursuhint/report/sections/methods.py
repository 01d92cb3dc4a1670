"""The report of a study of methods: effect of each loss with its interval, time and memory."""

from __future__ import annotations

from pursuhint._util.text import capital
from pursuhint.report.figures import Difference, comparison_plot, series_colors
from pursuhint.report.method_table import method_grid
from pursuhint.report.page_model import Card, ComparisonSection, ControlSection, FigureFolder, Page
from pursuhint.report.paired_differences import (
    differences_grid,
    level_of,
    level_text,
    notes_on_differences,
)
from pursuhint.report.repeat import repeat_methods
from pursuhint.report.text import (
    best_limit,
    count,
    data_text,
    environment_rows,
    equality_note,
    footer,
    grain_limit,
    image_rows,
    listed,
    mean_std,
    network_text,
    percent,
    teacher_sentence,
    teacher_text,
    teacher_warning,
    thousands,
    toy_limit,
    training_rows,
)
from pursuhint.study.bounds import FEWEST_SEEDS
from pursuhint.study.comparison_findings import dominated, few_seeds
from pursuhint.study.method_comparison import MethodComparison
from pursuhint.study.paired_statistics import DECIDED
from pursuhint.training.recipe.schema import Recipe

__all__ = ["findings"]

_CONTROLS = {
    "alone": "This is the student trained with cross-entropy only.",
    "kd": "This is what a method must beat to be worth more than the teacher's soft targets.",
}


def build_methods_page(study: MethodComparison, figure_folder: FigureFolder) -> Page:
    """The page of a study.

    Args:
        study: a finished study.
        figure_folder: where pictures go.
    """
    teacher, student, data = study.teacher, study.student, study.data
    recipe, seeds = Recipe.from_dict(study.recipe), count(len(study.seeds), "seed")
    return Page(
        title=f"What does {teacher.name} teach {student.name} by which method?",
        subtitle=f"A study of methods with PursuHint on {data.name}: {len(study.methods)} ways of training, "
        f"{seeds} each.",
        summary=(*teacher_warning(teacher.accuracy), *findings(study)),
        cards=(
            Card(
                percent(teacher.top1),
                f"{teacher.name}, the teacher, {thousands(teacher.parameters)} parameters",
            ),
            *(
                Card(mean_std(method.last), f"{student.name}, {method.title}")
                for method in study.methods
                if method.name in ("alone", "kd")
            ),
        ),
        question=(
            "A small network, the student, can learn from a large one, the teacher, in many ways. Which of "
            "them help here? The same student was trained by every method, everything else being equal.",
        ),
        setting_title="Teacher, student and data",
        setting=(
            ("Teacher", teacher_text(teacher.name, teacher.parameters, teacher.accuracy)),
            ("Student", network_text(student.name, student.parameters)),
            ("Data", data_text(data)),
            *image_rows(data.preprocessing, data.teacher_normalization),
            *training_rows(recipe),
            ("Augmentation", ", ".join(recipe.data.augment) or "none"),
            *[("Second view", ", ".join(recipe.data.second_view))] * bool(recipe.data.second_view),
            ("Weights", "the papers' weights, unless the name of a method says otherwise"),
            ("Seeds", ", ".join(map(str, study.seeds))),
        ),
        comparison=_comparison_section(study, figure_folder),
        limits=(
            "No method was tuned to these data: each has its paper's weights and hyperparameters, and the "
            "learning rate, schedule and length that all share. A method that does badly here may do well "
            "with others.",
            f"{seeds} cannot show small differences; how small is said beside every comparison. No evidence "
            "of a difference is not evidence of no difference.",
            f"Of {len(study.methods)} methods some are first and last by chance: the order of means is no "
            "ranking.",
            *grain_limit(data.test),
            *best_limit(study.chosen_on),
            *toy_limit(data.name),
        ),
        repeat=(
            "The settings that all methods share are in the folder's recipe.yaml. The same is done again by:",
        ),
        commands=(repeat_methods(study, recipe),),
        recipes=(("recipe.yaml of the study", recipe.dump()),),
        environment=environment_rows(study.environment, study.provenance),
        footer=footer(study.environment, study.provenance),
    )


def findings(study: MethodComparison) -> tuple[str, ...]:
    """Sentences: methods better or worse than each control, before and after correction; failed methods.

    And terms that make up nearly the whole loss of a method.
    """
    alone, taught = study.method("alone").last.mean, [m for m in study.methods if m.name != "alone"]
    best = max(taught, key=lambda method: method.last.mean, default=None)
    lines = []
    if best is not None and best.last.mean < alone:
        lines.append(
            f"Every method ended below the student alone ({percent(alone)} on average): the best of them, "
            f"{best.title}, at {percent(best.last.mean)}."
        )
    lines += [f"{capital(sentence)}." for sentence in few_seeds(len(study.seeds))]
    if study.sequential is not None:
        titles = {method.name: method.title for method in study.methods}
        lines.append(f"{capital(study.sequential.sentence(titles))}.")
    lines += [f"{teacher_sentence(study.teacher)}, the student alone {mean_std(study.method('alone').last)}."]
    titles = {method.name: method.title for method in study.methods}
    # With many methods some differ by chance, so both sets are named: significant at the level of the
    # intervals, and after Holm's correction for the number of methods.
    for control, pairs in study.against.items():
        name = "the student alone" if control == "alone" else titles[control]
        others = [pair for pair in pairs if pair.arm != "alone"]
        for verdict in ("better", "worse"):
            found = [pair for pair in others if pair.verdict == verdict]
            clear = [pair for pair in found if pair.survives_correction]
            if found:
                also = (
                    f"; after correction for {pairs[0].family or len(pairs)} comparisons: "
                    f"{listed([titles[pair.arm] for pair in clear]) or 'none'}"
                )
                lines.append(
                    f"{capital(verdict)} than {name} within their {level_text(pairs)} intervals: "
                    f"{listed([titles[pair.arm] for pair in found])}{also}."
                )
        equal = [pair for pair in others if pair.verdict == "equal" and pair.decided]
        if equal:
            lines.append(
                f"Equal to {name} within {equal[0].margin:g} points: "
                f"{listed([titles[pair.arm] for pair in equal])}."
            )
        enough = len(study.seeds) >= FEWEST_SEEDS
        if enough and others and all(pair.verdict in ("undecided", "unknown") for pair in others):
            lines.append(
                f"With {count(len(study.seeds), 'seed')} no method is significantly different from {name}."
            )
    lines += [f"{capital(sentence)}." for sentence in dominated(study.methods)]
    if study.failed:
        lines.append(f"Not trained: {listed(list(study.failed))}; the reasons are below.")
    return tuple(lines)


def _comparison_section(study: MethodComparison, figure_folder: FigureFolder) -> ComparisonSection:
    """Accuracy, time and memory of every method, ranked by mean accuracy, and differences to the controls.

    Figure and tables as in the comparison of hint positions: single runs on the left, joined by seed, and
    paired differences to the student alone with their intervals on the right.
    """
    grid, level = method_grid(study), level_text(study.against["alone"])
    titles = {method.name: _label(method.name, method.title) for method in study.methods}
    colors = {titles[name]: color for name, color in series_colors([m.name for m in study.methods]).items()}
    plot = comparison_plot(
        {titles[method.name]: method.last.values for method in study.ranked},
        control=titles["alone"],
        differences={
            titles[pair.arm]: Difference(pair.mean, pair.low, pair.high, pair.margin)
            for pair in study.against["alone"]
        },
        colors=colors,
    )
    return ComparisonSection(
        design=(
            f"Every method was trained with the same {count(len(study.seeds), 'seed')}. All runs of a seed "
            "start from the same weights and see the same images in the same order with the same "
            "augmentation, so they differ in the loss alone. The number that counts was fixed beforehand: "
            f"{study.outcome}. Differences are within a seed, in percentage points with their {level} "
            "intervals; * marks an interval without zero, ** one that also survives the correction (Holm) "
            "for the number of methods, = and == equality within the margin in the same "
            "way. Time is a run's as a multiple of the student alone's, memory what a "
            "training step keeps, without the teacher."
        ),
        table=grid,
        notes=tuple(f"{capital(name)} was not trained: {why}." for name, why in study.failed.items()),
        plot=figure_folder.add(
            "methods",
            plot,
            "Accuracy of every run by method, and differences to the student alone with intervals",
            "Left: every dot is one student, thin lines (of up to ten seeds) join those of the same seed, "
            "bars are means. Right: "
            f"mean difference to the student alone within a seed and its {level} interval, in percentage "
            "points; a filled mark has an interval without zero, and the band is the margin of equality. The "
            "intervals are not corrected for their number.",
        ),
        controls=tuple(_control_section(study, control) for control in study.against),
    )


def _label(name: str, title: str) -> str:
    """Title of a method in the figure, with the name by which the command line takes it."""
    return title if name in ("alone", "kd") else f"{title} ({name})"


def _control_section(study: MethodComparison, control: str) -> ControlSection:
    """Paired differences of every method to one control; sentences only for those that differ."""
    pairs = study.against[control]
    titles = {method.name: method.title for method in study.methods}
    names = {name: f"{title} ({name})" for name, title in titles.items()}
    return ControlSection(
        title=titles[control],
        text=f"{_CONTROLS[control]} {notes_on_differences(pairs)}"
        f"{equality_note(study.margin, level_of(pairs))}",
        sentences=tuple(
            f"{capital(sentence)}."
            for pair, sentence in zip(pairs, study.sentences[control], strict=True)
            if pair.verdict in DECIDED
        ),
        table=differences_grid("Method", names, pairs),
    )
