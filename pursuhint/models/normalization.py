"""The normalisation that a network expects, and networks that take images normalised otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint._util.atomic_files import read_json
from pursuhint._util.wrappers import unwrapped
from pursuhint.data.preprocessing import IMAGENET, Normalization
from pursuhint.errors import PursuhintError

BY_NETWORK = "the network's "
"""Beginning of ``Normalization.source`` for constants that the network itself declares."""

_OF_WEIGHTS = "normalization_of_weights"  # attribute of a network

_PROCESSOR_FILE = "preprocessor_config.json"


def expected_normalization(network: nn.Module, name: str = "") -> Normalization | None:
    """Mean and deviation of the images that a network was trained on, without a download; None if unknown.

    What the file of its weights says, if `pursuhint.models.load_weights` has read one that does, comes before
    what the network declares, which is meant for the weights that it is published with.

    Args:
        network: timm's networks have a ``pretrained_cfg``, some others a ``default_cfg``. Networks of
            transformers are read with their ``image_processor``, if the caller has set that attribute, or
            with the ``preprocessor_config.json`` of the local folder that they were loaded from.
        name: as typed; ``torchvision:NAME`` means ImageNet's constants, those of all its weights.
    """
    network = unwrapped(network)
    for attribute in ("pretrained_cfg", "default_cfg"):
        declared = getattr(network, attribute, None)
        if isinstance(declared, Mapping) and declared.get("mean") and declared.get("std"):
            declares = Normalization.from_mapping(declared, f"{BY_NETWORK}{attribute}")
            return getattr(network, _OF_WEIGHTS, None) or declares
    processed = _of_processor(network)
    if processed is None and name.startswith("torchvision:"):
        processed = Normalization(
            IMAGENET.mean, IMAGENET.std, f"{BY_NETWORK}weights at torchvision, ImageNet's"
        )
    return None if processed is None else getattr(network, _OF_WEIGHTS, None) or processed


def remember_normalization(network: nn.Module, preprocessing: Mapping[str, Any] | None) -> None:
    """Keep, for `expected_normalization`, what a file of weights says of the images of its training.

    Args:
        network: gets an attribute, or loses that of weights that it had before.
        preprocessing: from the file, unchecked; None if it does not say.
    """
    values = {} if preprocessing is None else preprocessing
    mean, std = _numbers(values.get("mean")), _numbers(values.get("std"))
    network = unwrapped(network)
    if mean and len(mean) == len(std) and min(std) > 0 and values.get("value_range") is not None:
        found = Normalization(tuple(mean), tuple(std), "the file of its weights")
        setattr(network, _OF_WEIGHTS, found)
    elif hasattr(network, _OF_WEIGHTS):
        delattr(network, _OF_WEIGHTS)


def _of_processor(network: nn.Module) -> Normalization | None:
    """The constants of transformers' image processor, which may be an object or its file."""
    processor = getattr(network, "image_processor", None)
    if processor is not None:
        values = processor if isinstance(processor, Mapping) else vars(processor)
        return _of_values(values, "image_processor")
    folder = getattr(getattr(network, "config", None), "_name_or_path", None)
    file = Path(folder) / _PROCESSOR_FILE if isinstance(folder, str) and folder else None
    if file is None or not file.is_file():
        return None
    try:
        values = read_json(file, "image processor")
    except PursuhintError:
        return None
    return _of_values(values, _PROCESSOR_FILE) if isinstance(values, Mapping) else None


def _of_values(values: Mapping[str, Any], source: str) -> Normalization | None:
    """Constants for images in [0, 1], from the steps of a processor that begins with values in 0..255.

    It computes ``(factor * pixel - offset - mean) / std``; each of the two steps may be switched off.
    """
    mean, std = _numbers(values.get("image_mean")), _numbers(values.get("image_std"))
    if values.get("do_normalize") is False:
        mean, std = [0.0], [1.0]
    factor = (_numbers(values.get("rescale_factor")) or [1 / 255])[0]
    if values.get("do_rescale") is False:
        factor = 1.0
    if not mean or len(mean) != len(std) or min(std) <= 0 or factor <= 0:
        return None
    scale, offset = 255 * factor, 1.0 if values.get("rescale_offset") else 0.0
    if math.isclose(scale, 1.0):
        scale = 1.0  # the usual factor is 1/255, rounded
    return Normalization(
        tuple((value + offset) / scale for value in mean),
        tuple(value / scale for value in std),
        f"{BY_NETWORK}{source}",
    )


def _numbers(values: Any) -> list[float]:
    """One finite number or several, as a list; empty for anything else."""
    several = values if isinstance(values, Sequence) else [values]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in several):
        return []
    return [float(value) for value in several]


def convert_images(network: nn.Module, given: Normalization, expected: Normalization) -> nn.Module:
    """Let a network take images normalised with ``given``, by converting them to ``expected`` at its input.

    Args:
        network: changed in place, by a hook that copies of it keep. An earlier conversion is replaced.
        given: of the images that it will receive.
        expected: of the images that it was trained on.

    Returns:
        The network.
    """
    remove_conversion(network)
    if (given.mean, given.std) != (expected.mean, expected.std):
        unwrapped(network).register_forward_pre_hook(_Conversion(given, expected))
    return network


def remove_conversion(network: nn.Module) -> None:
    """Let a network take its images as they are again."""
    hooks = unwrapped(network)._forward_pre_hooks
    for key in [key for key, hook in hooks.items() if isinstance(hook, _Conversion)]:
        del hooks[key]


def converted_to(network: nn.Module) -> Normalization | None:
    """The normalisation to which `convert_images` converts a network's images; None without a conversion."""
    for hook in unwrapped(network)._forward_pre_hooks.values():
        if isinstance(hook, _Conversion):
            return hook.expected
    return None


class _Conversion:
    """(x * std_given + mean_given - mean_expected) / std_expected, as one factor and one offset."""

    def __init__(self, given: Normalization, expected: Normalization) -> None:
        self.expected = expected
        rows = list(zip(given.mean, given.std, expected.mean, expected.std, strict=True))
        self._factor = [from_std / to_std for _, from_std, _, to_std in rows]
        self._offset = [(from_mean - to_mean) / to_std for from_mean, _, to_mean, to_std in rows]

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        images: Tensor = inputs[0]
        factor, offset = (
            torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
            for values in (self._factor, self._offset)
        )
        return (images * factor + offset, *inputs[1:])
