"""How many images an analysis takes by itself: settings and findings. Plain values, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pursuhint._util.text import percent
from pursuhint.errors import PursuhintError

__all__ = ["AutoSamples", "AutoSampling", "Look"]

AUTO_SAMPLES = "auto"
"""Value of ``samples`` that means: until the choice is stable."""

FIRST_LOOK = 500
"""Images before the first look."""

LAST_LOOK = 0.8
"""Largest share of all images at which a look can still save something."""

ROUGHLY_DRAWS = 1000
"""Draws at a look, at most, as long as a share of alpha of them is a whole draw."""


@dataclass(frozen=True)
class AutoSamples:
    """Take images until all of them would give the same hint points, at a level.

    The pass looks at the choice after 500, 1,000, 2,000, ... images, up to four fifths of all. At each look
    it predicts the similarities of all images from those so far (see `pursuhint.similarity.prediction`) and
    chooses from every draw. With L looks and :math:`\\alpha = (1 - \\mathrm{level}) / L` it ends if at most a
    share :math:`\\alpha` of the draws has another choice.

    At one look, that goes wrong with a probability of at most :math:`\\alpha` as far as similarities are
    normal and boundaries between choices straight; over all looks it is at most 1 - level, whatever the
    network (Bonferroni).

    Attributes:
        stable_at: the level, between 0 and 1.
        max_samples: the largest number of images; all if there are fewer.

    Raises:
        PursuhintError: a number is out of range.
    """

    stable_at: float = 0.95
    max_samples: int = 10_000

    def __post_init__(self) -> None:
        if not 0 < self.stable_at < 1:
            raise PursuhintError(f"stable_at must be between 0 and 1, such as 0.95, got {self.stable_at}")
        if self.max_samples < 2:
            raise PursuhintError(f"similarity needs at least 2 samples, got max_samples={self.max_samples}")

    @classmethod
    def of(cls, samples: object) -> AutoSamples | None:
        """The settings behind an argument ``samples``; None for a fixed number.

        Raises:
            PursuhintError: it is another text than ``"auto"``.
        """
        if isinstance(samples, str):
            if samples != AUTO_SAMPLES:
                raise PursuhintError(f"samples must be a number or 'auto', got {samples!r}")
            return cls()
        return samples if isinstance(samples, cls) else None

    def ends(self, images: int) -> tuple[int, ...]:
        """How many images there are at each look, and all of them.

        Args:
            images: all there are, at most ``max_samples``.
        """
        looks = []
        samples = FIRST_LOOK
        while samples <= LAST_LOOK * images:
            looks.append(samples)
            samples *= 2
        return (*looks, images)

    def alpha(self, looks: int) -> float:
        """The share of draws that may choose differently at one of so many looks."""
        return (1 - self.stable_at) / looks

    def draws(self, looks: int) -> int:
        """Number of draws at each of so many looks."""
        return math.ceil((self.most_different(looks) + 1) / self.alpha(looks)) - 1

    def most_different(self, looks: int) -> int:
        """How many draws may choose differently, at most three.

        One more, out of one draw more, is a share of alpha: so a rank test of draws counts itself.
        """
        return max(1, min(4, math.floor(ROUGHLY_DRAWS * self.alpha(looks) + 1e-9))) - 1


@dataclass(frozen=True)
class Look:
    """The choice after some of the images, and whether all images would repeat it.

    Attributes:
        samples: images so far.
        activation: features after (``post``) or before (``pre``) the activations.
        positions: of the layers that were chosen.
        same: how many predictions of the choice by all images are the same.
        draws: how many predictions were drawn; drawing ends when too many are different.
        why_not: why no prediction was drawn; empty if some were.
    """

    samples: int
    activation: str
    positions: tuple[int, ...]
    same: int
    draws: int
    why_not: str = ""


@dataclass(frozen=True)
class AutoSampling:
    """How a pass that takes as many images as it needs came to its end.

    Attributes:
        stable_at: the level asked for.
        available: the images that it could have taken.
        samples: the images that it took.
        needed: of how many predictions at a look how many had to be the same, ``(same, draws)``.
        looks: what it saw, in order.
        seconds: that the looks took.
        saved: seconds of the forward pass that the other images would have taken.
    """

    stable_at: float
    available: int
    samples: int
    needed: tuple[int, int]
    looks: tuple[Look, ...]
    seconds: float
    saved: float

    @property
    def ended_early(self) -> bool:
        """Whether some of the images were not needed."""
        return self.samples < self.available

    def sentence(self) -> str:
        """How many images were needed, out of how many, and why, without a full stop."""
        same, draws = self.needed
        if self.ended_early:
            return (
                f"{self.samples:,} of {self.available:,} images were enough: predicted for all of them, the "
                f"choice stays the same at a level of {percent(self.stable_at)} (at least {same} of {draws} "
                f"predictions); that saved about {self.saved:.3g} s of forward pass, the looks took "
                f"{self.seconds:.2g} s"
            )
        if not self.looks:
            return (
                f"all {self.available:,} images were taken: the first look comes after {FIRST_LOOK} images, "
                f"the last after {percent(LAST_LOOK)} of all"
            )
        last = [look for look in self.looks if look.samples == self.looks[-1].samples]
        worst = min(last, key=lambda look: look.same)
        reason = worst.why_not or (
            f"{worst.draws - worst.same} of {worst.draws} predictions for all of them had another choice, "
            f"and at most {draws - same} of {draws} may"
        )
        return f"all {self.available:,} images were taken: after {worst.samples:,} of them, {reason}"

    def values(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {
            "samples": self.samples, "available": self.available, "stable_at": self.stable_at,
            "ended_early": self.ended_early, "saved_seconds": self.saved, "sentence": self.sentence(),
        }  # fmt: skip


def looks_from(values: Sequence[dict[str, Any]]) -> list[Look]:
    """Looks from plain values, as JSON gives them back."""
    return [Look(**{**value, "positions": tuple(value["positions"])}) for value in values]
