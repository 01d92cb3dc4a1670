"""FitNet: hints through a regressor."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.fitnet import FitNetLoss


def context(*pairs):
    return LossContext(pairs, num_classes=10, num_samples=50, student_embedding=0, teacher_embedding=0)


def test_equals_the_formula_as_a_loop():
    torch.manual_seed(0)
    loss = FitNetLoss(3, 4, (3, 3), (3, 3)).double()
    student, teacher = torch.randn(2, 3, 3, 3).double(), torch.randn(2, 4, 3, 3).double()
    weight, bias = loss.regressor.conv.weight[:, :, 0, 0], loss.regressor.conv.bias
    mapped = torch.einsum("oc,nchw->nohw", weight, student) + bias[:, None, None]
    total = 0.0
    for channel in range(4):
        values = mapped[:, channel]
        normal = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
        total += (normal.clamp(min=0) - teacher[:, channel]).square().sum()
    torch.testing.assert_close(loss(student, teacher), total / (2 * 4 * 9))


def test_a_regressor_that_gives_the_teachers_features_leaves_nothing_to_learn():
    student = torch.randn(4, 3, 2, 2)
    loss = FitNetLoss(3, 3, (2, 2), (2, 2)).eval()
    nn.init.dirac_(loss.regressor.conv.weight)
    nn.init.zeros_(loss.regressor.conv.bias)
    target = F.relu(student) / (1 + 1e-5) ** 0.5  # batch norm in evaluation mode, with its first statistics
    assert loss(student, target).item() == pytest.approx(0, abs=1e-12)


def test_relu_is_the_default_for_features_behind_an_activation_only():
    pre, post = (FeatureShape(3, (2, 2), activation) for activation in ("pre", "post"))
    loss = FitNetLoss.build(context((post, post), (post, pre), (pre, post)))
    assert [isinstance(hint.regressor.relu, nn.ReLU) for hint in loss.hints] == [True, False, True]
    loss = FitNetLoss.build(context((post, post), (post, pre)), relu=False)
    assert not any(isinstance(hint.regressor.relu, nn.ReLU) for hint in loss.hints)


def test_without_relu_negative_features_can_be_reached():
    loss = FitNetLoss(3, 3, (2, 2), (2, 2), relu=False)
    assert loss.regressor(torch.randn(4, 3, 2, 2)).min() < 0


@pytest.mark.parametrize("size_s", [(1, 1), (2, 2), (3, 5), (4, 4), (7, 7), (8, 4), (8, 8)])
@pytest.mark.parametrize("size_t", [(1, 1), (2, 4), (4, 2), (4, 4), (5, 5), (8, 8), (16, 8)])
def test_any_sizes_can_be_compared(size_s, size_t):
    loss = FitNetLoss(3, 4, size_s, size_t)
    student = torch.randn(2, 3, *size_s, requires_grad=True)
    loss(student, torch.randn(2, 4, *size_t)).backward()
    assert student.grad.any()


def test_tokens_can_be_compared():
    loss = FitNetLoss.build(context((FeatureShape(3, (10,)), FeatureShape(4, (10,)))))
    assert loss([torch.randn(2, 10, 3)], [torch.randn(2, 10, 4)]).isfinite()


def test_one_value_a_channel_cannot_be_normalised():
    loss = FitNetLoss(3, 4, (1, 1), (1, 1))
    with pytest.raises(PursuhintError, match="batch of one sample with a 1x1 feature map"):
        loss(torch.randn(1, 3, 1, 1), torch.randn(1, 4, 1, 1))
    assert loss.eval()(torch.randn(1, 3, 1, 1), torch.randn(1, 4, 1, 1)).isfinite()


def test_the_regressor_is_learned():
    torch.manual_seed(0)
    student, teacher = torch.randn(16, 3, 4, 4), torch.randn(16, 5, 4, 4).relu()
    loss = FitNetLoss(3, 5, (4, 4), (4, 4))
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.9 * values[0]


# -- as in the paper --------------------------------------------------------------------------------------


def test_half_the_sum_of_the_squares_of_a_sample():
    loss = FitNetLoss(3, 4, (3, 5), (3, 5), reduction="half-sum").eval()
    student, teacher = torch.randn(2, 3, 3, 5), torch.randn(2, 4, 3, 5)
    expected = 0.5 * (loss.regressor(student) - teacher).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(loss(student, teacher), expected)


def test_the_regressor_may_do_without_batch_norm():
    loss = FitNetLoss(3, 4, (1, 1), (1, 1), norm=False, relu=False)
    assert not list(loss.buffers())
    student, teacher = torch.randn(1, 3, 1, 1), torch.randn(1, 4, 1, 1)
    conv = loss.regressor.conv
    mapped = conv.weight[:, :, 0, 0] @ student[0, :, 0, 0] + conv.bias
    expected = (mapped - teacher[0, :, 0, 0]).square().mean()
    torch.testing.assert_close(loss(student, teacher), expected)


def test_one_stage_unless_two_are_asked_for():
    post = FeatureShape(3, (2, 2))
    loss = FitNetLoss.build(context((post, post)))
    assert not loss.stages()
    assert not loss.info.warm_up_only
    loss.begin_stage(None)
    assert all(p.requires_grad for p in loss.parameters())

    loss = FitNetLoss.build(context((post, post)), two_stages=True, warm_up_epochs=7)
    (stage,) = loss.stages()
    assert (stage.epochs, stage.trains_student, stage.lr) == (7, True, None)
    assert loss.info.warm_up_only
    loss.begin_stage(None)
    assert not any(p.requires_grad for p in loss.parameters())
    loss.begin_stage(stage.name)
    assert all(p.requires_grad for p in loss.parameters())


def test_refuses_a_warm_up_of_no_epochs():
    with pytest.raises(PursuhintError, match="warm_up_epochs must be positive, got 0"):
        FitNetLoss(3, 4, (1, 1), (1, 1), two_stages=True, warm_up_epochs=0)


def test_maxout_takes_the_largest_piece():
    loss = FitNetLoss(3, 4, (2, 3), (2, 3), norm=False, relu=False, maxout_pieces=2)
    student, teacher = torch.randn(2, 3, 2, 3), torch.randn(2, 4, 2, 3)
    pieces = torch.einsum("oc,nchw->nohw", loss.regressor.conv.weight[:, :, 0, 0], student)
    pieces = pieces + loss.regressor.conv.bias[:, None, None]
    expected = (torch.maximum(pieces[:, 0::2], pieces[:, 1::2]) - teacher).square().mean()
    torch.testing.assert_close(loss(student, teacher), expected)
    with pytest.raises(PursuhintError, match="maxout_pieces must be positive, got 0"):
        FitNetLoss(3, 4, (1, 1), (1, 1), maxout_pieces=0)
