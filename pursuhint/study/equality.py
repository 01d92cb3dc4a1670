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


def check_margin(margin: float) -> None:
    """Check a margin of practical equality.

    Raises:
        PursuhintError: it is not a positive number.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise PursuhintError(f"the margin of practical equality must be a positive number, got {margin}")
