"""Arguments of the losses that contrast a sample with many others of the training set: CRD, WCoRD, CRCD."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.memory_bank import BankPrecision, MemoryBank
from pursuhint.losses._parts.negatives import NegativeSampler, NegativesFrom
from pursuhint.losses.checks import check_choice, check_positive

__all__ = ["ContrastOptions", "NoiseContrastOptions"]


@dataclass(frozen=True)
class ContrastOptions:
    """How many samples one is contrasted with, and the memories that hold their vectors.

    Args:
        negatives: number of other samples per sample, at least 1.
        momentum: share of the old vector when a memory is updated, in [0, 1].
        width: length of the vectors that are compared, at least 1.
        negatives_from: ``"other_classes"``, or ``"other_samples"`` whatever their class.
        bank_precision: ``"full"``, or ``"half"`` for memories of 16 bits a number.
        bank_on_host: keep the memories in CPU memory.

    Raises:
        PursuhintError: a value is out of its range.
    """

    negatives: int = 16384
    momentum: float = 0.5
    width: int = 128
    negatives_from: NegativesFrom = "other_classes"
    bank_precision: BankPrecision = "full"
    bank_on_host: bool = False

    def __post_init__(self) -> None:
        check_positive(negatives=self.negatives, width=self.width)
        check_choice(NegativesFrom, negatives_from=self.negatives_from)
        check_choice(BankPrecision, bank_precision=self.bank_precision)
        if not 0 <= self.momentum <= 1:
            raise PursuhintError(f"momentum must be in [0, 1], got {self.momentum}")

    def memory(self, num_samples: int, width: int | None = None) -> MemoryBank:
        """A memory of one vector per training sample, of another width if one is given."""
        return MemoryBank(
            num_samples,
            self.width if width is None else width,
            precision=self.bank_precision,
            on_host=self.bank_on_host,
        )

    def sampler(self, num_samples: int, labels: Tensor | None) -> NegativeSampler:
        """Draws the negatives; ``labels`` is the class of every training sample, (num_samples,), or None."""
        return NegativeSampler(num_samples, labels, self.negatives_from)


@dataclass(frozen=True)
class NoiseContrastOptions(ContrastOptions):
    """`ContrastOptions` and those of noise-contrastive estimation, P / (P + K / N + eps).

    Args:
        temperature: divides the inner products, above 0.
        eps: added to the denominators, above 0.
    """

    temperature: float = 0.07
    eps: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(temperature=self.temperature, eps=self.eps)
