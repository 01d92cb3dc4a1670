"""Order of the samples in an analysis, and how ranks shard it."""

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
        number: of the batch, from 1, counted over all ranks.
        pieces: (shard, samples) in the order of the batch's samples.
    """

    number: int
    pieces: tuple[tuple[int, int], ...]

    @property
    def samples(self) -> int:
        """Number of samples in the batch."""
        return sum(samples for _, samples in self.pieces)


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """The samples of an analysis in the order of their forward passes: shard after shard.

    Batches are consecutive slices of this order, dealt to the ranks in turn. The batches do not depend on the
    number of ranks, so features, whose rounding may depend on the batch, are bit-identical for any
    world size.

    Attributes:
        indices: of the samples, as in ``Batch.indices``.
        sizes: number of samples of each shard.
        batch_size: samples per batch; the last batch may have fewer.
    """

    indices: Tensor
    sizes: tuple[int, ...]
    batch_size: int

    @classmethod
    def of(cls, indices: Tensor, *, shards: int, seed: int, batch_size: int) -> SampleOrder:
        """Divide samples at random into shards whose sizes differ by at most one.

        Args:
            indices: the samples, different ones.
            shards: how many shards; 1 leaves the samples in their order.
            seed: another seed draws other shards.
            batch_size: samples in a batch.

        Raises:
            PursuhintError: there are fewer samples than shards, or the batch size is below 1.
        """
        if batch_size < 1:
            raise PursuhintError(f"batch_size must be at least 1, got {batch_size}")
        if not 1 <= shards <= len(indices):
            raise PursuhintError(f"cannot divide {len(indices)} samples into {shards} shards")
        if shards == 1:
            return cls(indices, (len(indices),), batch_size)
        order = stable_permutation(len(indices), seed).tensor_split(shards)
        # Ascending within a shard: files are then read in the order of their folder.
        divided = [indices[shard].sort().values for shard in order]
        return cls(torch.cat(divided), tuple(len(shard) for shard in divided), batch_size)

    def __len__(self) -> int:
        return len(self.indices)

    def steps(self, rank: int = 0, processes: int = 1) -> tuple[Step, ...]:
        """The batches of one rank."""
        ends = list(accumulate(self.sizes))
        steps = []
        for number, start in enumerate(range(0, len(self), self.batch_size)):
            if number % processes != rank:
                continue
            stop = min(start + self.batch_size, len(self))
            pieces = []
            for shard, (end, size) in enumerate(zip(ends, self.sizes)):
                inside = min(stop, end) - max(start, end - size)
                if inside > 0:
                    pieces.append((shard, inside))
            steps.append(Step(number + 1, tuple(pieces)))
        return tuple(steps)

    def indices_of(self, steps: Sequence[Step]) -> Tensor:
        """Indices of the samples of some batches, concatenated."""
        batches = self.indices.split(self.batch_size)
        return torch.cat([self.indices[:0], *(batches[step.number - 1] for step in steps)])
