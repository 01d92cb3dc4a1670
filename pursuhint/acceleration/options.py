"""Settings of training speed that leave the mathematics unchanged."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pursuhint.errors import PursuhintError

__all__ = ["Acceleration"]

TeacherPrecision = Literal["same", "float32", "bf16"]
"""The run's own, or one of these whatever the student trains in."""

TeacherRounding = Literal["none", "float16", "bf16"]
"""The precision to which the teacher's outputs are rounded before the losses see them."""

Compiled = Literal["off", "teacher", "networks", "all"]
"""What ``torch.compile`` is used for: nothing, the teacher, both networks, or the losses as well."""

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
"""A mode of ``torch.compile``; the second one replays CUDA graphs."""


@dataclass(frozen=True)
class Acceleration:
    """Settings of speed.

    The defaults are equal mathematics: they change results by no more than rounding. Of the others,
    ``teacher_precision="bf16"`` and ``teacher_rounding="bf16"`` change the teacher's features by up to a
    percent or so (``teacher_rounding="float16"`` by 0.05 %); see ``docs/performance.md`` for what that does
    to accuracy.

    Attributes:
        channels_last: use `torch.channels_last`, which is faster for convolutions, in training and in the
            analysis of the teacher. Evaluations always do.
        fuse_batchnorm: run a copy of the teacher whose batch norms are folded into the convolutions before
            them, in training and in its analysis.
        winograd: on the CPU and in float32, compute the wide 3x3 convolutions of that copy with fewer
            multiplications; see `pursuhint.acceleration.winograd`.
        teacher_precision: ``same`` as the run, ``float32`` or ``bf16``.
        teacher_rounding: round the teacher's outputs to ``float16`` or ``bf16``, in which a recording stores
            them (``--record-teacher``), so that runs that record, replay or compute them are equal; ``none``
            leaves them as they are computed.
        reduce_teacher: of the teacher's maps that attention transfer alone reads, keep the one channel that
            it looks at: caches and recordings are smaller by the number of channels. Not where the teacher's
            map is the larger one, for other exponents than 2, or for hints that change in training.
        cache_teacher: run the teacher once over the training set and keep what it says; only where every
            sample looks the same in every epoch.
        shard_teacher: with several processes, let each hold a share of the teacher's weights; see
            `pursuhint.distillation.teacher_fsdp`. Such a teacher is neither folded nor compiled.
        keep_memory: on the CPU, let the process reuse freed memory instead of returning it to the system.
            Only the command line obeys it, because it changes the whole process for good; from Python, call
            `pursuhint.acceleration.set_up_memory`.
        compile: what to compile. It costs minutes once, and results then also depend on the compiler.
        compile_mode: how.

    Raises:
        PursuhintError: a setting has no such value, or two do not go together.
    """

    # For recipes, which read this class through pydantic: an unknown key is an error there.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    channels_last: bool = True
    fuse_batchnorm: bool = True
    winograd: bool = False
    teacher_precision: TeacherPrecision = "same"
    teacher_rounding: TeacherRounding = "none"
    reduce_teacher: bool = False
    cache_teacher: bool = False
    shard_teacher: bool = False
    keep_memory: bool = True
    compile: Compiled = "off"
    compile_mode: CompileMode = "default"

    def __post_init__(self) -> None:
        for name, choices in (
            ("teacher_precision", TeacherPrecision),
            ("teacher_rounding", TeacherRounding),
            ("compile", Compiled),
            ("compile_mode", CompileMode),
        ):
            value = getattr(self, name)
            if value not in typing.get_args(choices):
                raise PursuhintError(
                    f"acceleration.{name} must be one of {', '.join(typing.get_args(choices))}; got {value!r}"
                )
        if self.shard_teacher and self.compile != "off":
            raise PursuhintError(
                "acceleration.shard_teacher does not go with "
                f"acceleration.compile={self.compile}; set one of them only"
            )

    @property
    def compiles_teacher(self) -> bool:
        """Whether the teacher is compiled."""
        return self.compile != "off"

    @property
    def compiles_student(self) -> bool:
        """Whether the student is."""
        return self.compile in ("networks", "all")

    @property
    def compiles_losses(self) -> bool:
        """Whether the losses are."""
        return self.compile == "all"
