"""Which key of a recipe an option of the command line gives."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["RECIPE_KEYS", "whole_key"]

RECIPE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "student": "student.network",
        "student_checkpoint": "student.checkpoint",
        "teacher": "teacher.network",
        "teacher_checkpoint": "teacher.checkpoint",
        "checkpoint_key": "teacher.checkpoint_key",
        "new_head": "teacher.new_head",
        "data": "data.name",
        "data_root": "data.root",
        "tokenizer": "data.text.tokenizer",
        "download": "data.download",
        "image_size": "data.image_size",
        "image_channels": "data.channels",
        "image_normalize": "data.normalize",
        "exif": "data.exif",
        "val_fraction": "data.val_fraction",
        "workers": "data.workers",
        "train_samples": "data.train_samples",
        "only_classes": "data.classes",
        "lr": "optimizer.lr",
        "epochs": "epochs",
        "batch_size": "batch_size",
        "precision": "precision",
        "seed": "seed",
        "save_every_steps": "save_every_steps",
        "k": "hints.k",
        "position": "hints.position",
        "activation": "hints.activation",
        "samples": "hints.samples",
        "max_samples": "hints.max_samples",
        "stable_at": "hints.stable_at",
    }
)
"""By parameter of a command."""

_SHORT = {"student": "network", "teacher": "network", "data": "name"}


def whole_key(assignment: str) -> str:
    """The key of ``KEY=VALUE``, in full: ``data`` is ``data.name``, ``losses.at`` the weight of AT."""
    from pursuhint.losses import ALIASES

    key = assignment.partition("=")[0].strip()
    parts = key.split(".")
    if len(parts) == 1 and key in _SHORT:
        return f"{key}.{_SHORT[key]}"
    if parts[0] == "losses" and len(parts) > 1:
        parts[1] = ALIASES.get(parts[1], parts[1])
        if len(parts) == 2:
            parts.append("weight")
    return ".".join(parts)
