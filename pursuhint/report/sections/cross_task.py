"""The report of a cross-task study: accuracy by overlap, embeddings, and weights of the images."""

from __future__ import annotations

from pursuhint._util.text import capital
from pursuhint.report.page_model import Card, CrossedSection, FigureFolder, Grid, Page
from pursuhint.report.sections.cross_task_pictures import WEIGHTING, cross_task_pictures
from pursuhint.report.text import count, environment_rows, footer, percent, toy_limit
from pursuhint.study.bounds import FEWEST_SEEDS
from pursuhint.study.cross_task_result import CrossTaskResult
from pursuhint.study.paired_statistics import DECIDED
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.record import RunRecord


def build_cross_task_page(study: CrossTaskResult, figure_folder: FigureFolder) -> Page:
    """The page of a cross-task study.

    Args:
        study: a finished one.
        figure_folder: where pictures go.
    """
    seeds, methods = len(study.seeds), [cell.title for cell in study.overlaps[0].cells]
    recipe = Recipe.from_dict(study.recipe)
    first = RunRecord.load(study.path / study.overlaps[0].cells[0].folders[0])
    accuracy, measures = study.table(), study.measure_table()
    return Page(
        title=f"What does {study.teacher} teach {study.student} about classes that it does not know?",
        subtitle=f"A cross-task study with PursuHint on {study.data}: {count(len(methods), 'method')}, "
        f"{count(len(study.overlaps), 'overlap')}, {count(seeds, 'seed')} each.",
        summary=_findings(study),
        cards=()
        if study.teacher_top1 is None
        else (Card(percent(study.teacher_top1), f"{study.teacher} on its own classes"),),
        question=(
            "A teacher was trained on some classes; students learn others, of which it knows a share. Is it "
            "of use to them, and by which method?",
        ),
        setting_title="Teacher, students and classes",
        setting=(
            ("Teacher", f"{study.teacher}, trained on {', '.join(study.teacher_classes)}"),
            *(
                (f"Student at {one.overlap:.3g} %", f"{study.student}, {', '.join(one.student_classes)}")
                for one in study.overlaps
            ),
            ("Training", f"{recipe.epochs} epochs in batches of {recipe.batch_size}"),
            ("REFILLED", f"hyperparameters called {study.settings!r}"),
            ("Seeds", ", ".join(map(str, study.seeds))),
        ),
        crossed=CrossedSection(
            design="Accuracy of the student's classifier on test images of its classes after the last epoch, "
            "with the standard deviation over the seeds. Students of different overlaps learn different "
            "classes: compare methods within a column, not columns. A figure behind a stroke is published.",
            table=_grid(accuracy.heads, accuracy.rows),
            pictures=tuple(cross_task_pictures(study, figure_folder)),
            cells=_grid(measures.heads, measures.rows),
            heading="The students, by overlap",
            cells_heading="Embeddings, and the classes of teacher and student together",
        ),
        limits=(
            f"{capital(count(seeds, 'seed'))} cannot show small differences; intervals are 95 % paired t "
            "intervals for other seeds, not corrected for the number of overlaps.",
            "NCM is the accuracy of nearest class means in the student's embedding, NCM 1 after the first "
            "stage. Old, current and harmonic are accuracies of nearest means among the classes of teacher "
            "and student together: the supplement does not say how a student scores other classes.",
            "AML and the methods beside REFILLED are added to the classification loss; whether the paper did "
            "the same is not said.",
            *toy_limit(study.data),
        ),
        repeat=("The settings that all share are below; crosstask.json has every number.",),
        commands=(),
        recipes=(("settings of teacher and students", recipe.dump()),),
        environment=environment_rows(first.environment, None),
        footer=footer(first.environment, None),
    )


def _grid(heads: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Grid:
    return Grid(heads, rows, frozenset(range(1, len(heads))))


def _findings(study: CrossTaskResult) -> tuple[str, ...]:
    """What each method did, and how well the weights tell the classes."""
    if len(study.seeds) < FEWEST_SEEDS:
        lines = [f"{capital(count(len(study.seeds), 'seed'))} give no intervals: nothing is decided."]
    else:
        lines = []
        for one in study.overlaps:
            for verdict in ("better", "worse"):
                found = [
                    cell.title
                    for cell in one.cells
                    if cell.against_alone is not None
                    and cell.against_alone.verdict == verdict
                    and verdict in DECIDED
                    and cell.against_alone.survives_correction
                ]
                if found:
                    lines.append(
                        f"At an overlap of {one.overlap:.3g} %, {verdict} than the student alone: "
                        f"{', '.join(found)}."
                    )
        if not lines:
            lines.append("No method differs from the student alone by more than seeds do, at any overlap.")
    for one in study.overlaps:
        auc = one.weights[WEIGHTING[study.settings]].auc
        if auc is not None:
            lines.append(
                f"At an overlap of {one.overlap:.3g} %, the weight of an image tells known classes from "
                f"others with an AUC of {auc:.3f} (the supplement's figure on CIFAR-100 at 60 % is 0.959)."
            )
    return tuple(lines)
