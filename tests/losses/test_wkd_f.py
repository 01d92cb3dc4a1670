"""WKD-F against a slow transcription, and how it fades."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.wkd_f import NormalDistanceLoss


def maps(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow(own: torch.Tensor, other: torch.Tensor, regions, mean_weight: float) -> float:
    total = 0.0
    for rows, columns in regions:
        for s, t in zip(own[:, :, rows, columns].flatten(0, 1), other[:, :, rows, columns].flatten(0, 1)):
            a, b = s.flatten().tolist(), t.flatten().tolist()
            total += mean_weight * (statistics.mean(a) - statistics.mean(b)) ** 2
            one, two = (math.sqrt(statistics.variance(values) + 1e-5) for values in (a, b))
            total += (one - two) ** 2
    return total / (len(regions) * len(own))


@pytest.mark.parametrize(
    ("grid", "regions"),
    [
        (1, [(slice(0, 3), slice(0, 4))]),
        (2, [(row, column) for row in (slice(0, 2), slice(1, 3)) for column in (slice(0, 2), slice(2, 4))]),
    ],
)
def test_is_the_formula(grid, regions):
    torch.manual_seed(0)
    loss = NormalDistanceLoss(2, 3, (3, 4), (3, 4), mean_weight=3.0, grid=grid).double()
    student, teacher = maps(4, 2, 3, 4, seed=0), maps(4, 3, 3, 4, seed=1)
    own = loss.connector(student).detach()
    assert loss(student, teacher).item() == pytest.approx(slow(own, teacher, regions, 3.0), rel=1e-12)


def test_only_means_and_deviations_count():
    loss = NormalDistanceLoss(2, 2, (3, 4), (3, 4)).double().eval()
    student, teacher = maps(4, 2, 3, 4, seed=0), maps(4, 2, 3, 4, seed=1)
    shuffled = teacher.flatten(2)[:, :, torch.randperm(12)].unflatten(2, (3, 4))
    torch.testing.assert_close(loss(student, teacher), loss(student, shuffled))


def test_a_constant_map_has_a_finite_gradient():
    loss = NormalDistanceLoss(2, 2, (3, 4), (3, 4)).double().eval()
    student = torch.ones(4, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    loss(student, maps(4, 2, 3, 4, seed=1)).backward()
    assert student.grad.isfinite().all()


def test_fades_to_nothing_in_the_last_epoch():
    loss = NormalDistanceLoss(2, 2, (3, 4), (3, 4), constant_epochs=150)
    factors = []
    for epoch in range(240):
        loss.begin_epoch(epoch, 240)
        factors.append(loss.factor)
    assert factors[:150] == [1.0] * 150
    assert factors[194] == pytest.approx(0.5)  # half of the 90 epochs that are left
    assert factors[-1] == 0
    assert sorted(factors, reverse=True) == factors


def test_a_run_that_is_shorter_does_not_fade():
    loss = NormalDistanceLoss(2, 2, (3, 4), (3, 4), constant_epochs=5)
    for epoch in range(5):
        loss.begin_epoch(epoch, 5)
        assert loss.factor == 1


@pytest.mark.parametrize(
    "options", [{"grid": 0}, {"eps": 0.0}, {"mean_weight": -1.0}, {"constant_epochs": -1}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match=next(iter(options))):
        NormalDistanceLoss(2, 2, (3, 4), (3, 4), **options)
