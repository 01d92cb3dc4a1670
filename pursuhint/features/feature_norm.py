"""Find the batch norm whose output, possibly after a residual sum and a ReLU, is a feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, few_samples, map_tensors
from pursuhint._util.wrappers import unwrapped
from pursuhint.features.axes import arrange
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor

if TYPE_CHECKING:
    from pursuhint.features.hint_points import HintPoint

__all__ = ["find_norm"]


@torch.enable_grad()
def find_norm(network: nn.Module, point: HintPoint, example: NetworkInput) -> nn.Module | None:
    """Find the batch norm whose output, possibly after a residual sum and ReLU, is this feature.

    The derivative of the feature by the output of such a norm is 1, or, behind a ReLU, 1 where the feature is
    positive and 0 elsewhere; one backward pass with random weights tests this for all norms. If several are
    summed, the norm with the most norms before it is returned: the one at the end of the longer branch of a
    residual block.

    Args:
        network: any network; run once in evaluation mode on random images, and not changed.
        point: one of its hint points.
        example: a batch of the network's input size, (N, C, H, W); only its shape and dtype are
            used, of integers the first sample.

    Returns:
        The norm; None if there is none.
    """
    generator = torch.Generator().manual_seed(0)

    device = next((weights.device for weights in network.parameters()), None)

    def random(values: Tensor) -> Tensor:
        if not values.is_floating_point():
            return values.to(device)
        return torch.randn(values.shape, generator=generator).to(device, values.dtype).requires_grad_()

    images = map_tensors(few_samples(example), random)
    seen: list[tuple[nn.Module, Tensor]] = []

    def hook(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        seen.append((module, output))
        return output.clone()  # the layers behind may overwrite their input in place

    norms = [
        m for m in unwrapped(network).modules() if "running_mean" in dict(m.named_buffers(recurse=False))
    ]
    handles = [norm.register_forward_hook(hook) for norm in norms]
    try:
        with evaluating(network):
            features = FeatureExtractor(network, [point], logits=False)(images).maps[0]
    finally:
        for handle in handles:
            handle.remove()

    weights = torch.randn(features.shape, generator=generator).to(features)
    outputs = [output for _, output in seen]
    slopes = _slopes((features * weights).sum(), outputs)
    expected = (weights, weights * (features > 0)) if (features > 0).any() else (weights,)
    found = [
        (module, output)
        for (module, output), slope in zip(seen, slopes)
        if slope is not None and any(_close(_like(point, slope), values) for values in expected)
    ]

    def norms_before(candidate: tuple[nn.Module, Tensor]) -> int:
        return sum(slope is not None for slope in _slopes(candidate[1].sum(), outputs))

    return max(found, key=norms_before)[0] if found else None


def _slopes(value: Tensor, tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not tensors or not value.requires_grad:
        return [None] * len(tensors)
    return torch.autograd.grad(value, tensors, retain_graph=True, allow_unused=True)


def _close(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-3, atol=1e-3)


def _like(point: HintPoint, slope: Tensor) -> Tensor:
    """A tensor of the network in the order of axes of the features at a point."""
    axes = point.tap.axes
    return arrange(slope, axes) if len(axes) == slope.ndim else slope
