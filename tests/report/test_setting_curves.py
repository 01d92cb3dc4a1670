"""Curves over a setting and over two stages: what is drawn where."""

from __future__ import annotations

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.setting_curves import setting_curves, stage_curves


def test_means_stand_over_the_values_of_the_setting():
    lines = {"0 %": {"1": [1.0, 3.0], "5": [4.0, 4.0], "all": [9.0, 5.0]}}
    lines["50 %"] = {"1": [2.0], "5": [2.0], "all": [2.0]}
    (axes,) = setting_curves(lines, setting="K", measure="accuracy").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "all"]
    first, second = (list(line.get_ydata()) for line in axes.get_lines())
    assert (first, second) == ([2.0, 4.0, 7.0], [2.0, 2.0, 2.0])
    with pytest.raises(PursuhintError, match="two values"):
        setting_curves({"0 %": {"1": [1.0]}}, setting="K", measure="accuracy")


def test_stages_have_a_thin_line_a_seed_and_their_mean():
    first = {"0 %": [{2: 10.0, 3: 20.0}, {2: 20.0, 3: 30.0}]}
    second = {"0 %": [{1: 50.0}, {1: 70.0}]}
    one, two = stage_curves(first, second, measures=("nearest means", "accuracy")).axes
    assert [list(line.get_ydata()) for line in one.get_lines()] == [[10, 20], [20, 30], [15, 25]]
    assert list(one.get_lines()[-1].get_xdata()) == [2, 3]
    assert list(two.get_lines()[-1].get_ydata()) == [60]
    with pytest.raises(PursuhintError, match="a measurement in each"):
        stage_curves(first, {"0 %": [{}]}, measures=("nearest means", "accuracy"))
