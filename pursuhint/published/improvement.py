"""What a method gains over KD, in units of what KD gains over the student alone."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError

__all__ = ["relative_improvement"]


def relative_improvement(method: Sequence[float], kd: Sequence[float], vanilla: Sequence[float]) -> float:
    r"""Average relative improvement over KD, in percent.

    .. math:: \frac{100}{n} \sum_{i=1}^{n} \frac{X_i - \mathrm{KD}_i}{\mathrm{KD}_i - V_i}

    over the pairs of teacher and student. Pairs that KD hardly helps dominate the mean: their denominator is
    near zero. Source: Tian, Krishnan and Isola, ICLR 2020, and the ICD paper, whose 24.66 % and 76.42 % are
    the means over the seven pairs of its table 1.

    Args:
        method: accuracies of the method, one a pair.
        kd: accuracies of KD for the same pairs.
        vanilla: accuracies of the students alone.

    Raises:
        PursuhintError: different numbers of pairs, none, or a pair for which KD and the student alone are
            equal.
    """
    if not len(method) == len(kd) == len(vanilla) > 0:
        raise PursuhintError(
            "the relative improvement needs an accuracy of the method, of KD and of the student alone for "
            f"every pair; got {len(method)}, {len(kd)} and {len(vanilla)}"
        )
    for number, (of_kd, alone) in enumerate(zip(kd, vanilla), 1):
        if of_kd == alone:
            raise PursuhintError(
                f"the relative improvement of pair {number} is not defined: KD and the student alone are "
                f"both at {alone:g}"
            )
    shares = [(x - of_kd) / (of_kd - alone) for x, of_kd, alone in zip(method, kd, vanilla)]
    return 100 * sum(shares) / len(shares)
