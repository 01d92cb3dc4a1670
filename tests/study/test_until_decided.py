"""Comparisons that add seeds until they are decided: three to begin with, looks at three and five."""

from __future__ import annotations

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.report.repeat import repeat_comparison
from pursuhint.study import Comparison, compare
from pursuhint.training import Recipe
from tests.helpers.study_runs import few_digits, recipe, write_teacher


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    teacher, data = write_teacher(tmp_path_factory.mktemp("teacher")), few_digits()
    options = {"arms": ("centers", "conventional"), "seeds": (0, 1, 2), "data": data, "device": "cpu"}
    return lambda out, **more: compare(recipe(teacher), out, **{**options, **more})


@pytest.fixture(scope="module")
def undecided(call, tmp_path_factory):
    """A margin that so few images never reach, and arms that one epoch does not tell apart."""
    events, out = [], tmp_path_factory.mktemp("until") / "c"
    return call(out, max_seeds=5, margin=1e-6, on_event=events.append), events


def test_seeds_are_added_until_the_most(undecided):
    found, events = undecided
    assert found.seeds == (0, 1, 2, 3, 4)
    assert (found.sequential.looks, found.sequential.seeds) == ((3, 5), 5)
    assert found.sequential.undecided == ("centers",)
    (pair,) = found.against["conventional"]
    assert pair.confidence == pytest.approx(1 - found.sequential.levels[1])
    assert len([event for event in events if type(event).__name__ == "ArmFinished"]) == 10
    assert len([event for event in events if getattr(event, "name", "") == "seeds"]) == 1
    assert "not decided after 5 seeds" in found.findings[-1]


def test_a_wide_margin_decides_at_the_first_look(call, tmp_path):
    found = call(tmp_path, max_seeds=5, margin=500.0)
    assert found.seeds == (0, 1, 2)
    assert found.against["conventional"][0].verdict == "equal"
    assert found.sequential.decided
    assert call(tmp_path, max_seeds=5, margin=500.0) == found


def test_it_resumes_where_it_was_interrupted(undecided, call, tmp_path):
    def stop(event):
        if type(event).__name__ == "ArmsStarted" and event.seed == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(tmp_path, max_seeds=5, margin=1e-6, on_event=stop)
    assert Comparison.load(tmp_path).seeds == (0, 1, 2)  # the first look
    events = []
    found = call(tmp_path, max_seeds=5, margin=1e-6, on_event=events.append)
    assert found.against == undecided[0].against
    sources = [event.source for event in events if type(event).__name__ == "ArmFinished"]
    assert (sources.count("found"), sources.count("trained")) == (8, 2)


def test_a_folder_keeps_its_plan(undecided, call):
    found, _ = undecided
    before = (found.path / "compare.json").read_bytes()
    for more in (
        {"max_seeds": 8},
        {"seeds": (0, 1, 2, 3, 4)},
        {"seeds": (0, 1, 2, 3), "max_seeds": 5},
    ):
        with pytest.raises(PursuhintError, match="another plan would void its error rate"):
            call(found.path, margin=1e-6, **more)
    assert call(found.path, margin=1e-6, max_seeds=5) == found
    assert (found.path / "compare.json").read_bytes() == before


def test_it_takes_three_seeds_to_begin_with(call, tmp_path):
    with pytest.raises(PursuhintError, match="at least 3 seeds, got 2"):
        call(tmp_path / "c", seeds=(0, 1), max_seeds=5)
    assert not (tmp_path / "c").exists()


def test_its_page_repeats_it(undecided):
    found, _ = undecided
    line = repeat_comparison(found, Recipe.from_dict(found.recipe))
    assert "seeds=[0, 1, 2], margin=1e-06, max_seeds=5" in line
