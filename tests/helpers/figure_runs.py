"""Runs that figures of the papers are drawn from, trained for a moment."""

from __future__ import annotations

from pathlib import Path

from pursuhint.training import train
from tests.helpers.study_runs import recipe, write_teacher

SUBSET = {"name": "digits", "train_samples": 100}


def two_weights(folder: Path) -> list[Path]:
    """Two students of one teacher (``resnet14.safetensors``) that differ in the weight of a loss."""
    weights = write_teacher(folder)
    runs = []
    for weight in (10.0, 100.0):
        losses = {"ce": 1.0, "kd": 0.9, "at": weight}
        runs.append(folder / f"at-{weight:g}")
        train(recipe(weights, losses=losses, data=SUBSET), runs[-1], device="cpu")
    return runs
