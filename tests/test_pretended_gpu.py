"""Nothing of a step on a GPU is left on the CPU, and nothing makes the host wait but what says why."""

from __future__ import annotations

import inspect
from dataclasses import replace
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pursuhint.analysis.collection import collect
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.data import Batch, load_dataset, make_loader
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, LogitLoss, get_loss
from pursuhint.losses.refilled_stage1 import ComparisonMatchingLoss
from pursuhint.models import create_model, evaluate
from pursuhint.similarity import LayerMoments, PooledFeatures
from pursuhint.similarity.accumulators import base
from pursuhint.similarity.accumulators.choose import StatisticsLayout
from pursuhint.similarity.accumulators.class_sums import ClassSums
from pursuhint.similarity.accumulators.sample_rows import SampleRows
from pursuhint.testing.loss_setting import (
    build_loss,
    make_batch,
    student_features,
    teacher_features,
    tensors,
)
from pursuhint.training.devices import build_accelerator
from pursuhint.training.loop import LoopHooks, TrainingLoop
from pursuhint.training.recipe.schema import OptimizerConfig, ScheduleConfig
from pursuhint.training.stages import Stage
from tests.helpers.pretended_gpu import GPU, OnTheGpu, PretendedGpu, pretended_gpu, to_gpu
from tests.losses.test_contract import SMALLER

WAITS = {  # what a loss makes the host wait for in a step, once its memories have settled
    "crd": {"nonzero"},
    "crcd": {"nonzero"},
    "wcord": {"nonzero"},
    "aml": {"nonzero"},
    "kdsvd": {"_linalg_svd"},
}


def up(values: Tensor) -> Tensor:
    return OnTheGpu(values.detach()).requires_grad_(values.requires_grad)


def on_gpu(features: Features) -> Features:
    logits, embedding, *maps = map(up, tensors(features))
    return Features(logits, embedding, tuple(maps))


def step(loss, seen: PretendedGpu) -> set[str]:
    """One step forward and backward; what the host waited for."""
    seen.waits.clear()
    student, batch = on_gpu(student_features()), make_batch()
    batch = Batch(*map(up, (batch.images, batch.labels, batch.indices)))
    value = loss.compute(student, on_gpu(teacher_features()), batch)
    assert value.device == GPU
    value.backward()
    gradients = [part.grad for part in (*tensors(student), *loss.parameters()) if part.grad is not None]
    assert gradients
    assert all(isinstance(gradient, OnTheGpu) for gradient in gradients)
    return {what for what, place in seen.waits if not place.startswith("testing/")}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_stays_on_the_gpu_and_lets_the_host_run_ahead(name):
    torch.manual_seed(0)
    loss = build_loss(get_loss(name), **SMALLER.get(name, {}))
    with pretended_gpu() as seen:
        to_gpu(loss)
        found = step(loss, seen)
        for _ in range(2 if found else 0):  # some look at what they have just begun to remember
            found = step(loss, seen)
    assert found == WAITS.get(name, set()), dict(seen.waits)
    assert bool(found) == ("GPU wait" in " ".join(inspect.getdoc(get_loss(name)).split()))


def test_what_a_warm_up_waits_for_is_documented():
    with pretended_gpu() as seen:
        assert step(to_gpu(ComparisonMatchingLoss(margin=1e3)), seen) >= {"nonzero"}
    assert "GPU wait" in " ".join(inspect.getdoc(ComparisonMatchingLoss).split())


def test_the_pretended_gpu_computes_what_the_cpu_does():
    name = "at"
    torch.manual_seed(0)
    loss = build_loss(get_loss(name))
    own = student_features()
    expected = loss.compute(own, teacher_features(), make_batch())
    expected.backward()
    with pretended_gpu():
        student, batch = on_gpu(student_features()), make_batch()
        value = loss.compute(student, on_gpu(teacher_features()), batch)
        value.backward()
        assert torch.equal(value.detach().cpu(), expected.detach())
        for one, other in zip(tensors(student), tensors(own)):
            assert (one.grad is None) == (other.grad is None)
            assert one.grad is None or torch.equal(one.grad.cpu(), other.grad)


