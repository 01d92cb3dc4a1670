"""Paired comparisons over a few seeds: what was seen, and what could have been seen.

Two arms that start from the same weights and see the same batches differ by what is being studied and by
little else, so the differences *within* a seed are compared, not the two averages. Everything here is plain
arithmetic on numbers; no network, file or tensor is involved.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study.bounds import FEWEST_SEEDS, check_fraction
from pursuhint.study.equality import check_margin, equality_of_constant, equality_p_value
from pursuhint.study.multiplicity import holm
from pursuhint.study.new_images import TwoWayInterval
from pursuhint.study.power import detectable_difference
from pursuhint.study.sign_flips import sign_flip_p_value

__all__ = [
    "PairedComparison",
    "Summary",
    "compare_pairs",
    "conclusion",
    "correct_for_multiplicity",
    "summarize",
]

# Differences of decimal numbers carry rounding noise: three differences of exactly 0.3 points have a
# computed spread of about 1e-15, which is a spread of zero and must not become an interval that wide.
_NOISE = 1e-12

DECIDED = ("better", "worse", "equal")
"""The verdicts that answer the question."""


@dataclass(frozen=True)
class Summary:
    """The results of one arm over its seeds.

    Attributes:
        values: one result a seed, in the order of the seeds.
        mean: their mean.
        std: their sample standard deviation (divided by n - 1); None with a single seed.
    """

    values: tuple[float, ...]
    mean: float
    std: float | None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{spread} ({_seeds(self.n)})"


@dataclass(frozen=True)
class PairedComparison:
    """One arm against a control, seed by seed.

    Attributes:
        arm: name of the arm.
        control: name of what it is compared with.
        differences: arm minus control, one a seed.
        mean: mean difference.
        std: sample standard deviation of the differences; None with a single seed.
        low: lower end of the paired two-sided t interval; None where there is no interval (see
            ``spread``).
        high: upper end of it; None together with ``low``.
        p_value: two-sided p-value of the paired t-test; None together with ``low``.
        adjusted_p_value: the p-value after Holm's correction for the comparisons made with the same
            control; None until :func:`correct_for_multiplicity` has been applied, or without a p-value.
        family: number of comparisons that the correction was for; None until it has been applied.
        detectable: the smallest true difference that this many seeds, with the spread seen here, would
            have shown with probability ``power``; None together with ``low``.
        confidence: confidence level of the interval, in (0, 1).
        power: probability meant by ``detectable``, in (0, 1).
        margin: the smallest difference that matters; None if nothing is to be called equal.
        equality_p_value: p-value of a true difference below the margin, by two one-sided t-tests
            (`pursuhint.study.equality_p_value`), or by flipping signs where the differences are the same in
            all seeds (2^-n); None without a margin or with fewer than `FEWEST_SEEDS` seeds.
        adjusted_equality_p_value: the same after Holm's correction.
        sign_flip_p_value: exact two-sided p-value by flipping signs, which takes no distribution for granted
            (`pursuhint.study.sign_flip_p_value`); None with fewer than `FEWEST_SEEDS` seeds or more than 20.
        new_images: interval for other test images as well as other seeds; None where hits by image are not
            known. ``low`` to ``high`` is about these images.
    """

    arm: str
    control: str
    differences: tuple[float, ...]
    mean: float
    std: float | None
    low: float | None
    high: float | None
    p_value: float | None
    adjusted_p_value: float | None
    family: int | None
    detectable: float | None
    confidence: float
    power: float
    margin: float | None = None
    equality_p_value: float | None = None
    adjusted_equality_p_value: float | None = None
    sign_flip_p_value: float | None = None
    new_images: TwoWayInterval | None = None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.differences)

    @property
    def spread(self) -> str:
        """Whether the differences vary: too ``"few"`` seeds to say, ``"none"`` (all equal) or ``"some"``.

        Only ``"some"`` has an interval. Equal differences in all seeds would give one of width zero, which
        would claim a certainty that a few seeds (and a test set of a few hundred samples, whose accuracies
        move in steps) cannot give. They can be equal within a margin all the same, see ``verdict``.
        """
        if self.n < FEWEST_SEEDS:
            return "few"
        return "none" if self.low is None else "some"

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"``, ``"equal"``, ``"undecided"`` or ``"unknown"``.

        ``"equal"``: the true difference is smaller than the margin, shown at the level 1 - confidence. This
        comes first, so a difference that is certain but too small to matter is equal. ``"better"`` and
        ``"worse"``: the interval excludes zero. ``"unknown"``: there is no interval, and no equality.
        """
        equality = None if self.margin is None else self.equality_p_value
        if equality is not None and equality < 1 - self.confidence:
            return "equal"
        if self.low is None or self.high is None:
            return "unknown"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"

    @property
    def verdict_in_short(self) -> str:
        """The verdict for a cell of a table: ``"equal"``, ``"better (uncorrected)"``, ``"–"`` if unknown."""
        if self.verdict == "unknown":
            return "–"
        uncorrected = self.verdict in DECIDED and self.survives_correction is False
        return f"{self.verdict} (uncorrected)" if uncorrected else self.verdict

    @property
    def survives_correction(self) -> bool | None:
        """Whether the verdict holds after the correction for several comparisons; None without one.

        Of ``"undecided"``, whether the difference is significant, which it is not.
        """
        equal = self.verdict == "equal"
        adjusted = self.adjusted_equality_p_value if equal else self.adjusted_p_value
        return None if adjusted is None else adjusted < 1 - self.confidence

    @property
    def decided(self) -> bool:
        """Whether the verdict is better, worse or equal, and holds after the correction if there is one."""
        return self.verdict in DECIDED and self.survives_correction is not False

    def __str__(self) -> str:
        return conclusion(self)


