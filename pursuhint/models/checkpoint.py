"""Weights on disk: read what others published, write safetensors.

Nothing in a file is ever run. Files of ``torch.save`` go through PyTorch's restricted unpickler, which builds
tensors and plain values and refuses everything else; beyond its own list it is allowed a few inert types that
published checkpoints carry beside the weights (see ``_INERT_TYPES``).
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pursuhint._util.atomic_files import atomic_path
from pursuhint.errors import PursuhintError
from pursuhint.models import MODELS, create_model

__all__ = ["count_parameters", "load_weights", "read_state_dict", "save_weights"]

# RepDistiller stores its command line as a Namespace; others add paths and NumPy numbers. A Namespace is only
# filled with attributes, and paths are read as pure ones, which touch no file and exist on every system.
_INERT_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
    *(
        (np.float64(0).__reduce__()[0], f"{module}.multiarray.scalar")
        for module in ("numpy.core", "numpy._core")
    ),
    *(
        (pure, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for pure, name in (
            (pathlib.PurePosixPath, "PosixPath"),
            (pathlib.PurePosixPath, "PurePosixPath"),
            (pathlib.PureWindowsPath, "WindowsPath"),
            (pathlib.PureWindowsPath, "PureWindowsPath"),
        )
    ),
]

# Where training programs put the state dict among the other things that they save.
_CONTAINERS = ("model", "state_dict", "model_state_dict", "student", "net")

# What wrappers put before the names: parallel training, torch.compile, and mdistiller's whole distiller,
# which holds student and teacher together. Where both would fit, the student is meant: it was trained.
_PREFIXES = ("module.", "_orig_mod.", "student.", "teacher.", "model.")

_COUNTER = "num_batches_tracked"  # of a batch norm; absent from old checkpoints, and no weight


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, on the CPU, under the names that they have in the file.

    Reads safetensors and files of ``torch.save`` (today's and the format before PyTorch 1.6), told apart by
    their content. The tensors may be the whole file or stand under ``model``, ``state_dict``,
    ``model_state_dict``, ``student`` or ``net``, as RepDistiller and mdistiller save them.

    Args:
        path: the file.

    Raises:
        PursuhintError: the file is missing, empty, truncated or no checkpoint, holds no weights, or holds
            anything but tensors and plain values. Nothing in it has been run then, either.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise PursuhintError(f"no checkpoint at {path}; the file does not exist") from None
    except IsADirectoryError:
        raise PursuhintError(f"{path} is a folder; give the checkpoint file in it") from None
    except OSError as error:
        raise PursuhintError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    if not head:
        raise PursuhintError(f"the checkpoint {path} is empty")
    # Safetensors first: they begin with the length of their header, whose bytes can look like the other two.
    if head[8:9] == b"{":
        content = _load_safetensors(path)
    elif head.startswith((b"PK", b"\x80")):  # a zip archive or a pickle
        content = _load_pickle(path)
    else:
        found = (
            "a Git LFS pointer; fetch the file itself" if head.startswith(b"version https:") else "neither"
        )
        raise PursuhintError(f"{path} is not a checkpoint (safetensors or torch.save): it is {found}")
    state = _find_state_dict(content)
    if state is None:
        raise PursuhintError(f"{path} holds no weights; expected a state dict, alone or under {_CONTAINERS}")
    return state


def load_weights(network: nn.Module, path: Path | str) -> None:
    """Load a checkpoint into a network, exactly or not at all.

    Takes everything that ``read_state_dict`` reads, with or without the prefixes ``module.``, ``_orig_mod.``,
    ``student.``, ``teacher.`` and ``model.``, also nested. Of a file that holds several networks, such as
    mdistiller's whole distiller, the part that fits is used, the student before the teacher. Counters of
    batch norms may be absent.

    Args:
        network: changed in place; keeps its device and types. May be compiled or wrapped for parallel
            training.
        path: the file.

    Raises:
        PursuhintError: the file cannot be read, belongs to another network, or holds NaN or infinity. The
            message says what is missing, what is too much, and what is probably wrong.
    """
    network = _unwrap(network)
    state = read_state_dict(path)
    expected = _tensors(network.state_dict())
    candidates = list(_without_prefixes(state))
    differences = [_compare(candidate, expected) for candidate in candidates]
    best = min(range(len(candidates)), key=lambda index: len(differences[index]))
    if len(differences[best]):
        raise PursuhintError(f"{path} {_explain(network, candidates, candidates[best], differences[best])}")
    weights = {name: tensor for name, tensor in candidates[best].items() if name in expected}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise PursuhintError(
                f"{name} in {path} holds NaN or infinity; the training that wrote it diverged"
            )
    network.load_state_dict(weights, strict=False)  # only counters can be absent


def save_weights(network: nn.Module, path: Path | str) -> None:
    """Write the weights and buffers of a network as safetensors, whole or not at all.

    Tensors that share memory are written once for each name, so that the file loads anywhere.

    Args:
        network: may be compiled or wrapped for parallel training; the names are those of the bare network.
        path: the file; one that exists is replaced.

    Raises:
        PursuhintError: the file cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in _tensors(_unwrap(network).state_dict()).items()
    }
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, for example
            raise PursuhintError(f"cannot write {path}: {error}") from error


def count_parameters(network: nn.Module) -> int:
    """Number of elements of all parameters, shared ones once, buffers not at all."""
    return sum(parameter.numel() for parameter in network.parameters())


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise PursuhintError(
            f"the checkpoint {path} is truncated or damaged ({_first_sentence(error)})"
        ) from error


