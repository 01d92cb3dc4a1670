"""The report on a comparison or a demo: accuracy of one student by the positions of its hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from pursuhint._util.text import capital
from pursuhint.analysis.result import Analysis
from pursuhint.report.cells import cell_of
from pursuhint.report.figures import (
    Difference,
    Series,
    comparison_plot,
    position_map,
    series_colors,
    training_curves,
)
from pursuhint.report.folder_contents import Contents
from pursuhint.report.page_model import (
    Card,
    ComparisonSection,
    ControlSection,
    FigureFolder,
    Grid,
    Page,
    Picture,
)
from pursuhint.report.paired_differences import (
    differences_grid,
    level_of,
    level_text,
    notes_on_differences,
)
from pursuhint.report.repeat import repeat_comparison
from pursuhint.report.sections.analysis import build_analysis_section, findings_of_choice
from pursuhint.report.sections.crossed import landscape_picture
from pursuhint.report.text import (
    HINTS_IN_SHORT,
    best_limit,
    count,
    data_text,
    environment_rows,
    equality_note,
    footer,
    grain_limit,
    image_rows,
    listed,
    loss_text,
    mean_std,
    metric_title,
    network_text,
    percent,
    teacher_sentence,
    teacher_warning,
    thousands,
    toy_limit,
    training_rows,
    zoom_note,
)
from pursuhint.study.arm_result import ArmResult, description_of, first_of_same, title_of
from pursuhint.study.arms import WITHOUT_HINTS, is_of_sweep
from pursuhint.study.bounds import FEWEST_SEEDS
from pursuhint.study.comparison import Comparison
from pursuhint.study.sequential import ERROR
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.record import RunRecord

_CHOSEN = ("kmeans", "segments")


def build_comparison_page(contents: Contents, comparison: Comparison, figure_folder: FigureFolder) -> Page:
    """The page of a comparison, or of a demo, which also has its teacher's training.

    Args:
        contents: the folder.
        comparison: the comparison in that folder.
        figure_folder: where pictures go.
    """
    teacher, student, data = comparison.teacher, comparison.student, comparison.data.name
    analysis, demo = contents.analysis, contents.kind == "demo"
    recipe = Recipe.from_dict(comparison.recipe)
    repeat, command = _again(contents, comparison, recipe)
    recipes = [("recipe.yaml of the comparison", recipe.dump())]
    if contents.teacher is not None:
        recipes.insert(0, ("recipe.yaml of the teacher", contents.teacher.recipe.dump()))
    return Page(
        title=f"Where should {teacher.name} give its hints to {student.name}?",
        subtitle=f"{'The demo' if demo else 'A comparison'} of PursuHint on {data}: "
        f"{len(comparison.arms)} ways of training, {count(len(comparison.seeds), 'seed')} each.",
        summary=(*teacher_warning(teacher.accuracy), *_summary(comparison, analysis)),
        cards=(
            Card(
                percent(teacher.top1),
                f"{teacher.name}, the teacher, {thousands(teacher.parameters)} parameters",
            ),
            *(
                Card(mean_std(arm.last), f"{student.name}, {arm.title}")
                for arm in comparison.arms
                if arm.name in ("alone", "conventional", "kmeans")
            ),
        ),
        question=(
            f"{HINTS_IN_SHORT} Does the place of the hints matter?",
            "To find out, the same student was trained in each of these ways, everything else being equal:",
        ),
        arms=tuple(
            (
                arm.title,
                description_of(arm.name),
            )
            for arm in _main_arms(comparison)
        ),
        setting_title="Teacher, student and data",
        setting=_setting(comparison, recipe, contents.teacher),
        teacher_curves=None
        if contents.teacher is None
        else figure_folder.add(
            "teacher-training",
            training_curves([Series(teacher.name, (contents.teacher.metrics,))]),
            "Accuracy and loss of the teacher by epoch",
            f"Training of the teacher, {teacher.name}. {zoom_note(len(contents.teacher.metrics))}",
        ),
        analysis=None if analysis is None else build_analysis_section(analysis, figure_folder),
        comparison=_comparison_section(comparison, contents.arms or {}, analysis, figure_folder),
        limits=(
            f"{count(len(comparison.seeds), 'seed')} cannot show small differences; how small is said beside "
            "every comparison. No evidence of a difference is not evidence of no difference.",
            "The intervals take the differences between seeds to be roughly normal, which so few of them can "
            "neither confirm nor refute.",
            "All arms share one teacher and one student. With another trained teacher the similarities, the "
            "positions and the accuracies may be others.",
            *grain_limit(comparison.data.test),
            *best_limit(comparison.chosen_on),
            *toy_limit(data),
        ),
        repeat=(repeat,),
        commands=(command,),
        recipes=tuple(recipes),
        environment=environment_rows(comparison.environment, comparison.provenance),
        footer=footer(comparison.environment, comparison.provenance),
    )


def _again(contents: Contents, comparison: Comparison, recipe: Recipe) -> tuple[str, str]:
    """A sentence and the command that repeats the comparison."""
    if contents.kind == "demo":
        text = (
            "Nothing is needed but PursuHint itself; the data come with scikit-learn. All of this is made by:"
        )
        return text, "pursuhint demo"
    text = "The settings that all arms share are in the folder's recipe.yaml. The same is done again by:"
    if comparison.sequential is not None and comparison.sequential.error != ERROR:
        text = (
            "This is one comparison of a study that shares its chance of a wrong answer over all of them "
            "(--error-over all): the study's page has the command that gives these verdicts, the following "
            "one the same students."
        )
    return text, repeat_comparison(comparison, recipe)


def answer(comparison: Comparison) -> str:
    """One sentence: whether hints at the chosen positions gave better or worse students than the controls."""
    # Arms that share their runs differ by 0 for every seed: there is nothing to compare.
    pairs = [
        pair
        for pairs in comparison.against.values()
        for pair in pairs
        if pair.arm in _CHOSEN and (pair.std != 0 or pair.verdict == "equal")
    ]
    if not pairs:
        return "The chosen positions could not be compared with another way of placing the hints."
    if len(comparison.seeds) < FEWEST_SEEDS:
        return (
            f"{capital(count(len(comparison.seeds), 'seed'))} can show whether everything works, not whether "
            "the place of the hints matters."
        )
    # Three answers, by strength: significant after Holm's correction, before it only, or not at all.
    found = [pair for pair in pairs if pair.verdict in ("better", "worse")]
    clear = [pair for pair in found if pair.survives_correction is not False]
    if clear:
        said = [f"{title_of(p.arm)} is {p.verdict} than {title_of(p.control)}" for p in clear]
        return f"The place of the hints made a difference here: {listed(said)}."
    names = {"conventional": "the conventional ones", "centers": "the stage centres"}
    controls = listed([names.get(name, title_of(name)) for name in dict.fromkeys(p.control for p in pairs)])
    if found:
        return (
            f"There is a hint, but no more, of a difference between the chosen positions and {controls}: it "
            "does not survive the correction for several comparisons."
        )
    if all(pair.verdict == "equal" and pair.decided for pair in pairs):
        return (
            f"The place of the hints made no difference that matters here: the chosen positions and "
            f"{controls} are equal within {pairs[0].margin:g} points."
        )
    return (
        f"In {count(len(comparison.seeds), 'seed')} there is no evidence that the chosen positions teach "
        f"better or worse than {controls}."
    )


def _summary(comparison: Comparison, analysis: Analysis | None) -> tuple[str, ...]:
    """Sentences at the top: the answer, the networks, the student with and without hints, each comparison."""
    arms = {arm.name: arm for arm in comparison.arms}
    teacher, student = comparison.teacher, comparison.student
    lines = [
        *(f"{capital(finding)}." for finding in comparison.findings),
        f"{capital(comparison.result)} (means over {count(len(comparison.seeds), 'seed')}).",
        answer(comparison),
        f"{teacher_sentence(teacher)}. The student, {student.name}, has "
        f"{teacher.parameters / student.parameters:.1f} times fewer parameters.",
    ]
    # Arms with identical hint points share their runs; each result is said once, under the first arm.
    first = first_of_same(comparison.arms)
    for control, sentences in comparison.sentences.items():
        pairs = comparison.against[control] if sentences else ()
        for pair, sentence in zip(pairs, sentences, strict=True):
            if pair.arm == "alone" or (pair.arm in _CHOSEN and first[pair.arm] == pair.arm):
                lines.append(f"{capital(sentence)}.")
    chosen = tuple(capital(title_of(name)) for name in _CHOSEN)
    lines += [note for note in comparison.notes if note.startswith(chosen)]
    if analysis is not None and "kmeans" in arms:
        lines += findings_of_choice(analysis, comparison.metric)
    return tuple(lines)


def _setting(
    comparison: Comparison, recipe: Recipe, teacher: RunRecord | None
) -> tuple[tuple[str, str], ...]:
    data, metric = comparison.data, metric_title(comparison.metric)
    position = {"center": "centre"}.get(comparison.position, comparison.position)
    trained = "" if teacher is None else f", trained here for {count(len(teacher.metrics), 'epoch')}"
    losses = listed(
        [
            f"{loss_text(name, config.options)} (weight {config.weight:g})"
            for name, config in recipe.losses.items()
            if config.weight is not None
        ]
    )
    return (
        ("Teacher", f"{network_text(comparison.teacher.name, comparison.teacher.parameters)}{trained}"),
        ("Student", network_text(comparison.student.name, comparison.student.parameters)),
        ("Data", data_text(data)),
        *image_rows(data.preprocessing, data.teacher_normalization),
        ("Losses", f"{losses}; the student alone has cross-entropy only"),
        *training_rows(recipe),
        ("Hints", f"k = {comparison.k}; chosen by {metric}, {position} of a group"),
        ("Seeds", ", ".join(map(str, comparison.seeds))),
    )


def _comparison_section(
    comparison: Comparison,
    runs: Mapping[str, tuple[RunRecord, ...]],
    analysis: Analysis | None,
    figure_folder: FigureFolder,
) -> ComparisonSection:
    """Accuracies of all runs, differences to each control, hint positions, and training curves.

    The figure shows single runs on the left, because a mean of few seeds hides their spread; lines join the
    runs of a seed, because only differences within a seed are free of the variance between seeds. Its right
    half shows these differences with their intervals against the first control; tables have all controls.
    """
    # One color for each arm in all figures.
    colors = {
        title_of(name): color
        for name, color in series_colors([a.name for a in _main_arms(comparison)]).items()
    }
    control = next(iter(comparison.against))
    level = level_text(comparison.against[control])
    plot = comparison_plot(
        {arm.title: arm.last.values for arm in _main_arms(comparison)},
        control=title_of(control),
        differences={
            title_of(pair.arm): Difference(pair.mean, pair.low, pair.high, pair.margin)
            for pair in comparison.against[control]
        },
        colors=colors,
    )
    longest = max(len(run.metrics) for every in runs.values() for run in every)
    return ComparisonSection(
        design=(
            f"Every arm was trained with the same {count(len(comparison.seeds), 'seed')}. All arms of a seed "
            "start from the same weights and see the same images in the same order with the same "
            "augmentation, so they differ in the hints alone. The number that counts was fixed beforehand: "
            f"{comparison.outcome}."
        ),
        table=_arms_grid(comparison),
        notes=comparison.notes,
        plot=figure_folder.add(
            "comparison",
            plot,
            "Accuracy of every run by arm, and differences to the control with intervals",
            "Left: every dot is one student, thin lines (of up to ten seeds) join those of the same seed, "
            "bars are means. Right: "
            f"mean difference to {title_of(control)} within a seed and its {level} interval, in percentage "
            "points; a filled mark has an interval without zero, and the band is the margin of "
            "equality. The intervals are not corrected for their "
            "number.",
        ),
        controls=tuple(_control_section(comparison, name) for name in comparison.against),
        map=_map(comparison, analysis, figure_folder),
        landscape=landscape_picture(cell_of(comparison), figure_folder, "landscape"),
        curves=figure_folder.add(
            "training-students",
            _curves(comparison, runs, colors),
            "Test accuracy and loss of the students by epoch",
            "Test accuracy and test loss of the students by epoch: bold lines are means over "
            "the seeds; thin lines are seeds, or shades reach from the lowest seed to the highest. "
            f" {zoom_note(longest)}",
        ),
    )


def _main_arms(comparison: Comparison) -> Sequence[ArmResult]:
    """The arms without those of a sweep, which have a picture of their own; all, if there is nothing else."""
    return [arm for arm in comparison.arms if not is_of_sweep(arm.name)] or comparison.arms


def _curves(
    comparison: Comparison, runs: Mapping[str, tuple[RunRecord, ...]], colors: Mapping[str, str]
) -> Figure:
    """One curve for every set of runs, named after all arms that share the runs."""
    first = first_of_same(comparison.arms)
    series, shades = [], {}
    for arm in _main_arms(comparison):
        if first[arm.name] == arm.name:
            title = " = ".join(title_of(name) for name, other in first.items() if other == arm.name)
            series.append(Series(title, tuple(run.metrics for run in runs[arm.name])))
            shades[title] = colors[arm.title]
    return training_curves(series, colors=shades)


def _arms_grid(comparison: Comparison) -> Grid:
    """Hint positions and test accuracies by arm: mean and deviation, and every seed's value."""
    rows = []
    for arm in comparison.arms:
        where = arm.positions_text
        if len(arm.positions) == 1 and arm.runs[0].modules:
            where += f" ({', '.join(arm.runs[0].modules)})"
        values = ", ".join(f"{value:.2f}" for value in arm.last.values)
        rows.append((capital(arm.title), where, mean_std(arm.last), values, mean_std(arm.best)))
    heads = ("Arm", "Hints at", "Last epoch", "By seed", "Best epoch")
    return Grid(heads, tuple(rows), frozenset({2, 4}))


