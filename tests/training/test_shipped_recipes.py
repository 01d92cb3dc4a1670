"""Every shipped recipe is listed, valid, and says what its paper says."""

from __future__ import annotations

from importlib import resources

import pytest
import torch

from pursuhint.hints import HintPlan
from pursuhint.losses import get_loss
from pursuhint.models import create_model
from pursuhint.points import find_hint_points
from pursuhint.recipes import RECIPES, recipe_text
from pursuhint.training import Recipe
from pursuhint.training.resolve import needs_hints, resolve_recipe

DISTILLED = [name for name in RECIPES if Recipe.load(name).teacher is not None]


def test_table_and_folder_agree():
    files = {file.name.removesuffix(".yaml") for file in resources.files("pursuhint.recipes").iterdir()}
    assert {name for name in files if not name.startswith("__")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_is_valid_and_complete(name):
    recipe = resolve_recipe(Recipe.load(name))
    assert Recipe.from_yaml(recipe.dump()) == recipe
    assert resolve_recipe(recipe) == recipe
    assert recipe_text(name).startswith("# ")
    for milestone in recipe.schedule.milestones:
        assert milestone < recipe.epochs


@pytest.mark.parametrize("loss", ["ce", "kd", "skd", "at", "fitnet", "vid"])
def test_every_loss_of_pursuhint_has_a_recipe(loss):
    assert any(loss in Recipe.load(name).losses for name in RECIPES)


@pytest.mark.parametrize("name", [name for name in DISTILLED if needs_hints(Recipe.load(name).losses)])
def test_hint_points_exist(name):
    recipe = Recipe.load(name)
    size, classes = (64, 1000) if name.startswith("imagenet") else (32, 100)
    example = torch.zeros(1, 3, size, size)
    teacher = create_model(recipe.teacher.network, num_classes=classes)
    points = find_hint_points(teacher, example, activation=recipe.hints.activation)
    if recipe.hints.strategy == "explicit":
        plan = HintPlan.explicit(points, recipe.hints.points)
        assert plan.teacher_points[0] in HintPlan.conventional(teacher, points).teacher_points
    student = create_model(recipe.student.network, num_classes=classes)
    student_points = find_hint_points(student, example, activation=recipe.hints.activation)
    assert len(student_points) >= (recipe.hints.k or len(recipe.hints.points) or 3)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("cifar100-")])
def test_benchmark_settings(name):
    recipe = Recipe.load(name)
    assert (recipe.epochs, recipe.batch_size, recipe.schedule.milestones) == (240, 64, (150, 180, 210))
    optimizer = recipe.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.nesterov) == (
        0.05,
        0.9,
        5e-4,
        False,
    )


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("cifar100-")])
def test_benchmark_weights_are_the_papers_defaults(name):
    # RepDistiller's script gives the weights that the losses declare.
    resolved = resolve_recipe(Recipe.load(name)).losses
    for loss, config in resolved.items():
        if loss != "ce":
            assert config.weight == get_loss(loss).default_weight
            assert resolved.get("ce", config).weight in (get_loss(loss).default_ce_weight, config.weight)


def test_pairing_of_metric_and_hint_type():
    # Section 4.2.1: R2CCA with AT, CKA with the others; section 4.2.2: by teacher.
    metrics = {name: Recipe.load(name).hints.metric for name in RECIPES if "pursuhint-p" in name}
    assert metrics == {
        "pursuhint-pre-at": "r2cca",
        "pursuhint-pre-fitnet": "cka",
        "pursuhint-pre-vid": "cka",
        "pursuhint-post-resnet110": "cka",
        "pursuhint-post-resnet32x4": "r2cca",
        "pursuhint-post-wrn-40-2": "r2cca",
    }


@pytest.mark.parametrize("hint", ["at", "fitnet", "vid"])
def test_pre_activation_settings(hint):
    recipe = Recipe.load(f"pursuhint-pre-{hint}")
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.lr) == (350, 64, 0.05)
    assert (recipe.schedule.milestones, recipe.schedule.gamma) == ((200, 250, 300), 0.1)
    assert (recipe.hints.activation, recipe.hints.k) == ("pre", 3)
    assert set(recipe.losses) == {"ce", "kd", hint}


def test_imagenet_settings():
    recipe = Recipe.load("imagenet-pursuhint")
    assert (recipe.teacher.network, recipe.student.network) == (
        "torchvision:resnet34",
        "torchvision:resnet18",
    )
    assert (recipe.epochs, recipe.batch_size, recipe.schedule.milestones) == (100, 256, (30, 60, 80, 90))
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (0.1, 1e-4)
    assert (recipe.hints.metric, recipe.hints.k) == ("cka", 4)
    assert recipe.losses["at"].options["p"] == 1
    assert recipe.losses["kd"].options["temperature"] == 4
