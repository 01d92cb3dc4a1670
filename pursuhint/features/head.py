"""The end of a classification network: the map it averages, and its classifier.

Some methods compare the map that a network averages into its embedding, put layers behind it, or change the
classifier. This module finds these places in any network and changes them; the losses that do so
(`pursuhint.losses.Loss.prepare`) say what to put there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import Call, CallTrace, classifier_call, trace_calls
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap, TapKind

__all__ = ["Head", "find_head", "find_last_map"]


class InsertedBeforePool(nn.Sequential):
    """A network's pooling, with layers put before it."""


@dataclass(frozen=True)
class Head:
    """Where a network ends.

    Attributes:
        network: class of the network, for messages.
        last_map: how to read the map that is averaged into the embedding, or the embedding itself where none
            is.
        classifier: name of the last linear layer.
        pooling: name of the module that does the averaging, if a module does.
        container: name of the ``nn.Sequential`` whose output the map is, if there is one.
    """

    network: str
    last_map: HintPoint
    classifier: str
    pooling: str | None
    container: str | None

    def place(self, name: str) -> str:
        """Module name of layers that `insert` puts behind the last map.

        Raises:
            PursuhintError: there is no place for them.
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
        """Put layers between the last map and its averaging; the modules that were there keep their names.

        Args:
            network: the network that this head was found in; changed in place.
            name: what the layers are called, see `place`.
            layers: (N, C, H, W) -> (N, C', H', W').

        Raises:
            PursuhintError: there is no place for them, or others are there already.
        """
        where = self.place(name).rpartition(".")[0]
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
        module = network.get_submodule(where)
        layers = module.get_submodule(name)
        if self.pooling is None:
            delattr(module, name)
        else:
            _replace_module(network, where, module.get_submodule("pool"))
        return layers

    def change_classifier(self, network: nn.Module, change: Callable[[nn.Linear], nn.Module]) -> None:
        """Put another module in the place of the classifier.

        Args:
            network: the network that this head was found in; changed in place.
            change: gets the linear classifier that is there, returns the one to put in its place.
        """
        self.replace_classifier(network, change(self.linear_classifier(network)))

    def replace_classifier(self, network: nn.Module, classifier: nn.Module) -> None:
        """Put a module in the place of the classifier, whatever that is.

        Args:
            network: the network that this head was found in; changed in place.
            classifier: (N, D) -> (N, classes).
        """
        _replace_module(network, self.classifier, classifier)

    def linear_classifier(self, network: nn.Module) -> nn.Linear:
        """The classifier.

        Args:
            network: the network that this head was found in.

        Raises:
            PursuhintError: it is not a linear layer with a bias.
        """
        classifier = network.get_submodule(self.classifier)
        if not isinstance(classifier, nn.Linear) or classifier.bias is None:
            raise PursuhintError(
                f"{self.network} does not end in a linear layer with a bias, as it must here: its classifier "
                f"{self.classifier!r} is {classifier}"
            )
        return classifier


def find_head(network: nn.Module, example: Tensor) -> Head:
    """Find the last feature map and the classifier of a network by running it on a random image.

    Args:
        network: any classification network; run once in evaluation mode and left as it was.
        example: images of the size that it will see, (N, C, H, W); only their shape matters.

    Raises:
        PursuhintError: the network cannot run on the example, or has no layer with weights.
    """
    noise = torch.rand(1, *example.shape[1:], generator=torch.Generator().manual_seed(0))
    like = next((parameter for parameter in network.parameters() if parameter.is_floating_point()), example)
    trace = trace_calls(network, (2 * noise - 1).to(like.device, like.dtype))
    classifier = classifier_call(trace)
    embedding = classifier.input
    assert embedding is not None
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
        features, tap = (
            embedding,
            Tap(classifier.name, "input", classifier.ordinal, classifier.input_overwritten),
        )
    shape = tuple(features.shape)
    channels, spatial = (shape[-1], shape[1:-1]) if len(shape) == 3 else (shape[1], shape[2:])
    point = HintPoint(tap.module, 0, 0, "post", channels, spatial, 0, tap)
    name = pooling.name if pooling is not None else None
    return Head(type(network).__name__, point, classifier.name, name, container)


def find_last_map(network: nn.Module, example: Tensor) -> HintPoint:
    """The map that a network averages over space into its embedding, as a hint point.

    Args:
        network: any classification network; run once in evaluation mode and left as it was.
        example: images of the size that it will see, (N, C, H, W).

    Returns:
        The map; the embedding itself for networks that average none into it (most transformers, classifiers
        of several layers).

    Raises:
        PursuhintError: the network cannot run on the example, or has no layer with weights.
    """
    return find_head(network, example).last_map


def _replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module in the place of a named one."""
    parent, _, own_name = name.rpartition(".")
    setattr(network.get_submodule(parent), own_name, module)


def _pooling(trace: CallTrace, embedding: Tensor) -> Call | None:
    """The outermost call of a module that averages a map into the embedding and is called once."""
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
    """The outermost call that returns a map whose mean is the embedding, for networks that average it
    outside of any module."""
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