def summarize(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation of one arm.

    Args:
        values: one result a seed, at least one.

    Raises:
        PursuhintError: there are no values, or one of them is not finite.
    """
    checked = _finite("result", values)
    spread = statistics.stdev(checked) if len(checked) > 1 else None
    return Summary(values=checked, mean=statistics.fmean(checked), std=spread)


def compare_pairs(
    arm: str,
    values: Sequence[float],
    control: str,
    control_values: Sequence[float],
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    margin: float | None = None,
    grain: float = 0.0,
) -> PairedComparison:
    r"""Compare two arms that ran over the same seeds.

    With :math:`d_1 \dots d_n` the differences, :math:`\bar d` their mean and :math:`s` their sample standard
    deviation, the interval is :math:`\bar d \pm t_{n-1} \, s / \sqrt n`, as in the paired t-test
    (Student, 1908, *The probable error of a mean*). It takes the differences to be roughly normal, which a
    handful of seeds can neither confirm nor refute.

    Args:
        arm: name of the arm, for the sentences.
        values: its results, one a seed.
        control: name of the control.
        control_values: the control's results, in the same order of seeds.
        confidence: confidence level of the interval, in (0, 1).
        power: the probability of being seen that makes a difference "detectable", in (0, 1).
        margin: the smallest difference that matters, positive; None if nothing is to be called equal.
        grain: the smallest step between two results, 100 / N points for accuracies on N test images; 0 if
            they do not move in steps. It counts where the difference is the same in all seeds.

    Returns:
        The comparison, without a correction for multiplicity. With fewer than `FEWEST_SEEDS` seeds, or with
        the same difference in all seeds, it has no interval, p-value or detectable difference. In the latter
        case it can be equal within the margin: in five seeds or more, at the usual level.

    Raises:
        PursuhintError: the arms have different numbers of results, none at all, or one that is not finite;
            ``confidence``, ``power`` or ``margin`` is out of range.
    """
    check_fraction("confidence", confidence)
    check_fraction("power", power)
    if margin is not None:
        check_margin(margin)
    first, second = _finite(f"result of {arm}", values), _finite(f"result of {control}", control_values)
    if len(first) != len(second):
        raise PursuhintError(
            f"a paired comparison needs the same seeds in both arms; {arm} has {len(first)} results and "
            f"{control} has {len(second)}"
        )
    differences = tuple(a - b for a, b in zip(first, second, strict=True))
    n = len(differences)
    mean = statistics.fmean(differences)
    std = statistics.stdev(differences) if n > 1 else None
    scale = max(abs(value) for value in (*first, *second))
    if std is not None and std <= _NOISE * scale:
        std = 0.0
        mean = 0.0 if abs(mean) <= _NOISE * scale else mean
    low = high = p_value = detectable = equality = None
    if std and n >= FEWEST_SEEDS:  # the differences vary
        error = std / math.sqrt(n)
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
        low, high = mean - half, mean + half
        p_value = float(2 * stats.t.sf(abs(mean) / error, n - 1))
        detectable = detectable_difference(std, n, confidence=confidence, power=power)
        equality = None if margin is None else equality_p_value(mean, error, n - 1, margin)
    elif margin is not None and n >= FEWEST_SEEDS:
        equality = equality_of_constant(mean, n, margin, grain=grain)
    return PairedComparison(
        arm=arm,
        control=control,
        differences=differences,
        mean=mean,
        std=std,
        low=low,
        high=high,
        p_value=p_value,
        adjusted_p_value=None,
        family=None,
        detectable=detectable,
        confidence=confidence,
        power=power,
        margin=margin,
        equality_p_value=equality,
        sign_flip_p_value=sign_flip_p_value(differences) if n >= FEWEST_SEEDS else None,
    )


def correct_for_multiplicity(comparisons: Sequence[PairedComparison]) -> tuple[PairedComparison, ...]:
    """Apply Holm's correction to comparisons that share one control.

    Comparisons without a p-value (one seed, or no spread) stay as they are and do not count; for equality,
    those without a p-value of it.

    Raises:
        PursuhintError: the comparisons have different controls.
    """
    controls = sorted({comparison.control for comparison in comparisons})
    if len(controls) > 1:
        raise PursuhintError(f"one correction is for one control, got {' and '.join(controls)}")
    differences = [c.p_value for c in comparisons if c.p_value is not None]
    equalities = [c.equality_p_value for c in comparisons if c.equality_p_value is not None]
    adjusted, equal = iter(holm(differences)), iter(holm(equalities))
    return tuple(
        dataclasses.replace(
            comparison,
            adjusted_p_value=None if comparison.p_value is None else next(adjusted),
            adjusted_equality_p_value=None if comparison.equality_p_value is None else next(equal),
            family=len(equalities if comparison.p_value is None else differences),
        )
        if comparison.p_value is not None or comparison.equality_p_value is not None
        else comparison
        for comparison in comparisons
    )


def conclusion(
    comparison: PairedComparison,
    *,
    arm: str | None = None,
    control: str | None = None,
    unit: str = "points",
) -> str:
    """Say in one plain sentence what a comparison shows, and what it could not have shown.

    Args:
        comparison: the comparison.
        arm: how to call the arm; its name in the comparison by default.
        control: how to call the control; its name in the comparison by default.
        unit: unit of the differences, in the plural.

    Returns:
        One sentence without a full stop. A larger value is taken to be better.
    """
    arm, control = arm or comparison.arm, control or comparison.control
    n, mean = comparison.n, comparison.mean
    seeds = _seeds(n)
    if comparison.spread == "few":
        return (
            f"no conclusion: {arm} minus {control} = {_signed(mean)} {unit} in {seeds}, and an interval "
            f"takes at least {FEWEST_SEEDS}"
        )
    if comparison.verdict == "equal" and comparison.spread == "none":
        what = f"the same results in all of {seeds}"
        if mean:
            what = f"{arm} minus {control} = {_signed(mean)} {unit} in every one of {seeds}"
        sentence = f"{arm} and {control} are equal within {comparison.margin:g} {unit}: {what}"
        return sentence + _uncorrected(comparison, comparison.adjusted_equality_p_value)
    if comparison.spread == "none":
        if mean == 0:
            return f"no difference at all: {arm} and {control} gave the same results in all of {seeds}"
        return (
            f"no conclusion: {arm} minus {control} = {_signed(mean)} {unit} in every one of {seeds}, so that "
            "their spread cannot be estimated"
        )
    assert comparison.low is not None
    assert comparison.high is not None
    assert comparison.detectable is not None
    ends = f"{_signed(comparison.low)} to {_signed(comparison.high)}"
    interval = f"{comparison.confidence * 100:.3g} % interval {ends} over {seeds}"
    if comparison.new_images is not None:
        wide = comparison.new_images
        interval += f" (for other test images as well: {_signed(wide.low)} to {_signed(wide.high)})"
    difference = f"{arm} minus {control} = {_signed(mean)} {unit}, {interval}"
    within = None if comparison.margin is None else f"{comparison.margin:g} {unit}"
    if comparison.verdict == "undecided":
        equality = "" if within is None else f" or of equality within {within}"
        return (
            f"no evidence of a difference{equality}: {difference}; "
            f"differences below {_magnitude(comparison.detectable)} {unit} could not have been seen reliably"
        )
    if comparison.verdict == "equal":
        sentence = f"{arm} and {control} are equal within {within}: {difference}"
        if comparison.low > 0 or comparison.high < 0:
            sentence += "; a difference is certain, but too small to matter"
        adjusted = comparison.adjusted_equality_p_value
    else:
        sentence = f"{arm} is {comparison.verdict} than {control} by {_magnitude(mean)} {unit}, {interval}"
        adjusted = comparison.adjusted_p_value
    return sentence + _uncorrected(comparison, adjusted)


def _uncorrected(comparison: PairedComparison, adjusted: float | None) -> str:
    """What follows a verdict that does not survive the correction; else nothing."""
    if comparison.survives_correction is not False:
        return ""
    return (
        f"; this does not survive the correction for {comparison.family} comparisons "
        f"(Holm-adjusted p = {adjusted:.3f})"
    )


def _finite(what: str, values: Sequence[float]) -> tuple[float, ...]:
    checked = tuple(float(value) for value in values)
    if not checked:
        raise PursuhintError(f"there is no {what}; at least one seed is needed")
    for position, value in enumerate(checked, start=1):
        if not math.isfinite(value):
            raise PursuhintError(f"{what} number {position} is {value}, not a finite number")
    return checked


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _decimals(value: float) -> int:
    """One decimal, and as many more as it takes to show something other than zero (five at most)."""
    size = abs(value)
    return 1 if size >= 0.1 or size < 1e-5 else math.ceil(-math.log10(size))


def _signed(value: float) -> str:
    """``+0.3``, ``-1.2``, ``0.0``; small differences keep a second decimal, and zero has no sign."""
    text = f"{value:+.{_decimals(value)}f}"
    return text[1:] if float(text) == 0 else text


def _magnitude(value: float) -> str:
    return f"{abs(value):.{_decimals(value)}f}"
