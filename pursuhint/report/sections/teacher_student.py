"""The figure of teacher-student similarity: every layer of both networks, before and after training."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint._util.text import capital
from pursuhint.features.hint_points import HintPoint
from pursuhint.report.figures.interactive import Layer, color_range, live_map_of_networks
from pursuhint.report.figures.layers import teacher_student_map
from pursuhint.report.page_model import FigureFolder, Picture
from pursuhint.report.text import metric_title
from pursuhint.study.teacher_student import TeacherStudentSimilarity
from pursuhint.training.run_folder.record import RunRecord


def build_teacher_student_section(
    run: RunRecord, teacher_student: TeacherStudentSimilarity, figure_folder: FigureFolder
) -> Picture:
    """Draw the similarity of every layer of the teacher (rows) to every layer of the student (columns).

    Two maps on one color scale, before and after training, so that brighter cells mean a higher similarity;
    circles mark the pairs of hint points. The interactive form also shows the difference of the two maps.

    Args:
        run: with a teacher.
        teacher_student: similarities of its networks.
        figure_folder: where pictures go.
    """
    before, after = teacher_student.before, teacher_student.after
    pairs = dict.fromkeys((pair.teacher, pair.student) for plan in run.all_plans for pair in plan.pairs)
    places = [
        (_place(before.teacher_points, teacher), _place(before.student_points, student))
        for teacher, student in pairs
        if student is not None
    ]
    # Hint points outside the compared layers (selected by a pattern) have no cell in the map.
    known = [(row, column) for row, column in places if row is not None and column is not None]
    title = metric_title(teacher_student.metric)
    teacher = "teacher" if run.recipe.teacher is None else run.recipe.teacher.network
    student = run.recipe.student.network
    alt = f"{capital(title)} of every layer of the teacher and every layer of the student"
    low, high = color_range([before.values.numpy(), after.values.numpy()])
    caption = (
        f"{alt} on {before.num_samples:,} training images, before training and after it. "
        + ("Circles mark the pairs of a hint. " if known else "")
        + f"The colours of both run from {low:g} (dark) to {high:.4g} (bright). "
        "Brighter after than before: training made the two layers more similar."
    )
    return figure_folder.add(
        f"teacher-student-{teacher_student.metric}",
        teacher_student_map(
            before.values.numpy(),
            after.values.numpy(),
            metric=title,
            hints=[(row + 1, column + 1) for row, column in known],  # the map counts from 1
            teacher=f"layer position of {teacher}",
            student=f"position in {student}",
            labels=("before training", "after training"),
        ),
        alt,
        caption,
        live=live_map_of_networks(
            {"before training": before.values.numpy(), "after training": after.values.numpy()},
            _layers(before.teacher_points, {row for row, _ in known}),
            _layers(before.student_points, {column for _, column in known}),
            metric=title,
            label=alt,
            pairs=known,
        ),
    )


def _place(points: Sequence[HintPoint], wanted: HintPoint) -> int | None:
    """Index from 0 of the point of a module; None if it was not compared."""
    return next((place for place, point in enumerate(points) if point.module == wanted.module), None)


def _layers(points: Sequence[HintPoint], hints: set[int]) -> list[Layer]:
    """The layers of one side of the interactive map; ``hints`` are indices from 0."""
    return [
        Layer(point.module, point.position, stage=point.stage, chosen=place in hints)
        for place, point in enumerate(points)
    ]
