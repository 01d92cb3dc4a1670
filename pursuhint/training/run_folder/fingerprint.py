"""Is this the same run? What a run folder was made from, compared with what is asked for now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.atomic_files import read_json
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import Recipe

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import ImageData

__all__ = ["fingerprint_data", "fingerprint_network"]

# They decide where, how fast and who watches, not what comes out.
_MAY_DIFFER = frozenset({"data.root", "data.download", "data.workers", "save_every_steps", "trackers"})
_LEFTOVERS = ("metrics.jsonl", "state", "student.safetensors", "best.safetensors", "result.json")


def check_same_run(folder: Path, recipe: Recipe, inputs: Mapping[str, str]) -> bool:
    """Compare a folder with the run that is to be written into it.

    Args:
        folder: the run folder, which need not exist.
        recipe: complete, as `resolve_recipe` returns it.
        inputs: fingerprints of what the recipe does not contain, by name.

    Returns:
        True if the folder holds this very run, finished or not; False if it holds none.

    Raises:
        PursuhintError: it holds a different run; the message names the differing keys.
    """
    path = folder / "recipe.yaml"
    if not path.exists():
        if any((folder / name).exists() for name in _LEFTOVERS):
            raise PursuhintError(f"{folder} holds results but no recipe.yaml; choose another folder (--out)")
        return False
    there, here = _flat(Recipe.load(path).to_dict()), _flat(recipe.to_dict())
    keys = [
        key
        for key in dict.fromkeys([*there, *here])
        if key not in _MAY_DIFFER and there.get(key) != here.get(key)
    ]
    if keys:
        shown = ", ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in keys[:3])
        more = f" and {len(keys) - 3} more keys differ" if len(keys) > 3 else ""
        advice = "choose another folder (--out)"
        if keys == ["epochs"]:
            advice += "; a run cannot be prolonged, since its learning rates follow from its length"
        raise PursuhintError(f"{folder} holds a different run: {shown}{more}; {advice}")
    environment = folder / "environment.json"
    known = read_json(environment, "description of the run").get("inputs", {}) if environment.exists() else {}
    for name, value in inputs.items():
        if known.get(name, value) != value:
            raise PursuhintError(
                f"{folder} holds a different run: the {name} has changed since; choose another folder (--out)"
            )
    return True


def fingerprint_file(path: str | Path) -> str | None:
    """Hash of a file's content; None if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def fingerprint_network(network: nn.Module) -> str:
    """Hash of a network's parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_data(data: ImageData) -> str:
    """Hash of a data set's sizes, labels and normalisation, not of its images."""
    facts = (data.num_classes, data.in_channels, data.image_size, data.mean, data.std, data.augmentation)
    digest = hashlib.sha256(repr(facts).encode())
    for name, split in sorted(data.splits.items()):
        digest.update(name.encode())
        digest.update(split.labels.cpu().numpy().tobytes())
        digest.update(split.indices.cpu().numpy().tobytes())
    return digest.hexdigest()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
