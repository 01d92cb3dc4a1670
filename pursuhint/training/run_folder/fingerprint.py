"""Compare a run folder with the requested run, so that only the same run resumes in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pursuhint._util.atomic_files import read_json
from pursuhint._util.fingerprint import flatten_keys
from pursuhint._util.output_folder import claim_folder
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import Recipe

# Keys that do not affect results: location, speed, saving, logging.
_MAY_DIFFER = frozenset({"data.root", "data.download", "data.workers", "save_every_steps", "trackers"})
_LEFTOVERS = ("metrics.jsonl", "state", "student.safetensors", "best.safetensors", "result.json")


def check_same_run(folder: Path, recipe: Recipe, inputs: Mapping[str, str]) -> bool:
    """Check whether a folder holds the run that is about to be written into it.

    Args:
        folder: the run folder; it need not exist.
        recipe: complete, as `resolve_recipe` returns it.
        inputs: by name, fingerprints of networks and data that the recipe does not contain.

    Returns:
        True if the folder holds this run, finished or not; False if it holds none.

    Raises:
        PursuhintError: it holds a different run; the message names the differing keys.
    """
    path = folder / "recipe.yaml"
    if not path.exists():
        if any((folder / name).exists() for name in _LEFTOVERS):
            raise PursuhintError(f"{folder} holds results but no recipe.yaml; choose another folder (--out)")
        claim_folder(folder, "run")
        return False
    claim_folder(folder, "run")
    there, here = flatten_keys(Recipe.read(path).to_dict()), flatten_keys(recipe.to_dict())
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
