"""The head of a classification network: its last feature map, the pooling, and the classifier.

Some methods compare the map that a network averages to its embedding, insert layers behind it, or replace the
classifier. This module finds and changes these modules in any network; the losses that need it do so in
`pursuhint.losses.Loss.prepare`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, few_samples, map_tensors, tensors_of
from pursuhint._util.wrappers import unwrapped
from pursuhint.errors import PursuhintError
from pursuhint.features.axes import features_at
from pursuhint.features.call_trace import Call, CallTrace, trace_calls
from pursuhint.features.embedding import find_embedding
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap, TapKind

__all__ = ["Head", "find_head", "find_last_map"]


class InsertedBeforePool(nn.Sequential):
    """The pooling of a network, preceded by inserted layers."""


@dataclass(frozen=True)
class Head:
    """The head of a network.

    Attributes:
        network: class name of the network, for messages.
        last_map: hint point of the map that is averaged to the embedding; of the embedding itself if no map
            is.
        classifier: name of the last linear layer; None for a network that returns features.
        pooling: name of the module that averages the map, if a module does.
        container: name of the ``nn.Sequential`` that returns the map, if there is one.
    """

    network: str
    last_map: HintPoint
    classifier: str | None
    pooling: str | None
    container: str | None

    def place(self, name: str) -> str:
        """Module name of layers inserted behind the last map.

        Args:
            name: own name of the layers, see `insert`.

        Raises:
            PursuhintError: layers cannot be inserted in this network.
        """
        where = self.pooling if self.pooling is not None else self.container
        if where is None:
            raise PursuhintError(
                f"{self.network} has no place behind its last feature map where layers can be put: it must "
                "average that map over space, by a module of its own or right behind an nn.Sequential, and "
                "give the mean to its classifier"
            )
        return f"{where}.{name}"

    def insert(self, network: nn.Module, name: str, layers: nn.Module) -> None:
        """Insert layers between the last map and its pooling.

        Args:
            network: the network of this head; changed in place.
            name: own name of the layers.
            layers: (N, C, H, W) -> (N, C', H', W').

        Raises:
            PursuhintError: layers cannot be inserted in this network, or others were inserted before.
        """
        where = self.place(name).rpartition(".")[0]
        network = unwrapped(network)
        module = network.get_submodule(where)
        if self.pooling is None:
            assert isinstance(module, nn.Sequential)
            module.add_module(name, layers)
        elif isinstance(module, InsertedBeforePool):
            raise PursuhintError(f"two losses change the head of {self.network}; use one of them")
        else:
            _replace_module(
                network, where, InsertedBeforePool(OrderedDict([(name, layers), ("pool", module)]))
            )

    def remove(self, network: nn.Module, name: str) -> nn.Module:
        """Undo `insert`.

        Returns:
            The layers.
        """
        where = self.place(name).rpartition(".")[0]
        network = unwrapped(network)
        module = network.get_submodule(where)
        layers = module.get_submodule(name)
        if self.pooling is None:
            delattr(module, name)
        else:
            _replace_module(network, where, module.get_submodule("pool"))
        return layers

    def change_classifier(self, network: nn.Module, change: Callable[[nn.Linear], nn.Module]) -> None:
        """Replace the classifier by a function of it.

        Args:
            network: the network of this head; changed in place.
            change: takes the linear classifier and returns its replacement.
        """
        self.replace_classifier(network, change(self.linear_classifier(network)))

    def replace_classifier(self, network: nn.Module, classifier: nn.Module) -> None:
        """Replace the classifier.

        Args:
            network: the network of this head; changed in place.
            classifier: (N, D) -> (N, classes).
        """
        _replace_module(unwrapped(network), self._named_classifier(), classifier)

    def _named_classifier(self) -> str:
        if self.classifier is None:
            raise PursuhintError(f"{self.network} has no classifier: it returns features")
        return self.classifier

    def linear_classifier(self, network: nn.Module) -> nn.Linear:
        """The classifier.

        Args:
            network: the network of this head.

        Raises:
            PursuhintError: it is not a linear layer with a bias.
        """
        classifier = unwrapped(network).get_submodule(self._named_classifier())
        if not isinstance(classifier, nn.Linear) or classifier.bias is None:
            raise PursuhintError(
                f"{self.network} does not end in a linear layer with a bias, as it must here: its classifier "
                f"{self.classifier!r} is {classifier}"
            )
        return classifier


def find_head(network: nn.Module, example: NetworkInput) -> Head:
    """Find the last feature map and the classifier of a network by running it on a random image.

    Args:
        network: any classification network; run once in evaluation mode and not changed.
        example: images of its input size, (N, C, H, W); only their shape is used.

    Raises:
        PursuhintError: the network cannot run on the example, or has no layer with weights.
    """
    generator = torch.Generator().manual_seed(0)
    device = next((weights.device for weights in network.parameters()), tensors_of(example)[0].device)

    def random(values: Tensor) -> Tensor:
        if not values.is_floating_point():
            return values.to(device)  # token ids: not every number is one
        return (2 * torch.rand(values.shape, generator=generator) - 1).to(device, values.dtype)

    trace = trace_calls(network, map_tensors(few_samples(example), random))
    found = find_embedding(trace)
    embedding = found.values
    pooling = _pooling(trace, embedding)
    producer = None if pooling is not None else _producer(trace, embedding)
    container = None
    if pooling is not None:
        assert pooling.input is not None
        features, tap = pooling.input, Tap(pooling.name, "input")
    elif producer is not None:
        assert producer.output is not None
        features = producer.output
        kind: TapKind = "output" if producer.module is not None else "functional-output"
        tap = Tap(producer.name, kind, producer.ordinal)
        container = producer.name if type(producer.module) is nn.Sequential else None
    else:
        features, tap = features_at(found.tap, embedding), found.tap
    shape = tuple(features.shape)
    channels, spatial = (shape[-1], shape[1:-1]) if len(shape) == 3 else (shape[1], shape[2:])
    point = HintPoint(tap.module, 0, 0, "post", channels, spatial, 0, tap)
    name = pooling.name if pooling is not None else None
    classifier = None if found.classifier is None else found.classifier.name
    return Head(type(unwrapped(network)).__name__, point, classifier, name, container)


def find_last_map(network: nn.Module, example: NetworkInput) -> HintPoint:
    """The map that a network averages over space to its embedding, as a hint point.

    Args:
        network: any classification network; run once in evaluation mode and not changed.
        example: images of its input size, (N, C, H, W).

    Returns:
        The map; the embedding itself for networks without such a map (most transformers, classifiers of
        several layers).

    Raises:
        PursuhintError: the network cannot run on the example, or has no layer with weights.
    """
    return find_head(network, example).last_map


def _replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a module by name."""
    parent, _, own_name = name.rpartition(".")
    setattr(network.get_submodule(parent), own_name, module)


def _pooling(trace: CallTrace, embedding: Tensor) -> Call | None:
    """The outermost module call that averages a map to the embedding; the module must be called once."""
    last = trace.last_calls()
    for call in trace.calls:
        if (
            call.module is not None
            and call.name
            and not call.input_overwritten
            and _averages_to(call.input, embedding)
            and call.output is not None
            and _close(call.output.flatten(), embedding.flatten())
            and last[call.name].ordinal == 0
        ):
            return call
    return None


def _producer(trace: CallTrace, embedding: Tensor) -> Call | None:
    """The outermost call that returns a map whose mean is the embedding, for networks that average in their
    own ``forward``."""
    calls = [
        call
        for call in trace.calls
        if (call.name or call.module is None)
        and not call.output_overwritten
        and _averages_to(call.output, embedding)
    ]
    first = min(calls, key=lambda call: call.ended, default=None)
    same = [call for call in calls if first is not None and call.returns_output_of(first)]
    return min(same, key=lambda call: call.started, default=None)


def _averages_to(features: Tensor | None, embedding: Tensor) -> bool:
    return (
        features is not None
        and features.ndim == 4
        and features.shape[:1] + features.shape[1:2]
        == (embedding.shape[0], embedding.numel() // len(embedding))
        and _close(features.mean((2, 3)).flatten(), embedding.flatten())
    )


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or not first.is_floating_point():
        return False
    scale = float(second.abs().max())
    return scale > 0 and torch.allclose(first, second.to(first), rtol=1e-4, atol=1e-5 * scale)
