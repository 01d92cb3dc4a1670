"""A copy of a network with its batch norms folded into the layers before them.

In evaluation mode a batch norm is a scale and a shift of every channel. Behind a convolution or a linear
layer both can be made part of its weights,

.. math:: W' = \\frac{\\gamma}{\\sqrt{\\sigma^2 + \\epsilon}} W, \\qquad
          b' = \\frac{\\gamma}{\\sqrt{\\sigma^2 + \\epsilon}} (b - \\mu) + \\beta ,

so that the norm, which does little arithmetic but reads and writes the whole feature map, costs nothing.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint.features.call_trace import Call, trace_calls
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import HintPoint

__all__ = ["fuse_batchnorms"]

Pair = tuple[str, str]
"""Names of a layer and of the norm behind it."""

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@torch.no_grad()
def fuse_batchnorms(network: nn.Module, example: Tensor, points: Sequence[HintPoint] = ()) -> nn.Module:
    """Copy a network for evaluation and fold its batch norms where nothing can tell the difference.

    A norm is folded if it reads just what a convolution or linear layer returned, both are called once, and
    nothing else in the network, no point and no logit depends on what lies between them. Its place is taken
    by an identity, so that all modules keep their names, and every other value in the network stays what it
    was but for rounding.

    Args:
        network: any network; left as it is.
        example: a batch that it can run on, (N, C, H, W).
        points: what will be read in the copy.

    Returns:
        The copy, in evaluation mode.

    Raises:
        PursuhintError: the network cannot run on the example.
    """
    calls = [call for call in trace_calls(network, example).calls if call.module is not None]
    times = Counter(call.name for call in calls)
    folded = copy.deepcopy(network).eval()
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
    extractor = FeatureExtractor(folded, points)
    with torch.random.fork_rng([example.device] if example.is_cuda else []):
        outputs = _outputs([modules[norm] for _, norm in pairs], lambda: extractor(example))

        def hidden(some: Sequence[tuple[str, str]]) -> bool:
            """Whether nobody sees what lies between some pairs."""
            replaced = {modules[norm]: outputs[modules[norm]] for _, norm in some}
            replaced |= {modules[layer]: None for layer, _ in some}
            trace = _with_outputs(replaced, lambda: extractor(example))
            return not any(part.isnan().any() for part in (trace.logits, *trace.maps) if part is not None)

        good = _good(pairs, hidden)
    for layer, norm in good:
        _fold(modules[layer], modules[norm])
        folded.set_submodule(norm, nn.Identity())
    return folded


def _good(pairs: Sequence[Pair], test: Callable[[Sequence[Pair]], bool]) -> list[Pair]:
    """The pairs that pass a test, which some pass together if each of them does: found by halving."""
    if not pairs or test(pairs):
        return list(pairs)
    if len(pairs) == 1:
        return []
    half = len(pairs) // 2
    return _good(pairs[:half], test) + _good(pairs[half:], test)


def _outputs(modules: Sequence[nn.Module], run: Callable[[], object]) -> dict[nn.Module, Tensor]:
    """What modules return in a run."""
    found: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, arguments: Any, output: Tensor) -> None:
        found[module] = output.clone()  # what comes behind may work in place

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _with_outputs(outputs: Mapping[nn.Module, Tensor | None], run: Callable[[], Features]) -> Features:
    """A run in which modules return something else; NaN, which spoils all that depends on it, for None."""

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
    """Layers and the norms that read just what they return."""
    layers: dict[int, Call] = {}
    pairs = []
    for call in sorted(calls, key=lambda call: call.ended):
        if type(call.module) in _LAYERS and call.output is not None:
            # Behind a linear layer the second axis holds its features only if there is no third one.
            if type(call.module) is not nn.Linear or call.output.ndim == 2:
                layers[id(call.output)] = call
        elif type(call.module) in _NORMS and (layer := layers.get(id(call.input))) and layer.feeds(call):
            pairs.append((layer, call))
    return pairs


def _can_fold(layer: Any, norm: Any) -> bool:
    """Whether both are what they look like: nothing hooked on, nothing computed from other parameters."""
    plain = all(
        not module._forward_hooks and not module._forward_pre_hooks and "weight" in module._parameters
        for module in (layer, norm)
    )
    return plain and isinstance(getattr(norm, "running_mean", None), Tensor)


def _fold(layer: Any, norm: Any) -> None:
    """Make the norm part of the layer; computed in float64, so that rounding happens once."""

    def exact(tensor: Tensor | None, default: float) -> Tensor:
        if tensor is None:
            return torch.tensor(default, dtype=torch.float64)
        return tensor.detach().to("cpu", torch.float64)

    weight = layer.weight
    scale = exact(norm.weight, 1) / (exact(norm.running_var, 1) + norm.eps).sqrt()
    shift = exact(norm.bias, 0) + scale * (exact(layer.bias, 0) - exact(norm.running_mean, 0))
    scaled = exact(weight, 1) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    layer.weight = nn.Parameter(scaled.to(weight), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(weight), requires_grad=False)
