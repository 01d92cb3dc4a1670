"""Weights on disk: read what others published, write safetensors.

Nothing in a file is ever run: `pursuhint.models.checkpoint_file` reads it as data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pursuhint._util.arguments import expect_network
from pursuhint._util.atomic_files import atomic_path
from pursuhint._util.distributed import is_main_process
from pursuhint._util.registry import did_you_mean
from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintError
from pursuhint.models.checkpoint_file import open_checkpoint
from pursuhint.models.mismatch import compare, explain, head_names, is_counter
from pursuhint.models.normalization import remember_normalization
from pursuhint.models.safetensors_header import preprocessing_of_weights, sort_metadata
from pursuhint.models.stored_tensor import StoredTensor

__all__ = ["LoadedWeights", "count_parameters", "load_weights", "read_state_dict", "save_weights"]

# Where training programs put the state dict among the other things that they save.
_CONTAINERS = ("model", "state_dict", "model_state_dict", "student", "net")

# Prefixes of names: of parallel training, of Lightning modules, and of mdistiller's whole distiller, which
# holds student and teacher together. If both fit, the student is meant: it was trained.
_PREFIXES = ("module.", "student.", "teacher.", "model.")
_DEEPEST_PREFIX = 6

# Wrappers around any module, at any depth of a name: torch.compile, FSDP and activation checkpointing.
_WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

_WEIGHTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _Candidate(NamedTuple):
    """A part of a file that could be a state dict."""

    place: tuple[str, ...]  # names of the mappings around it
    prefix: str  # removed from the names of its tensors
    state: dict[str, StoredTensor]

    @property
    def label(self) -> str:
        """What `checkpoint_key` calls it."""
        return ".".join([*self.place, *self.prefix.split(".")[:-1]])

    @property
    def is_usual(self) -> bool:
        """Whether the place is one that needs no mention."""
        return set(self.place) <= set(_CONTAINERS) and all(
            f"{part}." in _PREFIXES for part in self.prefix.split(".")[:-1]
        )


def read_state_dict(path: Path | str, *, checkpoint_key: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, on the CPU, under the names that they have in the file.

    Reads safetensors and files of ``torch.save`` (the format since PyTorch 1.6 and the one before), and
    distinguishes them by their content. NumPy arrays in the place of tensors are read as tensors. The tensors
    may be the whole file or stand under ``model``, ``state_dict``, ``model_state_dict``, ``student`` or
    ``net``, as RepDistiller and mdistiller save them, or under any other single name.

    Args:
        path: the file.
        checkpoint_key: name of the mapping that holds the tensors, with dots between nested names. Default:
            the first of the names above.

    Raises:
        PursuhintError: the file is missing, no regular file, empty, truncated or no checkpoint, holds no
            weights, or names a class or function beyond plain values. Nothing in it is ever run.
    """
    path = Path(path)
    with open_checkpoint(path) as content:
        places = _places(content)
        if not places:
            raise PursuhintError(
                f"{path} holds no weights; expected a state dict, alone or under {_CONTAINERS}"
            )
        labels = {".".join(place): place for place in places}
        if checkpoint_key is not None and checkpoint_key not in labels:
            raise _no_such_part(path, checkpoint_key, labels)
        first = next(iter(places))
        if checkpoint_key is None and len(places) > 1 and first and first[0] not in _CONTAINERS:
            raise PursuhintError(
                f"{path} holds several state dicts, {', '.join(sorted(labels)[:5])}; choose one with "
                "--checkpoint-key (checkpoint_key=...)"
            )
        state = places[first] if checkpoint_key is None else places[labels[checkpoint_key]]
        return {name: _values(path, name, tensor) for name, tensor in state.items()}


class LoadedWeights(NamedTuple):
    """Which tensors of a network a checkpoint has filled.

    Attributes:
        new: names of tensors of the network that keep their values.
        unused: names of tensors of the file that have no place in the network.
    """

    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def warn(self, source: str) -> None:
        """Issue a `PursuhintWarning` that names what was not filled, on rank 0; none if everything was.

        Args:
            source: what to call the file.
        """
        if self.new and is_main_process():
            left = tuple(name for name in self.unused if name not in self.new)
            unused = f"; {_some(left)} in it were not used" if left else ""
            text = f"{source} does not fill {_some(self.new)}: new and untrained{unused}"
            warn_user(text)


NOTHING_LEFT = LoadedWeights()
"""Every tensor was filled, or there was no file."""


def _some(names: tuple[str, ...]) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(names[:4])
    return shown + (f" and {len(names) - 4} more tensors" if len(names) > 4 else "")


