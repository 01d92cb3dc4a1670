"""Where a result comes from: the command, the versions, the time, the network and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from pursuhint._util.command_line import current_command
from pursuhint._version import __version__

__all__ = ["BaseProvenance", "now"]


def now() -> str:
    """The present time: UTC, ISO 8601, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class BaseProvenance:
    """Where a result comes from, in plain values. Every field but the first two may be empty.

    Attributes:
        network: name of the teacher (of the student, where it was trained alone).
        data: name of the data set.
        network_fingerprint: SHA-256 of the weights and buffers of that network.
        checkpoint: file of its weights, as an absolute path.
        checkpoint_sha256: SHA-256 of that file.
        data_fingerprint: hash of the data set, see `pursuhint.data.fingerprint`.
        data_notes: what was assumed of data passed from Python, and which promise does not hold for them.
        command: the command, as a line to paste into a shell; ``from Python (FILE)`` without one.
        pursuhint: version of PursuHint.
        torch: version of PyTorch.
        started: when the work began: UTC, ISO 8601.
        ended: when it was complete: UTC, ISO 8601.
    """

    network: str
    data: str
    network_fingerprint: str = ""
    checkpoint: str = ""
    checkpoint_sha256: str = ""
    data_fingerprint: str = ""
    data_notes: tuple[str, ...] = ()
    command: str = ""
    pursuhint: str = ""
    torch: str = ""
    started: str = ""
    ended: str = ""

    def shared(self) -> BaseProvenance:
        """The fields of this class alone, where an object has more."""
        names = [field.name for field in fields(BaseProvenance)]
        return BaseProvenance(**{name: getattr(self, name) for name in names})

    def finished(self) -> Self:
        """A copy whose work ends at the present time."""
        return replace(self, ended=now())


def circumstances() -> dict[str, Any]:
    """The fields that follow from the process alone: command, versions and the time at which work begins."""
    version = installed_version("torch") or ""
    return {"command": current_command(), "pursuhint": __version__, "torch": version, "started": now()}


@cache
def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed, or without its metadata."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def weights_from(checkpoint: Path | str | None) -> Mapping[str, str]:
    """The fields of a file of weights; none for a network without one."""
    if checkpoint is None:
        return {}
    from pursuhint._util.fingerprint import fingerprint_file

    return {
        "checkpoint": str(Path(checkpoint).absolute()),
        "checkpoint_sha256": fingerprint_file(checkpoint) or "",
    }
