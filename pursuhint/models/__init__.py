"""Networks by name: the CIFAR family, torchvision's, timm's, and your own.

Importing this package needs no PyTorch; a network's module is imported when the network is built. Weights are
read and written by ``pursuhint.models.checkpoint``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._util.registry import check_name, resolve
from pursuhint._util.size_bounds import LARGEST_CHANNELS, LARGEST_CLASSES, check_at_most
from pursuhint.errors import PursuhintError
from pursuhint.models.factory import call_factory
from pursuhint.models.names import check_network_name

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.models.accuracy import measure_teacher
    from pursuhint.models.checkpoint import (
        LoadedWeights,
        count_parameters,
        load_weights,
        read_state_dict,
        save_weights,
    )
    from pursuhint.models.evaluation import Evaluation, evaluate
    from pursuhint.models.export import Exported, Normalized, export_network
    from pursuhint.models.predictor import Prediction, Predictor
    from pursuhint.models.published_weights import fetch_weights
    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.models.text_predictor import TextPrediction, TextPredictor

__getattr__, __dir__, __all__ = lazy_exports(__name__, "MODELS", "create_model", "model_names")

_WIDE_RESNET = "pursuhint.models.wrn:WideResNet"
_WIDE_RESNET_NAME = re.compile(r"wrn_(\d+)_(\d+)", re.IGNORECASE)

MODELS: Mapping[str, str] = MappingProxyType(
    {
        "resnet8": "pursuhint.models.resnet:resnet8",
        "resnet14": "pursuhint.models.resnet:resnet14",
        "resnet20": "pursuhint.models.resnet:resnet20",
        "resnet32": "pursuhint.models.resnet:resnet32",
        "resnet44": "pursuhint.models.resnet:resnet44",
        "resnet56": "pursuhint.models.resnet:resnet56",
        "resnet110": "pursuhint.models.resnet:resnet110",
        "resnet8x4": "pursuhint.models.resnet:resnet8x4",
        "resnet32x4": "pursuhint.models.resnet:resnet32x4",
        "ResNet50": "pursuhint.models.resnet50:ResNet50",
        # Depth and width are read from the name; any wrn_DEPTH_WIDTH of valid depth works, listed or not.
        "wrn_16_1": _WIDE_RESNET,
        "wrn_16_2": _WIDE_RESNET,
        "wrn_16_4": _WIDE_RESNET,
        "wrn_28_2": _WIDE_RESNET,
        "wrn_28_4": _WIDE_RESNET,
        "wrn_40_1": _WIDE_RESNET,
        "wrn_40_2": _WIDE_RESNET,
        "wrn_40_4": _WIDE_RESNET,
        "vgg8": "pursuhint.models.vgg:vgg8",
        "vgg11": "pursuhint.models.vgg:vgg11",
        "vgg13": "pursuhint.models.vgg:vgg13",
        "vgg16": "pursuhint.models.vgg:vgg16",
        "vgg19": "pursuhint.models.vgg:vgg19",
        "MobileNetV1": "pursuhint.models.mobilenetv1:MobileNetV1",
        "MobileNetV2": "pursuhint.models.mobilenetv2:MobileNetV2",
        "ShuffleV1": "pursuhint.models.shufflev1:ShuffleV1",
        "ShuffleV2": "pursuhint.models.shufflev2:ShuffleV2",
    }
)


def model_names() -> list[str]:
    """Names of the networks that come with PursuHint, family by family.

    ``create_model`` also takes any ``wrn_DEPTH_WIDTH``, ``torchvision:NAME``, ``timm:NAME``, ``hf:NAME`` and
    ``package.module:factory``.
    """
    return list(MODELS)


def create_model(
    name: str, *, num_classes: int, in_channels: int = 3, vocab_size: int | None = None, **options: Any
) -> nn.Module:
    """Build a network with random weights, drawn from PyTorch's global generator.

    Args:
        name: one of ``MODELS`` (case does not matter); ``wrn_DEPTH_WIDTH`` with a depth of 6 n + 4;
            ``torchvision:NAME`` or ``timm:NAME`` for a classification network of those packages (timm is an
            extra); ``hf:NAME`` for a network of transformers (extra ``hf``), where NAME is a folder of
            ``save_pretrained``, a type such as ``vit`` or ``bert``, or ``OWNER/NAME`` on its hub; a name that
            another distribution registers in the entry-point group ``pursuhint.models``; or
            ``package.module:factory`` for your own. The last two import and call that code; it is
            passed ``num_classes`` and ``in_channels`` if its signature has them.
        num_classes: number of logits, 1 to 1,000,000.
        in_channels: channels of the images, 1 to 4,096.
        vocab_size: numbers of tokens of a text, for networks that take text (``hf:NAME`` and your own).
        **options: further keywords of the network, such as ``width`` of the MobileNets.

    Returns:
        The network, in training mode, on the CPU unless a device context says otherwise.

    Raises:
        PursuhintError: unknown network, unknown option or value, the import failed, or the network does not
            fit into memory.

    Example:
        >>> create_model("resnet20", num_classes=10, in_channels=1)
        CifarResNet(...)
    """
    for label, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise PursuhintError(f"{label} must be at least 1, got {value}")
    check_at_most(LARGEST_CLASSES, num_classes=num_classes)
    check_at_most(LARGEST_CHANNELS, in_channels=in_channels)
    if ":" in name:
        check_network_name(name, MODELS)
        from pursuhint.models.external import external_model  # imports PyTorch

        return external_model(
            name, num_classes=num_classes, in_channels=in_channels, vocab_size=vocab_size, **options
        )
    sizes = {"num_classes": num_classes, "in_channels": in_channels}
    if wide := _WIDE_RESNET_NAME.fullmatch(name):
        sizes |= {"depth": int(wide[1]), "width": int(wide[2])}
        return call_factory(name, resolve(_WIDE_RESNET), sizes, options)
    check_network_name(name, MODELS)
    known = {listed.lower(): listed for listed in MODELS}.get(name.lower(), name)
    if vocab_size is not None:
        from pursuhint.models.external import no_text  # imports PyTorch

        raise no_text(name)
    if plugin := check_name("network", MODELS, known):
        from pursuhint.models.external import imported_model  # imports PyTorch

        return imported_model(plugin.reference, num_classes=num_classes, in_channels=in_channels, **options)
    return call_factory(name, resolve(MODELS[known]), sizes, options)
