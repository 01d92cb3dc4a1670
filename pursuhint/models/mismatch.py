"""Differences between a checkpoint and a network, and what they probably mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from pursuhint.models import MODELS, create_model

DEEPEST_GUESS = 1000
"""Layers of a network that is built to recognize a checkpoint; names in a file can claim any number."""
WIDEST_GUESS = 64

_COUNTER = "num_batches_tracked"  # of a batch norm; absent from old checkpoints, and no weight
_PROFILED = ("total_ops", "total_params")  # buffers that the profilers thop and ptflops leave in a network


class Shaped(Protocol):
    """A tensor, or the description of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...


Shapes = Mapping[str, Shaped]


@dataclass(frozen=True)
class Differences:
    """Names of the tensors in which a file differs from a network.

    Attributes:
        missing: in the network only.
        extra: in the file only.
        reshaped: in both, with different shapes.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.reshaped)

    def without(self, names: set[str]) -> Differences:
        """The differences in other tensors than those."""
        return Differences(
            *(
                tuple(name for name in kind if name not in names)
                for kind in (self.missing, self.extra, self.reshaped)
            )
        )


def is_counter(name: str) -> bool:
    """Whether a tensor is no weight, but a counter of a batch norm or of a profiler."""
    return name.endswith((_COUNTER, *_PROFILED))


def compare(state: Shapes, expected: Shapes) -> Differences:
    """Compare names and shapes. Counters of batch norms and of profilers may be absent or extra."""
    return Differences(
        missing=tuple(name for name in expected if name not in state and not name.endswith(_COUNTER)),
        extra=tuple(name for name in state if name not in expected and not is_counter(name)),
        reshaped=tuple(
            name
            for name in expected
            if name in state
            and not getattr(state[name], "unusual", None)
            and tuple(state[name].shape) != tuple(expected[name].shape)
        ),
    )


def explain(network: nn.Module, candidates: Sequence[Shapes], state: Shapes, differences: Differences) -> str:
    """One sentence: the probable mistake, and the differences with a few names of each kind.

    Args:
        network: that the weights were meant for.
        candidates: everything in the file that could be a state dict.
        state: the candidate with the fewest differences.
        differences: of that candidate.
    """
    expected = network.state_dict()
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


def head_names(network: nn.Module) -> set[str]:
    """Names of the tensors of the last layer: its number of outputs is the number of classes."""
    layers = _layers(network)
    return {f"{layers[-1]}.weight", f"{layers[-1]}.bias"} & network.state_dict().keys() if layers else set()


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _guess(network: nn.Module, candidates: Sequence[Shapes], state: Shapes, differences: Differences) -> str:
    expected = network.state_dict()
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
            remedy = f" (--image-channels {found}, data.channels, converts them)" if found in (1, 3) else ""
            guesses.append(
                f"the checkpoint is for images of {found} channels, the network for {wanted}{remedy}"
            )
        return " and ".join(guesses)
    if set(differences.missing) == head_names(network) and not differences.extra and not differences.reshaped:
        return (
            "it has no classifier; --new-head (new_head=True) loads the other layers and keeps the network's "
            "own, untrained classifier"
        )
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


def _recognize(candidates: Sequence[Shapes]) -> str | None:
    """Name of our network that a candidate belongs to, for any number of classes and image channels."""
    names = [*MODELS, *(name for state in candidates for name in _wide_resnet_of(state))]
    with torch.device("meta"):
        networks = {name: create_model(name, num_classes=1) for name in names}
    for state in candidates:
        for name, network in networks.items():
            differences = compare(state, network.state_dict())
            same_layers = not differences.missing and not differences.extra
            if same_layers and set(differences.reshaped) <= _ends(network):
                return name
    return None


def _wide_resnet_of(state: Shapes) -> list[str]:
    """Name of the wide ResNet, listed or not, that the names and shapes of a state dict would belong to."""
    blocks = sum(re.fullmatch(r"block1\.layer\.\d+\.conv2\.weight", name) is not None for name in state)
    first = state.get("block1.layer.0.conv2.weight")
    if first is None or first.ndim != 4 or first.shape[0] < 16:
        return []
    depth, width = 6 * blocks + 4, first.shape[0] // 16
    return [f"wrn_{depth}_{width}"] if depth <= DEEPEST_GUESS and width <= WIDEST_GUESS else []
