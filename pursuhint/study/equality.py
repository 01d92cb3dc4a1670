"""Whether a difference is smaller than one that matters: two one-sided tests."""

from __future__ import annotations

import math

from scipy import stats

from pursuhint.errors import PursuhintError

__all__ = ["MARGIN", "equality_p_value"]

MARGIN = 0.5
"""Margin of practical equality that studies use unless another is given, in percentage points."""


def equality_p_value(mean: float, error: float, freedom: float, margin: float) -> float:
    r"""P-value of practical equality: that a true difference lies within plus and minus a margin.

    Two one-sided t-tests, of a difference of :math:`-m` or less and of one of :math:`m` or more (Schuirmann,
    1987, Journal of Pharmacokinetics and Biopharmaceutics 15). The result is the larger of the two p-values.
    It is below :math:`\alpha` exactly where the two-sided interval with confidence :math:`1 - 2 \alpha` lies
    within the margin, and a true difference of the margin or more has at most that chance of being called
    equal.

    Args:
        mean: mean difference.
        error: its standard error, positive, in the unit of ``mean``.
        freedom: degrees of freedom of ``error``, positive.
        margin: the smallest difference that matters, positive, in the same unit.

    Returns:
        A value in [0, 1].

    Raises:
        PursuhintError: the margin or the error is not a positive number.
    """
    check_margin(margin)
    if not (math.isfinite(error) and error > 0):
        raise PursuhintError(f"the standard error of a difference must be positive, got {error}")
    above = stats.t.sf((mean + margin) / error, freedom)
    below = stats.t.cdf((mean - margin) / error, freedom)
    return float(max(above, below))


def equality_of_constant(difference: float, n: int, margin: float, *, grain: float = 0.0) -> float:
    r"""P-value of practical equality where the difference is the same in all seeds.

    There is no spread for a t-test. The two one-sided tests are made by flipping signs instead, as in
    `pursuhint.study.sign_flip_p_value`: if the true difference were the margin or more, and symmetric in its
    distribution, every seed would lie below it with a chance of :math:`2^{-n}` at most. Five seeds reach
    0.031, four 0.0625.

    Results that move in steps hide what is smaller than a step: a true difference between two steps can be
    seen as the lower one in most seeds. So a constant difference is evidence only if one step more would
    still be within the margin.

    Args:
        difference: in every seed.
        n: number of seeds.
        margin: the smallest difference that matters, positive, in the same unit.
        grain: the smallest step between two results, 100 / N points for accuracies on N test images; 0 if
            they do not move in steps.

    Returns:
        :math:`2^{-n}`, or 1 where the difference and a step together are not within the margin.
    """
    check_margin(margin)
    within = abs(difference) < margin and abs(difference) + grain <= margin * (1 + 1e-9)
    return 0.5**n if within else 1.0


def check_margin(margin: float) -> None:
    """Check a margin of practical equality.

    Raises:
        PursuhintError: it is not a positive number.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise PursuhintError(f"the margin of practical equality must be a positive number, got {margin}")
