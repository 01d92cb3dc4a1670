"""PyTorch's own rules find no tensor of another device in a step of any loss, forward and backward.

`torch._subclasses.FakeTensorMode` gives tensors with a shape and a device and without values, and refuses an
operation on tensors of two devices. Their device is ``lazy`` here: of all devices but the CPU, the only one
whose backward pass runs without its hardware. With ``cuda``, a build of PyTorch with CUDA computes the
forward pass without a GPU and fails in the backward pass ("hasPrimaryContext expects a valid device index"),
where the autograd engine asks the device for its streams. A build for the CPU ends the process as soon as a
fake tensor of ``cuda`` is differentiated ("PyTorch is not linked with support for cuda devices").

`test_pretended_gpu` has values, says ``cuda`` and counts what the host waits for; its rules are our own.
"""

from __future__ import annotations

import contextlib
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from pursuhint.acceleration import Acceleration
from pursuhint.data import Batch
from pursuhint.distillation import Distiller
from pursuhint.features.extractor import Features
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, LogitLoss, get_loss
from pursuhint.models import create_model
from pursuhint.testing.loss_setting import (
    build_loss,
    make_batch,
    student_features,
    teacher_features,
    tensors,
)
from tests.losses.test_contract import SMALLER

DEVICE = torch.device("lazy", 0)
NO_AUTOCAST = {  # it does not know the device
    "autocast": mock.Mock(return_value=contextlib.nullcontext()),
    "is_autocast_enabled": mock.Mock(return_value=False),
}
NO_SHAPE = {  # losses with a tensor whose size depends on values, and what of
    "crd": "negatives that must be drawn again",
    "crcd": "negatives that must be drawn again",
    "wcord": "negatives that must be drawn again",
    "aml": "pairs of samples of two classes",
}


class Mode(FakeTensorMode):
    """A mode that networks can be copied in."""

    def __deepcopy__(self, memo):
        return self


@pytest.fixture(scope="module")
def fake_tensors():
    """The mode, to enter as often as needed: it remembers what operations return."""
    mode = Mode()

    @contextlib.contextmanager
    def entered():
        with mode, mock.patch.multiple(torch, **NO_AUTOCAST):
            yield

    return entered


def fake(values: Tensor) -> Tensor:
    """A tensor of the device, of the size and type of another; inside the mode."""
    options = {"dtype": values.dtype, "device": DEVICE, "requires_grad": values.requires_grad}
    return torch.empty_strided(values.shape, values.stride(), **options)


def fake_features(features: Features) -> Features:
    logits, embedding, *maps = map(fake, tensors(features))
    return Features(logits, embedding, tuple(maps))


def fake_batch(batch: Batch) -> Batch:
    return Batch(*map(fake, (batch.images, batch.labels, batch.indices)))


def make_fake(module: nn.Module) -> nn.Module:
    """Give a module parameters and buffers of the device, in place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(fake(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake(buffer)
    return module


def step(loss) -> None:
    """A step of a loss, forward and backward."""
    student = fake_features(student_features())
    value = loss.compute(student, fake_features(teacher_features()), fake_batch(make_batch()))
    assert (value.device, value.shape) == (DEVICE, ())
    value.backward()
    gradients = [part.grad for part in (*tensors(student), *loss.parameters()) if part.grad is not None]
    assert {gradient.device for gradient in gradients} == {DEVICE}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_computed_on_one_device(name, fake_tensors):
    loss = build_loss(get_loss(name), **SMALLER.get(name, {}))
    with fake_tensors():
        make_fake(loss)
        if name in NO_SHAPE:
            with pytest.raises(DynamicOutputShapeException, match="nonzero"):
                step(loss)
        else:
            step(loss)


def test_a_student_learns_from_its_teacher_on_one_device(fake_tensors):
    student, teacher = (create_model("resnet8", num_classes=10, in_channels=1) for _ in range(2))
    example = torch.zeros(2, 1, 8, 8)
    plan = HintPlan.conventional(teacher, find_hint_points(teacher, example))
    plan = plan.with_student(find_hint_points(student, example), student)
    losses = {"at": 100, "fitnet": 1, "kd": None}
    acceleration = Acceleration(fuse_batchnorm=False)  # the fused copy is tried out, which needs values
    task = {"num_classes": 10, "num_samples": 100, "example": example, "acceleration": acceleration}
    distiller = Distiller.build(student, teacher, losses=losses, plan=plan, **task)
    batch = Batch(torch.zeros(4, 1, 8, 8), torch.arange(4), torch.arange(4))
    with fake_tensors():
        make_fake(distiller)
        make_fake(teacher)
        optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.1, momentum=0.9, foreach=False)
        distiller(fake_batch(batch)).total.backward()
        optimizer.step()
        momenta = [optimizer.state[each]["momentum_buffer"] for each in distiller.trainable_parameters()]
        assert {momentum.device for momentum in momenta} == {DEVICE}


class Careless(LogitLoss):
    """A loss with a fault."""

    def __init__(self, fault) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, student: Tensor, teacher: Tensor, *others: Tensor) -> Tensor:
        return ((student - teacher).square() * self.fault(student)).mean()


class Returned(torch.autograd.Function):
    """A fault of the backward pass alone: its gradient is of the CPU."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.ones(gradient.shape)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="none"),
        pytest.param(lambda x: torch.ones(x.shape), id="ones"),
        pytest.param(lambda x: x[torch.arange(len(x))] + torch.zeros(len(x), 1), id="index"),
        pytest.param(lambda x: Returned.apply(x), id="backward"),
    ],
)
def test_a_tensor_of_the_cpu_is_noticed(fault, fake_tensors):
    expected = contextlib.nullcontext() if fault is None else pytest.raises(RuntimeError, match="device")
    with fake_tensors(), expected:
        step(Careless(fault or torch.ones_like))
