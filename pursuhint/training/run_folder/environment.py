"""Versions, hardware and command of a run, so that it can be reproduced."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from pursuhint._version import __version__

__all__ = ["describe_environment"]

_PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "safetensors", "timm")


def describe_environment(device: torch.device, *, seed: int, processes: int = 1) -> dict[str, Any]:
    """Collect versions, device, threads, seed, git state of the working folder, command line and time.

    Nothing identifies a person: no host name, user name or environment variables.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "pursuhint": __version__,
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "seed": seed,
        "git": _git_state(),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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
