"""Comparisons that add seeds until they are decided: three to begin with, looks at three and five."""

from __future__ import annotations

import shutil

import pytest

from pursuhint._util.devices import choose_device
from pursuhint.errors import PursuhintError
from pursuhint.report import write_report
from pursuhint.report.repeat import repeat_comparison, repeat_methods
from pursuhint.study import (
    Comparison,
    ComparisonRequest,
    Crossing,
    SequentialPlan,
    StudyOptions,
    compare,
    compare_crossed,
    compare_methods,
)
from pursuhint.study.paired_statistics import compare_pairs
from pursuhint.training import Recipe
from pursuhint.training.inputs import Inputs
from pursuhint.training.recipe.schema import LossConfig
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


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """Two sets of losses, of which the second moves the students far more."""
    teacher, data = write_teacher(tmp_path_factory.mktemp("teacher")), few_digits(128, 300)
    sets = {
        "little": {"ce": LossConfig(weight=1), "at": LossConfig(weight=100)},
        "much": {"ce": LossConfig(weight=1), "at": LossConfig(weight=10_000)},
    }

    def call(out, *, margin, max_seeds=5, seeds=(0, 1, 2), on_event=None, error_over="cell"):
        request = ComparisonRequest(("centers", "conventional"), seeds, margin, max_seeds)
        return compare_crossed(
            recipe(teacher, losses={}),
            out,
            Crossing(sets, error_over=error_over),
            request=request,
            options=StudyOptions(choose_device("cpu"), None, False, on_event),
            passed=Inputs(data=data),
        )

    return call


@pytest.fixture(scope="module")
def fixed(crossing, tmp_path_factory):
    """The first three seeds of both cells, without a plan."""
    return crossing(tmp_path_factory.mktemp("fixed") / "c", margin=1e-6, max_seeds=None)


def margin_of(found: Comparison, confidence: float) -> float:
    """The smallest margin with which the two arms are equal at a confidence."""
    first, second = (found.arm(name).last.values for name in ("centers", "conventional"))
    for tenths in range(1, 10_000):
        pair = compare_pairs(
            "centers", first, "conventional", second, margin=tenths / 10, confidence=confidence
        )
        if pair.verdict == "equal":
            return tenths / 10
    raise AssertionError("no margin is wide enough")


def test_every_cell_of_a_crossing_stops_when_it_is_decided_by_itself(crossing, fixed, tmp_path):
    plan = SequentialPlan(3, 5)
    tmp_path = shutil.copytree(fixed.path, tmp_path / "c")
    needed = [margin_of(cell, plan.confidence(3)) for cell in fixed.comparisons]
    assert max(needed) > 1.2 * min(needed)
    margin = (min(needed) * max(needed)) ** 0.5
    events = []
    found = crossing(tmp_path, margin=margin, on_event=events.append)
    cells = dict(zip(needed, found.comparisons, strict=True))
    one, other = cells[min(needed)], cells[max(needed)]
    assert (one.seeds, one.against["conventional"][0].verdict) == ((0, 1, 2), "equal")
    assert one.sequential.decided
    assert (other.seeds, other.sequential.seeds) == ((0, 1, 2, 3, 4), 5)
    assert other.against["conventional"][0].confidence == pytest.approx(plan.confidence(5))
    assert found.seeds == (0, 1, 2, 3, 4)
    ended = [event.source for event in events if type(event).__name__ == "ArmFinished"]
    assert (ended.count("found"), ended.count("trained")) == (12, 4)
    assert [event.text for event in events if getattr(event, "name", "") == "seeds"] == [
        "1 of 2 cells are not decided and get more seeds"
    ]
    assert "3 to 5 seeds each" in write_report(tmp_path).read_text()
    with pytest.raises(PursuhintError, match="another plan would void its error rate"):
        crossing(tmp_path, margin=margin, seeds=(0, 1, 2, 3, 4, 5), max_seeds=None)
    with pytest.raises(PursuhintError, match=r"chance of 5 % of a wrong answer \(here 2.5 %"):
        crossing(tmp_path, margin=margin, error_over="all")
    assert crossing(tmp_path, margin=margin) == found  # the refused call has changed nothing


def test_cells_share_the_chance_of_a_wrong_answer_if_asked(crossing, fixed, tmp_path):
    tmp_path = shutil.copytree(fixed.path, tmp_path / "c")
    found = crossing(tmp_path, margin=1e-6, max_seeds=3, error_over="all")
    assert found.error_over == "all"
    for comparison in found.comparisons:
        assert comparison.sequential.error == 0.05 / 2
        assert comparison.against["conventional"][0].confidence == pytest.approx(1 - 0.05 / 2)
    assert "over all 2 comparisons together" in write_report(tmp_path).read_text()
    assert "(--error-over all)" in (comparison.path / "report.html").read_text()
    with pytest.raises(PursuhintError, match="it goes with max_seeds"):
        crossing(tmp_path, margin=1e-6, max_seeds=None, error_over="all")


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    teacher, data = write_teacher(tmp_path_factory.mktemp("teacher")), few_digits()
    options = {"methods": ("kd", "at+kd"), "seeds": (0, 1, 2), "data": data, "device": "cpu"}
    return lambda out, **more: compare_methods(recipe(teacher, losses={}), out, **{**options, **more})


def test_methods_get_seeds_until_they_are_decided_against_kd(methods, tmp_path):
    found = methods(tmp_path, max_seeds=5, margin=1e-6)
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.sequential.control == "kd"
    assert "at+kd" in found.sequential.undecided
    assert {len(method.runs) for method in found.methods} == {5}
    confidences = [pair.confidence for pairs in found.against.values() for pair in pairs]
    assert confidences == pytest.approx([1 - found.sequential.levels[1]] * 4)
    page = write_report(tmp_path).read_text()
    assert "Not decided after 5 seeds" in page
    assert f"{confidences[0] * 100:.3g} % interval" in page
    assert "95 % interval" not in page
    line = repeat_methods(found, Recipe.from_dict(found.recipe))
    assert "--seeds 0,1,2 --margin 1e-06 --until-decided --max-seeds 5" in line
    with pytest.raises(PursuhintError, match="study of methods that adds seeds"):
        methods(tmp_path, max_seeds=8, margin=1e-6)
    assert methods(tmp_path, max_seeds=5, margin=1e-6) == found


def test_methods_that_are_decided_get_no_more_seeds(methods, tmp_path):
    found = methods(tmp_path, max_seeds=5, margin=500.0, methods=("at",))
    assert (found.seeds, found.sequential.control) == ((0, 1, 2), "alone")
    assert found.sequential.decided
