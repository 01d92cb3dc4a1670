"""Too few samples for the width of a layer: R2CCA and its kin measure chance."""

from __future__ import annotations

import warnings

import pytest
import torch

from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.analysis.sample_size import TooFewSamples, too_few_samples
from pursuhint.analysis.storage import StoredAnalysis
from pursuhint.errors import PursuhintWarning
from pursuhint.similarity import METRICS, debiased_cka, get_metric
from tests.helpers.analysis_networks import noise_images, plain_network, points_of

CANONICAL = {"r2cca", "r2cca-rank", "gcd", "svcca", "pwcca"}


@pytest.fixture(scope="module")
def network():
    return plain_network(((3, 8), (2, 30)))


@pytest.fixture(scope="module")
def data():
    return noise_images(80)


@pytest.mark.parametrize("name", sorted(CANONICAL))
@pytest.mark.parametrize(("samples", "width"), [(61, 40), (101, 40), (33, 40)])
def test_unrelated_layers_are_as_similar_as_said(name, samples, width):
    generator = torch.Generator().manual_seed(samples)

    def features():
        return torch.randn(samples, width, generator=generator, dtype=torch.float64)

    pair = get_metric(name).pair
    own = features()
    mean = sum(float(pair(features(), features())) for _ in range(5)) / 5 / float(pair(own, own))
    chance = TooFewSamples(name, samples, 2 * width, "layer", width).chance
    if name in ("r2cca", "r2cca-rank", "gcd"):
        assert mean == pytest.approx(chance, abs=0.02)
    elif samples > width:  # below, SVCCA leaves out directions, since few hold 99 % of the variance
        assert mean >= chance - 0.02


def test_debiased_cka_of_unrelated_layers_is_about_zero():
    generator = torch.Generator().manual_seed(0)
    values = [
        float(debiased_cka(*(torch.randn(33, 40, generator=generator) for _ in range(2)))) for _ in range(20)
    ]
    assert abs(sum(values) / 20) < 0.05


def test_the_widest_layer_decides():
    points = points_of(plain_network())
    widths = [8, 8, 8, 12, 12, 10, 10, 10]
    assert too_few_samples("gcd", 2, points, widths, 24) is None
    found = too_few_samples("gcd", 2, points, widths, 23)
    assert found == TooFewSamples("gcd", 23, 24, points[3].module, 12)
    assert found.chance == pytest.approx(12 / 22)
    assert too_few_samples("cka", 0, points, widths, 2) is None


def test_which_metrics_need_samples_by_width():
    assert {name for name in METRICS if get_metric(name).samples_per_feature} == CANONICAL | {"linear-r2"}


def test_warns_before_the_pass(network, data, monkeypatch):
    def fail(*args, **options):
        raise AssertionError("ran the network")

    monkeypatch.setattr("pursuhint.analysis.run_analysis.CollectionPlan.collect", fail)
    with pytest.warns(PursuhintWarning, match="r2cca of 59 images.*30 features.*0.52.*60 images"):  # noqa: SIM117
        with pytest.raises(AssertionError, match="ran the network"):
            analyze(network, data, metrics=["cka", "r2cca"], samples=59)


@pytest.mark.parametrize(
    ("metric", "samples"), [("r2cca", 60), ("cka", 59), ("debiased-cka", 40), ("rbf-cka", 40)]
)
def test_enough_samples_or_another_metric_stay_silent(network, data, metric, samples):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PursuhintWarning)
        warnings.filterwarnings("ignore", "the teacher .* is near chance")  # its weights are random
        analysis = analyze(network, data, metrics=[metric], samples=samples)
    assert not analysis.robustness.too_few_samples
    assert set(analysis.robustness.stability) == {metric}
    assert analysis.gap(metric) is not None
    assert analysis.choice_agreement(analysis.plan) is not None


def test_neither_gap_nor_stability_nor_agreement_of_chance(network, data, tmp_path):
    with pytest.warns(PursuhintWarning, match="mostly chance"):
        analysis = analyze(network, data, metrics=["cka", "r2cca"], samples=50)
    assert set(analysis.robustness.stability) == {"cka"}
    assert set(analysis.robustness.too_few_samples) == {"r2cca", "r2cca-rank"}
    assert analysis.gap("cka") is not None
    assert analysis.gap("r2cca") is None
    agreement = analysis.choice_agreement(analysis.plan)
    assert {way.metric for way in agreement.ways} == {"cka"}
    for metric in ("r2cca", "r2cca-rank"):
        plan = analysis.select(metric=metric)
        assert analysis.choice_agreement(plan) is None
        assert analysis.selection_stability(plan) is None
    analysis.save(tmp_path)
    for loaded in (Analysis.load(tmp_path), StoredAnalysis.load(tmp_path)):
        assert loaded.robustness == analysis.robustness
        assert loaded.choice_agreement(loaded.select(metric="r2cca")) is None


def test_with_nothing_else_there_is_no_stability_and_it_says_why(network, data):
    with pytest.warns(PursuhintWarning, match="mostly chance"):
        analysis = analyze(network, data, metrics=["gcd"], samples=50)
    assert not analysis.robustness.stability
    assert analysis.robustness.no_stability == "there are too few images for the width of the layers"
    assert analysis.similarities["gcd"].halves is None


def test_pooling_on_a_grid_makes_layers_wider(network, data):
    with pytest.warns(PursuhintWarning, match="120 features"):
        analyze(network, data, metrics=["gcd"], samples=80, pooling="none:2")
