"""Recipes shipped with the package: one YAML file each, settings and sources of the papers inside."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from pursuhint.tables import lookup

__all__ = ["RECIPES", "recipe_text"]

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "digits-vanilla": "a small network alone on the digits, for first tries",
        "digits-pursuhint": "AT + KD at chosen hint points on the digits, for first tries",
        "cifar100-vanilla": "a network alone on CIFAR-100",
        "cifar100-kd": "KD on CIFAR-100, as in the benchmark of Tian et al.",
        "cifar100-skd": "spherical KD on CIFAR-100",
        "cifar100-at": "attention transfer on CIFAR-100, as in the benchmark of Tian et al.",
        "cifar100-fitnet": "FitNet on CIFAR-100, as in the benchmark of Tian et al.",
        "cifar100-vid": "VID on CIFAR-100, as in the benchmark of Tian et al.",
        "pursuhint-pre-at": "PURSUhInT, pre-activation AT + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-pre-fitnet": "PURSUhInT, pre-activation FitNet + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-pre-vid": "PURSUhInT, pre-activation VID + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-post-resnet110": "PURSUhInT, post-activation AT + KD, resnet110 -> resnet20, CIFAR-100",
        "pursuhint-post-resnet32x4": "PURSUhInT, post-activation AT + KD, resnet32x4 -> resnet8x4, CIFAR-100",
        "pursuhint-post-wrn-40-2": "PURSUhInT, post-activation AT + KD, WRN-40-2 -> WRN-16-2, CIFAR-100",
        "imagenet-pursuhint": "PURSUhInT, AT (p = 1) + KD, ResNet-34 -> ResNet-18 on ImageNet",
    }
)
"""Name of every shipped recipe and what it is for; the file is ``NAME.yaml`` beside this one."""


def recipe_text(name: str) -> str:
    """The YAML text of a shipped recipe, comments included.

    Raises:
        PursuhintError: there is none of that name; the message suggests the closest ones.
    """
    lookup("recipe", RECIPES, name)
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
