"""Sizes that no network has are refused before anything is built; those that real networks have are built."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.factory import call_factory
from pursuhint.models.resnet import CifarResNet
from pursuhint.training import Recipe


def recipe(**changes: Any) -> Recipe:
    return Recipe.from_dict({"student": "resnet8", **changes})


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: create_model("wrn_6000004_1", num_classes=2), "depth"),
        (lambda: create_model("wrn_16_100000", num_classes=2), "width"),
        (lambda: CifarResNet(8000002, num_classes=2), "depth"),
        (lambda: create_model("MobileNetV2", num_classes=2, width=1e6), "width"),
        (lambda: create_model("MobileNetV1", num_classes=2, width=1e6), "width"),
        (lambda: create_model("resnet8", num_classes=10**12), "num_classes"),
        (lambda: create_model("resnet8", num_classes=2, in_channels=10**9), "in_channels"),
        (
            lambda: create_model("torchvision:vgg11", num_classes=2, dropout=0.5, in_channels=10**9),
            "in_channels",
        ),
        (lambda: recipe(teacher={"network": "resnet8", "num_classes": 10**12}), "num_classes"),
        (lambda: recipe(data={"name": "digits", "image_size": 100_000}), "image_size"),
        (lambda: load_dataset("digits", image_size=100_000), "image_size"),
        (lambda: load_dataset("digits").resized(16_000), "16000 x 16000 pixels take"),
    ],
)
def test_a_size_beyond_all_networks_is_one_line_at_once(build: Callable[[], object], named: str) -> None:
    started = time.process_time()
    with pytest.raises(PursuhintError, match=named) as refused:
        build()
    assert "\n" not in str(refused.value)
    assert time.process_time() - started < 5


def test_a_network_that_does_not_fit_into_memory_is_one_line() -> None:
    from torch import nn

    with pytest.raises(PursuhintError, match=r"huge does not fit into memory .*out_features=1099511627776"):
        call_factory("huge", nn.Linear, {"in_features": 1 << 20, "out_features": 1 << 40}, {})


def test_control_large_networks_that_exist_are_built() -> None:
    assert create_model("wrn_16_10", num_classes=21_841).bn1.num_features == 640
    assert len(CifarResNet(1202, num_classes=2).layer1) == 200
    assert recipe(data={"name": "digits", "image_size": 1024}).data.image_size == 1024


def test_control_other_errors_of_a_factory_stay_what_they_are() -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        call_factory("broken", broken, {}, {})
