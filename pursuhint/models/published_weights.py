"""Weights that torchvision and timm publish for their networks, as a checkpoint on the disk."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fetch_weights"]

ROOT_VARIABLE = "PURSUHINT_WEIGHTS"

_ADVICE = (
    "download them where there is a network, and give the file (--teacher-checkpoint, --student-checkpoint)"
)
_PATIENCE = 10.0  # seconds to wait for an answer of the hub before it counts as out of reach


def weights_folder() -> Path:
    """``$PURSUHINT_WEIGHTS`` if set, else ``~/.cache/pursuhint/weights``."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pursuhint" / "weights"


def weights_file(network: str) -> Path:
    """Where the published weights of a network are kept, whether they are there or not.

    Raises:
        PursuhintError: as `check_published`.
    """
    check_published(network)
    source, _, name = network.partition(":")
    return weights_folder() / f"{source}--{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.safetensors"


def check_published(network: str) -> None:
    """Check that somebody publishes weights for networks of this kind. Imports neither PyTorch nor timm.

    Raises:
        PursuhintError: the name is not ``torchvision:NAME`` or ``timm:NAME``.
    """
    source, colon, rest = network.partition(":")
    if not colon or source not in ("torchvision", "timm") or not rest:
        raise PursuhintError(
            f"nobody publishes weights for {network!r} that could be fetched; pretrained weights are those "
            "of torchvision:NAME and timm:NAME (for others give a checkpoint file)"
        )


def fetch_weights(network: str) -> Path:
    """The checkpoint that torchvision or timm publishes for a network, downloaded when it is not there yet.

    It is kept as safetensors in ``$PURSUHINT_WEIGHTS`` (``~/.cache/pursuhint/weights``), with the classifier
    that it was published with, and read as data by `pursuhint.load_weights`.

    Args:
        network: ``torchvision:NAME``, whose default weights are taken, or ``timm:NAME``, which may name a tag
            as in ``timm:resnet18.a1_in1k``.

    Raises:
        PursuhintError: another kind of name, an unknown network, one without published weights, or they
            cannot be fetched: there is no network.

    Example:
        >>> load_weights(create_model("torchvision:resnet18", num_classes=1000),
        ...              fetch_weights("torchvision:resnet18"))
    """
    path = weights_file(network)
    source, _, name = network.partition(":")
    if path.is_file():
        return path
    from pursuhint.models.checkpoint import save_weights

    published = _from_torchvision(name) if source == "torchvision" else _from_timm(name)
    save_weights(published, path, metadata={"network": network, "weights": f"as {source} publishes them"})
    return path


def _from_torchvision(name: str) -> nn.Module:
    from torchvision import models

    from pursuhint._util.registry import did_you_mean

    known = models.list_models(module=models)
    if name not in known:
        raise PursuhintError(
            f"torchvision has no classification network {name!r}; {did_you_mean(name, known, shown=6)}"
        )
    try:
        network: nn.Module = models.get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError, ValueError) as error:  # no connection, another hash, a damaged file
        raise _failed(f"torchvision:{name}", error) from error
    return _without_further_heads(network)


def _without_further_heads(network: nn.Module) -> nn.Module:
    """The network without the auxiliary classifiers that GoogLeNet and Inception have in training."""
    for name in ("aux1", "aux2", "AuxLogits"):
        if getattr(network, name, None) is not None:
            delattr(network, name)
    return network


def _from_timm(name: str) -> nn.Module:
    label = f"timm:{name}"
    try:
        import timm
    except ImportError:
        raise PursuhintError(f"{label} needs timm: pip install 'pursuhint[timm]'") from None
    from pursuhint._util.registry import did_you_mean

    if ":" in name or not timm.is_model(name):
        raise PursuhintError(
            f"timm has no network {name!r}; {did_you_mean(name, timm.list_models(), shown=6)}"
        )
    try:
        with _quiet_hub():
            network: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises classes of its own
        raise _failed(label, error) from error
    return network


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Let the hub's client look into its cache alone where the hub is out of reach.

    It would retry for more than half a minute for every file, with a line on stderr each time.
    """
    from huggingface_hub import constants

    logger, offline = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = logger.level
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError:
        constants.HF_HUB_OFFLINE = True
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)


def _failed(label: str, error: Exception) -> PursuhintError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return PursuhintError(f"cannot fetch the weights of {label} ({reason}); {_ADVICE}")
