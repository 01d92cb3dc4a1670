"""The accuracies of all seeds, a row for each way of training: what a study shows in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pursuhint.study.arm_result import ArmResult
    from pursuhint.study.method_comparison import MethodResult


def draw_accuracies(axes: Axes, ways: Sequence[ArmResult | MethodResult]) -> None:
    """Draw one point a seed and a line at the mean, the first way at the top."""
    for y, way in enumerate(ways):
        values = [run.last_top1 for run in way.runs]
        axes.plot(values, [y] * len(values), "o", color="#0072B2", alpha=0.5)
        axes.plot([way.last.mean], [y], "|", color="black", markersize=18)
    axes.set_yticks(range(len(ways)), [way.title for way in ways])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy after the last epoch, % (line: mean)")
