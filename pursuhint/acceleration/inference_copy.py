"""A copy of a network that computes the same in evaluation, faster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, first_samples
from pursuhint._util.wrappers import copy_network
from pursuhint.acceleration.channels_last import channels_last_weights
from pursuhint.acceleration.fuse_batchnorm import fuse_batchnorms
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import HintPoint

COMPARED = 2
"""Samples on which a rewritten network is compared with the original."""


def inference_copy(
    network: nn.Module,
    images: NetworkInput,
    points: Sequence[HintPoint],
    *,
    fuse_batchnorm: bool = True,
    channels_last: bool = True,
) -> nn.Module | None:
    """A copy with fused batch norms and channels-last weights, for passes that read features.

    Args:
        network: in evaluation mode; not modified.
        images: a batch that it will see; with ``channels_last``, pass others through
            `pursuhint._util.network_input.channels_last`.
        points: what is read from it, the same from the copy but for rounding.
        fuse_batchnorm: fuse its batch norms.
        channels_last: store its weights with their channels last.

    Returns:
        None where nothing is asked for or gained or the copy cannot be had: the network has no batch norms,
        has hooks, which expect the network itself, cannot be copied or run, or the copy computes something
        else.
    """
    if not (fuse_batchnorm or channels_last):
        return None
    modules = list(network.modules())
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules):
        return None
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        return None
    few = first_samples(images, COMPARED)
    try:
        copied = fuse_batchnorms(network, few, points) if fuse_batchnorm else copy_network(network).eval()
        first, second = (FeatureExtractor(each, points, logits=False) for each in (network, copied))
        if not agree(first(few), second(few)):
            return None
    except Exception:  # foreign code may raise anything, and the pass over the network itself says it better
        return None
    if channels_last:
        channels_last_weights(copied)
    return copied


def agree(first: Features, second: Features) -> bool:
    """Whether two sets of features are equal but for rounding, by relative distance."""
    for one, other in zip(_tensors(first), _tensors(second), strict=True):
        if one.shape != other.shape:
            return False
        tolerance = min(1e4 * torch.finfo(one.dtype).eps, 0.05)
        distance = torch.linalg.vector_norm((one - other).float())
        if not distance <= tolerance * torch.linalg.vector_norm(one.float()):  # false for NaN, too
            return False
    return True


def _tensors(features: Features) -> list[Tensor]:
    return [part for part in (features.logits, features.embedding, *features.maps) if part is not None]
