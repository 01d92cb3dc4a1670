"""The line with published figures that ends the summary of a run on a known pair."""

from __future__ import annotations

import pytest

from pursuhint.study import published_figures
from pursuhint.study.published_figures import OwnResult, beside_published, published_line
from pursuhint.training import Recipe

PAIR = {"data": "cifar100", "teacher": "resnet110", "student": "resnet20"}


@pytest.mark.parametrize(
    ("losses", "hints", "expected"),
    [
        ({"kd": 1}, None, "KD 70.67 (rrd-supplement 1, icd 1, pursuhint 5)"),
        ({"at": 1, "kd": 1}, "conventional", "AT+KD 70.95 (pursuhint 4)"),
        ({"at": 1, "kd": 1}, "chosen", "AT+KD 71.06 (pursuhint 4), "),
        ({}, None, "vanilla 69.06 ("),
    ],
)
def test_figures_of_the_same_data_networks_and_method(losses, hints, expected):
    values = {**PAIR, "losses": losses, **({"hints": hints} if hints else {})}
    line = published_line(Recipe.from_dict(values, source="test"))
    assert line is not None
    assert line.startswith("published for resnet110 → resnet20 on CIFAR-100: ")
    assert expected in line


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "dot"}},
        {"losses": {"kd": {"weight": 1, "temperature": "learned"}}},
        {"losses": {"kd": {"weight": 1, "standardize": True}}},
    ],
    ids=["dot", "learned", "standardized"],
)
def test_variants_of_kd_are_not_compared_with_the_figures_of_kd(changes):
    recipe = Recipe.from_dict({**PAIR, "losses": {"kd": 1}, **changes}, source="test")
    assert published_line(recipe) is None


def test_a_comparison_is_shown_the_student_alone_and_kd():
    line = published_line(Recipe.from_dict(PAIR, source="test"), methods=False)
    assert line is not None
    assert "vanilla 69.06" in line
    assert "KD 70.67" in line


@pytest.mark.parametrize(
    "change", [{"data": "digits"}, {"student": "resnet14"}, {"losses": {"jacobian-attention": 1}}]
)
def test_no_line_where_nothing_is_published(change):
    assert published_line(Recipe.from_dict({**PAIR, **change}, source="test")) is None


@pytest.mark.parametrize(("kd", "share"), [(60.0, "+50.0"), (40.0, ""), (50.0, "")])
def test_a_share_of_the_gain_of_kd_needs_a_gain(monkeypatch, kd, share):
    """KD below the student alone would make a method that is worse still look better."""
    found = [
        OwnResult("toys", "" if name == "vanilla" else "large", "small", name, "", False, (accuracy,))
        for name, accuracy in {"vanilla": 50.0, "KD": kd, "AT": 65.0}.items()
    ]
    monkeypatch.setattr(published_figures, "_read", lambda folder: found)
    table = beside_published(["runs"])
    assert [row[-1] for row in table.rows] == ["", "", share]
