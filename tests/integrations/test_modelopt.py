"""Hint points in NVIDIA's Model Optimizer."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import Curriculum, HintPlan
from pursuhint.integrations import pair_loss
from tests.integrations.conftest import EXAMPLE, changed, network, pair, state


@pytest.fixture(scope="module")
def distill():
    pytest.importorskip("modelopt", minversion="0.47")
    with warnings.catch_warnings(action="ignore"):  # of other packages' versions
        import modelopt.torch.distill as found
    return found


def convert(distill: Any, loss: Any = None, weight: float = 2.0) -> nn.Module:
    student, teacher, plan = pair()
    torch.manual_seed(2)
    config = plan.to_modelopt(loss or pair_loss("fitnet"), weight=weight)
    config["teacher_model"] = teacher
    return distill.convert(student, mode=[("kd_loss", config)])


def train(model: nn.Module, optimizer: torch.optim.Optimizer, digits: Any, epochs: int) -> None:
    for _ in range(epochs):
        model.train()
        for images, labels in zip(*(values.split(40) for values in digits)):
            loss = model.compute_kd_loss(student_loss=F.cross_entropy(model(images), labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02, momentum=0.9)


def test_the_total_is_that_of_the_features_at_the_points(distill, digits):
    images, labels = digits
    student, teacher, plan = pair()
    features = [
        FeatureExtractor(each.eval(), points)(images)
        for each, points in ((student, plan.student_points), (teacher, plan.teacher_points))
    ]
    at = pair_loss("at")(plan.student_points[0], plan.teacher_points[0])
    hints = sum(float(at(*maps).detach()) for maps in zip(features[0].maps, features[1].maps))
    expected = float(F.cross_entropy(features[0].logits, labels).detach()) + 2.0 * hints
    model = convert(distill, pair_loss("at"))
    model.eval()
    loss = model.compute_kd_loss(student_loss=F.cross_entropy(model(images), labels))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_it_trains_resumes_and_exports_the_student(distill, digits, tmp_path):
    whole = convert(distill)
    before, optimizer = state(whole), sgd(whole)
    train(whole, optimizer, digits, 2)
    weights = {name for name, entry in whole.named_parameters() if entry.requires_grad and "weight" in name}
    assert changed(before, state(whole)) >= weights
    assert any("_loss_modules.1." in name for name in weights)
    torch.save((whole.state_dict(), optimizer.state_dict()), tmp_path / "last.pt")
    train(whole, optimizer, digits, 1)

    resumed = convert(distill)
    optimizer = sgd(resumed)
    for part, saved in zip((resumed, optimizer), torch.load(tmp_path / "last.pt", weights_only=True)):
        part.load_state_dict(saved)
    train(resumed, optimizer, digits, 1)
    assert not changed(state(whole), state(resumed))

    student = distill.export(resumed)
    plain = network(4, 6, 8, seed=5)
    plain.load_state_dict(student.state_dict())


def test_criteria_keep_the_order_of_the_pairs(distill):
    """As a set of modules alone they would not: names in checkpoints would change from run to run."""
    for _ in range(3):
        model = convert(distill)
        assert [criterion.number for criterion in model.loss_modules] == [0, 1, 2]


def test_what_a_hook_would_not_see_is_refused():
    student, teacher, plan = pair(schedule=Curriculum())
    with pytest.raises(PursuhintError, match="changes them"):
        plan.to_modelopt(pair_loss("at"))
    with pytest.raises(PursuhintError, match="no student"):
        HintPlan.of(plan.teacher_points, {}).to_modelopt(pair_loss("at"))
    points = [find_hint_points(each, EXAMPLE, activation="pre") for each in (teacher, student)]
    with pytest.raises(PursuhintError, match="the input of a module"):
        HintPlan.all_by_depth(*points).to_modelopt(pair_loss("at"))