def _control_section(comparison: Comparison, control: str) -> ControlSection:
    """Paired differences of every arm to one control, with intervals, p-values and detectable differences."""
    pairs = comparison.against[control]
    why = {
        "conventional": "common practice, hints at the stage ends",
        "centers": "what clustering must beat: hints that are moved to centres without looking at similarity",
    }.get(control, "the first arm of this comparison")
    names = {pair.arm: capital(title_of(pair.arm)) for pair in pairs}
    return ControlSection(
        title=title_of(control),
        text=f"This is {why}. {notes_on_differences(pairs)}"
        f"{equality_note(comparison.margin, level_of(pairs))}",
        sentences=tuple(f"{capital(sentence)}." for sentence in comparison.sentences[control]),
        table=differences_grid("Arm", names, pairs),
    )


def _map(comparison: Comparison, analysis: Analysis | None, figure_folder: FigureFolder) -> Picture | None:
    """Hint positions along the depth of the teacher, one row per arm; random arms have one per seed."""
    rows: dict[str, Sequence[int]] = {}
    clusters: dict[str, Sequence[int]] = {}
    # Clusters are drawn by position, so a layer without a cluster (excluded) leaves all of them out.
    found = (
        {}
        if analysis is None or analysis.layers.excluded
        else analysis.clusters.clusterings.get(comparison.metric, {})
    )
    for arm in _main_arms(comparison):
        if arm.name in WITHOUT_HINTS:
            continue
        for entry, run in zip(arm.positions, arm.runs, strict=False):
            name = arm.title if len(arm.positions) == 1 else f"{arm.title}, seed {run.seed}"
            rows[name] = entry
            if arm.name in found:
                clusters[name] = found[arm.name].labels
    if not rows:
        return None
    total = max(position for entry in rows.values() for position in entry)
    stages = None
    if analysis is not None:
        total, stages = len(analysis.layers.points), [point.stage for point in analysis.layers.points]
    return figure_folder.add(
        "positions",
        position_map(rows, total, clusters=clusters, stages=stages),
        "Hint positions of every arm along the depth of the teacher",
        "Where along the depth of the teacher every arm has its hints. Coloured bands are the groups whose "
        "members were taken.",
    )
