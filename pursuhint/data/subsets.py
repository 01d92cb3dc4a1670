"""Fewer classes or fewer training images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pursuhint._util.seeds import stable_permutation
from pursuhint.data.image_data import ImageData
from pursuhint.data.splits import Split
from pursuhint.errors import PursuhintError


def with_classes(data: ImageData, classes: Sequence[int]) -> ImageData:
    """The samples of some classes, with labels 0, 1, ... in the order in which the classes are listed.

    Names go with their classes. Every split keeps the order of its samples, and indices are numbered anew.
    Mean and standard deviation stay those of the whole data set.

    Args:
        data: the data set.
        classes: at least two different labels of it.

    Raises:
        PursuhintError: an unknown class, a class twice, fewer than two classes, or a class without samples
            in the training split.
    """
    classes = tuple(classes)
    wrong = [label for label in classes if not 0 <= label < data.num_classes]
    if wrong:
        raise PursuhintError(
            f"{data.name} has no class {wrong[0]}; "
            f"its {data.num_classes} classes are 0 to {data.num_classes - 1}"
        )
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise PursuhintError(f"{data.name}: two or more different classes are needed, got {classes}")
    new_label = torch.full((data.num_classes,), -1)
    new_label[list(classes)] = torch.arange(len(classes))

    def of_classes(split: Split) -> Split:
        chosen = split.select((new_label[split.labels] >= 0).nonzero().flatten())
        return replace(chosen, labels=new_label[chosen.labels])

    train = of_classes(data.train)
    absent = torch.bincount(train.labels, minlength=len(classes)) == 0
    if absent.any():
        name = data.class_names[classes[int(absent.nonzero()[0])]]
        raise PursuhintError(f"{data.name} has no training images of class {name}")
    return _renumbered(
        replace(
            data,
            num_classes=len(classes),
            class_names=tuple(data.class_names[label] for label in classes),
            train=train,
            val=None if data.val is None else of_classes(data.val),
            test=of_classes(data.test),
        )
    )


def with_train_samples(data: ImageData, count: int, *, seed: int = 0) -> ImageData:
    """A class-balanced subset of the training split; the other splits stay.

    Every class gives equally many samples, or all of its samples if it has fewer; what cannot be divided
    evenly goes to the first classes. A hash of the positions draws them, so that the subset depends on the
    labels, ``count`` and ``seed`` alone, and a smaller subset lies within a larger one of equal seed.

    Args:
        data: the data set.
        count: number of training samples, from one a class to all.
        seed: of the draw.

    Raises:
        PursuhintError: ``count`` is out of range.
    """
    sizes = torch.bincount(data.train.labels, minlength=data.num_classes)
    if not int((sizes > 0).sum()) <= count <= len(data.train):
        raise PursuhintError(
            f"{data.name} has {len(data.train)} training images of {int((sizes > 0).sum())} classes; "
            f"data.train_samples must be between those numbers, got {count}"
        )
    quota = _shares(sizes, count)
    order = stable_permutation(len(data.train), seed)
    by_class = order[torch.argsort(data.train.labels[order], stable=True)]
    rank = torch.arange(len(by_class)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    chosen = by_class[rank < quota.repeat_interleave(sizes)].sort().values
    return _renumbered(replace(data, train=data.train.select(chosen)))


def _shares(sizes: Tensor, count: int) -> Tensor:
    """How many of ``count`` samples each class gives: equally many, as far as its size allows."""
    quota = torch.zeros_like(sizes)
    while (left := count - int(quota.sum())) > 0:
        open_classes = (quota < sizes).nonzero().flatten()
        each = max(left // len(open_classes), 1)
        for label in open_classes[:left].tolist():
            quota[label] = min(int(quota[label]) + each, int(sizes[label]))
    return quota


def _renumbered(data: ImageData) -> ImageData:
    """Indices from 0 without gaps: memory banks and orders of samples have one place for each."""
    train = replace(data.train, indices=torch.arange(len(data.train)))
    test = replace(data.test, indices=torch.arange(len(data.test)))
    val = data.val
    if val is not None:
        val = replace(val, indices=torch.arange(len(train), len(train) + len(val)))
    return replace(data, train=train, val=val, test=test)
