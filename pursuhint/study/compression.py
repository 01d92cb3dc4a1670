"""Size, speed and accuracy of students beside their teachers, from finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.study.profile import Profile, profile_networks
from pursuhint.study.same_setting import setting_of
from pursuhint.training import RunRecord
from pursuhint.training.recipe.received import check_code
from pursuhint.training.recipe.schema import NetworkConfig

_REPEATS = 20


@dataclass(frozen=True)
class CompressedPair:
    """A student and its teacher; runs that differ by their seed alone are one.

    Attributes:
        data: on which both were trained.
        teacher: name of the teacher.
        student: name of the student.
        losses: of the student, joined by ``+``.
        runs: folders, one a seed.
        profile: size and speed of both, at a batch of one image or text.
        teachers: accuracy of the teacher on the test images in percent, by the file of its weights; without
            those whose accuracy is not known.
        top1: of the student after the last epoch, one a run.
    """

    data: str
    teacher: str
    student: str
    losses: str
    runs: tuple[str, ...]
    profile: Profile
    teachers: dict[str, float]
    top1: tuple[float, ...]

    @property
    def mean_top1(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.top1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: seconds for one image, sizes as counts, accuracies in percent."""
        student, teacher = self.profile.student, self.profile.teacher
        assert teacher is not None
        return {
            "data": self.data,
            "teacher": {
                "network": self.teacher,
                "parameters": teacher.parameters,
                "seconds": teacher.latency[1],
                "flops": teacher.flops,
                "test_top1": list(self.teachers.values()),
            },
            "student": {
                "network": self.student,
                "losses": self.losses,
                "parameters": student.parameters,
                "seconds": student.latency[1],
                "flops": student.flops,
                "test_top1": list(self.top1),
                "mean_test_top1": self.mean_top1,
            },
            "compression_percent": self.profile.compression,
            "speed_up": self.profile.speed_up[1],
            "device": self.profile.device,
            "threads": self.profile.threads,
            "runs": list(self.runs),
        }


def compressed_pairs(
    runs: Sequence[RunRecord], *, device: torch.device | str | None = None, trust_code: bool = False
) -> list[CompressedPair]:
    """Measure every pair of networks once, and put the accuracies of the runs beside.

    Weights of the teachers and the data are not read. Source: PURSUhInT, table 7.

    Args:
        runs: finished runs with a teacher.
        device: where the networks are timed; None for the best there is.
        trust_code: import and call networks that a run names as ``package.module:factory``.

    Raises:
        PursuhintError: a run has no teacher, or names code without ``trust_code``, or a network that was
            passed from Python.
    """
    for run in runs:
        if run.recipe.teacher is None:
            raise PursuhintError(f"the run in {run.path} has no teacher to compare its student with")
        check_code(run.recipe, f"the run {run.path}", trust_code=trust_code)
    groups: list[tuple[dict[str, Any], list[RunRecord]]] = []
    for run in runs:
        setting = setting_of(run)
        same = next((members for known, members in groups if known == setting), None)
        if same is None:
            groups.append((setting, [run]))
        else:
            same.append(run)
    profiles: dict[str, Profile] = {}
    pairs = []
    for _, members in groups:
        run = members[0]
        teacher = _config(run)
        sizes = run.environment["data"]
        texts = sizes.get("tokens") is not None
        shape = (sizes["tokens"],) if texts else (sizes["in_channels"], *sizes["image_size"])
        key = f"{run.recipe.student.network} {run.recipe.student.options} {list(run.recipe.losses)} "
        key += f"{teacher.network} {teacher.options} {teacher.num_classes} {shape} {sizes['num_classes']}"
        if key not in profiles:
            profiles[key] = profile_networks(
                run.load_student(trust_code=trust_code),
                _untrained_teacher(run),
                shape,
                batch_sizes=(1,),
                repeats=_REPEATS,
                device=device,
                names=(run.recipe.student.network, teacher.network),
            )
        accuracies = {str(_config(member).checkpoint): member.teacher_accuracy for member in members}
        known = {
            file: one.top1 for file, one in accuracies.items() if one is not None and one.top1 is not None
        }
        pairs.append(
            CompressedPair(
                run.recipe.data.name,
                teacher.network,
                run.recipe.student.network,
                "+".join(name for name, loss in run.recipe.losses.items() if loss.weight != 0),
                tuple(str(member.path) for member in members),
                profiles[key],
                known,
                tuple(float(member.last["test_top1"]) for member in members),
            )
        )
    return pairs


def _config(run: RunRecord) -> NetworkConfig:
    """The teacher in the recipe of a run that has one."""
    assert run.recipe.teacher is not None
    return run.recipe.teacher


def _untrained_teacher(run: RunRecord) -> nn.Module:
    config = _config(run)
    if config.network.startswith("python:"):
        raise PursuhintError(
            f"the teacher of {run.path} was passed from Python ({config.network}) and cannot be built again"
        )
    sizes = run.environment["data"]
    key = "in_channels" if sizes.get("tokens") is None else "vocab_size"
    return create_model(
        config.network,
        num_classes=config.num_classes or sizes["num_classes"],
        **{key: sizes[key], **config.options},
    )
