"""A student or teacher that returns something other than a tensor trains, evaluates and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data import make_loader
from pursuhint.distillation import Distiller
from pursuhint.features import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.models.evaluation import evaluate
from pursuhint.models.export import export_network
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
