"""Singular vectors from hint point to hint point."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.kdsvd import SingularVectorLoss, singular_vectors


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def students():
    return [draw(3, 4, 3, 3), draw(3, 6, 2, 4, seed=1), draw(3, 5, 2, 2, seed=2)]


@pytest.fixture
def teachers():
    return [draw(3, 4, 5, 5, seed=3), draw(3, 6, 2, 4, seed=4), draw(3, 5, 3, 2, seed=5)]


def by_loop(students, teachers, k):
    """The formula, for one sample."""
    pairs = []
    for student, teacher in zip(students, teachers):
        _, _, own = torch.linalg.svd(student.flatten(1).T, full_matrices=False)
        _, sizes, theirs = torch.linalg.svd(teacher.flatten(1).T, full_matrices=False)
        sizes = sizes[:k] / sizes[:k].norm()
        vectors = []
        for j in range(k):
            t = theirs[j] * (1 if theirs[j][theirs[j].abs().argmax()] > 0 else -1)
            dots = [float(v @ t) for v in own[: k + 3]]
            best = max(range(len(dots)), key=lambda i: abs(dots[i]))
            vectors.append((own[best] * math.copysign(1, dots[best]) * sizes[j], t * sizes[j]))
        pairs.append(vectors)
    total = 0.0
    for a, b in pairwise(pairs):
        for (s_a, t_a), (s_b, t_b) in zip(a, b):
            for c in range(len(s_b)):
                for d in range(len(s_a)):
                    own = math.exp(-((s_b[c] - s_a[d]) ** 2) / 8)
                    total += (own - math.exp(-((t_b[c] - t_a[d]) ** 2) / 8)) ** 2
    return total


@pytest.mark.parametrize("k", [1, 2, 4])
def test_equals_the_formula_as_a_loop(students, teachers, k):
    loss = SingularVectorLoss([4, 6, 5], [4, 6, 5], vectors=k)
    samples = [by_loop([f[n] for f in students], [f[n] for f in teachers], k) for n in range(3)]
    assert loss(students, teachers).item() == pytest.approx(sum(samples) / 3, rel=1e-10)


def test_a_student_like_the_teacher_has_nothing_to_learn(teachers):
    loss = SingularVectorLoss([4, 6, 5], [4, 6, 5], vectors=2)
    assert loss([3 * f for f in teachers], teachers).item() == pytest.approx(0, abs=1e-12)
    assert loss([-f for f in teachers], teachers).item() == pytest.approx(0, abs=1e-12)


def test_places_do_not_matter(students, teachers):
    loss = SingularVectorLoss([4, 6, 5], [4, 6, 5])
    mirrored = [f.flip(2, 3) for f in students]
    torch.testing.assert_close(loss(mirrored, teachers), loss(students, teachers))


def test_the_largest_component_of_the_teacher_is_positive(teachers):
    loss = SingularVectorLoss([4, 6, 5], [4, 6, 5], vectors=3)
    for index, features in enumerate(teachers):
        own, theirs = loss.directions(index, features, features)
        assert (theirs.gather(1, theirs.abs().argmax(1, keepdim=True)) > 0).all()
        torch.testing.assert_close(own, theirs)


def test_vectors_have_the_gradient_of_the_decomposition():
    matrices = draw(3, 7, 4).requires_grad_()
    weights = draw(3, 4, 2, seed=1)
    vectors, values = singular_vectors(matrices, 2)
    theirs = torch.linalg.svd(matrices, full_matrices=False)
    # The sign of a singular vector is free, so that of the product must not matter.
    ours = ((vectors * weights).sum(1) ** 2).sum()
    reference = ((theirs.Vh.mT[:, :, :2] * weights).sum(1) ** 2).sum()
    torch.testing.assert_close(values, theirs.S[:, :2])
    torch.testing.assert_close(
        torch.autograd.grad(ours, matrices)[0], torch.autograd.grad(reference, matrices)[0]
    )


def test_fewer_rows_than_columns():
    matrices = draw(2, 2, 5).requires_grad_()
    assert singular_vectors(matrices, 3)[0].shape == (2, 5, 2)

    def squares(m):
        return singular_vectors(m, 3)[0].square()

    assert torch.autograd.gradcheck(squares, matrices)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f.zero_(),
        lambda f: f.fill_(0.3),
        lambda f: f.copy_(f.mean((2, 3), keepdim=True).expand_as(f).clone()),  # rank 1
        lambda f: f.copy_(torch.eye(4, f[0, 0].numel()).view_as(f[:1]).expand_as(f)),  # equal singular values
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_maps_stay_finite(students, teachers, spoil, dtype):
    loss = SingularVectorLoss([4, 6, 5], [4, 6, 5], vectors=2)
    students, teachers = ([f.to(dtype) for f in side] for side in (students, teachers))
    spoil(students[0])
    for features in students:
        features.requires_grad_()
    value = loss(students, teachers)
    value.backward()
    assert value.isfinite()
    assert all(features.grad.isfinite().all() for features in students)
    assert max(features.grad.abs().max() for features in students) < 1e3
    spoil(teachers[0])
    assert loss(students, teachers).isfinite()


def test_values_that_are_not_finite_are_not_hidden(students, teachers):
    students[1][0, 0, 0, 0] = torch.nan
    assert not SingularVectorLoss([4, 6, 5], [4, 6, 5])(students, teachers).isfinite()


def test_maps_of_one_position_have_one_vector():
    loss = SingularVectorLoss([4, 6], [4, 6], vectors=3)
    features = [draw(2, 4, 3, 3), draw(2, 6, 1, 1)]
    assert loss(features, [draw(2, 4, 2, 2), draw(2, 6, 2, 2)]).isfinite()


def test_other_widths_are_brought_to_the_teachers(teachers):
    loss = SingularVectorLoss([3, 6, 8], [4, 6, 5]).double()
    assert [name for name, _ in loss.named_parameters()] == ["connectors.0.weight", "connectors.2.weight"]
    assert loss([draw(3, 3, 2, 2), draw(3, 6, 5, 5), draw(3, 8, 3, 3)], teachers).isfinite()


def test_needs_two_hint_points_and_a_vector():
    one = LossContext(((FeatureShape(4, (2, 2)), FeatureShape(4, (2, 2))),), 10, 50, 0, 0)
    with pytest.raises(PursuhintError, match=r"KDSVD compares steps .* needs two or more, got 1"):
        SingularVectorLoss.build(one)
    with pytest.raises(PursuhintError, match="vectors must be positive, got 0"):
        SingularVectorLoss([4, 6], [4, 6], vectors=0)
