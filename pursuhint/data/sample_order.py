"""In which order an analysis looks at its samples, and how processes share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from pursuhint._util.seeds import stable_permutation
from pursuhint.errors import PursuhintError

__all__ = ["SampleOrder", "Step"]


@dataclass(frozen=True)
class Step:
    """One batch.

    Attributes:
        number: which one of all processes' batches, from 1.
        pieces: what it consists of, as (part, samples): its first samples belong to the first part named.
    """

    number: int
    pieces: tuple[tuple[int, int], ...]

    @property
    def samples(self) -> int:
        """How many there are in it."""
        return sum(samples for _, samples in self.pieces)


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """The samples of an analysis in the order in which they are seen: part after part.

    Batches are cut from this order one after the other, whatever the number of processes is, and dealt out in
    turn. So the network sees the same batches in one process as in several, and its features, which may
    depend on the batch by their rounding, are the same to the last bit.

    Attributes:
        indices: of the samples, as in ``Batch.indices``.
        sizes: number of samples of each part.
        batch_size: samples in a batch; the last one may have fewer.
    """

    indices: Tensor
    sizes: tuple[int, ...]
    batch_size: int

    @classmethod
    def of(cls, indices: Tensor, *, parts: int, seed: int, batch_size: int) -> SampleOrder:
        """Divide samples into parts at random, of sizes that differ by at most one.

        Args:
            indices: the samples, different ones.
            parts: how many parts; 1 leaves the samples in their order.
            seed: another seed makes other parts.
            batch_size: samples in a batch.

        Raises:
            PursuhintError: there are fewer samples than parts, or the batch size is below 1.
        """
        if batch_size < 1:
            raise PursuhintError(f"batch_size must be at least 1, got {batch_size}")
        if not 1 <= parts <= len(indices):
            raise PursuhintError(f"cannot divide {len(indices)} samples into {parts} parts")
        if parts == 1:
            return cls(indices, (len(indices),), batch_size)
        order = stable_permutation(len(indices), seed).tensor_split(parts)
        # Ascending within a part, as a disk likes it.
        divided = [indices[part].sort().values for part in order]
        return cls(torch.cat(divided), tuple(len(part) for part in divided), batch_size)

    def __len__(self) -> int:
        return len(self.indices)

    def steps(self, rank: int = 0, processes: int = 1) -> tuple[Step, ...]:
        """The batches of one process."""
        ends = list(accumulate(self.sizes))
        steps = []
        for number, start in enumerate(range(0, len(self), self.batch_size)):
            if number % processes != rank:
                continue
            stop = min(start + self.batch_size, len(self))
            pieces = []
            for part, (end, size) in enumerate(zip(ends, self.sizes)):
                inside = min(stop, end) - max(start, end - size)
                if inside > 0:
                    pieces.append((part, inside))
            steps.append(Step(number + 1, tuple(pieces)))
        return tuple(steps)

    def indices_of(self, steps: Sequence[Step]) -> Tensor:
        """The samples of some batches, one after the other."""
        batches = self.indices.split(self.batch_size)
        return torch.cat([self.indices[:0], *(batches[step.number - 1] for step in steps)])
