"""Our names of data, networks and losses as papers print them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

DATASETS: Mapping[str, str] = MappingProxyType(
    {"cifar100": "CIFAR-100", "imagenet": "ImageNet", "cub200": "CUB"}
)

_NETWORKS = {
    "ShuffleV1": "ShuffleNetV1",
    "ShuffleV2": "ShuffleNetV2",
    "torchvision:resnet18": "ResNet18",
    "torchvision:resnet34": "ResNet34",
    "torchvision:resnet50": "ResNet50",
}

_OWN = {
    "ShuffleNetV1": "ShuffleV1",
    "ShuffleNetV2": "ShuffleV2",
}

_OWN_IMAGENET = {
    "ResNet18": "torchvision:resnet18",
    "ResNet34": "torchvision:resnet34",
    "ResNet50": "torchvision:resnet50",
    "MobileNet": "timm:mobilenetv1_100",
}

_METHODS = {
    "kd": "KD",
    "fitnet": "FitNet",
    "wsld": "WSLD",
    "semckd": "SemCKD",
    "reviewkd": "ReviewKD",
    "simkd": "SimKD",
    "distpro": "DistPro",
    "wcord": "WCoRD",
    "refilled": "REFILLED",
    "jacobian": "Jacobian",
    "ofd": "OFD",
    "norm": "NORM",
    "vkd": "VkD",
}

_SYNONYMS = {"WSL": "WSLD", "OVERHAUL": "OFD"}  # in capitals


def published_network(name: str) -> str:
    """``wrn_40_2`` as ``WRN-40-2``, ``torchvision:resnet34`` as ``ResNet34``; others are called the same."""
    if wide := re.fullmatch(r"wrn_(\d+)_(\d+)", name, re.IGNORECASE):
        return f"WRN-{wide[1]}-{wide[2]}"
    return _NETWORKS.get(name, name)


def own_network(published: str, dataset: str) -> str:
    """Our name of a network that a table of results on a data set names."""
    if wide := re.fullmatch(r"WRN-(\d+)-(\d+)", published):
        return f"wrn_{wide[1]}_{wide[2]}"
    return (_OWN_IMAGENET if dataset == "ImageNet" else _OWN).get(published, published)


def published_method(losses: Iterable[str]) -> str:
    """Losses by name as a method: ``{"at", "kd"}`` as ``AT+KD``; ``vanilla`` for cross-entropy alone."""
    names = sorted(_METHODS.get(name, name.upper()) for name in losses if name != "ce")
    return "+".join([name for name in names if name != "KD"] + [name for name in names if name == "KD"]) or (
        "vanilla"
    )


def method_parts(method: str) -> frozenset[str]:
    """What tells methods apart, however a paper orders and spells them: ``PURSUhInT AT+KD`` as {AT, KD}."""
    plain = re.sub(r"\(.*?\)|^PURSUhInT ", "", method).upper()
    return frozenset(_SYNONYMS.get(part.strip(), part.strip()) for part in plain.split("+"))