def _load_pickle(path: Path) -> Any:
    already = torch.serialization.get_safe_globals()  # leaving the context would take these back
    inert = [kind for kind in _INERT_TYPES if kind not in already]
    try:
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise PursuhintError(
                f"refused {path}: loading it would import and call {named[1]}, and only tensors and plain "
                "values are loaded; nothing was run (if you trust the file, save its state_dict() in another)"
            ) from None
        raise PursuhintError(
            f"refused {path}: it is damaged or unsafe ({_first_sentence(error)}); nothing was run"
        ) from None
    except Exception as error:  # damaged files fail in every way there is
        raise PursuhintError(
            f"the checkpoint {path} is truncated or damaged ({_first_sentence(error)})"
        ) from error


def _first_sentence(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return re.split(r"[.:]?\s*\n|\. ", text)[0].rstrip(".") or type(error).__name__


def _find_state_dict(content: Any) -> dict[str, Tensor] | None:
    """The mapping of names to tensors inside what a file holds, at most a few containers deep."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            return None
        inner = [content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)]
        if not inner:
            return _tensors(content) or None
        content = inner[0]
    return None


def _tensors(values: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {
        name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)
    }


def _unwrap(network: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` and data-parallel wrappers."""
    while True:
        if isinstance(getattr(network, "_orig_mod", None), nn.Module):
            network = network._orig_mod  # type: ignore[assignment]
        elif isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        else:
            return network


def _without_prefixes(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state dict as it is, then every part of it under a known prefix, from the outside in."""
    waiting = [state]
    while waiting:
        current = waiting.pop(0)
        yield current
        for prefix in _PREFIXES:
            inner = {name[len(prefix) :]: value for name, value in current.items() if name.startswith(prefix)}
            if inner:
                waiting.append(inner)


@dataclass(frozen=True)
class _Differences:
    """How the tensors of a file differ from those of a network."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.reshaped)


def _compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> _Differences:
    return _Differences(
        missing=tuple(name for name in expected if name not in state and not name.endswith(_COUNTER)),
        extra=tuple(name for name in state if name not in expected and not name.endswith(_COUNTER)),
        reshaped=tuple(
            name for name in expected if name in state and state[name].shape != expected[name].shape
        ),
    )


def _explain(
    network: nn.Module,
    candidates: list[dict[str, Tensor]],
    state: Mapping[str, Tensor],
    differences: _Differences,
) -> str:
    """What is probably wrong, and what does not fit, with at most a few names of each kind."""
    expected = _tensors(network.state_dict())
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
        for name in differences.reshaped
    ]
    counts = [
        f"{kind}: {len(names)} ({_some(names)})"
        for kind, names in (
            ("missing", differences.missing),
            ("unexpected", differences.extra),
            ("of another shape", shapes),
        )
        if names
    ]
    guess = _guess(network, candidates, state, differences)
    return f"does not fit {type(network).__name__}: {guess}; tensors {', '.join(counts)}"


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _guess(
    network: nn.Module,
    candidates: list[dict[str, Tensor]],
    state: Mapping[str, Tensor],
    differences: _Differences,
) -> str:
    expected = _tensors(network.state_dict())
    same_layers = not differences.missing and not differences.extra
    same_axes = all(state[name].ndim == expected[name].ndim for name in differences.reshaped)
    if same_layers and same_axes and set(differences.reshaped) <= _ends(network):
        stem, classifier = (f"{layer}.weight" for layer in (_layers(network)[0], _layers(network)[-1]))
        guesses = []
        if state[classifier].shape[0] != expected[classifier].shape[0]:
            found, wanted = state[classifier].shape[0], expected[classifier].shape[0]
            guesses.append(f"the checkpoint has {found} classes, the network {wanted}")
        if state[stem].shape[1] != expected[stem].shape[1]:
            found, wanted = state[stem].shape[1], expected[stem].shape[1]
            guesses.append(f"the checkpoint is for images of {found} channels, the network for {wanted}")
        return " and ".join(guesses)
    if name := _recognize(candidates):
        return f"these look like the weights of {name}"
    if same_layers:
        return "the layers are the same but their widths differ, as if made with other options"
    return "it seems to belong to another network"


def _layers(network: nn.Module) -> list[str]:
    """Names of the layers with weights, in the order in which they are registered."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _ends(network: nn.Module) -> set[str]:
    """Names of the tensors whose shapes follow from the data set: of the first layer and of the last."""
    layers = _layers(network)
    return {f"{layers[0]}.weight", f"{layers[-1]}.weight", f"{layers[-1]}.bias"} if layers else set()


def _recognize(candidates: list[dict[str, Tensor]]) -> str | None:
    """Name of the network of ours that a checkpoint belongs to, whatever its classes and image channels."""
    names = [*MODELS, *(name for state in candidates for name in _wide_resnet_of(state))]
    with torch.device("meta"):
        networks = {name: create_model(name, num_classes=1) for name in names}
    for state in candidates:
        for name, network in networks.items():
            differences = _compare(state, network.state_dict())
            same_layers = not differences.missing and not differences.extra
            if same_layers and set(differences.reshaped) <= _ends(network):
                return name
    return None


def _wide_resnet_of(state: Mapping[str, Tensor]) -> list[str]:
    """The wide ResNet, listed or not, that the names and shapes of a state dict would belong to."""
    blocks = sum(re.fullmatch(r"block1\.layer\.\d+\.conv2\.weight", name) is not None for name in state)
    first = state.get("block1.layer.0.conv2.weight")
    if first is None or first.ndim != 4 or first.shape[0] < 16:
        return []
    return [f"wrn_{6 * blocks + 4}_{first.shape[0] // 16}"]
