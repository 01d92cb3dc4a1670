"""Stability of the chosen layers under resampling of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pursuhint._util.text import percent
from pursuhint.clustering.inertia import Matrix, Similarity, as_array
from pursuhint.errors import PursuhintError

__all__ = ["SelectionStability", "selection_stability"]


@dataclass(frozen=True)
class SelectionStability:
    """How often the same layers are chosen when some of the images are left out.

    The images are divided at random into shards. The choice is repeated on random halves of the shards,
    drawn without replacement, and on all shards but one. A half has half as many images, so its choices vary
    more than those of another full draw (by a factor of about the square root of two).

    That says whether other images change the choice, not whether the choice is right: algorithm and seeds
    stay the same, so one choice among many that fit equally well is repeated, too.
    `pursuhint.analysis.HintSelector.choice_agreement` looks at the others.

    Similarities of the CCA family rise with fewer images, more so for wide layers, so the halves may agree on
    other positions than all images do; more images may then change the choice again.

    Attributes:
        chosen: layers chosen on all images, by index from 0.
        frequency: for every layer, the share of halves in which it was chosen; the sum is the number of hint
            points.
        together: share of halves in which exactly ``chosen`` was chosen.
        left_out_frequency: for every layer, the share of choices with one shard left out that have it.
        left_out_together: share of the choices with one shard left out that are exactly ``chosen``.
        halves: number of halves.
        parts: number of shards.
    """

    chosen: tuple[int, ...]
    frequency: tuple[float, ...]
    together: float
    left_out_frequency: tuple[float, ...]
    left_out_together: float
    halves: int
    parts: int

    def sentence(self, positions: Sequence[int]) -> str:
        """The result in words.

        Args:
            positions: number of each layer, in the order of the layers.
        """
        names = [str(positions[layer]) for layer in self.chosen]
        text = (
            f"stability under resampling of images: positions {', '.join(names)} were chosen in "
            f"{percent(self.together)} of {self.halves} half-samples, and "
            f"{self.left_out_together * self.parts:.0f} of {self.parts} times with one "
            f"of {self.parts} parts of the images left out"
        )
        if self.together == 1:
            return text
        single = (f"{name} in {percent(self.frequency[layer])}" for name, layer in zip(names, self.chosen))
        return f"{text}; one by one: {', '.join(single)} of the half-samples"


def selection_stability(
    choose: Callable[[Matrix], Sequence[int]],
    chosen: Sequence[int],
    left_out: Similarity,
    halves: Similarity,
) -> SelectionStability:
    """Repeat a choice of layers on every resampled similarity.

    A layer that does not vary over the images of a half has NaN as similarities and cannot be chosen there.
    If too few layers are left, the half counts as one with another choice.

    Args:
        choose: maps a similarity (layers, layers) to the chosen layers, from 0.
        chosen: the layers chosen from the similarity of all images.
        left_out: each with one shard of the images left out, (shards, layers, layers).
        halves: from random halves of the shards, (halves, layers, layers).

    Raises:
        PursuhintError: there is no resampled similarity.
    """
    if not len(left_out) or not len(halves):
        raise PursuhintError("stability needs at least one half of the images, and one with a part left out")
    layers = tuple(chosen)
    frequency, together = _frequency(choose, halves, layers)
    left_out_frequency, left_out_together = _frequency(choose, left_out, layers)
    return SelectionStability(
        layers,
        frequency,
        together,
        left_out_frequency,
        left_out_together,
        len(halves),
        len(left_out),
    )


def _frequency(
    choose: Callable[[Matrix], Sequence[int]], matrices: Similarity, chosen: tuple[int, ...]
) -> tuple[tuple[float, ...], float]:
    counts = [0] * matrices.shape[-1]
    same = 0
    for matrix in as_array(matrices):
        layers = _choice(choose, matrix)
        same += layers == chosen
        for layer in layers:
            counts[layer] += 1
    return tuple(count / len(matrices) for count in counts), same / len(matrices)


def _choice(choose: Callable[[Matrix], Sequence[int]], matrix: Matrix) -> tuple[int, ...]:
    # NaN fills the row and column of a layer without variance, its own entry included.
    there = np.flatnonzero(~np.isnan(matrix.diagonal())).tolist()
    try:
        return tuple(there[layer] for layer in choose(matrix[np.ix_(there, there)]))
    except PursuhintError:
        return ()
