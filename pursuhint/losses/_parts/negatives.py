"""Draw samples of other classes, for losses that contrast a sample with many others."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.checks import check_choice

__all__ = ["NegativeSampler", "NegativesFrom"]

NegativesFrom = Literal["other_classes", "other_samples"]


class NegativeSampler(nn.Module):
    """Draws training samples that may serve as negatives.

    For each sample every other one that qualifies is drawn equally often and none twice, unless more are
    wanted than there are. What is drawn follows from the sample's index and the ``key`` alone, so that it
    depends neither on the order in a batch nor on how a batch is split over ranks.

    No table of samples and negatives is kept: the samples lie sorted by class, and the first positions of a
    pseudo-random permutation of all those outside the sample's own class are its negatives. The permutation
    is a Feistel network of four rounds whose round functions are tables of hashed numbers, of the length of
    the square root of the number of samples; positions beyond the last are permuted again. Memory is 24 bytes
    a training sample, and 8 bytes a number that is drawn.

    Args:
        num_samples: size of the training set.
        labels: class of every training sample by its index, (num_samples,); -1 for samples that are held out
            and must not be drawn. None if not known.
        negatives_from: ``"other_classes"``, or ``"other_samples"``, which needs no labels.

    Attributes:
        key: what the draws depend on; a buffer, changed by `advance`.

    Raises:
        PursuhintError: labels are needed and not known, or of the wrong number.
    """

    order: Tensor
    first: Tensor
    count: Tensor
    key: Tensor

    def __init__(
        self, num_samples: int, labels: Tensor | None, negatives_from: NegativesFrom = "other_classes"
    ) -> None:
        super().__init__()
        check_choice(NegativesFrom, negatives_from=negatives_from)
        if labels is None and negatives_from == "other_classes":
            raise PursuhintError(
                "drawing negatives of other classes needs the classes of the training samples; "
                "pass them, or set negatives_from to 'other_samples'"
            )
        if labels is not None and len(labels) != num_samples:
            raise PursuhintError(f"{len(labels)} labels for {num_samples} training samples")
        # Samples sorted by class: the class of a sample is one run, order[first : first + count].
        known = torch.zeros(num_samples, dtype=torch.long) if labels is None else labels.cpu().long()
        order = torch.argsort(known, stable=True)
        order = order[known[order] >= 0]
        position = torch.full((num_samples,), -1)
        position[order] = torch.arange(len(order))
        if negatives_from == "other_classes":
            sizes = torch.bincount(known[order])
            starts = sizes.cumsum(0) - sizes
            classes = known.clamp_min(0)
            first = torch.where(known >= 0, starts[classes], 0)
            count = torch.where(known >= 0, sizes[classes], 0)
        else:  # every sample is a class of its own: a run of length 1
            first = position.clamp_min(0)
            count = (position >= 0).long()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("count", count, persistent=False)
        self.register_buffer("key", torch.randint(2**62, ()))
        # Looked up once, on the CPU: reading it in every step would force a GPU sync.
        domain = len(order) - count
        self._fewest = int(domain.min())
        self._width = int(_rows(domain.max()))

    def advance(self) -> None:
        """Draw other samples from now on."""
        self.key += _STEP

    def forward(self, indices: Tensor, number: int) -> Tensor:
        """Draw negatives.

        Args:
            indices: the samples that negatives are wanted for, (N,).
            number: how many for each.

        Returns:
            Indices of training samples, (N, number).

        Raises:
            PursuhintError: all training samples are of one class.
        """
        first, count = self.first[indices, None], self.count[indices, None]
        domain = len(self.order) - count
        if not self._fewest:
            raise PursuhintError("all training samples are of one class: there are no negatives to draw")
        # One permutation per sample: its key depends on the sampler's key and the sample's index only.
        keys = _hash(_hash(self.key + indices[:, None]) + self.key)
        places = torch.arange(number, device=indices.device).expand(len(indices), -1)
        if number <= len(self.order):
            drawn = _permuted(places.clamp(max=domain - 1), domain, keys, self._width)
        else:
            drawn = torch.zeros_like(places)
        if number > self._fewest:  # some samples have too few others: draw these with replacement
            drawn = torch.where(number > domain, _hash(keys + places) % domain, drawn)
        # Drawn numbers are positions with the sample's own run cut out: skip the run to get real positions.
        return self.order[drawn + count * (drawn >= first)]

    def partners(self, indices: Tensor) -> Tensor:
        """For every sample another one of its class, or itself, each equally often; (N,)."""
        first, count = self.first[indices], self.count[indices].clamp_min(1)
        draw = _hash(_hash(self.key - indices) - self.key) % count
        return torch.where(self.count[indices] > 0, self.order[first + draw], indices)


_ROUNDS = 4
_STEP = -7046029254386353131  # odd, so that the key returns only after 2^64 steps


def _hash(values: Tensor) -> Tensor:
    """Mix the bits of int64 numbers, as the finaliser of SplitMix64 does; the result is not negative."""
    values = values ^ _shifted(values, 30)
    values = values * -4658895280553007687
    values = values ^ _shifted(values, 27)
    values = values * -7723592293110705685
    values = values ^ _shifted(values, 31)
    return values & (2**63 - 1)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right, filling with zeros."""
    return (values >> bits) & (2 ** (64 - bits) - 1)


def _rows(domain: Tensor) -> Tensor:
    """Numbers below ``domain`` are laid out in so many rows."""
    return domain.double().sqrt().ceil().long()


def _permuted(places: Tensor, domain: Tensor, keys: Tensor, width: int) -> Tensor:
    """Where a pseudo-random permutation of 0 .. domain - 1 takes places.

    Args:
        places: numbers below ``domain``, (N, K).
        domain: how many numbers are permuted, (N, 1); at least 1.
        keys: chooses the permutation, (N, 1).
        width: most rows that any sample has, in this batch or not: the draws depend on it.
    """
    # A number is (row, column) of a grid of rows x columns >= domain, about square.
    rows = _rows(domain)
    columns = (domain + rows - 1) // rows
    entries = torch.arange(_ROUNDS * width, device=keys.device)
    tables = _hash(keys + _hash(entries)).unflatten(1, (_ROUNDS // 2, 2, width))
    tables = (tables % torch.stack([rows, columns], 1)[:, None]).flatten()

    def permute(numbers: Tensor, height: Tensor, length: Tensor, table: Tensor) -> Tensor:
        row = numbers // length
        column = numbers - row * length
        # Feistel rounds: shift one coordinate by a hash of the other, in turn, each a bijection of the grid
        for turn in range(0, _ROUNDS, 2):
            row = row + tables[table + (turn * width + column)]
            row = row - height * (row >= height)
            column = column + tables[table + ((turn + 1) * width + row)]
            column = column - length * (column >= length)
        return row * length + column

    table = torch.arange(len(keys), device=keys.device)[:, None] * (_ROUNDS * width)
    result = permute(places, rows, columns, table)
    # Cycle walking: a place beyond the domain is permuted again; its cycle returns to the domain.
    while len(beyond := (result >= domain).nonzero()):
        sample = beyond[:, 0]
        again = result[beyond[:, 0], beyond[:, 1]], rows[sample, 0], columns[sample, 0], table[sample, 0]
        result[beyond[:, 0], beyond[:, 1]] = permute(*again)
    return result
