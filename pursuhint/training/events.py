"""Events of a run: frozen records, passed to the ``on_event`` callback.

The library prints nothing; progress bars and logs are built from events. `Event` is the closed union of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.training.loss_shares import DominantTerm

if TYPE_CHECKING:
    from pursuhint.training.teacher_recording import RecordingUse

__all__ = [
    "EpochFinished",
    "EpochStarted",
    "Event",
    "HintsChosen",
    "LossDominated",
    "LossesSoFar",
    "Resumed",
    "RunStarted",
    "StepDone",
    "TeacherMeasured",
    "TeacherReplayed",
    "ignore",
]


def ignore(event: Any) -> None:
    """Event handler that does nothing."""


@dataclass(frozen=True)
class RunStarted:
    """Everything has been checked and training begins.

    Attributes:
        epochs: of all stages together.
        parameters: trainable parameters of the student.
        chosen_on: the split on which the best epoch is chosen, ``"val"`` or ``"test"``.
        device: where it runs.
        images: the preprocessing of the images, in one line.
    """

    epochs: int
    parameters: int
    chosen_on: str
    device: str
    images: str


@dataclass(frozen=True)
class TeacherMeasured:
    """The accuracy of the teacher is known.

    Attributes:
        accuracy: on the test split, or why it was not measured.
    """

    accuracy: TeacherAccuracy


@dataclass(frozen=True)
class TeacherReplayed:
    """A recording of the teacher is used; the run has not begun.

    Attributes:
        use: what is replayed and what is recorded.
    """

    use: RecordingUse


@dataclass(frozen=True)
class HintsChosen:
    """The hint points are known.

    Attributes:
        pairs: ``"teacher point -> student point"``, one line a pair.
    """

    pairs: tuple[str, ...]


@dataclass(frozen=True)
class Resumed:
    """An interrupted run resumes.

    Attributes:
        epoch: whole epochs done.
        notice: the damage that was found and worked around, if any.
        step: steps done of the epoch after these.
    """

    epoch: int
    notice: str | None = None
    step: int = 0


@dataclass(frozen=True)
class EpochStarted:
    """An epoch begins.

    Attributes:
        epoch: its number, from 1 over all stages.
        epochs: of all stages together.
        stage: ``"main"``, or ``"term:stage"`` of a warm-up that a loss asks for.
        steps: batches of the epoch.
    """

    epoch: int
    epochs: int
    stage: str
    steps: int


@dataclass(frozen=True)
class StepDone:
    """A step of training is done.

    Attributes:
        step: its number in the epoch, from 1.
        steps: of the epoch.
        samples: that this rank has processed in the epoch so far.
    """

    step: int
    steps: int
    samples: int


@dataclass(frozen=True)
class LossesSoFar:
    """Running means of the losses, every `CHECK_EVERY` steps and at the end of an epoch.

    Attributes:
        losses: means over this rank's samples of the epoch so far: ``loss``, the weighted total, and every
            term by name, unweighted.
    """

    losses: Mapping[str, float]


@dataclass(frozen=True)
class LossDominated:
    """After the first epoch of the main stage: one term makes up more than 90 % of the loss.

    Attributes:
        term: which, and its share.
    """

    term: DominantTerm


@dataclass(frozen=True)
class EpochFinished:
    """An epoch has been evaluated and saved.

    Attributes:
        metrics: its line of ``metrics.jsonl``.
        is_best: whether it is the best one so far.
    """

    metrics: Mapping[str, Any]
    is_best: bool


Event = (
    TeacherMeasured
    | TeacherReplayed
    | RunStarted
    | HintsChosen
    | Resumed
    | EpochStarted
    | StepDone
    | LossesSoFar
    | LossDominated
    | EpochFinished
)
