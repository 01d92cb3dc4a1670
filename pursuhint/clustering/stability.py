"""Would other images have led to the same hint positions?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pursuhint.clustering.inertia import Matrix, Similarity, as_array
from pursuhint.errors import PursuhintError

__all__ = ["SelectionStability", "selection_stability"]


@dataclass(frozen=True)
class SelectionStability:
    """How often the same layers are chosen when some of the images are left out.

    The images are divided at random into parts. The choice is made again on halves of the parts, drawn
    without replacement, and on all parts but one. Halves have half of the images, so they scatter more than
    another draw of as many images would (by a factor of about the square root of two): a choice that is the
    same in nearly all halves is safe. Similarities of the CCA family also rise when there are fewer images,
    the more the wider the layers, so halves may agree on other positions than everything does; then more
    images may change the choice again.

    Attributes:
        chosen: the layers chosen on all images, by index from 0.
        frequency: for every layer, the share of halves in which it was chosen; they add up to the number of
            hint points.
        together: share of halves in which exactly ``chosen`` was chosen.
        left_out_frequency: for every layer, the share of the choices with one part left out.
        left_out_together: share of those in which exactly ``chosen`` was chosen.
        halves: number of halves.
        parts: number of parts.
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
            positions: how each layer is numbered, in the order of the layers.
        """
        names = [str(positions[layer]) for layer in self.chosen]
        text = (
            f"positions {', '.join(names)} were chosen in {percent(self.together)} of {self.halves} "
            f"half-samples, and {round(self.left_out_together * self.parts)} of {self.parts} times with one "
            f"of {self.parts} parts of the images left out"
        )
        if self.together == 1:
            return text
        single = (f"{name} in {percent(self.frequency[layer])}" for name, layer in zip(names, self.chosen))
        return f"{text}; one by one: {', '.join(single)} of the half-samples"


def percent(share: float) -> str:
    """A share as a whole number of percent, ``"94 %"``, never 0 or 100 by rounding."""
    value = round(100 * share)
    if value == 100 and share < 1:
        value = 99
    if value == 0 and share > 0:
        value = 1
    return f"{value} %"


def selection_stability(
    choose: Callable[[Matrix], Sequence[int]],
    similarity: Similarity,
    left_out: Similarity,
    halves: Similarity,
) -> SelectionStability:
    """Make a choice again on every resampled similarity.

    Args:
        choose: which layers (from 0) a similarity (layers, layers) leads to.
        similarity: of all images, (layers, layers).
        left_out: with one part of the images left out, (parts, layers, layers).
        halves: of random halves of the parts, (halves, layers, layers).

    Raises:
        PursuhintError: there is no resampled similarity, or ``choose`` raises it for all images.

    A layer that does not vary over the images of a half (its similarities are NaN) cannot be chosen there;
    where the layers that are left are too few, the choice counts as another one.
    """
    if not len(left_out) or not len(halves):
        raise PursuhintError("certainty needs at least one half of the images, and one with a part left out")
    chosen = tuple(choose(as_array(similarity)))
    frequency, together = _frequency(choose, halves, chosen)
    left_out_frequency, left_out_together = _frequency(choose, left_out, chosen)
    return SelectionStability(
        chosen,
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
