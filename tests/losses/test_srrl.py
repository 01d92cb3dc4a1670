"""SRRL: an embedding that the teacher's classifier takes for the teacher's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.srrl import SoftmaxRegressionLoss

STUDENT, TEACHER, CLASSES = 3, 4, 5


def make(**options) -> SoftmaxRegressionLoss:
    torch.manual_seed(0)
    loss = SoftmaxRegressionLoss(STUDENT, TEACHER, nn.Linear(TEACHER, CLASSES), **options).double()
    nn.init.uniform_(loss.connector.bn.weight, 0.5, 1.5)
    nn.init.normal_(loss.connector.bn.bias)
    return loss


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [draw(6, STUDENT, 3, 2)], [draw(6, TEACHER, 2, 4).relu()], draw(6, CLASSES)


def connected(loss, features):
    """Convolution, batch norm and ReLU, channel by channel, for (N, C, positions)."""
    mapped = torch.einsum("oc,ncp->nop", loss.connector.conv.weight[:, :, 0, 0], features)
    bn, result = loss.connector.bn, torch.zeros_like(mapped)
    for channel in range(TEACHER):
        values = mapped[:, channel]
        if bn.training:
            mean, variance = values.mean(), values.var(correction=0)
        else:
            mean, variance = bn.running_mean[channel], bn.running_var[channel]
        normal = (values - mean) / (variance + bn.eps).sqrt()
        result[:, channel] = (bn.weight[channel] * normal + bn.bias[channel]).clamp(min=0)
    return result


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", ["embedding", "feature_map"])
def test_equals_the_formula_as_a_loop(inputs, variant, training):
    loss = make(variant=variant, logit_weight=0.7).train(training)
    (student,), (teacher,), logits = inputs
    features = student.flatten(2)
    if variant == "embedding":
        features = features.mean(2, keepdim=True)
    h = connected(loss, features).mean(2)
    expected = (h - teacher.flatten(2).mean(2)).square().mean()
    scores = h @ loss.teacher_classifier.weight.T + loss.teacher_classifier.bias
    expected = expected + 0.7 * (scores - logits).square().mean()
    torch.testing.assert_close(loss(*inputs), expected)


def test_the_variants_differ_on_maps_and_agree_on_embeddings(inputs):
    (student,), teachers, logits = inputs
    losses = [make(variant=variant) for variant in ("embedding", "feature_map")]
    assert not torch.isclose(losses[0](*inputs), losses[1](*inputs))
    embedding = student.mean((2, 3))
    values = [loss([embedding], teachers, logits) for loss in losses]
    torch.testing.assert_close(values[0], losses[0](*inputs))
    torch.testing.assert_close(values[0], values[1])


def test_tokens_are_a_map(inputs):
    (student,), teachers, logits = inputs
    tokens = student.flatten(2).transpose(1, 2)
    loss = make(variant="feature_map")
    torch.testing.assert_close(loss([tokens], teachers, logits), loss(*inputs))


def test_a_connector_that_gives_the_teachers_embedding_leaves_nothing_to_learn(inputs):
    loss = make().eval()
    teacher = inputs[1][0]
    loss.connector = nn.Conv2d(TEACHER, TEACHER, 1, bias=False).double()
    nn.init.dirac_(loss.connector.weight)
    logits = loss.classified(teacher.mean((2, 3)))
    assert loss([teacher], [teacher], logits).item() == pytest.approx(0, abs=1e-20)


def test_the_classifier_is_a_frozen_copy(inputs):
    classifier = nn.Linear(TEACHER, CLASSES)
    loss = SoftmaxRegressionLoss(STUDENT, TEACHER, classifier)
    assert loss.teacher_classifier is not classifier
    assert not any(parameter.requires_grad for parameter in loss.teacher_classifier.parameters())
    assert classifier.weight.requires_grad
    student = torch.randn(4, STUDENT, requires_grad=True)
    loss.terms([student], [torch.rand(4, TEACHER)], torch.randn(4, CLASSES))["logit"].backward()
    assert student.grad.any()  # through the frozen classifier


def test_a_classifier_may_be_a_convolution():
    classifier = nn.Conv2d(TEACHER, CLASSES, 1)
    loss = SoftmaxRegressionLoss(STUDENT, TEACHER, classifier)
    connected = torch.randn(3, TEACHER)
    expected = F.linear(connected, classifier.weight.flatten(1), classifier.bias)
    torch.testing.assert_close(loss.classified(connected), expected)


def test_one_sample_cannot_be_normalised_in_training(inputs):
    (student,), (teacher,), logits = inputs
    with pytest.raises(PursuhintError, match="batch of one sample"):
        make()([student[:1]], [teacher[:1]], logits[:1])
    assert make(variant="feature_map")([student[:1]], [teacher[:1]], logits[:1]).isfinite()
    assert make().eval()([student[:1]], [teacher[:1]], logits[:1]).isfinite()


def test_predictions_may_be_compared_by_their_cross_entropy(inputs):
    (student,), (teacher,), logits = inputs
    loss = make(prediction_distance="cross_entropy", logit_weight=0.7).eval()
    scores = loss.classified(loss.connected(student))
    p, q = logits.softmax(1), scores.softmax(1)
    entries = zip(p.flatten().tolist(), q.flatten().tolist())
    expected = -0.7 * sum(a * math.log(b) for a, b in entries) / len(student)
    assert loss.terms([student], [teacher], logits)["logit"].item() == pytest.approx(expected, rel=1e-12)
