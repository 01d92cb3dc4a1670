"""Differences to a control within a seed, with intervals and p-values: what reports of studies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pursuhint.report.page_model import Grid
from pursuhint.report.text import NEW_IMAGES_NOTE, new_images_interval, signed
from pursuhint.study.paired_statistics import PairedComparison

__all__: list[str] = []


def level_of(pairs: Sequence[PairedComparison]) -> float:
    """Confidence of the intervals: 0.95, or the last look's where seeds were added until all was decided."""
    return pairs[0].confidence if pairs else 0.95


def level_text(pairs: Sequence[PairedComparison]) -> str:
    """The confidence in percent: ``95 %``."""
    return f"{level_of(pairs) * 100:.3g} %"


def differences_grid(head: str, names: Mapping[str, str], pairs: Sequence[PairedComparison]) -> Grid:
    """One row for each comparison with the same control.

    Args:
        head: of the column of names.
        names: how the table calls the arms or methods.
        pairs: their differences to the control, in percentage points.
    """
    heads = (
        head,
        "Verdict",
        "Difference",
        f"{level_text(pairs)} interval",
        "New images too",
        "p",
        "p corrected",
        "p sign flips",
        "Smallest visible",
    )
    rows = tuple(
        (
            names[pair.arm],
            pair.verdict_in_short,
            signed(pair.mean),
            _interval(pair),
            new_images_interval(pair),
            _p_value(pair.p_value),
            _p_value(pair.adjusted_p_value),
            _p_value(pair.sign_flip_p_value),
            "–" if pair.detectable is None else f"{pair.detectable:.2f}",
        )
        for pair in pairs
    )
    return Grid(heads, rows, frozenset(range(2, 9)))


def notes_on_differences(pairs: Sequence[PairedComparison]) -> str:
    """What the columns of `differences_grid` mean, in sentences."""
    family = next((pair.family for pair in pairs if pair.family), None) or 1
    corrected = (
        f" p-values are also given corrected (Holm) for the {family} comparisons." if family > 1 else ""
    )
    return (
        "Differences are within a seed, in percentage points. The smallest visible difference is the one "
        f"that so many seeds would have found four times out of five.{corrected} p of sign flips is exact "
        f"and takes no distribution for granted.{NEW_IMAGES_NOTE}"
    )


def _interval(pair: PairedComparison) -> str:
    if pair.low is None or pair.high is None:
        return "none"
    return f"{signed(pair.low)} to {signed(pair.high)}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
