"""Networks of every kind in training: what they return, what wraps them, what cannot be trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data import make_loader
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.models.evaluation import evaluate
from pursuhint.models.export import export_network
from pursuhint.training import Recipe, RunRecord, train
from tests.helpers.analysis_networks import noise_images, plain_network


class Returning(nn.Module):
    """Returns the embedding and the logits of a plain network, which are equally wide."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.network = plain_network(((2, 4), (1, 2)))

    def forward(self, images: Tensor) -> Any:
        features = self.network[:-1](images)
        logits = self.network[-1](features)
        return {"tuple": (features, logits), "mapping": {"a": features, "logits": logits}}[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_it_trains_and_evaluates_as_the_network_inside(kind: str) -> None:
    data, student, teacher = noise_images(20), Returning(kind), Returning(kind)
    example = torch.zeros(2, 3, 16, 16)
    plan = HintPlan.stage_centers(find_hint_points(teacher, example))
    plan = plan.with_student(find_hint_points(student, example), student)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 20, "example": example}
    distiller = Distiller.build(student, teacher, losses={"kd": None, "fitnet": None}, plan=plan, **task)
    batch = next(iter(make_loader(data, "train", batch_size=20, training=False).epoch(0)))
    losses = distiller(batch)
    losses.total.backward()
    assert torch.allclose(losses.logits, student.network(batch.images), atol=1e-5)
    assert all(parameter.grad is not None for parameter in student.parameters())
    loader = make_loader(data, "test", batch_size=4, training=False)
    assert evaluate(student, loader) == evaluate(student.network, loader)


@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_an_exported_program_returns_the_logits_alone(kind: str, tmp_path: Path) -> None:
    network = Returning(kind).eval()
    path = tmp_path / "network.pt2"
    export_network(network, path, format="pt2", example=torch.zeros(1, 3, 16, 16))
    images = torch.randn(3, 3, 16, 16)
    with path.open("rb") as file:
        logits = torch.export.load(file).module()(images)
    assert torch.allclose(logits, network.network(images), atol=1e-5)


def _train(student: Any, teacher: Any, folder: Path, **settings: Any) -> RunRecord:
    values = {"student": "python:x", "data": {"name": "noise"}, "losses": {"at": 1, "kd": 1}}
    recipe = Recipe.from_dict({**values, "epochs": 1, "batch_size": 10, **settings})
    return train(
        recipe, folder / "run", device="cpu", data=noise_images(20), student=student, teacher=teacher
    )


@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_a_run_ends_with_an_evaluation(kind: str, tmp_path: Path) -> None:
    record = _train(Returning(kind), Returning(kind), tmp_path)
    assert record.metrics[-1]["test_top1"] >= 0
    assert record.plan is not None


WRAPPINGS: dict[str, Callable[[nn.Module], Any]] = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda network: torch.compile(network, backend="eager"),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_networks_train_as_the_ones_inside(wrapping: str, tmp_path: Path) -> None:
    wrap = WRAPPINGS[wrapping]
    small = ((1, 4), (1, 6))
    plain = _train(plain_network(small), plain_network(small), tmp_path / "plain")
    wrapped = _train(wrap(plain_network(small)), wrap(plain_network(small)), tmp_path / "wrapped")
    assert wrapped.metrics[-1]["train_loss"] == plain.metrics[-1]["train_loss"]
    assert wrapped.metrics[-1]["test_loss"] == plain.metrics[-1]["test_loss"]


def _one_candidate() -> nn.Module:
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("strategy", ["conventional", "centers", "last-map", "all"])
def test_a_network_with_one_candidate_gives_and_takes_one_hint(strategy: str, tmp_path: Path) -> None:
    record = _train(_one_candidate(), _one_candidate(), tmp_path, hints={"strategy": strategy})
    assert record.plan is not None
    assert [str(point.module) for point in record.plan.teacher_points] == ["1"]


def test_where_one_candidate_is_too_few_the_line_says_what_to_take(tmp_path: Path) -> None:
    for strategy in ("chosen", "random"):
        with pytest.raises(PursuhintError, match=r"one candidate point, 1.*conventional"):
            _train(_one_candidate(), _one_candidate(), tmp_path, hints={"strategy": strategy})
    with pytest.raises(PursuhintError, match=r"1 candidate point, fewer than the 2.*last-map"):
        _train(_one_candidate(), plain_network(((1, 4), (1, 6))), tmp_path)
    assert _train(
        _one_candidate(), plain_network(((1, 4), (1, 6))), tmp_path, hints={"strategy": "last-map"}
    ).plan


def _scripted(network: nn.Module) -> Any:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return torch.jit.script(network)


def _exported(network: nn.Module) -> Any:
    return torch.export.export(network, (torch.zeros(2, 3, 16, 16),)).module()


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "scripted": (lambda: _scripted(plain_network(((1, 4),))), "TorchScript"),
    "exported": (lambda: _exported(plain_network(((1, 4),))), "exported program"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), "lazy"),
    "name": (lambda: "resnet8", r"type Module.*'resnet8'"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_read_ends_in_one_line_before_anything_is_written(kind: str, tmp_path: Path) -> None:
    make, reason = UNFIT[kind]
    network, example = plain_network(((1, 4),)), torch.zeros(2, 3, 16, 16)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 20, "example": example}
    for student, teacher in ((make(), network), (network, make())):
        with pytest.raises(PursuhintError, match=reason):
            _train(student, teacher, tmp_path, losses={"kd": 1})
        with pytest.raises(PursuhintError, match=reason):
            Distiller.build(student, teacher, losses={"kd": None}, **task)
    assert not (tmp_path / "run").exists()


def test_a_frozen_student_is_refused_and_a_frozen_teacher_is_usual(tmp_path: Path) -> None:
    frozen = plain_network(((1, 4),)).requires_grad_(False)
    with pytest.raises(PursuhintError, match="frozen"):
        _train(frozen, plain_network(((1, 4),)), tmp_path)
    assert _train(plain_network(((1, 4),)), frozen, tmp_path).metrics
