"""SemCKD: attention of every student layer to all teacher layers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape
from pursuhint.losses.semckd import SemanticCalibrationLoss

STUDENT = ((2, 6, 6), (3, 4, 2))
TEACHER = ((4, 3, 3), (2, 6, 4), (3, 4, 2))


def make(batch=6, **options) -> SemanticCalibrationLoss:
    torch.manual_seed(0)
    shapes = [[FeatureShape(c, tuple(size)) for c, *size in side] for side in (STUDENT, TEACHER)]
    return SemanticCalibrationLoss(*shapes, batch, **options).double()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    return [
        [torch.randn(6, *shape, generator=generator, dtype=torch.float64) for shape in side]
        for side in (STUDENT, TEACHER)
    ]


def describe(network, features, width):
    rows = []
    for own in features:
        products = [float((own * other).sum()) for other in features] + [0.0] * (width - len(features))
        hidden = network.linear1.weight @ torch.tensor(products).double() + network.linear1.bias
        output = network.linear2.weight @ hidden.clamp(min=0) + network.linear2.bias
        rows.append(output / output.norm())
    return rows


def pooled(first, second):
    size = [min(a, b) for a, b in zip(first.shape[2:], second.shape[2:])]
    return F.adaptive_avg_pool2d(first, size), F.adaptive_avg_pool2d(second, size)


@pytest.mark.parametrize(("factor", "softness", "samples"), [(4, 1.0, 6), (2, 0.3, 6), (3, 1.0, 4)])
def test_equals_the_formula_as_a_loop(features, factor, softness, samples):
    loss = make(factor=factor, softness=softness).eval()
    students, teachers = ([part[:samples] for part in side] for side in features)
    assert loss.queries[0].linear2.out_features == 6 // factor
    queries = [describe(network, part, 6) for network, part in zip(loss.queries, students)]
    keys = [describe(network, part, 6) for network, part in zip(loss.keys, teachers)]
    total = 0.0
    for sample in range(samples):
        for i, student in enumerate(students):
            energies = torch.stack([queries[i][sample] @ key[sample] / softness for key in keys])
            for j, (share, teacher) in enumerate(zip(energies.softmax(0), teachers)):
                own, other = pooled(student, teacher)
                mapped = loss.regressors[f"{i}_{j}"](own)[sample]
                total += share * (mapped - other[sample]).square().mean()
    torch.testing.assert_close(loss(students, teachers), total / (samples * len(students)))


def test_attention_sums_to_one(features):
    attention = make().attention(*features)
    assert attention.shape == (6, 2, 3)
    torch.testing.assert_close(attention.sum(2), torch.ones(6, 2, dtype=torch.float64))


def test_gradient_flows_through_attention_and_errors(features):
    loss = make()
    loss(*features).backward()
    assert all(parameter.grad.any() for parameter in loss.parameters())


def test_the_order_of_the_samples_matters(features):
    loss = make().eval()
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    swapped = [[part[order] for part in side] for side in features]
    assert not torch.isclose(loss(*features), loss(*swapped))


def test_regressors_that_give_the_teachers_features_leave_nothing_to_learn(features):
    loss = make()
    students = teachers = [features[0][0], features[0][0]]
    loss = SemanticCalibrationLoss([FeatureShape(2, (6, 6))] * 2, [FeatureShape(2, (6, 6))] * 2, 6).double()
    loss.regressors = torch.nn.ModuleDict({name: torch.nn.Identity() for name in loss.regressors})
    assert loss(students, teachers).item() == 0


def test_a_smaller_batch_counts_the_missing_as_strangers(features):
    loss = make(batch=8)
    assert loss(*features).isfinite()
    with pytest.raises(PursuhintError, match="built for batches of 4 samples, but got 6; set its batch_size"):
        make(batch=4)(*features)


def test_the_batch_size_of_the_training_is_the_default():
    assert make(batch=6).batch_size == 6
    assert make(batch=6, batch_size=12).batch_size == 12


def test_dead_and_equal_features_stay_finite(features):
    loss = make()
    for network in (*loss.queries, *loss.keys):
        torch.nn.init.zeros_(network.linear2.bias)
    dead = [[torch.zeros_like(part).requires_grad_() for part in side] for side in features]
    for some in (dead, [dead[0], features[1]]):
        value = copy.deepcopy(loss)(*some)
        value.backward()
        assert value.isfinite()
    assert all(part.grad.isfinite().all() for part in dead[0])


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match="factor must be at most the batch size 6, got 7"):
        make(factor=7)
    with pytest.raises(PursuhintError, match="softness must be positive"):
        make(softness=0.0)
