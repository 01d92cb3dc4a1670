"""IPWD: a second head, and weights that favour what the teacher knows little of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller, Term
from pursuhint.errors import PursuhintError
from pursuhint.losses.context import LossContext
from pursuhint.losses.ipwd import InverseProbabilityLoss

LABELS = torch.tensor([0, 3, 2, 2, 1])


def make(**options) -> InverseProbabilityLoss:
    torch.manual_seed(0)
    return InverseProbabilityLoss(6, 4, **options).double()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    student, teacher = 3 * torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    return student, teacher, LABELS, torch.randn(5, 6, generator=generator, dtype=torch.float64)


def standardised_entropy(logits, label, eps):
    mean = sum(logits) / len(logits)
    scale = math.sqrt(sum((z - mean) ** 2 for z in logits) / len(logits) + eps)
    logits = [(z - mean) / scale for z in logits]
    return math.log(sum(math.exp(z) for z in logits)) - logits[label]


@pytest.mark.parametrize(
    ("orientation", "max_weight", "temperature"), [("inverse", 10.0, 4.0), ("reciprocal", 1.9, 2.0)]
)
def test_equals_the_formula_as_a_loop(inputs, orientation, max_weight, temperature):
    student, teacher, labels, embedding = inputs
    loss = make(orientation=orientation, max_weight=max_weight, temperature=temperature)
    own = embedding @ loss.head.weight.T + loss.head.bias
    weights, divergences = [], []
    for z_kd, z_cls, z_t, y in zip(own.tolist(), student.tolist(), teacher, labels.tolist()):
        kd, cls = standardised_entropy(z_kd, y, 1e-7), standardised_entropy(z_cls, y, 1e-7)
        weights.append(min(max_weight, 1 + (cls / kd if orientation == "inverse" else kd / cls)))
        p, q = (
            (z_t / temperature).softmax(0),
            (torch.tensor(z_kd, dtype=torch.float64) / temperature).softmax(0),
        )
        divergences.append(float((p * (p / q).log()).sum()))
    mean = sum(weights) / 5
    expected = temperature**2 * sum(w / mean * d for w, d in zip(weights, divergences)) / 5
    assert loss(*inputs).item() == pytest.approx(expected, rel=1e-12)


def test_logits_may_enter_the_weights_as_they_are(inputs):
    student, _, labels, embedding = inputs
    loss = make(standardize=False)
    own = loss.head(embedding)
    wanted = 1 + F.cross_entropy(student, labels, reduction="none") / F.cross_entropy(
        own, labels, reduction="none"
    )
    torch.testing.assert_close(loss.raw_weights(own, student, labels), wanted.detach())


def test_heads_learn_from_their_own_losses_alone(inputs):
    student, teacher, labels, embedding = inputs
    student.requires_grad_(), embedding.requires_grad_()
    loss = make()
    loss(student, teacher, labels, embedding).backward()
    assert student.grad is None
    assert embedding.grad.any()
    assert loss.head.weight.grad.any()


def test_weights_have_mean_one_and_wait_for_the_warm_up(inputs):
    loss = make(warm_up=0.2)
    assert loss.weights(*inputs).mean().item() == pytest.approx(1)
    assert loss.weights(*inputs).std() > 0.01
    loss.begin_epoch(1, 10)
    assert loss.weights(*inputs).tolist() == [1] * 5
    loss.begin_epoch(2, 10)
    assert loss.weights(*inputs).std() > 0.01


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(3, 6), nn.Linear(6, 4, bias=False)

    def forward(self, images):
        return self.fc(self.body(images.flatten(1)).relu())


def test_the_student_with_the_second_head_can_be_evaluated():
    student, images = Small(), torch.randn(5, 3, 1, 1)
    distiller = Distiller.build(
        student, Small(), losses={"ipwd": None}, plan=None, num_classes=4, num_samples=5, example=images
    )
    (name, network), *others = distiller.other_heads().items()
    assert (name, others) == ("ipwd_kd", [])
    expected = distiller.loss("ipwd").head(student.body(images.flatten(1)).relu())
    assert torch.equal(network(images), expected)
    assert distiller.export() is student
    assert make().other_heads(student) == {}  # nobody has said where the head belongs


def test_weights_before_the_limits_are_observed(inputs):
    student, _, labels, embedding = inputs
    loss = make(max_weight=1.9)
    extra_metrics = Distiller(Small().double(), {"ipwd": Term(loss)}, teacher=Small().double())(
        Batch(torch.randn(5, 3, 1, 1, dtype=torch.float64), labels, torch.arange(5))
    ).extra_metrics
    assert extra_metrics.keys() == {"ipwd_median_weight", "ipwd_weights_above_limit"}
    loss(*inputs)
    raw = loss.raw_weights(loss.head(embedding), student, labels)
    assert loss.extra_metrics["median_weight"] == sorted(raw)[2]
    assert loss.extra_metrics["weights_above_limit"].item() == pytest.approx(2 / 5)


def test_raw_weights_are_at_least_one(inputs):
    loss = make()
    raw = loss.raw_weights(3 * torch.randn(5, 4), inputs[0].float(), LABELS)
    assert raw.min() >= 1


def test_a_head_like_the_teacher_leaves_nothing_to_learn(inputs):
    student, _, labels, embedding = inputs
    loss = make()
    assert loss(student, loss.head(embedding), labels, embedding).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_equal_and_saturated_logits_stay_finite(value):
    loss = InverseProbabilityLoss(6, 2)
    embedding = torch.full((5, 6), value, requires_grad=True)
    logits = torch.tensor([[value, -value]]).expand(5, 2)
    result = loss(logits, -logits, torch.zeros(5, dtype=torch.long), embedding)
    result.backward()
    assert result.isfinite()
    assert embedding.grad.isfinite().all()


def test_refuses_what_is_out_of_range_and_other_classes():
    with pytest.raises(PursuhintError, match=r"max_weight must be at least 1, got 0\.5"):
        make(max_weight=0.5)
    with pytest.raises(PursuhintError, match=r"warm_up must be in \[0, 1\], got 2"):
        make(warm_up=2.0)
    with pytest.raises(PursuhintError, match="orientation must be"):
        make(orientation="upwards")
    with pytest.raises(PursuhintError, match="teacher has 9 classes, student 4"):
        InverseProbabilityLoss.build(LossContext((), 4, 10, 6, 6, teacher_classes=9))
