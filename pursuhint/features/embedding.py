"""The embedding of a network: what its classifier takes or, without a classifier, what it returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, few_samples
from pursuhint._util.wrappers import unwrapped
from pursuhint.errors import PursuhintError
from pursuhint.features.axes import input_axes, read_axes
from pursuhint.features.blocks import SubBlock
from pursuhint.features.call_trace import Call, CallTrace, trace_calls
from pursuhint.features.module_rules import classifier_of
from pursuhint.features.tap import Tap

__all__ = ["find_classifier"]


@dataclass(frozen=True)
class Embedding:
    """The embedding of a network in a traced forward pass.

    Attributes:
        tap: its address.
        values: the tensor there, axes in the network's order.
        classifier: the call of the layer that takes it; None if the network returns it.
    """

    tap: Tap
    values: Tensor
    classifier: Call | None


def find_embedding(trace: CallTrace) -> Embedding:
    """The embedding of a network.

    Args:
        trace: of a forward pass.

    Raises:
        PursuhintError: no layer of the network has weights.
    """
    call = classifier_of(trace)
    if call is None or call.input is None:
        call = trace.calls[0]
        assert call.output is not None  # a trace has outputs
        axes = read_axes(trace, [SubBlock(call.name, call, None, call)])[call.name]
        return Embedding(Tap(call.name, "output", call.ordinal, axes=axes), call.output, None)
    axes = input_axes(trace, call)
    return Embedding(Tap(call.name, "input", call.ordinal, call.input_overwritten, axes), call.input, call)


def find_classifier(network: nn.Module, example: NetworkInput) -> tuple[str, nn.Module]:
    """The last linear layer of a network; its input is the embedding, its output the logits.

    Args:
        network: any classification network.
        example: a batch it can run on: images (N, C, H, W), or what its ``forward`` takes.

    Returns:
        Name and module; the last convolution, for a network that classifies by one.

    Raises:
        PursuhintError: the network cannot run on the example, has no layer with weights, or returns features.
    """
    call = classifier_of(trace_calls(network, few_samples(example)))
    if call is None or call.module is None:
        raise PursuhintError(
            f"{type(unwrapped(network)).__name__} has no classifier: it returns features, not logits"
        )
    return call.name, call.module