def load_weights(
    network: nn.Module,
    path: Path | str,
    *,
    checkpoint_key: str | None = None,
    new_head: bool = False,
    partial: bool = False,
) -> LoadedWeights:
    """Load a checkpoint into a network, exactly or, if asked for, as far as it fits.

    Takes everything that `read_state_dict` reads, under any container and with any prefix of the names that
    makes it fit exactly. Names of wrappers (compiled, FSDP, activation checkpointing) are removed, counters
    of batch norms may be absent, and the counters ``total_ops`` and ``total_params`` of profilers are
    ignored. If several parts of a file fit, such as ``state_dict`` and an averaged ``state_dict_ema``, or
    student and teacher of mdistiller's whole distiller, the first usual one is taken (the student before the
    teacher), and a `pursuhint.errors.PursuhintWarning` names the others. It also names a container or prefix
    that is not a usual one.

    Args:
        network: changed in place; keeps its device and types. May be compiled or wrapped for parallel
            training.
        path: the file.
        checkpoint_key: which part of the file to take, as named in the warning.
        new_head: accept a file without the last layer, or with one of another size, and keep the network's
            own.
        partial: take every tensor whose name and shape fit, and keep the network's own elsewhere; of several
            parts of the file, the one that fits best.

    Returns:
        The names that were not filled, and those that were not used.

    Raises:
        PursuhintError: the file cannot be read, belongs to another network, has no such part, or holds NaN,
            infinity or tensors of an unsuitable type; or no weight of it fits. The message says what is
            missing, what is too much, and what is probably wrong.
    """
    expect_network(network, "the network")
    path = Path(path)
    network = _unwrap(network)
    expected = _tensors(network.state_dict())
    left_out = head_names(network) if new_head else set()
    with open_checkpoint(path) as content:
        found = list(_candidates(_places(content), expected))
        if not found:
            raise PursuhintError(
                f"{path} holds no weights; expected a state dict, alone or under {_CONTAINERS}"
            )
        if checkpoint_key is not None:
            labels = [one.label for one in found]
            found = [one for one in found if f"{one.label}.".startswith(f"{checkpoint_key}.")]
            if not found:
                raise _no_such_part(path, checkpoint_key, labels)
        differences = [compare(one.state, expected).without(left_out) for one in found]
        fitting = [one for one, difference in zip(found, differences) if not len(difference)]
        if partial and not fitting:
            fullest = max(found, key=lambda one: _fitting_values(one.state, expected))
            fitting = [fullest] if _fitting_values(fullest.state, expected) else []
        if not fitting:
            best = min(range(len(found)), key=lambda index: len(differences[index]))
            states = [one.state for one in found]
            raise PursuhintError(f"{path} {explain(network, states, states[best], differences[best])}")
        taken = fitting[0]
        weights = {}
        for name, tensor in taken.state.items():
            optional = partial or name in left_out
            if name in expected and not (optional and tensor.shape != tuple(expected[name].shape)):
                weights[name] = _checked(path, name, tensor, expected[name])
        unused = tuple(sorted(name for name in taken.state if name not in weights and not is_counter(name)))
    network.load_state_dict(weights, strict=False)  # counters and, if asked for, others can be absent
    remember_normalization(network, preprocessing_of_weights(path))
    if checkpoint_key is None:
        _say_what_was_taken(path, taken, fitting)
    new = tuple(name for name in expected if name not in weights and not is_counter(name))
    return LoadedWeights(new, unused)


def _fitting_values(state: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]) -> int:
    """Numbers in the weights that fit by name and shape."""
    return sum(
        tensor.numel()
        for name, tensor in expected.items()
        if name in state and not is_counter(name) and tuple(state[name].shape) == tuple(tensor.shape)
    )


def save_weights(network: nn.Module, path: Path | str, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights and buffers of a network as safetensors, whole or not at all.

    Tensors that share memory are written once for each name, so that the file loads anywhere.

    Args:
        network: may be compiled or wrapped for parallel training; the names are those of the bare network.
        path: the file; an existing one is replaced.
        metadata: texts for the header of the file, beside ``format: pt``.

    Raises:
        PursuhintError: the file cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in _tensors(_unwrap(network).state_dict()).items()
    }
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, metadata={**(metadata or {}), "format": "pt"})
            if metadata:
                sort_metadata(temporary)
        except SafetensorError as error:  # a full disk, for example
            raise PursuhintError(f"cannot write {path}: {error}") from error


def count_parameters(network: nn.Module) -> int:
    """Number of elements of all parameters, shared ones once, buffers not at all."""
    return sum(parameter.numel() for parameter in network.parameters())


