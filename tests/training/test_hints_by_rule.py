"""Hint points by a rule, as ``hints.strategy`` of a recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pursuhint.analysis import Analysis
from pursuhint.errors import PursuhintError
from pursuhint.training import RunRecord, train
from tests.helpers.study_runs import few_digits, recipe, write_teacher


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"))


def run(teacher, data, out, **hints) -> RunRecord:
    return train(recipe(teacher, hints=hints), out, data=data, device="cpu")


@pytest.mark.parametrize(
    ("hints", "pairs"),
    [
        ({"strategy": "even"}, [(2, 1), (4, 2), (6, 3)]),
        ({"strategy": "even", "k": 2}, [(3, 1), (6, 3)]),
        ({"strategy": "reverse"}, [(2, 3), (4, 2), (6, 1)]),
        ({"strategy": "conventional", "pairing": "reverse"}, [(2, 3), (4, 2), (6, 1)]),
        ({"strategy": "all-to-one", "position": "last"}, [(6, 1), (6, 2), (6, 3)]),
        ({"strategy": "first"}, [(1, 1), (2, 2), (3, 3)]),
    ],
)
def test_a_run_has_the_pairs_of_its_rule(teacher, data, tmp_path, hints, pairs):
    """The teacher has 6 layers, the student 3."""
    plan = run(teacher, data, tmp_path, **hints).plan
    assert [(pair.teacher.position, pair.student.position) for pair in plan.pairs] == pairs


def test_a_rule_on_similarities_analyzes_the_teacher_first(teacher, data, tmp_path):
    record = run(teacher, data, tmp_path, strategy="influence", metric="debiased-cka", samples=100, k=2)
    assert record.plan.origin["strategy"] == "influence"
    assert (record.plan.origin["metric"], len(record.plan)) == ("debiased-cka", 2)
    made = Analysis.load(tmp_path / "analysis").provenance
    assert made.num_samples == 100
    assert record.plan.provenance.network_fingerprint == made.network_fingerprint


@pytest.mark.parametrize(
    ("strategy", "analyzed"), [("gradnorm", True), ("quality", True), ("probe", True), ("ablation", False)]
)
def test_a_rule_on_images_runs_the_teacher_first(teacher, data, tmp_path, strategy, analyzed):
    record = run(teacher, data, tmp_path, strategy=strategy, k=2, samples=100, seed=3)
    origin = record.plan.origin
    assert (origin["strategy"], origin["num_samples"], origin["seed"]) == (strategy, 100, 3)
    assert len(record.plan) == 2
    assert (tmp_path / "analysis").exists() == analyzed
    assert record.plan.provenance.network_fingerprint


def test_a_run_whose_analysis_lacks_the_curve_analyzes_again(teacher, data, tmp_path):
    """As an older version left it that was interrupted after its analysis."""
    hints = {"strategy": "quality", "k": 2, "samples": 100}
    plan = run(teacher, data, tmp_path, **hints).plan
    there = Analysis.load(tmp_path / "analysis")
    replace(there, class_curves=replace(there.class_curves, quality=None)).save(tmp_path / "analysis")
    for name in ("result.json", "hints.json"):
        (tmp_path / name).unlink()
    again = run(teacher, data, tmp_path, **hints)
    assert again.plan.teacher_points == plan.teacher_points
    assert Analysis.load(tmp_path / "analysis").class_curves == there.class_curves


@pytest.mark.parametrize(
    ("hints", "key"),
    [
        ({"strategy": "published", "k": 2}, "k"),
        ({"strategy": "even", "metric": "r2cca"}, "metric"),
        ({"strategy": "even", "position": "last"}, "position"),
        ({"strategy": "influence", "algorithm": "segments"}, "algorithm"),
        ({"strategy": "probe", "metric": "r2cca"}, "metric"),
        ({"strategy": "reverse", "pairing": "even"}, "pairing"),
    ],
)
def test_a_key_that_the_rule_ignores_is_refused(teacher, data, tmp_path, hints, key):
    with pytest.raises(PursuhintError, match=f"hints.{key} has no effect"):
        run(teacher, data, tmp_path / "out", **hints)
    assert not (tmp_path / "out").exists()


def test_published_positions_of_an_unknown_teacher_are_refused_before_anything_is_written(
    teacher, data, tmp_path
):
    with pytest.raises(PursuhintError, match="resnet14"):
        run(teacher, data, tmp_path / "out", strategy="published")
    assert not (tmp_path / "out").exists()
