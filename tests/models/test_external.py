"""Networks of torchvision, of timm and of the user."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model, evaluate
from pursuhint.models.factory import call_factory
from pursuhint.training import Recipe, train

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is an extra")

OWN_CODE = """
from torch import nn

def small(num_classes, in_channels, hidden=4):
    return nn.Sequential(nn.Conv2d(in_channels, hidden, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def fixed():
    return nn.Linear(64, 10)

def anything(**keywords):
    network = nn.Identity()
    network.keywords = keywords
    return network

def demanding(depth, *, num_classes):
    return nn.Linear(depth, num_classes)

def wrong():
    return "a string"

from pathlib import Path
from subprocess import call as borrowed
from os import system as builtin

def annotated() -> int:
    raise AssertionError("called")

def promised(num_classes) -> "nn.Linear":
    return nn.Linear(2, num_classes)

class Own(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(2, num_classes)

from functools import partial as _partial
shortened = _partial(small, hidden=2)

def broken():
    raise RuntimeError("inside")

network = nn.Linear(2, 2)
number = 3
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "pursuhint_own_networks"
    (tmp_path / f"{name}.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize("name", ["resnet34", "mobilenet_v2"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_torchvision(name: str, in_channels: int) -> None:
    network = create_model(f"torchvision:{name}", num_classes=7, in_channels=in_channels).eval()
    assert network(torch.zeros(2, in_channels, 64, 64)).shape == (2, 7)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    expected = (2 / (first.out_channels * 9)) ** 0.5 if name == "mobilenet_v2" else (2 / (64 * 49)) ** 0.5
    assert float(first.weight.detach().std()) == pytest.approx(
        expected, rel=0.15
    )  # He, whatever the channels


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvision_networks_put_out_a_tensor_in_training_too(name: str) -> None:
    with torch.device("meta"):
        network = create_model(f"torchvision:{name}", num_classes=3)
        assert network.train()(torch.zeros(2, 3, 96, 96)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet35", {}, "no classification network 'resnet35'; did you mean .*'resnet34'"),
        ("fasterrcnn_resnet50_fpn", {}, "no classification network"),
        ("resnet18", {"weights": "DEFAULT"}, "weights would fetch weights; give a checkpoint file"),
        ("resnet18", {"wdth": 2}, "torchvision:resnet18 cannot be built with wdth"),
        ("resnet18", {"width_per_group": 32}, "cannot be built with width_per_group: BasicBlock only"),
    ],
)
def test_torchvision_errors(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        create_model(f"torchvision:{name}", num_classes=2, **options)


def test_other_channels_need_a_first_convolution_to_replace() -> None:
    from pursuhint.models.external import _replace_first_convolution

    for network in (nn.Linear(3, 3), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1))):
        with pytest.raises(PursuhintError, match=r"does not start with a convolution of 3 channels.* take 5"):
            _replace_first_convolution("name", network, 5)


@needs_timm
def test_timm() -> None:
    network = create_model("timm:resnet10t", num_classes=7, in_channels=2).eval()
    assert network(torch.zeros(2, 2, 32, 32)).shape == (2, 7)


@needs_timm
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnext_tinyy", {}, "timm has no network 'convnext_tinyy'; did you mean 'convnext_tiny'"),
        ("hf-hub:someone/something", {}, "timm has no network 'hf-hub:someone/something'"),
        ("resnet10t", {"pretrained": True}, "pretrained would fetch weights"),
        ("resnet10t", {"nonsense": 1}, "timm:resnet10t cannot be built with nonsense"),
    ],
)
def test_timm_errors(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        create_model(f"timm:{name}", num_classes=2, **options)


@needs_timm
def test_a_transformer_that_asserts_its_image_size_loads_and_is_refused_on_others(tmp_path: Path) -> None:
    """Its weights fit one size: that of the resized images, which the run keeps."""
    sizes = {"img_size": 12, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 3}
    settings: dict[str, Any] = {
        "student": {"network": "timm:vit_tiny_patch16_224", "options": sizes},
        "data": {"name": "digits", "train_samples": 64, "image_size": 12},
        "losses": {"ce": 1.0},
        "epochs": 1,
    }
    run = train(Recipe.from_dict(settings), tmp_path / "run", device="cpu")
    student = run.load_student()
    data = run.load_data()
    assert data.image_size == (12, 12)
    assert evaluate(student, data).top1 == pytest.approx(run.metrics[-1]["test_top1"])
    digits = replace(load_dataset("digits"), normalization_source=data.normalization_source)
    where = r"cannot run on input of shape \(\d+, 1, 8, 8\) \(in its module 'patch_embed'\).*--image-size"
    with pytest.raises(PursuhintError, match=where):
        evaluate(student, digits)
    settings["data"] = {"name": "digits", "train_samples": 64}
    with pytest.raises(PursuhintError, match=where):
        train(Recipe.from_dict(settings), tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()


def test_timm_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    really_import = builtins.__import__

    def without_timm(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return really_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_timm)
    with pytest.raises(PursuhintError, match=r"needs timm: pip install 'pursuhint\[timm\]'"):
        create_model("timm:resnet10t", num_classes=2)


def test_own_factory_gets_what_it_takes(own_code: str) -> None:
    network = create_model(f"{own_code}:small", num_classes=6, in_channels=2, hidden=3)
    assert network(torch.zeros(1, 2, 8, 8)).shape == (1, 6)
    assert network[0].out_channels == 3
    assert isinstance(create_model(f"{own_code}:fixed", num_classes=6), nn.Linear)
    network = create_model(f"{own_code}:anything", num_classes=6, in_channels=2, extra="x")
    assert network.keywords == {"num_classes": 6, "in_channels": 2, "extra": "x"}
    assert create_model(f"{own_code}:demanding", num_classes=6, depth=5).in_features == 5


@pytest.mark.parametrize(
    ("attribute", "options", "message"),
    [
        ("smal", {}, "has no 'smal'; did you mean 'small'"),
        ("small", {"hiden": 2}, "small has no option 'hiden'; did you mean 'hidden'?"),
        ("small", {"num_classes_": 2}, "has no option 'num_classes_'"),
        ("demanding", {}, "demanding needs the option 'depth'"),
        ("wrong", {}, "wrong returned a str, not a torch.nn.Module"),
        ("network", {}, "network is a network, not a function or class that builds a network"),
        ("number", {}, "number is a int, not a function"),
        ("", {}, "is not of the form package.module:factory"),
        ("Path", {}, "is the class Path, not a subclass of torch.nn.Module"),
        ("borrowed", {}, "comes from subprocess, not from pursuhint_own_networks"),
        ("builtin", {}, "is a builtin_function_or_method, not a subclass"),
        ("annotated", {}, "returns a int, as its annotation says, not a network"),
    ],
)
def test_own_factory_errors(own_code: str, attribute: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        create_model(f"{own_code}:{attribute}", num_classes=6, **options)


@pytest.mark.parametrize("attribute", ["promised", "Own"])
def test_annotated_functions_and_classes_are_factories(own_code: str, attribute: str) -> None:
    assert create_model(f"{own_code}:{attribute}", num_classes=6).out_features == 6


def test_a_shortened_factory_is_one(own_code: str) -> None:
    assert create_model(f"{own_code}:shortened", num_classes=6)[0].out_channels == 2


@pytest.mark.parametrize("module", ["pursuhint_nowhere.networks", ".relative", "double..dot"])
def test_own_module_that_cannot_be_imported(module: str) -> None:
    with pytest.raises(PursuhintError, match=r"cannot import .*; is its folder on PYTHONPATH\?"):
        create_model(f"{module}:factory", num_classes=2)


def test_opaque_factories_say_so() -> None:
    with pytest.raises(PursuhintError, match="dict does not say what it takes"):
        call_factory("dict", dict, {}, {})


def test_an_error_inside_own_code_keeps_its_traceback(own_code: str) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        create_model(f"{own_code}:broken", num_classes=2)
