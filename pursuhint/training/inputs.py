"""Networks, data and hint points that are passed from Python instead of being named in a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint._util.arguments import expect
from pursuhint._util.fingerprint import fingerprint_file, fingerprint_network
from pursuhint._util.network_checks import check_network, check_trainable
from pursuhint.data.fingerprint import fingerprint_data
from pursuhint.errors import PursuhintError
from pursuhint.hints.plan import HintPlan
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.training.own_parts import NO_PARTS, OwnParts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from pursuhint.data import ImageData, InputData
    from pursuhint.training.events import Event
    from pursuhint.training.recipe.schema import NetworkConfig, Recipe

__all__ = ["Inputs", "Run"]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What replaces parts of a recipe; every part left at None comes from the recipe.

    Attributes:
        student: the network to train, with its weights as the initial ones. It is copied.
        teacher: a trained network. It is copied.
        data: the data set, as `pursuhint.data.as_data` takes it.
        plan: hint points.
        accuracy: of the teacher on the test split, if it has been measured.
        own: losses, optimizer, scheduler and callbacks.

    Raises:
        PursuhintError: one is of another kind, a network is a program or unfinished, or the student is
            frozen.
    """

    student: nn.Module | None = None
    teacher: nn.Module | None = None
    data: ImageData | InputData | None = None
    plan: HintPlan | None = None
    accuracy: TeacherAccuracy | None = None
    own: OwnParts = NO_PARTS

    def __post_init__(self) -> None:
        from pursuhint.data import as_data  # imports torch

        for role in ("student", "teacher"):
            if getattr(self, role) is not None:
                check_network(getattr(self, role), role)
        if self.student is not None:
            check_trainable(self.student)
        if self.data is not None:
            data = as_data(self.data)
            object.__setattr__(self, "data", data)  # one place for every function that takes data
            if data.test is data.train:
                raise PursuhintError(
                    f"{data.name} has no images to evaluate on; pass (train, test), or "
                    "pursuhint.data.as_data(data, test_fraction=0.2)"
                )
        if self.plan is not None:
            expect(
                self.plan, HintPlan, "the plan", advice="read one with pursuhint.hints.HintPlan.load(file)"
            )

    def with_plan_of(self, recipe: Recipe) -> Inputs:
        """These inputs with the plan of the recipe's ``hints.file``, unless a plan was passed.

        Raises:
            PursuhintError: the file is missing or is no hint plan.
        """
        if self.plan is not None or recipe.hints is None or recipe.hints.file is None:
            return self
        return replace(self, plan=HintPlan.load(recipe.hints.file))

    def fingerprints(self, recipe: Recipe | None = None) -> dict[str, str]:
        """Hashes of everything that a run depends on and its resolved recipe does not spell out.

        Args:
            recipe: resolved; the checkpoints that it names are hashed where no network was passed.

        Returns:
            Up to three hashes, named ``data``, ``student`` and ``teacher``. The plan has none: a resolved
            recipe lists its points.
        """
        found = {
            "data": fingerprint_data(self.data) if self.data is not None else None,
            "student": _fingerprint(self.student, recipe.student if recipe is not None else None),
            "teacher": _fingerprint(self.teacher, recipe.teacher if recipe is not None else None),
        }
        found |= {f"loss {name}": fingerprint_network(loss) for name, loss in self.own.modules().items()}
        return {name: value for name, value in found.items() if value is not None}


NO_INPUTS = Inputs()
"""Everything comes from the recipe."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run to train: the arguments of `pursuhint.training.train` as one value.

    Attributes:
        recipe: what to do.
        out: the run folder.
        inputs: networks, data and hint points that replace the recipe's.
        on_event: receives the events of this run, see `pursuhint.training.Event`.
        record_teacher: folder of a recording of the teacher; what is in it is replayed, the rest recorded.
        overwrite: replace a different run in the folder.
    """

    recipe: Recipe
    out: Path
    inputs: Inputs = NO_INPUTS
    on_event: Callable[[Event], None] | None = None
    record_teacher: Path | None = None
    overwrite: bool = False


def _fingerprint(network: nn.Module | None, config: NetworkConfig | None) -> str | None:
    """Hash of a network that was passed, or of the checkpoint that the recipe names."""
    if network is not None:
        return fingerprint_network(network)
    return None if config is None or config.checkpoint is None else fingerprint_file(config.checkpoint)
