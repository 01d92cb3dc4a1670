"""Settings of speed and of augmentation, in whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pursuhint.acceleration.inference_copy import inference_copy
from pursuhint.acceleration.options import Acceleration
from pursuhint.distillation.teacher_fsdp import check_shardable
from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe
from pursuhint.training.final_plan import analyze_teacher
from pursuhint.training.prepare_training import prepare
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.stages import build_optimizer
from tests.helpers.interrupted_runs import assert_same, interrupt_at, train

MakeRecipe = Callable[..., Recipe]
EVERYTHING = "standard,trivial,affine,color,cutout,mixup,cutmix"


def losses_of(recipe: Recipe, folder: Path) -> list[float]:
    record = train(recipe, folder)
    return [epoch["train_loss"] for epoch in record.metrics]


def test_the_recipe_has_the_settings_of_the_engine() -> None:
    recipe = Recipe.from_dict({"student": "resnet8"})
    assert recipe.acceleration == Acceleration()
    changed = recipe.override(["acceleration.teacher_precision=bf16", "acceleration.keep_memory=false"])
    assert changed.acceleration == Acceleration(teacher_precision="bf16", keep_memory=False)
    assert Recipe.from_yaml(changed.dump()) == changed


@pytest.mark.parametrize(
    ("acceleration", "message"),
    [
        ({"fuse_batchnor": True}, "unknown key 'acceleration.fuse_batchnor'; did you mean 'fuse_batchnorm'?"),
        ({"compile": "al"}, "'acceleration.compile' has no choice 'al'; did you mean 'all'?"),
        ({"winograd": "perhaps"}, "'acceleration.winograd' must be a valid boolean"),
        (5, "'acceleration' must be a mapping of keys to values, got 5"),
        ({"shard_teacher": True, "compile": "teacher"}, "acceleration.shard_teacher does not go with"),
    ],
)
def test_settings_that_make_no_sense_are_refused(acceleration: object, message: str) -> None:
    with pytest.raises(PursuhintError) as raised:
        Recipe.from_dict({"student": "resnet8", "acceleration": acceleration})
    assert message in str(raised.value)


def test_fused_optimisers_take_the_steps_of_the_others(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    for name in ("sgd", "adamw"):
        config = recipe.optimizer.model_copy(update={"name": name, "nesterov": name == "sgd"})
        weights = []
        for fused in (True, False):
            parameter = torch.nn.Parameter(torch.linspace(-1, 1, 9, dtype=torch.float64))
            optimizer = build_optimizer(config, [parameter])
            assert optimizer.defaults["fused"]
            if not fused:
                kind, settings = type(optimizer), {**optimizer.defaults, "fused": False}
                known = kind.__init__.__code__.co_varnames
                optimizer = kind([parameter], **{key: settings[key] for key in settings if key in known})
            for step in range(4):
                optimizer.zero_grad()
                (parameter.square() * (step + 1)).sum().backward()
                optimizer.step()
            weights.append(parameter.detach())
        torch.testing.assert_close(*weights, rtol=1e-12, atol=1e-12)


def test_settings_that_are_equal_mathematics_give_the_same_first_epoch(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    plain = {"channels_last": False, "fuse_batchnorm": False}
    small = {"epochs": 1, "batch_size": 100, "optimizer": {"lr": 1e-3}, "schedule": "constant"}
    expected = losses_of(make_recipe(acceleration=plain, **small), tmp_path / "plain")
    found = losses_of(make_recipe(**small), tmp_path / "fast")
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_cached_teacher_says_what_it_would_have_said(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    small = {"epochs": 2, "batch_size": 100, "data": {"augment": "none"}, "optimizer": {"lr": 1e-3}}
    small |= {"schedule": "constant"}
    expected = losses_of(make_recipe(**small), tmp_path / "plain")
    found = losses_of(make_recipe(acceleration={"cache_teacher": True}, **small), tmp_path / "kept")
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_teacher_that_sees_changing_images_cannot_be_cached(make_recipe: MakeRecipe) -> None:
    with pytest.raises(PursuhintError, match=r"cache_teacher needs images.*data\.augment is standard"):
        make_recipe(acceleration={"cache_teacher": True})


def test_a_teacher_that_cannot_be_sharded_is_refused_before_anything_is_written(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(acceleration={"shard_teacher": True})
    with pytest.raises(PursuhintError, match=r"acceleration\.shard_teacher .* here is one; launch several"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(PursuhintError, match="loss 'jacobian-attention' differentiates the teacher"):
        check_shardable(["kd", "jacobian-attention"], processes=2)
    with pytest.raises(
        PursuhintError, match=r"shard_teacher does not go with acceleration\.compile=networks"
    ):
        Acceleration(shard_teacher=True, compile="networks")


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"augment": EVERYTHING}},
        {"data": {"augment": "none"}, "acceleration": {"cache_teacher": True}},
        {"precision": "bf16"},
        {"acceleration": {"teacher_precision": "bf16"}},
    ],
    ids=["every augmentation", "cached teacher", "bfloat16", "teacher in bfloat16"],
)
def test_a_resumed_run_equals_the_uninterrupted_one(
    make_recipe: MakeRecipe, tmp_path: Path, changes: dict
) -> None:
    changes = {**changes, "data": {"name": "digits", **changes.get("data", {})}}
    recipe = make_recipe(epochs=2, batch_size=64, **changes)
    train(recipe, tmp_path / "whole")
    interrupt_at(recipe, tmp_path / "stopped", "EpochFinished", 1)
    train(recipe, tmp_path / "stopped")
    assert_same(tmp_path / "stopped", tmp_path / "whole")


def test_names_of_augmentations(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe().override(["data.augment=affine,mixup"])
    assert recipe.data.augment == ("affine", "mixup")
    assert make_recipe().override(["data.augment=none"]).data.augment == ()
    with pytest.raises(PursuhintError, match="no augmentation named 'mixupp'; did you mean 'mixup'"):
        make_recipe(data={"augment": ["mixupp"]})


def test_losses_that_remember_samples_refuse_mixed_images(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(data={"name": "digits", "augment": ["mixup"]}, losses={"crd": None})
    with pytest.raises(PursuhintError, match="CRD remembers samples by their index"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="default"),
        pytest.param({"fuse_batchnorm": False}, id="not fused"),
        pytest.param({"channels_last": False}, id="default layout"),
        pytest.param({"fuse_batchnorm": False, "channels_last": False}, id="as written"),
    ],
)
def test_the_analysis_of_a_run_or_study_obeys(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, settings: dict[str, bool]
) -> None:
    """By the copy that the pass runs, and the layout of the maps that its convolutions see."""
    copies: list[nn.Module | None] = []
    layouts: set[bool] = set()

    def noticed(*arguments: Any, **options: Any) -> nn.Module | None:
        copied = inference_copy(*arguments, **options)
        for part in () if copied is None else copied.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_pre_hook(lambda _, given: layouts.add(given[0].is_contiguous()))
        copies.append(copied)
        return copied

    monkeypatch.setattr("pursuhint.analysis.collection.inference_copy", noticed)
    hints = {"strategy": "chosen", "k": 2, "samples": 60}
    recipe = resolve_recipe(make_recipe(acceleration=settings, hints=hints))
    parts = prepare(recipe)
    assert recipe.hints is not None
    analysis = analyze_teacher(
        recipe,
        parts,
        metrics=("cka",),
        selection=recipe.hints.selection,
        device=torch.device("cpu"),
        accuracy=None,
    )
    said = analysis.provenance.arguments
    assert {name: said.get(name, True) for name in ("fuse_batchnorm", "channels_last")} == {
        "fuse_batchnorm": True, "channels_last": True, **settings
    }  # fmt: skip
    (copied,) = copies
    if len(settings) == 2:
        assert copied is None
    else:
        assert copied is not None
        fused = not any(isinstance(part, nn.BatchNorm2d) for part in copied.modules())
        assert fused == settings.get("fuse_batchnorm", True)
        assert (False in layouts) == settings.get("channels_last", True)
