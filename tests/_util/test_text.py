from __future__ import annotations

from pursuhint._util.text import capital, ranges


def test_runs_of_integers():
    assert ranges([9, 1, 2, 3, 10, 7]) == "1 to 3, 7, 9 to 10"
    assert ranges([1, 2, 4], to="-") == "1-2, 4"
    assert ranges([]) == ""


def test_capital_changes_the_first_letter_only():
    assert capital("k-means ON r2cca") == "K-means ON r2cca"
    assert capital("") == ""
