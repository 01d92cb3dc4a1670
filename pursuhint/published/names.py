"""Our names of data, networks and losses as papers print them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

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


def with_variants(title: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """A loss and the methods that its options make of it.

    Args:
        title: of the loss.
        options: its hyperparameters. A learned temperature is CTKD (of KD) or adds it, standardized logits
            add LS, logit standardization.

    Returns:
        ``("CTKD",)`` for KD with a learned temperature, ``("DKD", "LS")`` for DKD with standardized logits.
    """
    learned = options.get("temperature") == "learned"
    parts = ["CTKD" if learned and title == "KD" else title]
    if learned and title != "KD":
        parts.append("CTKD")
    if options.get("standardize"):
        parts.append("LS")
    return tuple(parts)


def published_method(losses: Collection[str], *, optimizer: str = "sgd") -> str:
    """Losses by name as a method: ``{"at", "kd"}`` as ``AT+KD``; ``vanilla`` for cross-entropy alone.

    Args:
        losses: their names; a mapping from names to hyperparameters tells variants apart (`with_variants`).
        optimizer: the recipe's; ``"dot"`` is a method of its own beside any loss: ``KD+DOT``.
    """
    options = losses if isinstance(losses, Mapping) else {}
    found = [
        with_variants(_METHODS.get(name, name if ":" in name else name.upper()), options.get(name, {}))
        for name in losses
        if name != "ce"
    ]
    names = sorted({parts[0] for parts in found}, key=lambda name: (name == "KD", name))
    variants = sorted({part for parts in found for part in parts[1:]} - set(names))
    dot = ["DOT"] if found and optimizer == "dot" else []
    return "+".join([*names, *variants, *dot]) or "vanilla"


def method_parts(method: str) -> frozenset[str]:
    """What tells methods apart, however a paper orders and spells them: ``PURSUhInT AT+KD`` as {AT, KD}."""
    plain = re.sub(r"\(.*?\)|^PURSUhInT ", "", method).upper()
    return frozenset(_SYNONYMS.get(part.strip(), part.strip()) for part in plain.split("+"))
