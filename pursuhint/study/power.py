"""How small a difference so many seeds can show."""

from __future__ import annotations

import math

from scipy import optimize, stats

from pursuhint.errors import PursuhintError
from pursuhint.study.bounds import check_fraction

__all__ = ["detectable_difference"]


def detectable_difference(std: float, n: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    r"""The smallest true mean difference that a paired t-test would find with the given probability.

    With :math:`\delta` the true difference, the test's statistic follows the noncentral t distribution with
    :math:`n - 1` degrees of freedom and noncentrality :math:`\delta \sqrt n / s`; this solves for the
    :math:`\delta` at which it falls outside of the two-sided critical values with probability ``power``
    (Cohen, 1988, *Statistical power analysis for the behavioral sciences*, chapter 2).

    Args:
        std: standard deviation of the differences, positive, in the unit of the answer.
        n: number of pairs, at least 2.
        confidence: one minus the significance level, in (0, 1).
        power: probability of a significant result, between the significance level and 1.

    Raises:
        PursuhintError: an argument is out of its range.
    """
    check_fraction("confidence", confidence)
    check_fraction("power", power)
    if power <= 1 - confidence:
        raise PursuhintError(
            f"power must be above the significance level, got power={power} with confidence={confidence}"
        )
    if n < 2:
        raise PursuhintError(f"a detectable difference needs at least 2 pairs, got {n}")
    if not (math.isfinite(std) and std > 0):
        raise PursuhintError(f"the standard deviation of the differences must be positive, got {std}")
    freedom = n - 1
    critical = float(stats.t.ppf((1 + confidence) / 2, freedom))

    def shortfall(noncentrality: float) -> float:
        # The lower tail by reflection: SciPy's nct.cdf is NaN where that tail falls below about 1e-300.
        above = stats.nct.sf(critical, freedom, noncentrality)
        below = stats.nct.sf(critical, freedom, -noncentrality)
        return float(above + below) - power

    upper = critical
    while shortfall(upper) < 0:
        upper *= 2
    noncentrality = optimize.brentq(shortfall, 0.0, upper, xtol=1e-10, rtol=1e-10)
    return float(noncentrality) * std / math.sqrt(n)
