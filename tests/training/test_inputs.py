"""Networks, data and plans passed from Python: what they replace, and how a run is known by them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.data import ImageData, InputData
from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import Inputs, Recipe, resolve_recipe


def recipe(**more):
    return Recipe.from_dict({"student": {"network": "resnet8"}, "data": {"name": "digits"}, **more})


def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(12, 3, 8, 8, generator=generator)
    labels = torch.arange(12) % 3
    return ImageData.from_tensors("stripes", train=(pixels, labels), test=(pixels, labels))


def test_fingerprints_name_only_what_the_recipe_leaves_open():
    assert Inputs().fingerprints(recipe()) == {}
    assert list(Inputs(nn.Linear(2, 3), nn.Linear(2, 3), images()).fingerprints()) == [
        "data", "student", "teacher",
    ]  # fmt: skip


def test_a_fingerprint_follows_the_weights():
    network = nn.Linear(2, 3)
    before = Inputs(teacher=network).fingerprints()
    assert Inputs(teacher=network).fingerprints() == before
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert Inputs(teacher=network).fingerprints() != before


def test_a_checkpoint_is_hashed_where_no_network_was_passed(tmp_path):
    path = tmp_path / "student.safetensors"
    network = create_model("resnet8", num_classes=3, in_channels=3)
    save_weights(network, path)
    named = recipe(student={"network": "resnet8", "checkpoint": str(path)})
    from_file = Inputs().fingerprints(named)
    assert list(from_file) == ["student"]
    inputs = Inputs(student=network)  # replaces network and checkpoint of the recipe
    assert inputs.fingerprints(resolve_recipe(named, inputs))["student"] != from_file["student"]


def test_the_plan_of_a_file_does_not_replace_one_that_was_passed(tmp_path):
    named = recipe(hints={"file": str(tmp_path / "missing.json")})
    network = create_model("resnet8", num_classes=4)
    plan = HintPlan.stage_centers(find_hint_points(network, torch.zeros(1, 3, 32, 32)))
    assert Inputs(plan=plan).with_plan_of(named).plan is plan
    with pytest.raises(PursuhintError, match=r"missing\.json"):
        Inputs().with_plan_of(named)


def test_samples_that_are_no_images_are_not_mirrored():
    tokens = torch.zeros(6, 4, dtype=torch.long), torch.arange(6) % 2
    inputs = Inputs(data=InputData.from_tensors("tokens", train=tokens, test=tokens))
    recipe = Recipe.from_dict({"student": "resnet8", "losses": {"ce": 1}})
    assert resolve_recipe(recipe, inputs).data.augment == ()
    with pytest.raises(PursuhintError, match=r"no images; leave data\.flip out"):
        resolve_recipe(recipe.override("data.flip=alternate"), inputs)


def test_flips_are_a_part_of_the_standard_augmentation():
    recipe = Recipe.from_dict({"student": "resnet8", "data": {"flip": "alternate"}})
    assert Recipe.from_yaml(recipe.dump()).data.flip == "alternate"
    with pytest.raises(PursuhintError, match=r"add standard to data\.augment"):
        recipe.override("data.augment=none")
