"""Log metrics to TensorBoard and Weights & Biases, through Accelerate."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.fingerprint import flatten_keys
from pursuhint._util.registry import lookup
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.files import read_environment

TRACKERS: Mapping[str, str] = MappingProxyType({"tensorboard": "tensorboard", "wandb": "wandb"})
"""Names of trackers and the package that each needs, which the extra of the tracker's name installs."""


def check_trackers(names: Iterable[str]) -> None:
    """Check that all trackers are known and installed.

    Raises:
        PursuhintError: a tracker is unknown, or its package is not installed.
    """
    for name in names:
        package = lookup("tracker", TRACKERS, name)
        if importlib.util.find_spec(package) is None:
            raise PursuhintError(
                f"tracker {name!r} needs the package {package}; "
                f"install it with pip install 'pursuhint[{name}]'"
            )


class Trackers:
    """The trackers of one run; created on rank 0, which writes the run folder.

    TensorBoard writes into ``tensorboard`` in the run folder. Weights & Biases logs a run with the folder's
    name, resumed when the run resumes, in the project ``WANDB_PROJECT`` or ``pursuhint``; account and server
    come from its own settings (``wandb login``, ``WANDB_MODE``).

    Args:
        names: names in `TRACKERS`; see `check_trackers`.
        folder: the run folder.
        recipe: logged as the run's configuration.
        epochs_done: epochs logged before a resumed run; TensorBoard discards entries of later epochs.

    Raises:
        PursuhintError: a tracker cannot be started.
    """

    def __init__(self, names: Iterable[str], folder: Path, recipe: Recipe, epochs_done: int = 0) -> None:
        self._trackers: dict[str, GeneralTracker] = {}
        for name in names:
            try:
                tracker = _make(name, folder, epochs_done)
                if hasattr(tracker, "start"):  # older versions of Accelerate start with the constructor
                    tracker.start()
                self._trackers[name] = tracker
                if not epochs_done:
                    tracker.store_init_configuration(_settings(recipe.to_dict()))
            except Exception as error:
                raise PursuhintError(f"cannot start the tracker {name!r}: {error}") from error

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch.

        Raises:
            PursuhintError: a tracker failed; the epoch has been saved already.
        """
        values = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        epoch = int(values.pop("epoch"))
        for name, tracker in self._trackers.items():
            try:
                tracker.log({_grouped(key): value for key, value in values.items()}, step=epoch)
            except Exception as error:
                raise PursuhintError(
                    f"the tracker {name!r} failed after epoch {epoch}, which is saved: {error}; "
                    "the same command resumes it, with other trackers or none"
                ) from error

    def close(self) -> None:
        """Flush and close all trackers."""
        while self._trackers:
            self._trackers.popitem()[1].finish()


def _make(name: str, folder: Path, epochs_done: int) -> GeneralTracker:
    if name == "tensorboard":
        make_folder(folder / name)
        return TensorBoardTracker(name, folder, purge_step=epochs_done + 1)
    made = read_environment(folder)["started"]
    identity = hashlib.blake2b(f"{folder.name} {made}".encode(), digest_size=8).hexdigest()
    project = os.environ.get("WANDB_PROJECT", "pursuhint")
    return WandBTracker(project, name=folder.name, id=identity, resume="allow", dir=str(folder))


def _grouped(key: str) -> str:
    """Rename ``train_loss`` to ``train/loss``, so that charts are grouped by split."""
    split, _, rest = key.partition("_")
    return f"{split}/{rest}" if split in ("train", "val", "test") else key


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a recipe for trackers: keys joined by dots; numbers, booleans and text as values."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in flatten_keys(recipe).items()
    }
