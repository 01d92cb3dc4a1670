"""The second stage of REFILLED, and both stages as one loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.refilled import RelationshipMatchingLoss
from pursuhint.losses.refilled_stage2 import (
    LocalDistillationLoss,
    class_centers,
    relative_confidence,
)

CLASSES, WIDTH = 5, 3
LABELS = torch.tensor([4, 1, 1, 0])


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(4, CLASSES), draw(4, WIDTH), LABELS, draw(4, 7)


@pytest.fixture
def training():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, WIDTH, generator=generator, dtype=torch.float64), torch.arange(12) % CLASSES


def make(**options) -> LocalDistillationLoss:
    return LocalDistillationLoss(CLASSES, WIDTH, **options).double()


def softmax(values):
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def relative(rows):
    """2 sigma(-w) with w the doubts of a batch, scaled to 0..1."""
    doubts = [-math.log(max(softmax(row))) for row in rows]
    low, high = min(doubts), max(doubts)
    return [2 / (1 + math.exp((doubt - low) / (high - low))) for doubt in doubts]


WEIGHTS = {
    "constant": lambda own, local: 1.0,
    "teacher_max_prob": lambda own, local: max(own),
    "teacher_exp_neg_entropy": lambda own, local: math.exp(sum(p * math.log(p) for p in own)),
    "ncm_max_prob": lambda own, local: max(local),
}


@pytest.mark.parametrize("centers", ["global", "batch"])
@pytest.mark.parametrize("weighting", WEIGHTS)
def test_equals_the_formula_as_a_loop(inputs, training, weighting, centers):
    loss = make(weighting=weighting, centers=centers, temperature=1.5, strength=3.0)
    loss.see(*training)
    loss.complete()
    student, teacher, labels, teacher_logits = inputs
    source, classes = training if centers == "global" else (teacher, labels)
    present = sorted(set(labels.tolist()))
    rows = []
    for c in present:
        mean = source[classes == c].mean(0)
        rows.append(mean / mean.norm())
    ce = local = 0.0
    for z, phi, y, own in zip(student.tolist(), teacher, labels.tolist(), teacher_logits.tolist()):
        ce -= math.log(softmax(z)[y]) / 4
        p = softmax([float(phi @ row) / 1.5 for row in rows])
        q = softmax([z[c] / 1.5 for c in present])
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q))
        local += 3 * WEIGHTS[weighting](softmax(own), p) * divergence / 4
    terms = loss.terms(*inputs)
    assert terms["ce"].item() == pytest.approx(ce)
    assert terms["local"].item() == pytest.approx(local)
    assert loss(*inputs).item() == pytest.approx(ce + local)


def test_relative_confidence_equals_the_formula(inputs, training):
    student, _, _, own = inputs
    found = relative_confidence(own)
    torch.testing.assert_close(found, torch.tensor(relative(own.tolist()), dtype=torch.float64))
    assert found.max() == 1
    assert found.min().item() == pytest.approx(2 / (1 + math.e))  # 0.538
    loss = make(weighting="teacher_relative_confidence", strength=3.0)
    weights = loss.sample_weights(student.log_softmax(1), own)
    torch.testing.assert_close(weights, 3 * found)


def test_equally_sure_samples_count_fully():
    assert relative_confidence(torch.zeros(4, 3)).tolist() == [1, 1, 1, 1]
    assert relative_confidence(1e4 * torch.eye(3)).isfinite().all()


def test_the_temperature_of_one_side(inputs, training):
    student, teacher, labels, _ = inputs
    one = make(weighting="constant", temperature=2.0, student_temperature=1.0)
    for loss in (one, other := make(weighting="constant", temperature=2.0)):
        loss.see(*training)
        loss.complete()
    scaled = other.terms(2 * student, teacher, labels)["local"]
    torch.testing.assert_close(one.terms(student, teacher, labels)["local"], scaled)
    assert whole(temperature=1.0).local.student_temperature == 1.0


def test_centers_are_directions_of_means(training):
    embedding, labels = training
    centers = class_centers(embedding, labels, 6)
    mean = embedding[labels == 2].mean(0)
    torch.testing.assert_close(centers[2], mean / mean.norm())
    assert not centers[5].any()


def test_centers_grow_until_they_are_complete(inputs, training):
    loss = make(weighting="constant")
    loss.see(training[0][:6], training[1][:6])
    loss.see(training[0][6:], training[1][6:])
    torch.testing.assert_close(loss.class_centers(*inputs[1:3]), class_centers(*training, CLASSES))
    before = loss.sums.clone()
    loss(*inputs[:3])
    assert not torch.equal(loss.sums, before)
    loss.complete()
    before = loss.sums.clone()
    loss(*inputs[:3])
    assert torch.equal(loss.sums, before)


def test_strengths_lie_between_zero_and_the_full_one(inputs):
    for weighting in WEIGHTS:
        loss = make(weighting=weighting, strength=2.0)
        weights = loss.sample_weights(inputs[0].log_softmax(1), 5 * inputs[3])
        assert 0 < weights.min() <= weights.max() <= 2


def test_saturated_logits_stay_finite(inputs):
    student = (1e4 * inputs[0]).float().requires_grad_()
    for weighting in WEIGHTS:
        loss = LocalDistillationLoss(CLASSES, WIDTH, weighting=weighting)
        value = loss(student, 1e4 * inputs[1].float(), LABELS, 1e4 * inputs[3].float())
        value.backward()
        assert value.isfinite()
    assert student.grad.isfinite().all()


def whole(**options) -> RelationshipMatchingLoss:
    return RelationshipMatchingLoss(CLASSES, WIDTH, **options).double()


@pytest.fixture
def everything(inputs):
    student, teacher, labels, teacher_logits = inputs
    embedding = torch.randn(4, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return embedding, teacher, student, labels, teacher_logits


def test_the_warm_up_matches_and_collects_centers(everything):
    loss = whole(matching_epochs=7, margin=2.0)
    (stage,) = loss.stages()
    assert (stage.name, stage.epochs, stage.trains_student) == ("matching", 7, True)
    loss.begin_stage("matching")
    embedding, teacher, student, labels, _ = everything
    assert list(loss.terms(*everything)) == ["matching"]
    torch.testing.assert_close(loss(*everything), loss.matching(embedding, teacher, labels))
    torch.testing.assert_close(
        loss.local.class_centers(teacher, labels), class_centers(teacher, labels, CLASSES)
    )
    assert not loss.local.completed

    loss.begin_stage(None)
    assert loss.local.completed
    assert list(loss.terms(*everything)) == ["ce", "local"]
    torch.testing.assert_close(loss(*everything), loss.local(student, teacher, labels, everything[4]))


def test_without_a_warm_up_centers_build_up(everything):
    loss = whole(matching_epochs=0)
    assert not loss.stages()
    loss.begin_stage(None)
    loss(*everything)
    loss.begin_stage(None)
    assert loss.local.sums.any()


def test_a_resumed_main_stage_keeps_its_centers(everything):
    loss = whole()
    loss.begin_stage("matching"), loss(*everything), loss.begin_stage(None)
    other = whole()
    other.begin_stage(None)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    other(*everything)
    assert torch.equal(other.local.sums, loss.local.sums)


def test_options_reach_both_stages():
    loss = whole(mode="triplets", k_hat=3, matching_temperature=2.0, temperature=5.0, centers="batch")
    assert (loss.matching.mode, loss.matching.k_hat, loss.matching.temperature) == ("triplets", 3, 2.0)
    assert (loss.local.temperature, loss.local.centers) == (5.0, "batch")
    with pytest.raises(PursuhintError, match="weighting must be one of"):
        whole(weighting="random")
