"""Rules that run the teacher on images: against slow references, and facts."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from pursuhint.data import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.hints import RuleSource, choose_by_rule
from pursuhint.hints.rules.ablation import importances
from pursuhint.hints.rules.gradnorm import gradient_norms
from pursuhint.models import create_model
from pursuhint.similarity import LayerSimilarity

SAMPLES = 40


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return create_model("resnet14", num_classes=3, in_channels=1).eval()


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(SAMPLES, 1, 8, 8, generator=generator), torch.arange(SAMPLES) % 3
    parts = torch.arange(SAMPLES).split(25)
    return [Batch(images[part], labels[part], part) for part in parts]


@pytest.fixture(scope="module")
def source(teacher, batches):
    """Six layers in obvious groups of 1, 3 and 2."""
    points = find_hint_points(teacher, batches[0].images)
    group = torch.tensor([0, 1, 1, 1, 2, 2])
    values = torch.where(group[:, None] == group, 0.9, 0.1).double().fill_diagonal_(1)
    similarity = LayerSimilarity(points, values, "cka", 100)
    return RuleSource(
        points, 3, teacher=teacher, similarity=similarity, batches=lambda: batches, images=SAMPLES
    )


def positions(plan) -> list[int]:
    return [point.position for point in plan.teacher_points]


def everything(batches) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


# -- gradnorm


def test_gradient_norms_are_those_of_autograd_on_all_images(source, teacher, batches):
    images, labels = everything(batches)
    network = copy.deepcopy(teacher)
    nn.functional.cross_entropy(network(images), labels).backward()
    blocks = [network.get_submodule(point.module) for point in source.points]
    slow = [math.sqrt(sum(float(p.grad.square().sum()) for p in block.parameters())) for block in blocks]
    assert gradient_norms(source) == pytest.approx(slow, rel=1e-4)


def test_gradnorm_takes_the_largest_gradient_of_each_group(source):
    norms = gradient_norms(source)
    expected = [1, 2 + int(np.argmax(norms[1:4])), 5 + int(np.argmax(norms[4:6]))]
    plan = choose_by_rule("gradnorm", source)
    assert positions(plan) == expected
    assert plan.origin["num_samples"] == SAMPLES


def test_a_frozen_teacher_stays_frozen_and_keeps_no_gradient(source, teacher):
    before = gradient_norms(source)
    teacher.requires_grad_(False)
    try:
        assert gradient_norms(source) == before
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert all(parameter.grad is None for parameter in teacher.parameters())
    finally:
        teacher.requires_grad_(True)


# -- ablation


class Identity(nn.Module):
    def forward(self, x):
        return x


def slow_importance(teacher, name: str, images) -> float:
    """By a copy of the network with the block replaced, and CKA from centred Gram matrices."""
    network = copy.deepcopy(teacher)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, Identity())
    embeddings = []
    for net in (teacher, network):
        kept = []
        last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
        handle = last.register_forward_pre_hook(lambda module, inputs, kept=kept: kept.append(inputs[0]))
        with torch.no_grad():
            net(images)
        handle.remove()
        embeddings.append(kept[0].double())
    center = torch.eye(len(images)).double() - 1 / len(images)
    a, b = (center @ x @ x.T @ center for x in embeddings)
    return 1 - float((a * b).sum() / (a.norm() * b.norm()))


def test_importances_are_those_of_networks_with_the_block_replaced(source, teacher, batches):
    images, _ = everything(batches)
    found = importances(source)
    assert [value is None for value in found] == [False, False, True, False, True, False]
    for point, value in zip(source.points, found):
        if value is not None:
            assert value == pytest.approx(slow_importance(teacher, point.module, images), abs=1e-5)


def test_ablation_takes_the_most_important_layers_and_leaves_the_network_whole(source, teacher, batches):
    images, _ = everything(batches)
    with torch.no_grad():
        before = teacher(images)
    found = importances(source)
    best = sorted(sorted((i for i in range(6) if found[i] is not None), key=lambda i: -found[i])[:2])
    assert positions(choose_by_rule("ablation", RuleSource(**{**vars(source), "k": 2}))) == [
        layer + 1 for layer in best
    ]
    with torch.no_grad():
        assert torch.equal(teacher(images), before)


def test_blocks_that_cannot_be_removed_are_said(source):
    with pytest.raises(PursuhintError, match="can remove 4 of the 6 blocks"):
        choose_by_rule("ablation", RuleSource(**{**vars(source), "k": 5}))


# -- all of them


@pytest.mark.parametrize("rule", ["gradnorm", "ablation"])
def test_without_images_they_say_what_is_missing(source, rule):
    bare = RuleSource(source.points, 3, similarity=source.similarity)
    with pytest.raises(PursuhintError, match="give the network and the data"):
        choose_by_rule(rule, bare)
