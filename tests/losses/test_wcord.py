"""WCoRD: transport within the batch, and a critic over all samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses import wcord
from pursuhint.losses.wcord import (
    Critic,
    LocalTransport,
    WassersteinContrastLoss,
    cosine_cost,
    transport_plan,
)

SAMPLES = 20
LABELS = torch.arange(SAMPLES) % 4
INDICES = torch.tensor([3, 11, 6, 12])


def make(**options) -> WassersteinContrastLoss:
    torch.manual_seed(0)
    options = {"negatives": 9, "width": 6, **options}
    return WassersteinContrastLoss(5, 7, SAMPLES, LABELS, **options).double()


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, width, generator=generator, dtype=torch.float64) for width in (5, 7)]


def test_plan_equals_scaling_row_by_row():
    cost, epsilon = torch.rand(3, 4, dtype=torch.float64), 0.3
    kernel = [[math.exp(-c / epsilon) for c in row] for row in cost.tolist()]
    rows, columns = [1.0] * 3, [1.0] * 4
    for _ in range(7):
        rows = [1 / 3 / sum(k * c for k, c in zip(kernel[i], columns)) for i in range(3)]
        columns = [1 / 4 / sum(kernel[i][j] * rows[i] for i in range(3)) for j in range(4)]
    expected = [[rows[i] * kernel[i][j] * columns[j] for j in range(4)] for i in range(3)]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(transport_plan(cost, epsilon, 7), expected)


def test_plan_is_a_coupling():
    plan = transport_plan(torch.rand(5, 5, dtype=torch.float64), 0.1, 200)
    torch.testing.assert_close(plan.sum(0), torch.full((5,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(1), torch.full((5,), 0.2, dtype=torch.float64), rtol=1e-6, atol=0)
    assert plan.min() > 0


@pytest.mark.parametrize("epsilon", [1e-4, 1e4])
def test_extreme_smoothing_stays_finite(epsilon):
    vectors = torch.randn(4, 3, requires_grad=True)
    for through_plan in (False, True):
        value = LocalTransport(epsilon=epsilon, through_plan=through_plan)(vectors, torch.randn(4, 3))
        value.backward()
        assert value.isfinite()
    assert vectors.grad.isfinite().all()


def test_sharp_transport_finds_the_assignment():
    vectors = torch.eye(5)
    moved = vectors[[3, 0, 4, 1, 2]]
    assert LocalTransport(epsilon=0.01)(vectors, moved).item() == pytest.approx(0, abs=1e-6)
    assert cosine_cost(vectors, moved).diagonal().sum() == 5


def test_gradient_may_flow_through_the_plan():
    student, teacher = torch.randn(2, 4, 3, dtype=torch.float64)
    loss = LocalTransport(iterations=5, through_plan=True)
    assert torch.autograd.gradcheck(lambda vectors: loss(vectors, teacher), student.requires_grad_())


@torch.no_grad()
def test_equals_the_formula_as_a_loop(embeddings):
    loss = make(global_weight=0.7, local_weight=0.2)
    negatives = loss.sampler(INDICES, 9)
    own, other = (
        [row / row.norm() for row in F.linear(part, layer.weight, layer.bias)]
        for part, layer in zip(embeddings, (loss.student_projection, loss.teacher_projection))
    )
    memory = loss.memory.vectors.clone()
    terms = loss.eval().terms(*embeddings, INDICES)  # power iterations stand still
    hidden, score = loss.critic.hidden, loss.critic.score

    def g(teacher, student):
        pair = torch.cat([teacher, student])
        return float(score.weight[0] @ (hidden.weight @ pair + hidden.bias).clamp(min=0))

    same = sum(g(t, s) for t, s in zip(other, own)) / 4
    different = sum(g(t, memory[m]) for t, row in zip(other, negatives) for m in row) / 36
    assert terms["global"].item() == pytest.approx(0.7 * (different - same), rel=1e-10)
    cost = torch.stack([torch.stack([1 - s @ t for t in other]) for s in own])
    expected = 0.2 * (transport_plan(cost, 0.1, 50) * cost).sum()
    torch.testing.assert_close(terms["local"], expected)


def test_gradients_of_the_negatives_are_those_of_the_plain_formula(embeddings, monkeypatch):
    critic = Critic(6).double().eval()
    bank = make().memory
    teacher, student = (F.normalize(torch.randn(4, 6, dtype=torch.float64), dim=1) for _ in range(2))
    negatives = torch.randint(0, SAMPLES, (4, 9))
    parameters = [teacher.requires_grad_(), *critic.parameters()]

    def plain():
        vectors = torch.cat([teacher[:, None].expand(4, 9, 6), bank.vectors[negatives]], dim=2)
        return critic.score(torch.relu(critic.hidden(vectors))).mean()

    for numbers in (2**24, 60):  # all rows at once, and one by one
        monkeypatch.setattr(wcord, "_AT_ONCE", numbers)
        _, ours = critic(teacher, student, bank, negatives)
        torch.testing.assert_close(ours, plain())
        for mine, theirs in zip(
            torch.autograd.grad(ours, parameters), torch.autograd.grad(plain(), parameters)
        ):
            torch.testing.assert_close(mine, theirs)


def test_critic_changes_no_faster_than_its_pairs():
    torch.manual_seed(0)
    critic = Critic(6).double()
    for _ in range(50):
        critic.hidden.weight, critic.score.weight  # noqa: B018  every look is a power iteration
    critic.eval()
    for layer in (critic.hidden, critic.score):
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, rel=1e-3)


def test_descending_separates_pairs_from_strangers(embeddings):
    loss = make(local_weight=0.0, iterations=1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(*embeddings, INDICES)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) / 10 < sum(values[:10]) / 10 - 0.05


def test_the_student_is_remembered_in_training_only(embeddings):
    loss = make()
    before = loss.memory.vectors.clone()
    loss.eval()(*embeddings, INDICES)
    assert torch.equal(loss.memory.vectors, before)
    loss.train()(*embeddings, INDICES)
    assert (loss.memory.vectors != before).any(1).nonzero()[:, 0].tolist() == sorted(INDICES.tolist())


def test_dead_and_equal_samples_stay_finite():
    loss = make().float()
    student = torch.zeros(4, 5, requires_grad=True)
    value = loss(student, torch.ones(4, 7), INDICES)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    vectors = torch.zeros(3, 4, requires_grad=True)
    LocalTransport()(vectors, torch.zeros(3, 4)).backward()
    assert vectors.grad.isfinite().all()


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match="epsilon must be positive"):
        make(epsilon=0.0)
    with pytest.raises(PursuhintError, match=r"momentum must be in \[0, 1\], got 2"):
        make(momentum=2.0)
    with pytest.raises(PursuhintError, match="needs the classes of the training samples"):
        WassersteinContrastLoss(5, 7, SAMPLES)