class Careless(LogitLoss):
    """A loss with a fault."""

    def __init__(self, fault) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, student: Tensor, teacher: Tensor, *others: Tensor) -> Tensor:
        return (student - teacher).square().mean() * self.fault(student)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(lambda x: 1.0, set(), id="none"),
        pytest.param(lambda x: x.new_ones(1)[0], set(), id="made there"),
        pytest.param(lambda x: torch.ones((), device=x.device), set(), id="made there by name"),
        pytest.param(lambda x: x.detach().abs().max().item(), {"_local_scalar_dense"}, id="item"),
        pytest.param(lambda x: 1.0 if x.sum() > 0 else 2.0, {"_local_scalar_dense"}, id="if"),
        pytest.param(lambda x: x.detach()[x.detach() > 0].mean(), {"mask as an index"}, id="mask"),
        pytest.param(lambda x: x.detach().cpu().sum(), {"copy from the device"}, id="cpu"),
        pytest.param(lambda x: torch.tensor([2.0], device=x.device)[0], {"copy to the device"}, id="tensor"),
        pytest.param(lambda x: x.detach()[:, [0, 1]].mean(), {"copy to the device"}, id="list"),
        pytest.param(lambda x: x.detach().unique().mean(), {"_unique2"}, id="unique"),
    ],
)
def test_waiting_is_noticed(fault, found):
    with pretended_gpu() as seen:
        assert step(Careless(fault), seen) == found


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda x: torch.ones(len(x), 1).mean(1), id="ones"),
        pytest.param(lambda x: torch.ones(len(x))[torch.arange(len(x), device=x.device)], id="index"),
        pytest.param(lambda x: torch.randn(2, generator=torch.Generator(), device=x.device), id="generator"),
    ],
)
def test_a_tensor_left_on_the_cpu_is_noticed(fault):
    with pretended_gpu() as seen, pytest.raises(AssertionError, match="of the CPU"):
        step(Careless(lambda x: (fault(x) * x.sum()).sum()), seen)


