"""Order of the samples in an analysis, and how ranks shard it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

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
        start: place of its first sample in the order.
        stretch: number of its stretch, from 0.
        pieces: (shard, samples) in the order of the batch's samples.
    """

    number: int
    start: int
    stretch: int
    pieces: tuple[tuple[int, int], ...]

    @property
    def samples(self) -> int:
        """Number of samples in the batch."""
        return sum(samples for _, samples in self.pieces)


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """The samples of an analysis in the order of their forward passes: shard after shard.

    A pass that may end early sees the samples in stretches, each a random draw with a piece of every shard;
    it may end with any of them.

    Batches are consecutive slices of this order, none across two stretches, dealt to the ranks in turn. The
    batches do not depend on the number of ranks, so features, whose rounding may depend on the batch, are
    bit-identical for any world size.

    Attributes:
        indices: of the samples, as in ``Batch.indices``.
        stretches: for each stretch the number of samples of each shard.
        batch_size: samples per batch; the last batch of a stretch may have fewer.
    """

    indices: Tensor
    stretches: tuple[tuple[int, ...], ...]
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
        return cls.growing(indices, (len(indices),), shards=shards, seed=seed, batch_size=batch_size)

    @classmethod
    def growing(
        cls, indices: Tensor, ends: Sequence[int], *, shards: int, seed: int, batch_size: int
    ) -> SampleOrder:
        """Divide samples at random into stretches, and each of these into pieces of all shards.

        Args:
            indices: the samples, different ones.
            ends: how many samples there are up to the end of each stretch; the last is all of them.
            shards: how many shards; 1 leaves the samples of a single stretch in their order.
            seed: another seed draws others.
            batch_size: samples in a batch.

        Raises:
            PursuhintError: a stretch has fewer samples than there are shards, or the batch size is below 1.
        """
        if batch_size < 1:
            raise PursuhintError(f"batch_size must be at least 1, got {batch_size}")
        for start, end in pairwise((0, *ends)):
            if not 1 <= shards <= end - start:
                raise PursuhintError(f"cannot divide {end - start} samples into {shards} shards")
        if shards == 1 and len(ends) == 1:
            return cls(indices, ((len(indices),),), batch_size)
        order = stable_permutation(len(indices), seed)
        divided = [order[start:end].tensor_split(shards) for start, end in pairwise((0, *ends))]
        # Ascending within a piece: files are then read in the order of their folder.
        pieces = [indices[piece].sort().values for stretch in divided for piece in stretch]
        sizes = tuple(tuple(len(piece) for piece in stretch) for stretch in divided)
        return cls(torch.cat(pieces), sizes, batch_size)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of samples of each shard."""
        return tuple(map(sum, zip(*self.stretches)))

    @property
    def ends(self) -> tuple[int, ...]:
        """How many samples there are up to the end of each stretch."""
        return tuple(accumulate(map(sum, self.stretches)))

    def steps(self, rank: int = 0, processes: int = 1) -> tuple[Step, ...]:
        """The batches of one rank."""
        steps = []
        number = 0
        for stretch, (first, last) in enumerate(pairwise((0, *self.ends))):
            ends = list(accumulate(self.stretches[stretch], initial=first))
            for start in range(first, last, self.batch_size):
                number += 1
                if (number - 1) % processes != rank:
                    continue
                stop = min(start + self.batch_size, last)
                pieces = []
                for shard, (begin, end) in enumerate(pairwise(ends)):
                    inside = min(stop, end) - max(start, begin)
                    if inside > 0:
                        pieces.append((shard, inside))
                steps.append(Step(number, start, stretch, tuple(pieces)))
        return tuple(steps)

    def indices_of(self, steps: Sequence[Step]) -> Tensor:
        """Indices of the samples of some batches, concatenated."""
        batches = (self.indices[step.start : step.start + step.samples] for step in steps)
        return torch.cat([self.indices[:0], *batches])
