"""The report on a run: networks, hints, losses, accuracy and training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pursuhint._util.text import capital
from pursuhint.analysis.result import Analysis
from pursuhint.data.preprocessing import Normalization, Preprocessing
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES
from pursuhint.hints.schedules import SCHEDULES
from pursuhint.losses import LOSSES, get_loss
from pursuhint.published.names import published_method
from pursuhint.report.figures import Series, training_curves
from pursuhint.report.page_model import Card, FigureFolder, Grid, Page, RunSection
from pursuhint.report.repeat import repeat_run
from pursuhint.report.sections.analysis import algorithm_title, build_analysis_section
from pursuhint.report.sections.teacher_student import build_teacher_student_section
from pursuhint.report.text import (
    best_limit,
    count,
    duration,
    environment_rows,
    footer,
    grain_limit,
    image_rows,
    listed,
    metric_title,
    network_text,
    percent,
    teacher_text,
    teacher_warning,
    thousands,
    toy_limit,
    training_rows,
    zoom_note,
)
from pursuhint.study.teacher_student import TeacherStudentSimilarity
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.environment import stored_provenance
from pursuhint.training.run_folder.record import RunRecord


def build_run_page(
    run: RunRecord,
    analysis: Analysis | None,
    teacher_student: TeacherStudentSimilarity | None,
    figure_folder: FigureFolder,
) -> Page:
    """The page of a run.

    Args:
        run: a run with at least one finished epoch.
        analysis: the analysis that chose the hint points; None if there is none.
        teacher_student: similarity of teacher and student; None if it was not computed.
        figure_folder: where pictures go.
    """
    recipe, environment = run.recipe, run.environment
    made = stored_provenance(environment)
    student, data = recipe.student.network, recipe.data.name
    how = "trained alone" if recipe.teacher is None else f"taught by {recipe.teacher.network}"
    question = f"{student} was trained on {data}"
    if recipe.teacher is not None:
        question += (
            f" with the help of a larger network that has learnt it already: {recipe.teacher.network}, its "
            "teacher. What the student was asked to imitate are the terms of the loss, listed below"
        )
    return Page(
        title=f"{student} {how} on {data}",
        subtitle="A training run of PursuHint.",
        summary=_summary(run, how),
        cards=_cards(run),
        question=(f"{question}.",),
        setting_title="Networks and data",
        setting=_setting(run),
        analysis=None if analysis is None else build_analysis_section(analysis, figure_folder),
        run=_run_section(run, teacher_student, figure_folder),
        limits=(
            *_alone_limit(run),
            "One run has one seed. How much the accuracy would change with another seed, a single run cannot "
            "say; a comparison over several seeds can (pursuhint compare).",
            *best_limit(run.chosen_on),
            *grain_limit(environment.get("data", {}).get("samples", {}).get("test")),
            *toy_limit(data),
        ),
        repeat=(
            "This recipe, which lies in the folder as recipe.yaml, has every setting and repeats the run:",
        ),
        commands=(repeat_run(run),),
        recipes=(("recipe.yaml", recipe.dump()),),
        environment=environment_rows(environment, made),
        footer=footer(environment, made),
    )


def _summary(run: RunRecord, how: str) -> tuple[str, ...]:
    """Sentences at the top: accuracy of the last epoch, whether the run is finished, and its hints."""
    recipe, done = run.recipe, len(run.metrics)
    lines = [
        *teacher_warning(run.teacher_accuracy),
        f"{recipe.student.network}, {how} on {recipe.data.name} for {count(done, 'epoch')}, classifies "
        f"{percent(run.last['test_top1'])} of the test images correctly after the last one.",
    ]
    if not run.finished:
        lines.append("The run is not finished; the same command resumes it.")
    dominant = run.dominant_term
    if dominant is not None:
        lines.append(f"{capital(dominant.sentence())}.")
    if run.plan is not None:
        points = run.plan.teacher_points
        lines.append(
            f"It took {count(len(points), 'hint')} from the teacher, at the positions "
            f"{listed([str(point.position) for point in points])} of {points[0].total}."
        )
    return tuple(lines)


def _cards(run: RunRecord) -> tuple[Card, ...]:
    """The numbers at the top: accuracy of the last and best epoch, parameters of both networks."""
    parameters = run.environment.get("parameters", {})
    cards = [
        Card(percent(run.last["test_top1"]), "test accuracy, last epoch"),
        Card(percent(run.best["test_top1"]), f"test accuracy, best epoch ({run.best['epoch']})"),
    ]
    teacher, alone = run.teacher_accuracy, _alone(run)
    if teacher is not None and teacher.top1 is not None:
        cards.append(Card(percent(teacher.top1), "test accuracy of the teacher"))
    if alone is not None:
        cards.append(Card(percent(alone.last["test_top1"]), "the student alone, same seed, last epoch"))
    for role in ("student", "teacher"):
        if role in parameters:
            cards.append(Card(thousands(parameters[role]), f"parameters of the {role}"))
    if {"student", "teacher"} <= parameters.keys() and parameters["student"]:
        ratio = parameters["teacher"] / parameters["student"]
        cards.append(Card(f"{ratio:.1f} x", "fewer parameters than the teacher"))
    cards.append(Card(f"{run.last['samples_per_second']:,.0f}", "training images a second, last epoch"))
    return tuple(cards)


def _alone(run: RunRecord) -> RunRecord | None:
    """The student that a comparison trained without a teacher with the seed of this run, if there is one."""
    own = run.path.resolve()
    folder = own.parent.parent / "alone" / own.name
    if run.recipe.teacher is None or not (folder / "recipe.yaml").is_file():
        return None
    found = RunRecord.load(folder)
    same = found.recipe.student == run.recipe.student and found.recipe.seed == run.recipe.seed
    return found if same and found.metrics and found.finished and found.recipe.teacher is None else None


def _alone_limit(run: RunRecord) -> tuple[str, ...]:
    """Says where the accuracy of the student alone is missing."""
    if run.recipe.teacher is None or _alone(run) is not None:
        return ()
    return (
        "How accurate the student would be without its teacher was not measured here, so what the teacher "
        "gave is not known; a comparison trains the student alone too (pursuhint compare).",
    )


def _setting(run: RunRecord) -> tuple[tuple[str, str], ...]:
    recipe, environment = run.recipe, run.environment
    parameters, sizes = environment.get("parameters", {}), environment.get("data", {})
    rows = [("Student", network_text(recipe.student.network, parameters.get("student")))]
    if recipe.teacher is not None:
        size, accuracy = parameters.get("teacher"), run.teacher_accuracy
        rows.append(("Teacher", teacher_text(recipe.teacher.network, size, accuracy)))
        losses = {name: loss.options for name, loss in recipe.losses.items() if loss.weight != 0}
        rows.append(("Method", published_method(losses, optimizer=recipe.optimizer.name)))
    data = recipe.data.name
    if sizes:
        counts = listed([f"{number:,} {split}" for split, number in sizes["samples"].items()])
        pixels = " x ".join(map(str, sizes["image_size"] or ()))
        samples = f"images of {pixels} pixels" if pixels else "samples"
        data += f": {counts} {samples}, {sizes['num_classes']} classes"
    images = image_rows(
        Preprocessing.from_dict(sizes["preprocessing"]) if sizes.get("preprocessing") else None,
        Normalization(**sizes["teacher_normalization"]) if sizes.get("teacher_normalization") else None,
    )
    return (*rows, ("Data", data), *images, *training_rows(recipe), ("Seed", str(recipe.seed)))


def _run_section(
    run: RunRecord, teacher_student: TeacherStudentSimilarity | None, figure_folder: FigureFolder
) -> RunSection:
    """Pairs of hint points, accuracies, training curves, terms of the loss, teacher-student similarity.

    The last epoch stands first: the best one is chosen after the fact, so its accuracy is biased upwards
    unless it was chosen on a validation split.
    """
    heads = ("Epoch", "Test top-1", "Test top-5", "Test loss")
    results = tuple(
        (
            f"{name} ({line['epoch']})",
            percent(line["test_top1"]),
            percent(line["test_top5"]),
            f"{line['test_loss']:.4f}",
        )
        for name, line in (("Last", run.last), ("Best", run.best))
    )
    seconds = sum(line["seconds"] for line in run.metrics)
    return RunSection(
        pairs_text=_origins(run),
        pairs=_pairs(run),
        results=Grid(heads, results, frozenset({1, 2, 3})),
        best_text=(
            f"The best epoch is the first with the highest accuracy on the {run.chosen_on} split. Training "
            f"took {duration(seconds)}, at {run.last['samples_per_second']:,.0f} images a second."
        ),
        curves=figure_folder.add(
            "training",
            training_curves([Series(run.recipe.student.network, (run.metrics,))]),
            "Accuracy and loss by epoch",
            "Accuracy and loss on training and test images by epoch. The training loss is the weighted sum "
            f"of all terms, the test loss is cross-entropy alone. {zoom_note(len(run.metrics))}",
        ),
        terms=_terms(run.recipe, run.metrics),
        teacher_student=None
        if teacher_student is None
        else build_teacher_student_section(run, teacher_student, figure_folder),
    )


def _origin(plan: HintPlan) -> str:
    """How the hint points of a plan were chosen, in a sentence."""
    origin = plan.origin
    metric, algorithm = metric_title(str(origin.get("metric"))), algorithm_title(str(origin.get("algorithm")))
    strategy = {
        "chosen": f"chosen by {metric} and {algorithm} clustering",
        "conventional": "at the last sub-block of every resolution stage, as is conventional",
        "last-map": "at the end of the last resolution stage",
        "second-stage": "at the end of the second resolution stage",
        "stem-and-stages": "at the stem and the ends of the resolution stages",
        "all": "at all sub-blocks",
        "centers": "at the middle sub-block of every resolution stage",
        "random": f"drawn at random (seed {origin.get('seed')})",
        "explicit": "named by hand",
        **{name: f"at {rule.description}" for name, rule in RULES.items()},
        **{name: f"at {schedule.description}" for name, schedule in SCHEDULES.items()},
    }.get(str(origin.get("strategy")), "given")
    return f"The hint points were {strategy}. Every hint guides one point of the student:"


def _origins(run: RunRecord) -> str:
    """How the hint points of a run were chosen, loss by loss where they differ."""
    sentences = [] if run.plan is None else [_origin(run.plan)]
    return " ".join([*sentences, *(f"{name}: {_origin(plan)}" for name, plan in run.plans.items())])


def _pairs(run: RunRecord) -> Grid | None:
    """The pairs of hint points, with the loss that they belong to where losses have their own."""
    shared = () if run.plan is None else run.plan.pairs
    pairs = [("", pair) for pair in shared]
    pairs += [(name, pair) for name, plan in run.plans.items() for pair in plan.pairs]
    if not pairs:
        return None
    rows = [(str(number), str(pair.teacher), str(pair.student)) for number, (_, pair) in enumerate(pairs, 1)]
    if not run.plans:
        return Grid(("Hint", "Teacher", "Student"), tuple(rows))
    named = tuple((row[0], name or "other losses", *row[1:]) for row, (name, _) in zip(rows, pairs))
    return Grid(("Hint", "Loss", "Teacher", "Student"), named)


def _terms(recipe: Recipe, metrics: Sequence[Mapping[str, Any]]) -> Grid:
    """The terms of the loss: what each compares, its weight, its mean in the first and the last epoch."""
    rows = []
    for name, config in recipe.losses.items():
        kind = get_loss(name) if name in LOSSES else None
        values = [line[f"train_{name}"] for line in metrics if line.get(f"train_{name}") is not None]
        first, last = (f"{values[0]:.4g}", f"{values[-1]:.4g}") if values else ("", "")
        title = name
        if kind is not None and kind.info.title:
            title = f"{kind.info.title_with(config.options)} ({name})"
        weight = "" if config.weight is None else f"{config.weight:g}"
        rows.append((title, kind.info.compares if kind else "", weight, first, last))
    heads = ("Term", "Compares", "Weight", "First epoch", "Last epoch")
    return Grid(heads, tuple(rows), frozenset({2, 3, 4}))
