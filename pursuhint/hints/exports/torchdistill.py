"""Hint points as torchdistill's training configuration has them: forward hooks and a criterion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pursuhint.features.hint_points import HintPoint

__all__: list[str] = []

WEIGHTS = {"ATLoss": 1000.0, "SPKDLoss": 1.0}
"""Losses of torchdistill that compare pairs of maps and learn nothing, and their weight in its examples."""


def configuration(pairs: Sequence[tuple[HintPoint, HintPoint]], loss: str, weight: float) -> dict[str, Any]:
    """The entries ``teacher``, ``student`` and ``criterion`` of a training configuration.

    Args:
        pairs: points of student and teacher, outputs or inputs of modules.
        loss: a name in `WEIGHTS`.
        weight: factor of every pair.

    Raises:
        PursuhintError: the loss cannot compare a pair.
    """
    terms = {"ce": _CROSS_ENTROPY}
    if loss == "ATLoss":
        for student, teacher in pairs:
            if len(student.spatial) != 2 or student.spatial != teacher.spatial:
                raise PursuhintError(
                    f"torchdistill's ATLoss compares maps of equal size, but {student.module!r} has "
                    f"{student.spatial} and {teacher.module!r} {teacher.spatial}; take SPKDLoss"
                )
        at_pairs = {
            f"pair{index}": {"teacher": _path(teacher), "student": _path(student), "weight": 1}
            for index, (student, teacher) in enumerate(pairs, start=1)
        }
        criterion = {"key": "ATLoss", "kwargs": {"at_pairs": at_pairs, "mode": "code"}}
        terms["at"] = {"criterion": criterion, "weight": weight}
    else:
        for index, (student, teacher) in enumerate(pairs, start=1):
            if "input" in (student.tap.kind, teacher.tap.kind):
                raise PursuhintError(
                    "torchdistill's SPKDLoss reads outputs only; take points after the activation "
                    "(--activation post)"
                )
            names = {"student_output_path": student.tap.module, "teacher_output_path": teacher.tap.module}
            criterion = {"key": "SPKDLoss", "kwargs": {**names, "reduction": "batchmean"}}
            terms[f"spkd{index}"] = {"criterion": criterion, "weight": weight}
    students, teachers = zip(*pairs)
    return {
        "teacher": {**_CALL, "forward_hook": _hooks(teachers), "requires_grad": False},
        "student": {**_CALL, "forward_hook": _hooks(students)},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }


_CALL = {"forward_proc": "forward_batch_only"}  # network(images)

_CROSS_ENTROPY: dict[str, Any] = {
    "criterion": {"key": "CrossEntropyLoss", "kwargs": {"reduction": "mean"}},
    "criterion_wrapper": {
        "key": "SimpleLossWrapper",
        "kwargs": {
            "input": {"is_from_teacher": False, "module_path": ".", "io": "output"},
            "target": {"uses_label": True},
        },
    },
    "weight": 1.0,
}


def _path(point: HintPoint) -> dict[str, str]:
    return {"io": point.tap.kind, "path": point.tap.module}


def _hooks(points: Sequence[HintPoint]) -> dict[str, list[str]]:
    return {
        kind: list(dict.fromkeys(point.tap.module for point in points if point.tap.kind == kind))
        for kind in ("input", "output")
    }
