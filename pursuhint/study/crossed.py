"""What a crossed comparison leaves behind: the same arms with several sets of losses and lengths."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal

from pursuhint.study.comparison import Comparison
from pursuhint.study.finished_study import FinishedStudy, StudyModel

__all__ = ["CrossedCell", "CrossedComparison"]

ErrorOver = Literal["cell", "all"]
"""What the chance of a wrong answer of a crossed comparison is bounded for."""


class CrossedCell(StudyModel):
    """One comparison of the arms.

    Attributes:
        loss_set: name of its set of losses.
        epochs: length of its runs.
        folder: of the comparison, relative to the study's.
    """

    loss_set: str
    epochs: int
    folder: str

    @property
    def title(self) -> str:
        """How tables call it: ``at, 20 epochs``."""
        return f"{self.loss_set}, {self.epochs} epoch{'s' if self.epochs > 1 else ''}"


class CrossedComparison(FinishedStudy):
    """A finished crossed comparison.

    Attributes:
        path: its folder.
        outcome: by what arms are compared.
        recipe: settings shared by all cells, without losses and hints; its epochs and seed do not apply.
        seeds: of every cell; where cells add seeds until they are decided, of the one with the most.
        cells: one for each set of losses and length, lengths within sets.
        error_over: what the chance of a wrong answer is bounded for, if seeds are added until the cells are
            decided: every ``"cell"`` by itself, or ``"all"`` together; None for fixed seeds.
    """

    FILE: ClassVar[str] = "crossed.json"
    KIND: ClassVar[str] = "crossed comparison"

    cells: tuple[CrossedCell, ...]
    error_over: ErrorOver | None = None

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparison of every cell, in the order of `cells`.

        Raises:
            PursuhintError: one is missing or damaged.
        """
        return tuple(Comparison.load(self.path / cell.folder) for cell in self.cells)

    @property
    def loss_sets(self) -> tuple[str, ...]:
        """Names of the sets of losses, in order."""
        return tuple(dict.fromkeys(cell.loss_set for cell in self.cells))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of epochs, in order."""
        return tuple(sorted({cell.epochs for cell in self.cells}))
