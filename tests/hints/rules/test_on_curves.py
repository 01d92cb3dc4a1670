"""Rules on what the layers say about the classes: by hand, and from stored files without a network."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from pursuhint.analysis import Analysis, StoredAnalysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.errors import PursuhintError
from pursuhint.hints import RuleSource, choose_by_rule
from pursuhint.hints.rules import check_classes
from pursuhint.hints.rules.probe import at_quantiles
from pursuhint.similarity import LayerSimilarity
from tests.helpers.analysis_networks import noise_images, plain_network


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyze(plain_network(), noise_images(), samples=60, stability=False, class_quality=True)


def positions(plan) -> list[int]:
    return [point.position for point in plan.teacher_points]


def source_of(analysis, k=2, **changes) -> RuleSource:
    similarity = analysis.clustered_similarity("cka")
    source = RuleSource(analysis.candidates, k, similarity=similarity, curves=analysis.curves)
    return replace(source, **changes)


@pytest.mark.parametrize(
    ("curve", "k", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2, [2, 4]),
        ([0.1, 0.9, 0.9, 0.9, 0.9], 3, [1, 2, 3]),  # all of the rise is in one layer
        ([0.1, 0.1, 0.1, 0.1, 0.9], 3, [2, 3, 4]),
        ([0.5, 0.5, 0.5], 2, [0, 1]),
        ([0.1, 0.3, 0.2, 0.9, 0.8], 2, [3, 4]),
        ([0.2, 0.4, 0.6, 0.8, 1.0], 5, [0, 1, 2, 3, 4]),
    ],
)
def test_layers_at_steps_of_a_curve_by_hand(curve, k, expected):
    assert at_quantiles(curve, k) == expected


def test_probe_takes_the_layers_at_steps_of_the_curve(analysis):
    rising = {"probe": [0.1, 0.2, 0.3, 0.35, 0.38, 0.4, 0.4, 0.4]}
    plan = choose_by_rule("probe", source_of(analysis, 3, curves=rising))
    assert positions(plan) == [2, 3, 6]
    assert plan.origin == {"strategy": "probe", "k": 3, "num_samples": 60, "seed": 0}


def test_probe_takes_the_curve_of_the_analysis_and_of_its_files(analysis, tmp_path):
    expected = [layer + 1 for layer in at_quantiles(analysis.class_curves.probe, 2)]
    analysis.save(tmp_path)
    for there in (analysis, Analysis.load(tmp_path), StoredAnalysis.load(tmp_path)):
        assert positions(there.select_by_rule("probe", k=2)) == expected


def test_layers_that_do_not_vary_are_not_chosen(analysis):
    similarity = analysis.clustered_similarity("cka").subset([0, 2, 3, 5])
    curves = {"probe": [0.1, 0.2, 0.3, 0.4]}
    source = source_of(analysis, 2, similarity=similarity, curves=curves)
    assert positions(choose_by_rule("probe", source)) == [4, 6]
    with pytest.raises(PursuhintError, match="4 layers vary"):
        choose_by_rule("probe", replace(source, k=5))


def test_analyses_without_curves_say_why(analysis, tmp_path):
    """Of an older version, of images of one class, of too few images for the width of a layer."""
    analysis.save(tmp_path / "old")
    file = tmp_path / "old" / "analysis.json"
    values = json.loads(file.read_text())
    del values["class_curves"], values["no_class_curves"]
    file.write_text(json.dumps(values))
    old = StoredAnalysis.load(tmp_path / "old")
    assert positions(old.select_by_rule("influence", k=2))
    data = noise_images()
    train = replace(data.train, labels=torch.zeros_like(data.train.labels))
    alone = analyze(plain_network(), replace(data, train=train), samples=20, stability=False)
    few = analyze(plain_network(), data, samples=12, stability=False)
    for there, why in (
        (old, "analyze the teacher again"),
        (alone, "two classes"),
        (few, "12 features, 12 images"),
    ):
        with pytest.raises(PursuhintError, match=why):
            there.select_by_rule("probe", k=2)


def test_without_an_analysis_or_classes_it_says_what_is_missing(analysis):
    with pytest.raises(PursuhintError, match="analyze the teacher first"):
        choose_by_rule("probe", source_of(analysis, similarity=None))
    for strategy in ("even", "chosen", None):
        check_classes(strategy, 1)
    with pytest.raises(PursuhintError, match="compares classes, and the data have 1"):
        check_classes("probe", 1)


def test_quality_takes_the_best_of_each_segment(analysis):
    points = analysis.candidates
    group = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2])
    values = torch.where(group[:, None] == group, 0.9, 0.1).double().fill_diagonal_(1)
    similarity = LayerSimilarity(points, values, "cka", 60)
    curves = {"quality": [0.1, 0.3, 0.5, 0.2, 0.4, 0.9, 0.9, 0.1]}
    source = source_of(analysis, 3, similarity=similarity, curves=curves)
    plan = choose_by_rule("quality", source)
    assert positions(plan) == [1, 3, 6]
    assert plan.origin["metric"] == "cka"
    assert positions(choose_by_rule("quality", replace(source, k=1))) == [6]


def test_quality_is_chosen_from_files(analysis, tmp_path):
    analysis.save(tmp_path)
    chosen = StoredAnalysis.load(tmp_path).select_by_rule("quality", k=3)
    assert chosen.teacher_points == analysis.select_by_rule("quality", k=3).teacher_points
    plain = replace(analysis, class_curves=replace(analysis.class_curves, quality=None))
    with pytest.raises(PursuhintError, match="--class-quality"):
        plain.select_by_rule("quality", k=3)
