"""Small comparisons that train in seconds."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pursuhint.data import ImageData, load_dataset
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import Recipe


def few_digits(train: int = 128, test: int = 64) -> ImageData:
    """Some of the digits, as a user's own data."""
    digits = load_dataset("digits")
    return ImageData.from_tensors(
        "few-digits",
        train=(digits.train.images[:train], digits.train.labels[:train]),
        test=(digits.test.images[:test], digits.test.labels[:test]),
        num_classes=10,
        augmentation=digits.augmentation,
    )


def untrained(name: str, seed: int = 7) -> nn.Module:
    """A network for grey images of ten classes; what it has learnt does not matter here."""
    torch.manual_seed(seed)
    return create_model(name, num_classes=10, in_channels=1)


def write_teacher(folder: Path, name: str = "resnet14") -> Path:
    path = folder / f"{name}.safetensors"
    save_weights(untrained(name), path)
    return path


def recipe(weights: Path, **changes: object) -> Recipe:
    """One epoch of a resnet8 with a teacher."""
    values = {
        "student": "resnet8",
        "teacher": {"network": weights.stem, "checkpoint": str(weights)},
        "losses": {"ce": 1.0, "kd": 0.9, "at": 100.0},
        "schedule": "constant",
        "epochs": 1,
        "batch_size": 64,
    }
    return Recipe.from_dict({**values, **changes})
