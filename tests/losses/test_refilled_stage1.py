"""The first stage of REFILLED: comparisons of samples."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.refilled_stage1 import (
    ComparisonMatchingLoss,
    pairwise_distances,
    semi_hard_comparisons,
)

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 1])


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, width, generator=generator, dtype=torch.float64) for width in (3, 5)]


def distances(embedding):
    rows = [row / row.norm() for row in embedding]
    return [[float((a - b).norm()) for b in rows] for a in rows]


def semi_hard(d, margin, k_hat):
    """(anchor, positive, negatives) as the text says it."""
    found = []
    for i in range(8):
        for p in range(8):
            if i == p or LABELS[i] != LABELS[p]:
                continue
            negatives = [k for k in range(8) if LABELS[k] != LABELS[i] and 0 < d[i][k] - d[i][p] <= margin]
            if isinstance(k_hat, int):
                negatives = sorted(negatives, key=lambda k: (d[i][k], k))[:k_hat]
            if negatives:
                found.append((i, p, negatives))
    if k_hat == "fewest":
        fewest = min(len(negatives) for *_, negatives in found)
        found = [(i, p, sorted(ks, key=lambda k: (d[i][k], k))[:fewest]) for i, p, ks in found]
    return found


def probabilities(d, anchor, members, tau):
    weights = [math.exp(-d[anchor][m] / tau) for m in members]
    return [w / sum(weights) for w in weights]


def divergence(own, other, anchor, members, tau):
    p, q = (probabilities(d, anchor, members, tau) for d in (other, own))
    return sum(x * math.log(x / y) for x, y in zip(p, q))


@pytest.mark.parametrize("k_hat", [None, 1, 2, 100, "fewest"])
@pytest.mark.parametrize(("margin", "tau", "scale"), [(0.2, 4.0, 1000.0), (1.5, 0.5, 2.0)])
def test_tuples_equal_the_formula_as_a_loop(embeddings, k_hat, margin, tau, scale):
    own, other = map(distances, embeddings)
    found = semi_hard(own, margin, k_hat)
    assert len(found) > 1
    expected = scale * sum(divergence(own, other, i, [p, *k], tau) for i, p, k in found) / len(found)
    loss = ComparisonMatchingLoss(temperature=tau, margin=margin, k_hat=k_hat, scale=scale)
    assert loss(*embeddings, LABELS).item() == pytest.approx(expected, rel=1e-9)
    chosen = loss.comparisons(pairwise_distances(embeddings[0]), LABELS)
    listed = [
        (int(i), int(p), [int(k) for k in row[mask]])
        for i, p, row, mask in zip(chosen.anchor, chosen.positive, chosen.negative, chosen.mask)
    ]
    assert listed == found


def test_triplets_are_half_of_their_mean(embeddings):
    own, other = map(distances, embeddings)
    every = [(i, [p, k]) for i, p, negatives in semi_hard(own, 0.5, None) for k in negatives]
    expected = 1000 * sum(divergence(own, other, i, members, 4.0) for i, members in every) / len(every) / 2
    loss = ComparisonMatchingLoss(mode="triplets", margin=0.5)
    assert loss(*embeddings, LABELS).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_one_negative_is_the_difference_of_the_probabilities():
    """By the difference of the two distances: (p_S - p_T) / tau, so an unsure teacher pushes less."""
    labels = torch.tensor([0, 0, 1])
    student = torch.tensor([[1.0, 0.0], [0.9, 0.4], [0.8, 0.7]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [0.1, 0.9], [0.9, 0.2]], dtype=torch.float64)
    loss = ComparisonMatchingLoss(mode="triplets", margin=2.0, scale=2.0)  # twice the half
    own, other = (pairwise_distances(side) for side in (student, teacher))
    chosen = loss.comparisons(own, labels)
    total = 0.0
    for i, p, k in zip(chosen.anchor, chosen.positive, chosen.negative[:, 0]):
        shares = [torch.sigmoid((d[i, k] - d[i, p]) / 4) for d in (own, other)]
        total += shares[1] * (shares[1] / shares[0]).log()
        total += (1 - shares[1]) * ((1 - shares[1]) / (1 - shares[0])).log()
    torch.testing.assert_close(loss(student, teacher, labels), total / len(chosen.anchor))
    difference = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    p_s, p_t = torch.sigmoid(difference / 4), torch.sigmoid(torch.tensor(0.1).double() / 4)
    (p_t * (p_t / p_s).log() + (1 - p_t) * ((1 - p_t) / (1 - p_s)).log()).backward()
    torch.testing.assert_close(difference.grad, ((p_s - p_t) / 4).detach())


def test_bounds_of_semi_hard_are_strict_below_and_inclusive_above():
    d = torch.tensor([[0.0, 1.0, 1.0, 1.25, 1.26], *[[9.0] * 5] * 4], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 2, 3])
    chosen = semi_hard_comparisons(d, labels, margin=0.25)
    assert (chosen.anchor[0], chosen.positive[0], chosen.negative[0].tolist()) == (0, 1, [3])


def test_ties_go_to_the_lower_row():
    d = torch.tensor([[0.0, 1.0, 1.5, 1.5, 1.1], *[[9.0] * 5] * 4], dtype=torch.float64)
    chosen = semi_hard_comparisons(d, torch.tensor([0, 0, 1, 2, 3]), margin=0.6, max_negatives=2)
    assert chosen.negative[0].tolist() == [4, 2]


def test_length_of_the_embeddings_does_not_matter(embeddings):
    loss = ComparisonMatchingLoss()
    torch.testing.assert_close(loss(3 * embeddings[0], embeddings[1], LABELS), loss(*embeddings, LABELS))


def test_a_student_like_its_teacher_has_nothing_to_learn(embeddings):
    assert ComparisonMatchingLoss()(embeddings[0], embeddings[0], LABELS).item() == 0


def test_without_comparisons_it_is_zero(embeddings):
    student = embeddings[0].requires_grad_()
    for labels in (torch.arange(8), torch.zeros(8, dtype=torch.long)):
        loss = ComparisonMatchingLoss()
        value = loss(student, embeddings[1], labels)
        value.backward()
        assert value.item() == loss.extra_metrics["comparisons"] == 0


def test_equal_and_dead_samples_stay_finite(embeddings):
    student = embeddings[0].float()
    student[1] = student[4]
    student[2] = student[5] = 0
    student.requires_grad_()
    value = ComparisonMatchingLoss(margin=2.0)(student, embeddings[1].float(), LABELS)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match="k_hat must be positive, got 0"):
        ComparisonMatchingLoss(k_hat=0)
    with pytest.raises(PursuhintError, match="mode must be one of tuples, triplets"):
        ComparisonMatchingLoss(mode="quadruplets")
