"""Compare a run folder with the requested run, so that only the same run resumes in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pursuhint._util.fingerprint import flatten_keys
from pursuhint._util.output_folder import claim_folder
from pursuhint._util.replace_folder import DifferentResult
from pursuhint.data import TextData
from pursuhint.data.fingerprint import DataFingerprint, fingerprint_split
from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.files import read_environment

if TYPE_CHECKING:
    from pursuhint.data import ImageData, InputData

# Keys that do not affect results: location, speed, saving, logging.
_MAY_DIFFER = frozenset({"data.root", "data.download", "data.workers", "save_every_steps", "trackers"})
_LEFTOVERS = ("metrics.jsonl", "state", "student.safetensors", "best.safetensors", "result.json")


def check_same_run(
    folder: Path, recipe: Recipe, inputs: Mapping[str, str], data: ImageData | InputData | None = None
) -> bool:
    """Check whether a folder holds the run that is about to be written into it.

    A checkpoint is known by its content, and a folder of images by its fingerprint: the same files at another
    place are the same. Until the data are loaded, any folder of images passes; see `data_moved`.

    Args:
        folder: the run folder; it need not exist.
        recipe: complete, as `resolve_recipe` returns it.
        inputs: by name, fingerprints of networks and data that the recipe does not contain.
        data: of the run that is about to be written, if they are loaded.

    Returns:
        True if the folder holds this run, finished or not; False if it holds none.

    Raises:
        PursuhintError: it holds a different run; the message names the differing keys, or what differs in the
            data (`DifferentResult`), or something else.
    """
    path = folder / "recipe.yaml"
    if not path.exists():
        if any((folder / name).exists() for name in _LEFTOVERS):
            raise PursuhintError(f"{folder} holds results but no recipe.yaml; choose another folder (--out)")
        claim_folder(folder, "run")
        return False
    claim_folder(folder, "run")
    there, here = (flatten_keys(completed(one).to_dict()) for one in (Recipe.read(path), recipe))
    environment = folder / "environment.json"
    described = read_environment(folder) if environment.exists() else {}
    known = described.get("inputs", {})
    may_differ = {f"{role}.checkpoint" for role in ("student", "teacher") if role in known and role in inputs}
    if both_folders(there.get("data.name"), here["data.name"]) and "fingerprint" in described.get("data", {}):
        may_differ.add("data.name")
    keys = [
        key
        for key in dict.fromkeys([*there, *here])
        if key not in _MAY_DIFFER | may_differ and there.get(key) != here.get(key)
    ]
    if "passed" in keys:
        raise PursuhintError(
            f"{folder} holds a different run, with {'; '.join(there.get('passed') or ['nothing'])} passed "
            f"from Python, and here are {'; '.join(here.get('passed') or ['none of these'])}; pass the same, "
            "or choose another folder (--out)"
        )
    if keys:
        shown = ", ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in keys[:3])
        more = f" and {len(keys) - 3} more keys differ" if len(keys) > 3 else ""
        advice = "choose another folder (--out), or replace it (--overwrite)"
        if keys == ["epochs"]:
            advice += "; a run cannot be prolonged, since its learning rates follow from its length"
        raise DifferentResult(f"{folder} holds a different run: {shown}{more}; {advice}")
    if data is not None and (change := data_difference(described.get("data", {}), data)) is not None:
        raise DifferentResult(
            f"{folder} holds a different run: {data.name} has changed since: {change}; put the data back, or "
            "choose another folder (--out)"
        )
    for name, value in inputs.items():
        if known.get(name, value) != value:
            raise DifferentResult(
                f"{folder} holds a different run: the {name} has changed since; choose another folder (--out)"
            )
    return True


def completed(recipe: Recipe) -> Recipe:
    """A stored recipe with the hyperparameters that its losses have got since.

    Raises:
        PursuhintError: a loss is unknown.
    """
    losses = {
        name: loss.model_copy(update={"options": {**_defaults(name), **loss.options}})
        for name, loss in recipe.losses.items()
    }
    return recipe.model_copy(update={"losses": losses})


def _defaults(name: str) -> dict[str, Any]:
    """Defaults of the hyperparameters of a loss of the table; none of one that was passed from Python."""
    known = {} if name.startswith("python:") else get_loss(name).hyperparameters()
    return {key: value for key, value in known.items() if value is not inspect.Parameter.empty}


def both_folders(there: Any, here: Any) -> bool:
    """Whether two names of data sets are folders of images, or texts, which may have been moved."""
    return any(all(str(name).startswith(kind) for name in (there, here)) for kind in ("folder:", "text:"))


def data_moved(folder: Path, recipe: Recipe) -> bool:
    """Whether the run in a folder names its data otherwise, so that only the data can say if they differ.

    Args:
        folder: of a run that `check_same_run` accepted.
        recipe: of the run that is about to be written.
    """
    return Recipe.read(folder / "recipe.yaml").data.name != recipe.data.name


def describe_data(data: ImageData | InputData) -> dict[str, Any]:
    """The data of a run as ``environment.json`` keeps them: sizes, classes, preprocessing and fingerprint."""
    return {
        **({"vocab_size": data.vocab_size, "tokens": data.tokens} if isinstance(data, TextData) else {}),
        "name": data.name,
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "in_channels": None if data.preprocessing is None else data.preprocessing.channels,
        "preprocessing": None if data.preprocessing is None else data.preprocessing.to_dict(),
        "image_size": None if data.preprocessing is None else list(data.preprocessing.size),
        "samples": {name: len(split) for name, split in data.splits.items()},
        "fingerprint": DataFingerprint.of(data).to_dict(),
        "notes": list(data.notes),
    }


def data_difference(
    described: Mapping[str, Any], data: ImageData | InputData, split: str | None = None
) -> str | None:
    """What distinguishes the data now from those of a run, in words; None if nothing does.

    Args:
        described: as `describe_data` gave it; runs of older versions have no fingerprint.
        data: the data now.
        split: look at this split only, not at classes and preprocessing.

    Raises:
        PursuhintError: the description is damaged, or an image file cannot be read.
    """
    if "fingerprint" not in described:
        return None
    try:
        before = DataFingerprint.from_dict(described["fingerprint"], tuple(described["class_names"]))
    except (KeyError, TypeError, AttributeError):
        raise PursuhintError("environment.json is damaged: data.fingerprint is not valid") from None
    if split is None:
        return before.difference(DataFingerprint.of(data))
    if split not in before.splits:
        return None
    change = before.splits[split].difference(fingerprint_split(data.split(split)))
    return None if change is None else f"the {split} split {change}"
