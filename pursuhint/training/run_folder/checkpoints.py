"""The resumable states of a run, in ``state/0`` and ``state/1``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pursuhint._util.two_slots import TwoSlots
from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintError

_WEIGHTS = ("student.safetensors", "best.safetensors")


class StateStore(TwoSlots):
    """The ``state`` folder of a run.

    `save` expects ``"epoch"`` in its values, the number of whole epochs, and in the middle of another epoch
    ``"step"``, the number of its steps that are done.
    """

    parent_name: ClassVar[str] = "the run folder"
    restart: ClassVar[str] = "train from the start"

    def age(self, progress: Mapping[str, Any]) -> tuple[int, ...]:
        return int(progress["epoch"]), int(progress.get("step", 0))

    def moment(self, progress: Mapping[str, Any]) -> str:
        if step := progress.get("step", 0):
            return f"after step {step} of epoch {progress['epoch'] + 1}"
        return f"after epoch {progress['epoch']}"


def missing_weights(folder: Path) -> tuple[str, ...]:
    """The files of weights that a finished run should have and has not."""
    return tuple(name for name in _WEIGHTS if not (folder / name).is_file())


def check_restorable(folder: Path, lost: tuple[str, ...]) -> None:
    """Check that the weights of a finished run can be restored from its state, and say that they will be.

    Args:
        folder: of the run.
        lost: names of the files.

    Raises:
        PursuhintError: there is no state, or none that is undamaged.
    """
    names = " and ".join(lost)
    if StateStore(folder / "state").load() is None:
        raise PursuhintError(
            f"the run in {folder} is finished, but {names} is gone and there is no state to restore it from; "
            "put the file back, or train again in another folder (--out)"
        )
    warn_user(f"{names} of the finished run {folder} was gone; it is restored from the state of the run")
