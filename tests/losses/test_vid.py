"""Variational information distillation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.vid import VariationalInformationLoss


@pytest.fixture
def loss():
    torch.manual_seed(0)
    return VariationalInformationLoss(3, 4).double()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64),
        torch.randn(2, 4, 4, 4, generator=generator, dtype=torch.float64),
    )


def test_equals_the_formula_as_a_loop(loss, features):
    nn.init.normal_(loss.log_scale)
    student, teacher = features
    w0, w1, w2 = (conv.weight[:, :, 0, 0] for conv in (loss.mean.conv0, loss.mean.conv1, loss.mean.conv2))
    total = 0.0
    for n in range(2):
        for h in range(4):
            for w in range(4):
                mean = w2 @ (w1 @ (w0 @ student[n, :, h, w]).clamp(min=0)).clamp(min=0)
                for c in range(4):
                    variance = math.log(1 + math.exp(loss.log_scale[c].item())) + 1e-5
                    error = (mean[c] - teacher[n, c, h, w]).item()
                    total += 0.5 * (error**2 / variance + math.log(variance))
    assert loss(student, teacher).item() == pytest.approx(total / (2 * 4 * 16), rel=1e-12)


@pytest.mark.parametrize("start", [2e-5, 0.01, 5.0, 300.0, 1e4])
def test_variance_starts_where_it_is_told_to(start):
    loss = VariationalInformationLoss(3, 4, init_pred_var=start)
    torch.testing.assert_close(loss.variance(), torch.full((4,), start), rtol=1e-4, atol=0)
    assert loss(torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)).isfinite()


def test_best_variance_is_the_mean_squared_error(loss, features):
    """The minimum over the variance of error / v + log(v)."""
    optimizer = torch.optim.LBFGS([loss.log_scale], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(*features)
        value.backward()
        return value

    optimizer.step(closure)
    student, teacher = features
    error = (loss.mean(student) - teacher).square().mean((0, 2, 3))
    torch.testing.assert_close(loss.variance(), error, rtol=1e-4, atol=1e-6)


def test_may_be_negative(loss, features):
    nn.init.constant_(loss.log_scale, -8.0)
    student = features[0]
    assert loss(student, loss.mean(student).detach()) < 0


@pytest.mark.parametrize("scale", [-500.0, -100.0, 20.5, 89.0, 1e4])
def test_any_log_scale_gives_finite_values_and_gradients(scale):
    loss = VariationalInformationLoss(3, 4)
    nn.init.constant_(loss.log_scale, scale)
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(student, torch.randn(2, 4, 4, 4))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert loss.log_scale.grad.isfinite().all()


def test_variance_is_learned(loss):
    assert "log_scale" in dict(loss.named_parameters())


def test_rectangular_maps_of_different_sizes(loss):
    value = loss(torch.randn(2, 3, 4, 12).double(), torch.randn(2, 4, 2, 6).double())
    assert value.isfinite()


@pytest.mark.parametrize(("start", "eps"), [(1e-5, 1e-5), (0.0, 1e-5), (math.inf, 1e-5)])
def test_refuses_a_variance_below_the_smallest(start, eps):
    with pytest.raises(PursuhintError, match="init_pred_var must be above eps"):
        VariationalInformationLoss(3, 4, init_pred_var=start, eps=eps)


def test_refuses_an_eps_of_zero():
    with pytest.raises(PursuhintError, match="eps must be positive, got 0"):
        VariationalInformationLoss(3, 4, eps=0.0)
