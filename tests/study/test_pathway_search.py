"""From a recipe with pathways to the one to train with."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.study.pathway_search import search_process
from pursuhint.training import Recipe, train

SIZES = {"train": 128, "val": 64, "test": 50}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_weights(create_model("resnet8", num_classes=10, in_channels=1), path)
    return path


@pytest.fixture(scope="module")
def digits():
    """Some of the digits, a fifth of them held out."""
    data = load_dataset("digits", val_fraction=0.2)
    splits = {name: getattr(data, name).select(torch.arange(count)) for name, count in SIZES.items()}
    return dataclasses.replace(data, **splits)


def make_recipe(teacher_file, losses=None) -> Recipe:
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(teacher_file)},
            "hints": {"strategy": "explicit", "points": ["layer1.0", "layer3.0"], "activation": "pre"},
            "losses": {"distpro": 1, "kd": 0.5} if losses is None else losses,
            "epochs": 3,
            "batch_size": 64,
        }
    )


def test_pathways_of_a_loss_with_points_of_its_own(teacher_file, digits):
    recipe = make_recipe(teacher_file, losses={"distpro": 1, "at": 10}).model_copy(update={"hints": None})
    found = search_process(recipe, epochs=1, device="cpu", data=digits)
    distpro, at = (found.recipe.losses[name].hints for name in ("distpro", "at"))
    assert (distpro.activation, distpro.points) == ("pre", ("layer1.0", "layer2.0", "layer3.0"))
    assert (at.activation, at.strategy) == ("post", "conventional")
    assert len(found.pathways) == found.shares.shape[1] == 6


def test_the_recipe_that_is_found_goes_through_the_process(teacher_file, digits, tmp_path):
    seen, measured = [], []
    recipe = make_recipe(teacher_file)
    found = search_process(
        recipe,
        epochs=2,
        device="cpu",
        data=digits,
        on_accuracy=measured.append,
        on_epoch=lambda epoch, shares: seen.append(shares),
    )
    assert [accuracy.samples for accuracy in measured] == [len(digits.test)]
    assert found.pathways == (("layer1.0", "layer1.0"), ("layer1.0", "layer3.0"), ("layer3.0", "layer3.0"))
    assert found.shares.shape == (2, 3)
    torch.testing.assert_close(torch.stack(seen), found.shares)
    torch.testing.assert_close(found.shares.sum(1), torch.ones(2))
    assert found.shares[1].std() > 0

    options = found.recipe.losses["distpro"].options
    shares = torch.tensor(options["process"]).softmax(1)
    torch.testing.assert_close(shares, found.shares, rtol=1e-4, atol=1e-5)
    assert options["weighting"] == "scaled_biased_softmax"
    assert (found.recipe.epochs, found.recipe.data) == (recipe.epochs, recipe.data)
    assert found.recipe.hints.student_points == ("layer1.0", "layer3.0")

    found.recipe.save(tmp_path / "found.yaml")
    again = Recipe.load(tmp_path / "found.yaml").override(["epochs=1"])
    assert train(again, tmp_path / "run", device="cpu", data=digits).last["epoch"] == 1


def test_the_search_repeats(teacher_file, digits):
    recipe = make_recipe(teacher_file)
    runs = [search_process(recipe, epochs=1, device="cpu", data=digits).shares for _ in range(2)]
    assert torch.equal(*runs)


def test_says_what_is_wrong(teacher_file):
    with pytest.raises(PursuhintError, match="no loss with pathways to search"):
        search_process(make_recipe(teacher_file, {"at": None}), device="cpu")
    with pytest.raises(PursuhintError, match="held_out must be above 0 and below 1, got 1"):
        search_process(make_recipe(teacher_file), held_out=1.0)
    with pytest.raises(PursuhintError, match="digits has no validation split"):
        search_process(make_recipe(teacher_file), data=load_dataset("digits"), device="cpu")
    chosen = make_recipe(teacher_file).override(["hints.strategy=chosen", "hints.points=[]", "hints.k=2"])
    with pytest.raises(PursuhintError, match="are still to be chosen"):
        search_process(chosen, device="cpu")


def test_command_writes_the_recipe(teacher_file, tmp_path, capsys):
    from pursuhint.cli.main import run

    make_recipe(teacher_file).save(tmp_path / "recipe.yaml")
    out = tmp_path / "found.yaml"
    words = ["pathways", "--recipe", tmp_path / "recipe.yaml", "--search-epochs", 1, "--out", out, "--json"]
    with pytest.raises(SystemExit) as stop:
        run([*map(str, words), "--device", "cpu", "--quiet"])
    assert not stop.value.code
    printed = json.loads(capsys.readouterr().out)
    assert sum(row["share"] for row in printed["pathways"]) == pytest.approx(1)
    assert len(Recipe.load(out).losses["distpro"].options["process"]) == 1
