"""Weights that torchvision, timm and transformers publish or have saved, as a checkpoint on the disk."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint._util.hub import quiet_hub
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fetch_weights"]

ROOT_VARIABLE = "PURSUHINT_WEIGHTS"

_ADVICE = (
    "download them where there is a network, and give the file (--teacher-checkpoint, --student-checkpoint)"
)


def weights_folder() -> Path:
    """``$PURSUHINT_WEIGHTS`` if set, else ``~/.cache/pursuhint/weights``."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pursuhint" / "weights"


def weights_file(network: str, *, classifier: bool | None = None) -> Path:
    """Where the published weights of a network are kept, whether they are there or not.

    Args:
        network: as for `fetch_weights`.
        classifier: as for `fetch_weights`.

    Raises:
        PursuhintError: as `check_published`.
    """
    check_published(network)
    source, _, name = network.partition(":")
    parts = [source, re.sub(r"[^A-Za-z0-9._-]", "_", name)]
    if source == "hf":
        from pursuhint.models.transformers_network import saved_state

        parts += [part for part in (saved_state(name), "classifier" if classifier else "") if part]
    return weights_folder() / f"{'--'.join(parts)}.safetensors"


def check_published(network: str) -> None:
    """Check that somebody publishes weights for networks of this kind. Imports neither PyTorch nor timm.

    Raises:
        PursuhintError: the name is not ``torchvision:NAME``, ``timm:NAME`` or ``hf:NAME``.
    """
    source, colon, rest = network.partition(":")
    if not colon or source not in ("torchvision", "timm", "hf") or not rest:
        raise PursuhintError(
            f"nobody publishes weights for {network!r} that could be fetched; pretrained weights are those "
            "of torchvision:NAME, timm:NAME and hf:NAME (for others give a checkpoint file)"
        )


def fetch_weights(network: str, *, classifier: bool | None = None) -> Path:
    """The checkpoint that is published for a network, downloaded when it is not there yet.

    It is kept as safetensors in ``$PURSUHINT_WEIGHTS`` (``~/.cache/pursuhint/weights``), with the classifier
    that it was published with, and read as data by `pursuhint.load_weights`.

    Args:
        network: ``torchvision:NAME``, whose default weights are taken, or ``timm:NAME``, which may name a tag
            as in ``timm:resnet18.a1_in1k``, or ``hf:OWNER/NAME`` on the hub of transformers, or
            ``hf:FOLDER`` of a network that its ``save_pretrained`` wrote.
        classifier: of ``hf:`` names, whether the weights are for the network with a classifier, which stays
            out of them if none was saved. Default: as the network was saved.

    Raises:
        PursuhintError: another kind of name, an unknown network, one without published weights, or they
            cannot be fetched: there is no network.

    Example:
        >>> load_weights(create_model("torchvision:resnet18", num_classes=1000),
        ...              fetch_weights("torchvision:resnet18"))
    """
    path = weights_file(network, classifier=classifier)
    source, _, name = network.partition(":")
    if path.is_file():
        return path
    from pursuhint.models.checkpoint import save_weights

    if source == "hf":
        from pursuhint.models.transformers_network import pretrained_model

        published = pretrained_model(name, classifier=classifier)
    else:
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
        with quiet_hub():
            network: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises classes of its own
        raise _failed(label, error) from error
    return network


def _failed(label: str, error: Exception) -> PursuhintError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return PursuhintError(f"cannot fetch the weights of {label} ({reason}); {_ADVICE}")
