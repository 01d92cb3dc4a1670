"""What a figure of a paper is drawn with, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

__all__ = ["DrawnFigure", "FigureSettings"]


@dataclass(frozen=True)
class FigureSettings:
    """Choices of `pursuhint.report.write_figure`. Each figure looks at some of them, see `FIGURES`.

    Attributes:
        samples: test images that are drawn at random; all if there are fewer.
        images: test images that are shown, one a row.
        seed: of the draw, and of what else is random.
        device: where networks run; None for the best there is.
        trust_code: import and call networks that a run names as ``package.module:factory``.
        watch: is called with a line for every run whose networks are read.
    """

    samples: int = 1000
    images: int = 4
    seed: int = 0
    device: torch.device | str | None = None
    trust_code: bool = False
    watch: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class DrawnFigure:
    """A figure and the numbers behind it.

    Attributes:
        figure: the picture.
        caption: how to read it, and what was assumed, in a sentence or two.
        numbers: everything that is drawn, as plain values.
    """

    figure: Figure
    caption: str
    numbers: dict[str, Any]
