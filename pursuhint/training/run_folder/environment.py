"""Versions, hardware and command of a run, so that it can be reproduced."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.command_line import current_command
from pursuhint._util.fingerprint import fingerprint_network
from pursuhint._util.provenance import BaseProvenance, circumstances, installed_version, now, weights_from
from pursuhint._version import __version__
from pursuhint.data.fingerprint import fingerprint_data
from pursuhint.training.recipe.schema import NetworkConfig

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import ImageData, InputData
    from pursuhint.training.recipe.schema import Recipe

__all__ = ["describe_environment"]

_PACKAGES = (
    "torch",
    "torchvision",
    "accelerate",
    "numpy",
    "safetensors",
    "timm",
    "transformers",
    "tokenizers",
)

ENVIRONMENT = "environment.json"
"""File of a run that says where, when and with what it was made."""


def describe_environment(device: torch.device, *, seed: int, processes: int = 1) -> dict[str, Any]:
    """Collect versions, device, threads, seed, git state of the working folder, command line and time.

    Nothing identifies a person: no host name, user name or environment variables.
    """
    return {
        "started": now(),
        "pursuhint": __version__,
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := installed_version(name))},
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "seed": seed,
        "git": _git_state(),
        "command": current_command(),
    }


def describe_provenance(
    recipe: Recipe, data: ImageData | InputData, *, teacher: nn.Module | None, started: str
) -> BaseProvenance:
    """Which command, network and data a run comes from.

    Args:
        recipe: resolved.
        data: of the run.
        teacher: its network; None for a student that learns alone, which is then the network named.
        started: when the run began.
    """
    config = recipe.teacher or (
        recipe.student if teacher is None else NetworkConfig(network=_passed(teacher))
    )
    return BaseProvenance(
        network=config.network,
        data=data.name,
        network_fingerprint="" if teacher is None else fingerprint_network(teacher),
        data_fingerprint=fingerprint_data(data),
        data_notes=data.notes,
        **weights_from(config.checkpoint),
        **{**circumstances(), "started": started},
    )


def _passed(network: nn.Module) -> str:
    """Name of a network that was passed from Python, as in recipes."""
    return f"python:{type(network).__name__}"


def stored_provenance(environment: Mapping[str, Any]) -> BaseProvenance | None:
    """The provenance in the content of an ``environment.json``; None where an older version wrote it."""
    found = environment.get("provenance")
    return None if found is None else BaseProvenance(**found)


def _git_state() -> dict[str, Any] | None:
    """Commit of the working folder and whether it has been changed; None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
