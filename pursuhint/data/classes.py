"""Compare the classes of two data sets, and match them by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.data.image_data import ImageData
    from pursuhint.data.splits import Split

_SHOWN = 3  # names in a message


def class_difference(before: Sequence[str], now: Sequence[str]) -> str | None:
    """What distinguishes the classes now from those before, in words.

    Args:
        before: names in the order of the labels.
        now: names in the order of the labels.

    Returns:
        None if names and order are identical.
    """
    if tuple(before) == tuple(now):
        return None
    gone = [name for name in before if name not in set(now)]
    new = [name for name in now if name not in set(before)]
    if not gone and not new:
        label = next(index for index, (old, name) in enumerate(zip(before, now)) if old != name)
        return (
            f"the classes are in another order: class {label} was {before[label]!r} and is {now[label]!r} now"
        )
    changes = [f"{_named(gone)} gone"] if gone else []
    changes += [f"{_named(new)} new"] if new else []
    return f"the classes have changed: {', '.join(changes)}"


def matched_by_name(data: ImageData, classes: Sequence[str]) -> ImageData:
    """The data with their classes numbered as a network was trained on them.

    Args:
        data: other data, with the same class names or some of them.
        classes: names in the order of the network's outputs.

    Raises:
        PursuhintError: a class of the data is none of ``classes``, or two classes have one name.
    """
    label_of = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in data.class_names if name not in label_of]
    if unknown or len(label_of) != len(classes) or len(set(data.class_names)) != len(data.class_names):
        which = f"{_named(unknown)} none of its classes" if unknown else "two classes have one name"
        raise PursuhintError(
            f"the classes of {data.name} are not those that the network was trained on: {which}; evaluate on "
            f"data of the same classes ({', '.join(map(str, classes[:_SHOWN]))}"
            f"{', ...' if len(classes) > _SHOWN else ''})"
        )
    numbers = torch.tensor([label_of[name] for name in data.class_names])

    def renumbered(split: Split) -> Split:
        return replace(split, labels=numbers[split.labels])

    return replace(
        data,
        num_classes=len(classes),
        class_names=tuple(classes),
        train=renumbered(data.train),
        test=renumbered(data.test),
        val=None if data.val is None else renumbered(data.val),
    )


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
