"""Classify modules and calls by structure, not by name: norms, gates, chains, heads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor, nn

from pursuhint.features.call_trace import Call, CallTrace, classifier_call
from pursuhint.features.layers import as_convolution, is_linear, owns_weights

# ---------------------------------------------------------------------------------------------------------
# Modules


def is_norm(module: nn.Module | None) -> bool:
    """Whether a module is a normalization, with at most a scale and a shift as parameters."""
    return (
        module is not None
        and "norm" in type(module).__name__.lower()
        and not any(isinstance(inner, (nn.Linear, nn.modules.conv._ConvNd)) for inner in module.modules())
    )


def activation_after_norm(trace: CallTrace, block: Call) -> Call | None:
    """The activation after the norm that takes the raw output of a pre-activation block (wide ResNets)."""
    for norm in trace.calls:
        if norm.started < block.ended or not is_norm(norm.module) or not block.feeds(norm):
            continue
        for call in trace.calls:
            if (
                call.is_activation
                and call.started > norm.started
                and (norm.feeds(call) or call.parent is norm)
            ):
                return call
    return None


def has_own_weights(module: nn.Module) -> bool:
    """Whether the module itself is a layer with weights, other than a norm."""
    return not is_norm(module) and owns_weights(module)


def is_container(module: nn.Module) -> bool:
    """Whether a module only holds others: runs its children in sequence, or is not called itself."""
    return isinstance(module, (nn.ModuleList, nn.ModuleDict)) or type(module).forward is nn.Sequential.forward


def is_depthwise(module: nn.Module) -> bool:
    """Whether a module is a depthwise convolution."""
    layer = as_convolution(module)
    return layer is not None and layer.groups == layer.in_channels > 1


# ---------------------------------------------------------------------------------------------------------
# Calls


def inner_calls(call: Call) -> Iterator[Call]:
    """A call and all calls within it, depth first."""
    yield call
    for child in call.children:
        yield from inner_calls(child)


def outer_calls(call: Call) -> Iterator[Call]:
    """The calls that enclose a call, innermost first."""
    while call.parent is not None:
        call = call.parent
        yield call


def weighted_calls(call: Call) -> list[Call]:
    """Calls of layers with weights, among a call and those within it."""
    return [
        inner for inner in inner_calls(call) if inner.module is not None and has_own_weights(inner.module)
    ]


def is_chain(call: Call) -> bool:
    """Whether a module passes its input through its children in sequence, and does nothing else."""
    children = call.children
    return (
        bool(children)
        and children[0].input is call.input
        and all(earlier.feeds(later) for earlier, later in itertools.pairwise(children))
        and call.returns_output_of(children[-1])
    )


def positions(tensor: Tensor | None) -> int:
    """Number of spatial positions of a map, or of tokens; 1 for a vector."""
    return 1 if tensor is None or tensor.ndim < 3 else tensor[0, 0].numel()


def is_gate(call: Call) -> bool:
    """Whether a module scales the channels of a map by a function of their means (squeeze-excitation)."""
    return positions(call.output) > 1 and all(positions(inner.input) == 1 for inner in weighted_calls(call))


def is_vector_layer(call: Call) -> bool:
    """Whether a layer takes one vector per sample: linear, or a convolution that covers its whole input."""
    layer = as_convolution(call.module)
    if layer is not None and call.input is not None and call.input.ndim > 2:
        unpadded = not any(p for p in layer.padding if isinstance(p, int))
        return unpadded and tuple(call.input.shape[2:]) == tuple(layer.kernel_size)
    return is_linear(call.module) and call.input is not None and call.input.ndim <= 2


def is_head(call: Call) -> bool:
    """Whether all layers of a module take one vector per sample, as in a classifier."""
    layers = weighted_calls(call)
    return bool(layers) and all(map(is_vector_layer, layers))


def classifier_of(trace: CallTrace) -> Call | None:
    """The call of a network's classifier; None for a network that returns features.

    The last layer classifies unless it lies in a block of maps or tokens that returns something else than
    this layer gives, is a convolution over several places, or a norm takes what it gives.

    Raises:
        PursuhintError: no layer of the network has weights.
    """
    call = classifier_call(trace)
    layer = as_convolution(call.module)
    if layer is not None and any(size > 1 for size in layer.kernel_size) and not is_vector_layer(call):
        return None
    if any(is_norm(other.module) and call.feeds(other) for other in trace.calls):
        return None
    in_block = any(
        positions(outer.output) > 1 and not is_chain(outer) and not outer.returns_output_of(call)
        for outer in _inside_network(call)
    )
    return None if in_block else call


def _inside_network(call: Call) -> Iterator[Call]:
    """The calls that enclose a call, without the network's own."""
    return (outer for outer in outer_calls(call) if outer.parent is not None)
