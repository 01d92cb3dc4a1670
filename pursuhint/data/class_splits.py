"""Classes of a teacher and of a student that share some of them: the splits of cross-task distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pursuhint.errors import PursuhintError

__all__ = ["ClassSplit", "class_order", "class_split"]

_FEW_SHOT_TRAIN = (
    "apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock cloud "
    "cockroach couch cup dinosaur dolphin elephant forest girl hamster house kangaroo keyboard lawn_mower "
    "lion lizard lobster mountain mouse mushroom oak_tree orange orchid palm_tree pear pine_tree plate "
    "porcupine possum rabbit raccoon ray road seal shrew skunk skyscraper snake spider squirrel streetcar "
    "sunflower tank tiger train trout tulip turtle willow_tree wolf"
)
_FEW_SHOT_VAL = (
    "beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea "
    "shark television tractor"
)
_FEW_SHOT_TEST = (
    "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper "
    "table telephone wardrobe whale woman worm"
)

ORDERS: Mapping[str, str] = MappingProxyType(
    {
        "published": "that of the REFILLED papers: CIFAR-FS for cifar100, else as 'labels'",
        "labels": "classes in the order of their labels",
        "seed": "a permutation that --order-seed draws",
    }
)
"""Orders of classes by name."""


@dataclass(frozen=True)
class ClassSplit:
    """The classes of teacher and student.

    Attributes:
        teacher: labels in the whole data set, in the order of the teacher's outputs.
        student: labels in the whole data set, in the order of the student's outputs.
        overlap: share of the student's classes that the teacher knows too, in [0, 1].
    """

    teacher: tuple[int, ...]
    student: tuple[int, ...]
    overlap: float

    @property
    def shared(self) -> tuple[int, ...]:
        """Labels of the classes of both."""
        return tuple(label for label in self.student if label in set(self.teacher))


def class_order(
    data: str, class_names: Sequence[str], *, order: str = "published", seed: int = 0
) -> list[int]:
    """The labels of a data set in an order from which overlapping tasks are cut.

    Args:
        data: name of the data set.
        class_names: in the order of the labels.
        order: a key of `ORDERS`. The published order of ``cifar100`` is that of CIFAR-FS: its training,
            validation and test classes (Bertinetto, Henriques, Torr and Vedaldi, 2019), each in the order of
            their labels.
        seed: of the order ``seed``; the same on every machine and version.

    Raises:
        PursuhintError: an unknown order, or data that are called ``cifar100`` and lack a class of it.
    """
    if order not in ORDERS:
        raise PursuhintError(f"the order of classes must be one of {', '.join(ORDERS)}; got {order!r}")
    if order == "seed":
        from pursuhint._util.seeds import stable_permutation  # imports torch

        return [int(label) for label in stable_permutation(len(class_names), seed)]
    if order == "labels" or data != "cifar100":
        return list(range(len(class_names)))
    label_of = {name: label for label, name in enumerate(class_names)}
    named = [part.split() for part in (_FEW_SHOT_TRAIN, _FEW_SHOT_VAL, _FEW_SHOT_TEST)]
    if missing := [name for part in named for name in part if name not in label_of]:
        raise PursuhintError(
            f"{data} has no class {missing[0]!r}, which the published order names; choose another order "
            "(--order labels)"
        )
    return [label for part in named for label in sorted(label_of[name] for name in part)]


def class_split(order: Sequence[int], overlap: float, *, size: int | None = None) -> ClassSplit:
    """Classes for the teacher, and as many for the student, of which the teacher knows a share.

    The teacher has the first ``size`` classes of the order, whatever the overlap; the student has as many
    from place ``(1 - overlap) * size`` on.

    Source: H.-J. Ye, S. Lu and D.-C. Zhan, Generalized Knowledge Distillation via Relationship Matching,
    TPAMI 2023, and the authors' code (njulus/GKD).

    Args:
        order: labels, see `class_order`.
        overlap: share of the student's classes that the teacher knows too, in [0, 1]; a whole number of
            classes, within half a percent of ``size``.
        size: classes of each, at least 2 and at most half of all; None for half of all, rounded down.

    Raises:
        PursuhintError: too few or too many classes, or an overlap that is no whole number of them.
    """
    most = len(order) // 2
    size = most if size is None else size
    if not 2 <= size <= most:
        raise PursuhintError(
            f"two tasks of at least 2 classes each need twice as many; of {len(order)} classes a task has at "
            f"most {most}, got {size}"
        )
    shared = round(overlap * size)
    if not 0 <= overlap <= 1 or abs(overlap * size - shared) > 0.005 * size:
        possible = ", ".join(f"{100 * count / size:.3g}" for count in range(size + 1))
        raise PursuhintError(
            f"an overlap of {100 * overlap:.4g} % is no whole number of {size} classes; there are "
            f"{possible} %"
        )
    first = size - shared
    return ClassSplit(tuple(order[:size]), tuple(order[first : first + size]), shared / size)