def _places(content: Any) -> dict[tuple[str, ...], dict[str, StoredTensor]]:
    """Every mapping of a file that holds tensors, the usual containers before others and inner ones first."""
    found: dict[tuple[str, ...], dict[str, StoredTensor]] = {}
    seen: set[int] = set()  # a mapping that stands in many places is searched in the first

    def search(value: Any, place: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping) or id(value) in seen:
            return
        seen.add(id(value))
        for name in _CONTAINERS:
            if name in value:
                search(value[name], (*place, name))
        if tensors := {name: inner for name, inner in value.items() if isinstance(inner, StoredTensor)}:
            found[place] = tensors
        for name in value:
            if name not in _CONTAINERS:
                search(value[name], (*place, name))

    search(content, ())
    return found


def _candidates(
    places: Mapping[tuple[str, ...], dict[str, StoredTensor]], expected: Mapping[str, Tensor]
) -> Iterator[_Candidate]:
    """Every place with every prefix that could make its names those of the network."""
    for place, state in places.items():
        state = _without_wrappers(state)
        prefixes = _usual_prefixes(state)
        # A prefix that fits exactly stands before every name of the network, so before its first, too.
        anchor = next(iter(expected), "")
        prefixes += [
            name.removesuffix(anchor)
            for name in state
            if name.endswith(f".{anchor}") and name.removesuffix(anchor) not in prefixes
        ][:100]
        for prefix in prefixes:
            yield _Candidate(place, prefix, _under(state, prefix))


def _without_wrappers(state: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Remove the names of transparent wrappers, unless two tensors would then have one name."""
    bare = {_WRAPPERS.sub("", name): tensor for name, tensor in state.items()}
    return bare if len(bare) == len(state) else state


def _usual_prefixes(state: Mapping[str, Any]) -> list[str]:
    """No prefix, then every sequence of usual ones that occurs, from the outside in."""
    found = [""]
    for outer in found:  # grows while it is read
        if outer.count(".") < _DEEPEST_PREFIX:
            found += [
                outer + inner for inner in _PREFIXES if any(name.startswith(outer + inner) for name in state)
            ]
    return found


def _under(state: dict[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def _values(path: Path, name: str, tensor: StoredTensor) -> Tensor:
    if tensor.unusual is not None:
        raise PursuhintError(
            f"{name} in {path} is {tensor.unusual}; expected a dense tensor of floating point numbers"
        )
    return tensor.read()


def _checked(path: Path, name: str, tensor: StoredTensor, expected: Tensor) -> Tensor:
    """The values of a tensor, if its type can stand for the network's and its numbers are finite."""
    values = _values(path, name, tensor)
    floating = values.dtype in _WEIGHTS
    if expected.is_complex():
        suits = floating or values.is_complex()
    elif expected.is_floating_point():
        suits = floating
    else:  # counters are written as floating point numbers by some programs
        suits = not values.is_complex() and (not values.is_floating_point() or values.numel() == 1)
    if not suits:
        kind = str(values.dtype).removeprefix("torch.")
        raise PursuhintError(
            f"{name} in {path} is {kind} where the network has {str(expected.dtype).removeprefix('torch.')}: "
            "without scales such numbers are no weights; save the checkpoint in float32, float16 or bfloat16"
        )
    if values.dtype in _WEIGHTS and not torch.isfinite(values).all():
        raise PursuhintError(f"{name} in {path} holds NaN or infinity; the training that wrote it diverged")
    return values


def _say_what_was_taken(path: Path, taken: _Candidate, fitting: list[_Candidate]) -> None:
    others = [one.label or "its top level" for one in fitting if one.label != taken.label]
    label = taken.label or "its top level"
    if others:
        text = f"{path} holds several weights that fit: {label} was taken, not {' or '.join(others[:3])}"
        hint = "; choose with --checkpoint-key (checkpoint_key=...)"
    elif not taken.is_usual:
        text, hint = f"the weights of {path} were taken from {label}", ""
    else:
        return
    warn_user(text + hint)


def _no_such_part(path: Path, key: str, labels: Iterable[str]) -> PursuhintError:
    known = sorted({label for label in labels if label})
    choice = did_you_mean(key, known) if known else "its tensors are not under any name"
    return PursuhintError(f"{path} has no weights under {key!r}; {choice}")


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _unwrap(network: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` and data-parallel wrappers."""
    while True:
        if isinstance(getattr(network, "_orig_mod", None), nn.Module):
            network = network._orig_mod  # type: ignore[assignment]
        elif isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        else:
            return network
