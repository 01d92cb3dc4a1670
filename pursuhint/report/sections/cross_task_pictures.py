"""Pictures of a cross-task study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pursuhint.report.figures import (
    Series,
    overlap_curves,
    training_curves,
    weight_histogram,
)
from pursuhint.report.figures.setting_curves import setting_curves, stage_curves
from pursuhint.report.page_model import FigureFolder, Picture
from pursuhint.study.cross_task_methods import refilled_settings
from pursuhint.study.cross_task_result import CrossTaskCell, CrossTaskOverlap, CrossTaskResult
from pursuhint.training.run_folder.record import RunRecord

WEIGHTING = {"supplement": "teacher_relative_confidence", "conference": "teacher_max_prob"}
"""Way of weighting the images by settings of REFILLED."""


def cross_task_pictures(study: CrossTaskResult, figure_folder: FigureFolder) -> list[tuple[str, Picture]]:
    """Accuracy by overlap, weights of the images, and curves of training."""
    values = {
        cell.title: {one.overlap: study.cell(one.overlap, cell.method).last.values for one in study.overlaps}
        for cell in study.overlaps[0].cells
    }
    found = [
        (
            "Accuracy by overlap",
            figure_folder.add(
                "overlaps",
                overlap_curves(values),
                "Accuracy of every method over the overlaps of classes.",
                "Means over the seeds; bars are one standard deviation.",
            ),
        )
    ]
    for one in study.overlaps:
        weights = one.weights[WEIGHTING[study.settings]]
        if weights.auc is not None or one is study.overlaps[-1]:
            found.append(
                (
                    f"Weights of the images at {one.overlap:.3g} %",
                    figure_folder.add(
                        f"weights-{one.overlap:.3g}",
                        weight_histogram(weights.seen, weights.unseen),
                        "Histogram of the weights of images, by whether the teacher knows the class.",
                        "Weights with a strength of 1, of the student's training images.",
                    ),
                )
            )
    middle = study.overlaps[len(study.overlaps) // 2]
    found.append((f"Training at {middle.overlap:.3g} %", _curves(study, middle, figure_folder)))
    found += _settings(study, figure_folder)
    stages = _stages(study, figure_folder)
    return found if stages is None else [*found, stages]


def _curves(study: CrossTaskResult, overlap: CrossTaskOverlap, figure_folder: FigureFolder) -> Picture:
    """The main stage of every method; what comes before has no classifier to measure."""
    series = []
    for cell in overlap.cells:
        records = [RunRecord.load(study.path / folder) for folder in cell.folders]
        runs = tuple([line for line in one.metrics if line["stage"] == "main"] for one in records)
        series.append(Series(cell.title, runs))
    return figure_folder.add(
        "convergence",
        training_curves(series, split=records[0].chosen_on),
        "Accuracy and loss by epoch of every method.",
        "Epochs count from the first of a run: those of REFILLED's first stage are left out.",
    )


def _settings(study: CrossTaskResult, figure_folder: FigureFolder) -> list[tuple[str, Picture]]:
    """Curves over the number of negatives and over the strength, where the study has several of them."""
    names = [cell.method for cell in study.overlaps[0].cells]
    given = refilled_settings(names, study.settings)
    found = []
    if len(given["k_hat"]) > 1:
        lines = {
            f"{one.overlap:.3g} %": {
                label: _after_matching(study.cell(one.overlap, method))
                for label, method in given["k_hat"].items()
            }
            for one in study.overlaps
        }
        picture = figure_folder.add(
            "negatives",
            setting_curves(
                lines,
                setting="most negatives in a comparison",
                measure="nearest means after stage 1 (%)",
            ),
            "Accuracy of nearest class means after the first stage by the number of negatives.",
            "A line an overlap; bars are one standard deviation over the seeds.",
        )
        found.append(("Number of negatives", picture))
    if len(given["strength"]) > 1:
        lines = {
            f"{one.overlap:.3g} %": {
                label: study.cell(one.overlap, method).last.values
                for label, method in given["strength"].items()
            }
            for one in study.overlaps
        }
        picture = figure_folder.add(
            "strength",
            setting_curves(lines, setting="strength of the second stage", measure="test accuracy (top-1, %)"),
            "Accuracy by the strength of the second stage.",
            "A line an overlap; the strengths stand at equal distances. Bars are one standard deviation "
            "over the seeds.",
        )
        found.append(("Strength of the second stage", picture))
    return found


def _after_matching(cell: CrossTaskCell) -> tuple[float, ...]:
    values = [one.nearest_mean_after_matching for one in cell.measures]
    return tuple(value for value in values if value is not None)


def _stages(study: CrossTaskResult, figure_folder: FigureFolder) -> tuple[str, Picture] | None:
    """Both stages of REFILLED by epoch; None without it, or if its first stage was not measured."""
    method = next((c.method for c in study.overlaps[0].cells if c.method.startswith("refilled")), None)
    if method is None:
        return None
    first, second, key, title = {}, {}, "", ""
    for one in study.overlaps:
        cell = study.cell(one.overlap, method)
        records = [RunRecord.load(study.path / folder) for folder in cell.folders]
        keys = {key for record in records for line in record.metrics for key in line if key.startswith(_NCM)}
        if len(keys) != 1:
            return None
        key, title = keys.pop(), cell.title
        name = f"{one.overlap:.3g} %"
        first[name] = [_by_epoch(record.metrics, key, 0) for record in records]
        before = len(records[0].metrics) - records[0].recipe.epochs
        second[name] = [
            _by_epoch(record.metrics[before:], f"{record.chosen_on}_top1", before) for record in records
        ]
    split = {"train": "training", "val": "validation", "test": "test"}[key.removeprefix(_NCM)]
    picture = figure_folder.add(
        "stages",
        stage_curves(first, second, measures=("accuracy of nearest means (%)", "accuracy (top-1, %)")),
        "Accuracy of nearest class means by epoch of the first stage, and of the classifier in the second.",
        f"A line an overlap. Nearest means are scored on {split} images.",
    )
    return f"Both stages of {title}", picture


_NCM = "nearest_mean_"


def _by_epoch(lines: Sequence[Mapping[str, float]], key: str, before: int) -> dict[int, float]:
    """A measure by epoch, counted from the beginning of the stage."""
    return {int(line["epoch"]) - before: line[key] for line in lines if key in line}
