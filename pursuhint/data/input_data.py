"""Data of any kind in memory, as a network takes them: token ids, signals, several tensors, named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pursuhint._util.network_input import NetworkInput, count_samples, first_samples, map_tensors
from pursuhint.errors import PursuhintError

__all__ = ["InputData"]


@dataclass(frozen=True, eq=False, repr=False)
class InputSplit:
    """Samples in memory.

    Attributes:
        inputs: a tensor, or a tuple or mapping of tensors as the network's ``forward`` takes them; each has
            one entry per sample along its first axis.
        labels: int64, shape (samples,).
        indices: int64, shape (samples,): position of each sample in the full split.
    """

    inputs: NetworkInput
    labels: Tensor
    indices: Tensor

    drawn = private = False  # the samples are the same at every reading, see `DatasetSplit`

    @classmethod
    def whole(cls, inputs: NetworkInput, labels: Any, where: str) -> InputSplit:
        """A split whose samples are numbered from 0.

        Raises:
            PursuhintError: tensors and labels differ in the number of samples, or there is none.
        """
        samples = count_samples(inputs)
        numbers = torch.as_tensor(labels)
        if numbers.ndim != 1 or numbers.is_floating_point() or len(numbers) != samples or not samples:
            raise PursuhintError(
                f"{where}: expected one whole number per sample as labels, for {samples} samples; got "
                f"{numbers.dtype} of shape {tuple(numbers.shape)}"
            )
        return cls(inputs, numbers.long(), torch.arange(samples))

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: Tensor) -> InputSplit:
        """The samples at ``positions``, in that order, with their original indices."""
        inputs = map_tensors(self.inputs, lambda values: values[positions])
        return InputSplit(inputs, self.labels[positions], self.indices[positions])

    def renumbered(self) -> InputSplit:
        """The same samples, numbered from 0."""
        return InputSplit(self.inputs, self.labels, torch.arange(len(self)))

    def on(self, device: torch.device | str) -> InputSplit:
        """This split on a device."""
        inputs = map_tensors(self.inputs, lambda values: values.to(device))
        return InputSplit(inputs, self.labels.to(device), self.indices.to(device))


@dataclass(frozen=True, eq=False, repr=False)
class InputData:
    """A data set whose samples are not images, for `pursuhint.analysis.analyze` and loaders.

    Samples are given to the network as they are: without augmentation or normalisation, and integers stay
    integers.

    Attributes:
        name: in messages and reports.
        train: the training split.
        test: the evaluation split.
        class_names: in the order of the labels.
        val: samples for choosing a model, or None.
        notes: what was assumed of the data, one sentence each.
    """

    name: str
    train: InputSplit
    test: InputSplit
    class_names: tuple[str, ...]
    val: InputSplit | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_tensors(
        cls,
        name: str,
        *,
        train: tuple[NetworkInput, Any],
        test: tuple[NetworkInput, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> InputData:
        """Build a data set from tensors.

        Args:
            name: what to call the data.
            train: inputs and labels. Inputs: a tensor, a tuple of tensors (passed by position) or a mapping
                (passed by name). In a mapping, ``attention_mask`` (samples, tokens) leaves padding out of
                means over tokens. Labels: whole numbers from 0, shape (samples,).
            test: inputs and labels; the training split by default.
            class_names: the labels as text by default.

        Raises:
            PursuhintError: numbers of samples differ, or labels are no whole numbers or out of range.

        Example:
            >>> ids = torch.randint(0, 30, (8, 5))
            >>> data = InputData.from_tensors("reviews", train=({"input_ids": ids}, [0, 1] * 4))
            >>> len(data.train), data.num_classes
            (8, 2)
        """
        first = InputSplit.whole(*train, f"{name}, train split")
        second = first if test is None else InputSplit.whole(*test, f"{name}, test split")
        labels = torch.cat([first.labels, second.labels])
        count = int(labels.max()) + 1 if class_names is None else len(class_names)
        if int(labels.min()) < 0 or int(labels.max()) >= count:
            raise PursuhintError(
                f"{name}: labels must be from 0 to {count - 1}, found {int(labels.min())} to "
                f"{int(labels.max())}"
            )
        return cls(name, first, second, tuple(class_names or map(str, range(count))))

    preprocessing = None  # samples are given to networks as they are

    def example(self, count: int = 2) -> NetworkInput:
        """The first training samples, for looking at networks."""
        return first_samples(self.train.inputs, count)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_samples(self) -> int:
        """Size of the training split."""
        return len(self.train)

    @property
    def splits(self) -> Mapping[str, InputSplit]:
        """Splits by name."""
        splits = {"train": self.train, "test": self.test}
        return splits if self.val is None else {**splits, "val": self.val}

    def split(self, name: str) -> InputSplit:
        """A split by name.

        Raises:
            PursuhintError: there is none.
        """
        if name not in self.splits:
            raise PursuhintError(f"{self.name} has no split {name!r}; there are {' and '.join(self.splits)}")
        return self.splits[name]
