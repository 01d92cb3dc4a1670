"""How strong a loss is at the beginning of the training."""

from __future__ import annotations

from pursuhint.losses.checks import check_non_negative

__all__ = ["LinearRamp"]


class LinearRamp:
    """A factor that grows from epoch to epoch until it is 1.

    Before the first call of `begin_epoch` the factor is 1: a loss that is used without a trainer has its full
    strength.

    Args:
        epochs: how many epochs it grows, at least 0; 0 for none.
        first: number that the first epoch counts as. With 0 the factor begins at 0, with 1 at ``1 / epochs``.

    Raises:
        PursuhintError: ``epochs`` or ``first`` is negative.
    """

    def __init__(self, epochs: int, first: int) -> None:
        check_non_negative(ramp_epochs=epochs, ramp_start=first)
        self.epochs = epochs
        self.first = first
        self.factor = 1.0

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins; its number, from 0."""
        self.factor = min((epoch + self.first) / self.epochs, 1.0) if self.epochs else 1.0