# ---------------------------------------------------------------------------------------------------------
# Training, evaluation, analysis


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def networks(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [create_model("resnet8", num_classes=10, in_channels=1) for _ in range(count)]


def loader(data, split: str, batches: int, device: str):
    chosen = data.split(split).indices[: 32 * batches]
    return make_loader(data, split, batch_size=32, training=False, device=device, subset=chosen)


def train(data, device: str, seen: PretendedGpu) -> tuple[list[dict], list[bool]]:
    """Two epochs of five steps; their metrics, and whether the host waited before each step."""
    student, teacher = networks(2)
    example = torch.zeros(2, 1, 8, 8)
    plan = HintPlan.conventional(teacher, find_hint_points(teacher, example))
    plan = plan.with_student(find_hint_points(student, example), student)
    task = {"num_classes": 10, "num_samples": len(data.train), "example": example}
    distiller = Distiller.build(student, teacher, losses={"at": 100, "kd": None}, plan=plan, **task)
    distiller.to(device)
    metrics, waits = [], []
    loop = TrainingLoop(
        build_accelerator(torch.device("cpu"), "float32"),
        distiller,
        make_loader(
            data, "train", batch_size=32, training=True, device=device, subset=data.train.indices[:160]
        ),
        seed=0,
        hooks=LoopHooks(after_epoch=metrics.append),
    )
    for _ in loop.steps([Stage("main", 2, OptimizerConfig(), ScheduleConfig())]):
        waits.append(bool(seen.waits))
        seen.waits.clear()
    assert {parameter.device.type for parameter in distiller.parameters()} == {device}
    return metrics, waits


def test_training_waits_at_the_beginning_and_the_end_of_an_epoch(digits):
    expected, _ = train(digits, "cpu", PretendedGpu())
    with pretended_gpu() as seen, mock.patch.object(Accelerator, "device", GPU):
        found, waits = train(digits, "cuda", seen)
    assert waits == [True, True, False, False, False, True, True, False, False, False]
    for one, other in zip(found, expected):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


def test_evaluation_waits_at_the_end_for_any_number_of_batches(digits):
    (network,) = networks(1)
    expected, waits = evaluate(network, loader(digits, "test", 4, "cpu")), []
    with pretended_gpu() as seen:
        network.to("cuda")
        for batches in (1, 1, 4):  # the first copies the data
            seen.waits.clear()
            found = evaluate(network, loader(digits, "test", batches, "cuda"))
            waits.append(seen.kinds())
    assert waits[1] == waits[2]
    assert found.loss == pytest.approx(expected.loss)
    assert (found.top1, found.count) == (expected.top1, 128)


@pytest.mark.parametrize("kind", ["moments", "rows"])
def test_analysis_waits_at_the_end_for_any_number_of_batches(digits, kind):
    (network,) = networks(1)
    points = find_hint_points(network, torch.zeros(2, 1, 8, 8))
    layout, waits, by_rewriting = StatisticsLayout(kind, samples=160), [], PassOptions(device="cuda")
    options = replace(by_rewriting, fuse_batchnorm=False, channels_last=False)
    expected = collect([(network, points)], loader(digits, "train", 5, "cpu").epoch(), layout=layout)
    with pretended_gpu() as seen:
        network.to("cuda")
        for batches in (1, 2, 5):
            stream = loader(digits, "train", batches, "cuda").epoch()
            seen.waits.clear()
            found = collect([(network, points)], stream, options, layout=layout)
            waits.append(seen.kinds())
        for batches in (2, 5):  # fusing batch norms waits at the first batch only
            stream = loader(digits, "train", batches, "cuda").epoch()
            seen.waits.clear()
            collect([(network, points)], stream, by_rewriting, layout=layout)
            waits.append(seen.kinds())
        assert torch.allclose(found.mean(2).cpu(), expected.mean(2))
        if kind == "rows":
            assert torch.equal(found.numbers, expected.numbers)
    assert waits[1] == waits[2]
    assert waits[2]["copy from the device"] == 1
    assert waits[3] == waits[4]


def test_what_an_analysis_keeps_by_class_waits_for_nothing():
    with pretended_gpu() as seen:
        samples = torch.arange(0, 8, 2)
        kept = (SampleRows(samples, 3, device="cuda"), ClassSums(3, 2, device="cuda"))
        features, labels, indices = [up(torch.ones(4, 3))], up(torch.arange(4) % 2), up(torch.arange(4))
        seen.waits.clear()
        kept[0].update(features, labels, samples=indices)
        kept[1].update(features, labels)
        assert not seen.kinds()
        assert kept[0].there()[0].shape == (2, 3)


@pytest.mark.parametrize("kind", [LayerMoments, PooledFeatures])
@pytest.mark.parametrize("when", ["at the end", "on the way"])
def test_on_a_gpu_features_that_are_not_finite_are_found_later(kind, when, monkeypatch):
    if when == "on the way":
        monkeypatch.setattr(base, "CHECK_EVERY", 4)
    with pretended_gpu():
        statistics = kind([2, 3], names=["a", "b"], device="cuda")
        good = [up(torch.ones(4, 2)), up(torch.ones(4, 3))]
        bad = [good[0], up(torch.tensor([[1.0, torch.nan, 1.0]] * 4))]
        statistics.update(good)
        statistics.update(bad)
        statistics.update(good)
        with pytest.raises(PursuhintError, match="the features of b hold NaN or infinity in batch 2"):
            statistics.update(good) if when == "on the way" else statistics.mean(1)
