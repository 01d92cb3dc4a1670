"""Fuse batch norms into the convolutions and linear layers before them.

In evaluation mode a batch norm scales and shifts every channel. After a convolution or linear layer, both
become part of the layer's weights,

.. math:: W' = \\frac{\\gamma}{\\sqrt{\\sigma^2 + \\epsilon}} W, \\qquad
          b' = \\frac{\\gamma}{\\sqrt{\\sigma^2 + \\epsilon}} (b - \\mu) + \\beta ,

which saves a norm that does little arithmetic but reads and writes the whole feature map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, tensors_of
from pursuhint._util.wrappers import copy_network
from pursuhint.features.call_trace import Call, trace_calls
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import HintPoint

__all__ = ["fuse_batchnorms"]

Pair = tuple[str, str]
"""Names of a layer and of the norm after it."""

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@torch.no_grad()
def fuse_batchnorms(network: nn.Module, example: NetworkInput, points: Sequence[HintPoint] = ()) -> nn.Module:
    """Copy a network for evaluation and fuse its batch norms where that changes no visible value.

    A norm is fused if its input is the output of a convolution or linear layer, both are called once, and
    no logit, hint point or other module depends on the value between them. An identity replaces the norm, so
    that all modules keep their names; all other values stay equal up to rounding.

    Args:
        network: any network; not modified.
        example: a batch that the network can run on, (N, C, H, W).
        points: hint points that will be read from the copy.

    Returns:
        The copy, in evaluation mode.

    Raises:
        PursuhintError: the network cannot run on the example.
    """
    calls = [call for call in trace_calls(network, example).calls if call.module is not None]
    times = Counter(call.name for call in calls)
    folded = copy_network(network).eval()
    modules = dict(folded.named_modules())
    owned = [parameter for module in modules.values() for parameter in module._parameters.values()]
    sharing = Counter(map(id, owned))
    pairs = [
        (layer.name, norm.name)
        for layer, norm in _pairs(calls)
        if times[layer.name] == times[norm.name] == 1
        and _can_fold(modules[layer.name], modules[norm.name])
        and sharing[id(modules[layer.name].weight)] == 1
    ]
    extractor, device = FeatureExtractor(folded, points), tensors_of(example)[0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        outputs = _outputs([modules[norm] for _, norm in pairs], lambda: extractor(example))

        def hidden(some: Sequence[tuple[str, str]]) -> bool:
            """Whether no output depends on the values between the layers and norms of some pairs."""
            # The layers return NaN, the norms their true output. NaN spreads to all that depends on it, so
            # it shows in logits or maps unless only the norms read it.
            replaced = {modules[norm]: outputs[modules[norm]] for _, norm in some}
            replaced |= {modules[layer]: None for layer, _ in some}
            features = _with_outputs(replaced, lambda: extractor(example))
            return not any(
                part.isnan().any() for part in (features.logits, *features.maps) if part is not None
            )

        good = _good(pairs, hidden)
    for layer, norm in good:
        _fold(modules[layer], modules[norm])
        folded.set_submodule(norm, nn.Identity())
    return folded


def _good(pairs: Sequence[Pair], test: Callable[[Sequence[Pair]], bool]) -> list[Pair]:
    """The pairs that pass a test, found by bisection: pairs pass together if each passes alone."""
    if not pairs or test(pairs):
        return list(pairs)
    if len(pairs) == 1:
        return []
    half = len(pairs) // 2
    return _good(pairs[:half], test) + _good(pairs[half:], test)


def _outputs(modules: Sequence[nn.Module], run: Callable[[], object]) -> dict[nn.Module, Tensor]:
    """Outputs of modules in a forward pass."""
    found: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, arguments: Any, output: Tensor) -> None:
        found[module] = output.clone()  # later modules may modify it in place

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _with_outputs(outputs: Mapping[nn.Module, Tensor | None], run: Callable[[], Features]) -> Features:
    """Features of a forward pass with replaced module outputs; NaN for None."""

    def put(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        other = outputs[module]
        return torch.full_like(output, torch.nan) if other is None else other.clone()

    handles = [module.register_forward_hook(put) for module in outputs]
    try:
        return run()
    finally:
        for handle in handles:
            handle.remove()


def _pairs(calls: Iterable[Call]) -> list[tuple[Call, Call]]:
    """Pairs of a layer and the norm whose input is exactly the layer's output."""
    layers: dict[int, Call] = {}
    pairs = []
    for call in sorted(calls, key=lambda call: call.ended):
        if type(call.module) in _LAYERS and call.output is not None:
            # A batch norm normalizes axis 1, which holds the features of a linear layer only in 2-D.
            if type(call.module) is not nn.Linear or call.output.ndim == 2:
                layers[id(call.output)] = call
        elif type(call.module) in _NORMS and (layer := layers.get(id(call.input))) and layer.feeds(call):
            pairs.append((layer, call))
    return pairs


def _can_fold(layer: Any, norm: Any) -> bool:
    """Whether both modules have no hooks and their own, not derived, weights (no parametrization)."""
    plain = all(
        not module._forward_hooks and not module._forward_pre_hooks and "weight" in module._parameters
        for module in (layer, norm)
    )
    return plain and isinstance(getattr(norm, "running_mean", None), Tensor)


def _fold(layer: Any, norm: Any) -> None:
    """Fuse the norm into the layer; computed in float64, so that rounding happens once."""

    def exact(tensor: Tensor | None, default: float) -> Tensor:
        if tensor is None:
            return torch.tensor(default, dtype=torch.float64)
        return tensor.detach().to("cpu", torch.float64)

    weight = layer.weight
    # W' = gamma / sqrt(var + eps) W and b' = gamma / sqrt(var + eps) (b - mean) + beta, by output channel.
    scale = exact(norm.weight, 1) / (exact(norm.running_var, 1) + norm.eps).sqrt()
    shift = exact(norm.bias, 0) + scale * (exact(layer.bias, 0) - exact(norm.running_mean, 0))
    scaled = exact(weight, 1) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    layer.weight = nn.Parameter(scaled.to(weight), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(weight), requires_grad=False)
