"""``samples="auto"``: the pass ends when the choice is that of all images, and seldom with another one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pursuhint.cli.results import print_analysis

from pursuhint.analysis import Analysis, AutoSamples, analyze
from pursuhint.analysis.collection_plan import Collected
from pursuhint.analysis.stopping import StoppingRule, repeats
from pursuhint.data import make_loader
from pursuhint.data.sample_order import SampleOrder
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import choose_positions
from pursuhint.report import write_report
from pursuhint.report.repeat import repeat_analysis
from pursuhint.similarity import LayerMoments, get_metric, linear_cka_matrix
from pursuhint.similarity.accumulators.class_sums import ClassSums
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards
from pursuhint.similarity.class_structure import class_structures
from pursuhint.similarity.prediction import predictions
from pursuhint.similarity.resampling import leave_out
from tests.helpers.analysis_networks import noise_images, plain_network

ALL = 1300
EASY = {"stages": ((2, 4), (2, 6))}
"""A network whose choice is settled early."""
LATE = {"stages": ((3, 6), (3, 8)), "k": 3}
"""A network whose choice by CKA is settled at the second look."""
NEVER = {"stages": ((3, 6), (3, 8)), "weights": 2, "k": 3, "metrics": ("rbf-cka",)}
"""A network whose choice hangs by a hair."""


@pytest.fixture(scope="module")
def data():
    return noise_images(ALL, size=8)


def run(data, samples="auto", *, stages=EASY["stages"], weights=0, **options):
    return analyze(plain_network(stages, weights), data, samples=samples, batch_size=128, **options)


@pytest.fixture(scope="module")
def found(data):
    return run(data)


def points(number):
    return tuple(
        HintPoint(f"layer{i}", i, number, "post", 4, (), 1, Tap(f"layer{i}")) for i in range(1, number + 1)
    )


# -- an analysis ---------------------------------------------------------------------------------------------


def test_it_ends_early_with_the_choice_of_all_images(data, found):
    every = run(data, ALL)
    assert found.auto.ended_early
    assert found.provenance.num_samples == found.auto.samples == len(found.samples) in (500, 1000)
    assert found.auto.available == ALL
    assert [p.module for p in found.plan.teacher_points] == [p.module for p in every.plan.teacher_points]
    assert every.auto is None, "a fixed number has no looks"


def test_its_similarities_are_those_of_the_images_that_it_took(data, found):
    batches = make_loader(data, "train", batch_size=100, training=False, subset=found.samples)
    extractor = FeatureExtractor(plain_network(EASY["stages"]).eval(), found.candidates)
    moments = LayerMoments([point.channels for point in found.candidates])
    classes = ClassSums(moments.total_width, 2)
    for batch in batches.epoch(0):
        with torch.no_grad():
            features = [maps.mean((2, 3)) for maps in extractor(batch.images).maps]
        moments.update(features)
        classes.update(features, batch.labels)
    torch.testing.assert_close(
        found.similarities["cka"].values, linear_cka_matrix(moments), rtol=0, atol=1e-6
    )
    expected = [layer.probe for layer in class_structures(moments, classes)]
    assert found.class_curves.probe == pytest.approx(expected, abs=1e-5)


def test_a_choice_that_is_never_sure_takes_all_images(data):
    sure, fixed = run(data, **NEVER), run(data, ALL, **NEVER)
    assert [look.samples for look in sure.auto.looks] == [500, 1000]
    assert not sure.auto.ended_early
    torch.testing.assert_close(
        sure.similarities["rbf-cka"].values, fixed.similarities["rbf-cka"].values, rtol=0, atol=1e-9
    )
    assert len(sure.samples) == ALL


def test_few_images_are_all_taken(data):
    few = run(data, AutoSamples(max_samples=400))
    assert (few.auto.samples, few.auto.available, few.auto.looks) == (400, 400, ())
    assert not few.auto.ended_early


def test_features_before_and_after_must_both_be_stable(data):
    both = run(data, activation="both")
    looks = both.auto.looks
    assert {look.activation for look in looks} == {"post", "pre"}
    assert both.pre.provenance.num_samples == both.provenance.num_samples


def test_metrics_with_too_few_images_for_the_width_do_not_end_the_pass(data):
    wide = ((1, 4), (1, 260))
    narrow = run(data, stages=wide, k=2)
    waited = run(data, stages=wide, k=2, metrics=("cka", "r2cca"))
    assert narrow.auto.samples == 500, "CKA needs no more images for wider layers"
    assert waited.auto.looks[0].why_not
    assert waited.auto.samples == 1000


def test_files_report_and_output_say_how_many_images_were_needed(found, tmp_path, capsys):
    found.save(tmp_path)
    loaded = Analysis.load(tmp_path)
    assert loaded.auto == found.auto
    assert loaded.summary()["auto_samples"]["samples"] == found.auto.samples
    values = json.loads((tmp_path / "analysis.json").read_text())
    assert values["summary"]["auto_samples"] == found.auto.sentence()
    assert values["provenance"]["arguments"]["samples"] == "auto"
    page = write_report(tmp_path).read_text()
    assert f"{found.auto.samples:,} of {ALL:,} images were enough" in page
    print_analysis(found, as_json=False)
    assert found.auto.sentence() in capsys.readouterr().out


def test_the_call_that_repeats_an_analysis_has_its_settings(data):
    auto = AutoSamples(stable_at=0.9, max_samples=600)
    call = repeat_analysis(run(data, auto))
    assert f"samples={auto!r}" in call


@pytest.mark.parametrize("kind", ["moments", "rows"])
def test_it_resumes_as_if_nothing_had_been(data, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("pursuhint.analysis.run_analysis.QUALITY_SAMPLES", 600)
    options = {**(LATE if kind == "moments" else NEVER), "class_quality": True}
    reached = []

    def stop_at(images):
        def on_progress(done, total):
            if done >= images:
                reached.append(done)
                raise KeyboardInterrupt

        return on_progress

    for images in (200, 500, 700, 1000):
        with pytest.raises(KeyboardInterrupt):
            run(data, state=tmp_path, save_every=0.0, on_progress=stop_at(images), **options)
    assert len(set(reached)) == 4, "each went on where the one before it had ended"
    resumed, expected = run(data, state=tmp_path, **options), run(data, **options)
    (metric,) = resumed.metrics
    assert torch.equal(resumed.similarities[metric].values, expected.similarities[metric].values)
    assert torch.equal(resumed.samples, expected.samples)
    assert resumed.auto.looks == expected.auto.looks
    assert resumed.class_curves == expected.class_curves
    assert not list(tmp_path.rglob("*.safetensors")), "nothing is left"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "many"}, "a number or 'auto'"),
        ({"samples": "auto", "stability": False}, "leave stability on"),
    ],
    ids=["a word", "no stability"],
)
def test_mistakes(data, options, message):
    with pytest.raises(PursuhintError, match=message):
        run(data, **options)


@pytest.mark.parametrize("options", [{"stable_at": 1.0}, {"stable_at": 0.0}, {"max_samples": 1}])
def test_numbers_out_of_range(options):
    with pytest.raises(PursuhintError):
        AutoSamples(**options)


# -- the samples in stretches --------------------------------------------------------------------------------


def test_every_stretch_has_a_piece_of_every_shard():
    order = SampleOrder.growing(torch.arange(100, 200), (33, 60, 100), shards=4, seed=1, batch_size=8)
    assert order.ends == (33, 60, 100)
    assert sorted(order.indices.tolist()) == list(range(100, 200))
    assert max(order.sizes) - min(order.sizes) <= 3
    for rank, world in ((0, 1), (0, 3), (1, 3), (2, 3)):
        for step in order.steps(rank, world):
            stops = (0, *order.ends)
            assert stops[step.stretch] <= step.start < step.start + step.samples <= stops[step.stretch + 1]
    shares = [step for rank in range(3) for step in order.steps(rank, 3)]
    together = order.indices_of(sorted(shares, key=lambda step: step.number))
    assert torch.equal(together, order.indices)


@pytest.mark.parametrize("kind", ["moments", "rows", "files"])
def test_shards_that_are_finished_and_reopened_equal_those_of_one_go(kind):
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(120, 5, generator=generator), torch.randn(120, 3, generator=generator)]
    order = SampleOrder.growing(torch.arange(120), (40, 70, 120), shards=10, seed=2, batch_size=16)

    def empty():
        if kind == "rows":
            return RowShards(PooledFeatures([5, 3]), order)
        return MomentShards(LayerMoments([5, 3]), order, memory_budget=0 if kind == "files" else 1 << 20)

    once, looked = empty(), empty()
    stretch = 0
    for step in order.steps():
        chosen = order.indices_of([step])
        if step.stretch > stretch:
            stretch = step.stretch
            statistics = looked.finish()
            assert statistics.count == order.ends[stretch - 1]
            rows = order.indices[: statistics.count]
            expected = LayerMoments([5, 3])
            expected.update([layer[rows] for layer in layers])
            torch.testing.assert_close(linear_cka_matrix(statistics), linear_cka_matrix(expected))
            looked.reopen()
        for shards in (once, looked):
            shards.update([layer[chosen] for layer in layers], samples=chosen)
    for each in (once, looked):
        each.finish()
    for one, other in zip(leave_out(once, get_metric("cka")), leave_out(looked, get_metric("cka"))):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


# -- the rule ------------------------------------------------------------------------------------------------


def test_the_bound_is_over_all_looks():
    auto = AutoSamples(stable_at=0.95, max_samples=10_000)
    assert auto.ends(10_000) == (500, 1000, 2000, 4000, 8000, 10_000)
    assert auto.ends(600) == (600,)
    for looks in (1, 5):
        allowed = auto.most_different(looks) + 1
        assert looks * allowed / (auto.draws(looks) + 1) <= 1 - auto.stable_at + 1e-12


def test_predictions_have_the_spread_of_what_is_to_come():
    """The mean of 1,000 numbers is predicted from 250 of them without bias and with the true spread."""
    generator = np.random.default_rng(0)
    scores = []
    for repeat in range(300):
        numbers = generator.standard_normal(1000)
        shards = numbers[:250].reshape(10, 25)
        whole = numbers[:250].mean().reshape(1, 1)
        left_out = np.stack([np.delete(shards, s, 0).mean().reshape(1, 1) for s in range(10)])
        drawn = np.concatenate(
            list(predictions(whole, left_out, share=0.25, count=99, seed=repeat))
        ).flatten()
        scores.append((drawn < numbers.mean()).mean())
    # The share of predictions below the truth is uniform if the distribution is right.
    assert np.mean(scores) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.array(scores) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(np.array(scores) > 0.95) == pytest.approx(0.05, abs=0.035)


def test_bias_that_falls_with_the_number_of_samples_is_predicted():
    """The squared length of a mean of n numbers with variance 1 is 1/n too large."""
    generator = np.random.default_rng(1)
    now, predicted = [], []
    for repeat in range(100):
        numbers = generator.standard_normal((200, 50))
        shards = numbers.reshape(10, 20, 50)

        def square(values):
            return np.square(values.reshape(-1, 50).mean(0)).sum().reshape(1, 1)

        left_out = np.stack([square(np.delete(shards, s, 0)) for s in range(10)])
        draws = list(predictions(square(numbers), left_out, share=0.05, count=49, seed=repeat))
        now.append(square(numbers).item())
        predicted.append(np.mean(draws))
    assert np.mean(now) == pytest.approx(50 / 200, rel=0.1)
    assert np.mean(predicted) == pytest.approx(50 / 4000, abs=0.02)


def test_the_worst_case_is_within_the_bound():
    """The truth lies on the boundary between two choices, where every early end is a guess.

    One look at a quarter of 1,000 numbers: the sign of their mean, whose true mean is 0. It may end with
    another sign than all have with a probability of 10 %; a rule that believes what it sees does in 33 %.
    """
    auto = AutoSamples(stable_at=0.9, max_samples=1000)
    generator = np.random.default_rng(2)
    ended = wrong = blind = 0
    repeated = 600
    for repeat in range(repeated):
        numbers = generator.standard_normal(1000)
        whole = numbers[:250].mean().reshape(1, 1)
        shards = numbers[:250].reshape(10, 25)
        left_out = np.stack([np.delete(shards, s, 0).mean().reshape(1, 1) for s in range(10)])
        same, draws = repeats(
            lambda values: (int(values[0, 0] > 0),),
            (int(whole[0, 0] > 0),),
            predictions(whole, left_out, share=0.25, count=auto.draws(1), seed=repeat),
            most_different=auto.most_different(1),
        )
        differs = (whole[0, 0] > 0) != (numbers.mean() > 0)
        stops = draws - same <= auto.most_different(1)
        ended, wrong, blind = ended + stops, wrong + (stops and differs), blind + differs
    assert blind / repeated == pytest.approx(1 / 3, abs=0.05), "arccos(1/2) / pi"
    assert 0 < wrong / repeated < 0.1
    assert ended / repeated > 0.15


def test_choices_from_moments_seldom_differ_from_those_of_all_images():
    """Six layers that are best cut before the third or before the fifth, by a hair or not at all."""
    auto = AutoSamples(stable_at=0.9, max_samples=2000)
    ended = wrong = early_wrong = 0
    for repeat in range(40):
        same, at_first, stopped = _one_chain(repeat, auto)
        ended, wrong, early_wrong = ended + stopped, wrong + (not same), early_wrong + (not at_first)
    assert ended >= 15, "the rule has something to decide"
    assert wrong <= 4, "10 % of 40"
    assert early_wrong > 2, "without a rule, the choice of the first look is often another one"


def _one_chain(seed, auto):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(auto.max_samples, 4, generator=generator)
    layers = []
    for noise in (0.1, 0.1, 0.5, 0.1, 0.5 + 0.06 * (seed % 3 - 1), 0.1):
        turn = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
        x = x @ turn / x.std() + noise * torch.randn(x.shape, generator=generator)
        layers.append(x)
    order = SampleOrder.growing(torch.arange(len(x)), auto.ends(len(x)), shards=10, seed=seed, batch_size=500)
    shards = MomentShards(LayerMoments([4] * 6), order)
    selection, metric = SelectionOptions(2, "segments", "last"), get_metric("cka")
    rule = StoppingRule(auto, len(x), metric, selection, seed=seed)
    choices, stretch, chosen = [], 0, None
    for step in order.steps():
        if step.stretch > stretch:
            stretch = step.stretch
            stable = rule({"post": Collected(points(6), shards.finish(), shards)})
            choices.append(rule.looks[-1].positions)
            if stable and chosen is None:
                chosen = choices[-1]
            shards.reopen()
        rows = order.indices_of([step])
        shards.update([layer[rows] for layer in layers], samples=rows)
    whole = linear_cka_matrix(shards.finish()).numpy()
    full = tuple(i + 1 for i in choose_positions(selection.clusterings(whole).at(2), "last", whole))
    return chosen is None or chosen == full, choices[0] == full, chosen is not None
