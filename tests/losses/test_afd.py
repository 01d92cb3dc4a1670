from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.afd import AttentionMatchingLoss
from pursuhint.losses.context import FeatureShape, LossContext

SIZES = [(3, 6, 5), (5, 3, 4), (4, 2, 2)], [(6, 4, 4), (2, 6, 5)]  # student, teacher: channels, height, width


def maps(sizes, samples=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(samples, *size, generator=generator, dtype=torch.float64) for size in sizes]


@pytest.fixture
def loss() -> AttentionMatchingLoss:
    torch.manual_seed(0)
    return AttentionMatchingLoss([3, 5, 4], [6, 2], attention_width=7).double()


def normalized(vectors, bn, training):
    mean, variance = (
        (vectors.mean(0), vectors.var(0, unbiased=False)) if training else (bn.running_mean, bn.running_var)
    )
    return (vectors - mean) / torch.sqrt(variance + 1e-5) * bn.weight + bn.bias


def pooled(energy, height, width):
    rows = [
        slice(math.floor(i * len(energy) / height), math.ceil((i + 1) * len(energy) / height))
        for i in range(height)
    ]
    columns = [
        slice(math.floor(i * energy.shape[1] / width), math.ceil((i + 1) * energy.shape[1] / width))
        for i in range(width)
    ]
    return torch.stack([torch.stack([energy[row, column].mean() for column in columns]) for row in rows])


def slow(loss, students, teachers, training):
    d, count = loss.attention_width, len(teachers)
    keys = [
        normalized(f.mean((2, 3)) @ m.linear.weight.T + m.linear.bias, m.bn, training).clamp(min=0)
        for m, f in zip(loss.student_key, students)
    ]
    queries = [
        normalized(f.mean((2, 3)) @ m.linear.weight.T + m.linear.bias, m.bn, training)
        for m, f in zip(loss.teacher_query, teachers)
    ]
    rows = torch.stack([key[b] for b in range(len(keys[0])) for key in keys])
    bilinear = loss.bilinear
    forms = normalized(rows @ bilinear.linear.weight.T + bilinear.linear.bias, bilinear.bn, training)
    total = 0.0
    for b in range(len(keys[0])):
        for j, teacher in enumerate(teachers):
            target = teacher[b].square().mean(0)
            scores, distances = [], []
            for i, student in enumerate(students):
                form = forms[b * len(students) + i].reshape(count, d)[j]
                position = loss.teacher_position[j] @ loss.student_position[i]
                scores.append((form @ queries[j][b] + position) / math.sqrt(d))
                own = pooled(student[b].square().mean(0), *target.shape)
                distances.append((own / own.norm() - target / target.norm()).square().mean())
            total += (torch.stack(scores).softmax(0) * torch.stack(distances)).sum() / len(keys[0])
    return total


@pytest.mark.parametrize("training", [True, False])
def test_is_the_formula(loss, training):
    loss.train(training)
    students, teachers = maps(SIZES[0]), maps(SIZES[1], seed=1)
    expected = slow(loss, students, teachers, training)
    torch.testing.assert_close(loss(students, teachers), expected, rtol=1e-12, atol=0)


def test_attention_sums_to_one(loss):
    attention = loss.attention(maps(SIZES[0]), maps(SIZES[1], seed=1))
    assert attention.shape == (5, 2, 3)
    torch.testing.assert_close(attention.sum(2), torch.ones(5, 2, dtype=torch.float64))


def test_student_with_the_teachers_energy_has_no_loss():
    (teacher,) = maps([(4, 3, 3)])
    loss = AttentionMatchingLoss([4, 8], [4]).double()
    students = [2.5 * teacher, torch.cat([teacher, -teacher], 1)]
    assert loss(students, [teacher]) < 1e-30


def test_looks_at_the_student_point_that_its_key_prefers(loss):
    students, teachers = maps(SIZES[0]), maps(SIZES[1], seed=1)
    loss.student_position.data = torch.tensor([[0.0] * 7, [60.0] + [0.0] * 6, [0.0] * 7]).double()
    loss.teacher_position.data = torch.ones(2, 7).double() * 60
    attention = loss.attention(students, teachers)
    assert (attention[:, :, 1] > 0.999).all()


def test_a_dead_layer_has_finite_gradients(loss):
    students, teachers = maps(SIZES[0]), maps(SIZES[1], seed=1)
    students[1].zero_()
    for features in students:
        features.requires_grad_()
    teachers[0].zero_()
    loss(students, teachers).backward()
    assert all(features.grad.isfinite().all() for features in students)


def test_takes_tokens_and_vectors():
    loss = AttentionMatchingLoss([4, 6], [5, 3])
    students = [torch.randn(4, 17, 4), torch.randn(4, 6)]
    teachers = [torch.randn(4, 5, 4, 4), torch.randn(4, 17, 3)]
    assert loss(students, teachers).isfinite()


def test_says_what_is_wrong(loss):
    with pytest.raises(PursuhintError, match="3 points of the student and 2 of the teacher, but got 2 and 2"):
        loss(maps(SIZES[0][:2]), maps(SIZES[1]))
    with pytest.raises(PursuhintError, match="batch of one sample"):
        loss(maps(SIZES[0], 1), maps(SIZES[1], 1))
    loss.eval()
    assert loss(maps(SIZES[0], 1), maps(SIZES[1], 1)).isfinite()
    with pytest.raises(PursuhintError, match="at least one hint point"):
        AttentionMatchingLoss([], [4])
    with pytest.raises(PursuhintError, match="attention_width must be positive"):
        AttentionMatchingLoss([4], [4], attention_width=0)


# -- its points -------------------------------------------------------------------------------------------


class Point(NamedTuple):
    network: str
    position: int


ALL = {
    network: [Point(network, position) for position in range(1, count + 1)]
    for network, count in (("student", 6), ("teacher", 9))
}


@pytest.mark.parametrize(
    ("options", "students", "teachers"),
    [
        ({}, [1, 2, 3, 4, 5, 6], [3, 7]),
        ({"student_points": "plan"}, [2, 5], [3, 7]),
        ({"teacher_points": "all"}, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"teacher_points": "all", "student_points": "plan"}, [2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_which_points_it_takes(options, students, teachers):
    plan = [(5, 3), (2, 7), (2, 3)]
    pairs = [(Point("student", own), Point("teacher", other)) for own, other in plan]
    chosen = AttentionMatchingLoss.choose_points(pairs, ALL.__getitem__, **options)
    assert [[point.position for point in side] for side in chosen] == [students, teachers]


def test_takes_all_points_without_a_plan():
    students, teachers = AttentionMatchingLoss.choose_points([], ALL.__getitem__)
    assert (len(students), len(teachers)) == (6, 9)


def test_is_built_for_the_chosen_points():
    students = tuple(FeatureShape(channels, (8, 8)) for channels in (2, 3, 4))
    teachers = (FeatureShape(5, (4, 4)),)
    context = LossContext((), 10, 64, 0, 0, chosen=(students, teachers))
    loss = AttentionMatchingLoss.build(context)
    assert [key.linear.in_features for key in loss.student_key] == [2, 3, 4]
    assert [query.linear.in_features for query in loss.teacher_query] == [5]
    assert isinstance(loss.student_position, nn.Parameter)


def test_needs_points():
    with pytest.raises(PursuhintError, match="AFD compares hint points, but there are none"):
        AttentionMatchingLoss.build(LossContext((), 10, 64, 0, 0, chosen=((FeatureShape(5, (4, 4)),), ())))
