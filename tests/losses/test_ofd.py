"""The overhaul of feature distillation: targets before the ReLU, with margins."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.ofd import FeatureOverhaulLoss
from pursuhint.models import create_model


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norm(scales, shifts):
    module = nn.BatchNorm2d(len(scales)).double()
    module.weight.data = torch.tensor(scales, dtype=torch.float64)
    module.bias.data = torch.tensor(shifts, dtype=torch.float64)
    return module


def test_equals_the_formula_as_a_loop():
    torch.manual_seed(0)
    loss = FeatureOverhaulLoss(3, 2, norm([0.8, -0.5], [0.3, -0.2]), 0.25).double()
    student, teacher = draw(4, 3, 2, 3), 2 * draw(4, 2, 2, 3, seed=1)
    response = loss.connector(student)
    total = 0.0
    for c in range(2):
        m = loss.margin(teacher)[c].item()
        for r, t in zip(response[:, c].flatten().tolist(), teacher[:, c].flatten().tolist()):
            if t > 0:
                total += (r - t) ** 2
            elif t > m:
                total += (r - t) ** 2 if r > t else 0.0
            else:
                total += (r - m) ** 2 if r > m else 0.0
    assert loss(student, teacher).item() == pytest.approx(total / 4 / 4, rel=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, -0.3), (-2.0, 1.0), (0.4, -3.0)])
def test_the_margin_is_the_mean_negative_response(scale, shift):
    loss = FeatureOverhaulLoss(3, 1, norm([scale], [shift]))
    grid = torch.linspace(-30, 0, 300_001, dtype=torch.float64)
    density = Normal(shift, abs(scale)).log_prob(grid).exp()
    expected = (grid * density).sum() / density.sum()
    assert loss.margin(torch.zeros(0)).item() == pytest.approx(expected.item(), rel=1e-4)


def test_channels_that_are_hardly_ever_negative_get_a_bound():
    loss = FeatureOverhaulLoss(3, 3, norm([1.0, 1.0, -0.5], [3.09, 3.1, 40.0]))
    margin = loss.margin(torch.zeros(0))
    assert -3 < margin[0] < 0  # one in 999 is negative
    assert margin[1:].tolist() == [-3.0, -1.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_that_are_switched_off_have_a_finite_margin(dtype):
    loss = FeatureOverhaulLoss(3, 4, norm([0.0, 0.0, 0.0, 1e-30], [-0.5, 0.0, 0.7, 1e-3])).to(dtype)
    margin = loss.margin(torch.zeros(0))
    assert margin.isfinite().all()
    assert margin[0] == -0.5
    assert margin[1:].abs().max() < 1e-20


def test_margins_can_be_measured():
    loss = FeatureOverhaulLoss(3, 2, None, margins="batch")
    teacher = torch.tensor([[1.0, -1.0], [-2.0, 0.0], [0.0, -2.0]])[:, :, None, None]
    assert loss.margin(teacher).tolist() == [-2.0, -1.5]
    assert loss.margin(teacher.abs()).tolist() == [0.0, 0.0]
    assert loss.info.batch_coupled
    assert not FeatureOverhaulLoss(3, 2, nn.BatchNorm2d(2)).info.batch_coupled


def test_negative_targets_need_not_be_exceeded_only():
    loss = FeatureOverhaulLoss(2, 2, nn.BatchNorm2d(2)).eval()
    nn.init.dirac_(loss.connector.conv.weight)
    teacher = torch.full((1, 2, 1, 1), -0.5)
    assert loss(torch.full((1, 2, 1, 1), -3.0), teacher) == 0
    assert loss(torch.zeros(1, 2, 1, 1), teacher).item() == pytest.approx(2 * 0.25)
    below = torch.full((1, 2, 1, 1), -9.0)
    assert loss(torch.full((1, 2, 1, 1), -0.8), below) == 0  # the margin is -0.798


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_the_teacher_is_averaged_to_the_students_size(kernel_size):
    loss = FeatureOverhaulLoss(3, 5, nn.BatchNorm2d(5), kernel_size=kernel_size)
    for size in ((2, 6), (4, 4), (9, 3)):
        student = torch.randn(2, 3, *size, requires_grad=True)
        loss(student, torch.randn(2, 5, 4, 4)).backward()
        assert student.grad.any()


# -- the teacher's norms ----------------------------------------------------------------------------------


def build(teacher_name, modules, activation, **options):
    torch.manual_seed(0)
    teacher, student = create_model(teacher_name, num_classes=4), create_model("resnet8", num_classes=4)
    example = torch.randn(1, 3, 16, 16)
    plan = HintPlan.explicit(find_hint_points(teacher, example, activation=activation), modules)
    own = ["layer2.0", "layer3.0"][-len(modules) :]
    plan = plan.with_student(find_hint_points(student, example, activation=activation), pairing=own)
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    losses = {"ofd": type("Options", (), {"weight": None, "options": options})()}
    distiller = Distiller.build(
        student,
        teacher,
        losses=losses,
        plan=plan,
        num_classes=4,
        num_samples=50,
        example=torch.zeros(2, 3, 16, 16),
    )
    return distiller.loss("ofd"), teacher


@pytest.mark.parametrize("activation", ["pre", "post"])
@pytest.mark.parametrize(
    ("name", "modules", "norms"),
    [
        ("resnet8", ("layer2.0", "layer3.0"), ("layer2.0.bn2", "layer3.0.bn2")),  # not those of the shortcuts
        ("resnet14", ("layer1.1", "layer3.0"), ("layer1.1.bn2", "layer3.0.bn2")),
        ("vgg8", ("relu2", "relu4"), ("block2.1", "block4.1")),
    ],
)
def test_margins_are_those_of_the_norm_in_front(activation, name, modules, norms):
    loss, teacher = build(name, modules, activation)
    for hint, path in zip(loss.hints, norms):
        norm = teacher.get_submodule(path)
        assert torch.equal(hint.teacher_scale, norm.weight)
        assert torch.equal(hint.teacher_shift, norm.bias)
    assert [hint.share for hint in loss.hints] == [0.5, 1.0]


def test_wide_networks_have_their_norms_behind_the_blocks():
    loss, teacher = build("wrn_10_1", ("block2.layer.0", "block3.layer.0"), "pre")
    assert torch.equal(loss.hints[0].teacher_scale, teacher.block3.layer[0].bn1.weight)
    assert torch.equal(loss.hints[1].teacher_scale, teacher.bn1.weight)
    with pytest.raises(PursuhintError, match="choose other hint points or set margins to 'batch'"):
        build("wrn_10_1", ("block2.layer.0", "block3.layer.0"), "post")
    loss, _ = build("wrn_10_1", ("block2.layer.0", "block3.layer.0"), "post", margins="batch")
    assert loss.info.batch_coupled


def test_needs_to_know_the_teacher():
    shape = FeatureShape(3, (2, 2))
    with pytest.raises(PursuhintError, match="OFD takes its margins from the teacher's batch norm"):
        FeatureOverhaulLoss.build(LossContext(((shape, shape),), 10, 50, 0, 0))


def test_the_teacher_may_change_afterwards():
    module = nn.BatchNorm2d(2)
    loss = FeatureOverhaulLoss(3, 2, module)
    before = copy.deepcopy(loss.state_dict())
    nn.init.zeros_(module.weight)
    assert torch.equal(loss.teacher_scale, before["teacher_scale"])


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match="kernel_size must be positive, got 0"):
        FeatureOverhaulLoss(3, 2, nn.BatchNorm2d(2), kernel_size=0)
    with pytest.raises(PursuhintError, match="batch of one sample with a 1x1 feature map"):
        FeatureOverhaulLoss(3, 2, nn.BatchNorm2d(2))(torch.randn(1, 3, 1, 1), torch.randn(1, 2, 1, 1))
