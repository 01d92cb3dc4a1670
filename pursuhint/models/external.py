"""Networks from torchvision, from timm, from transformers and from the user's own code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError
from pursuhint.models.code_reference import check_factory, refuse_standard_library
from pursuhint.models.factory import call_factory

# Options that would download weights while a network is built; weights come from a file the user names.
_DOWNLOADS = frozenset({"weights", "pretrained", "weights_backbone", "checkpoint_path", "pretrained_cfg"})

# Without these arguments both return a tuple in training mode, and warn about their initialisation.
_PLAIN_OUTPUT: Mapping[str, Mapping[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def external_model(
    name: str, *, num_classes: int, in_channels: int = 3, vocab_size: int | None = None, **options: Any
) -> nn.Module:
    """Build ``torchvision:NAME``, ``timm:NAME``, ``hf:NAME`` or ``package.module:factory``.

    Args:
        name: one of the four forms.
        num_classes: number of logits.
        in_channels: channels of the images.
        vocab_size: numbers of tokens of a text, for the last two.
        **options: further keywords of the network.

    Raises:
        PursuhintError: as `torchvision_model`, `timm_model`, `transformers_model` and `imported_model` raise,
            or a network of images is given a vocabulary.
    """
    source, _, rest = name.partition(":")
    if source == "hf":
        from pursuhint.models.transformers_network import transformers_model

        return transformers_model(
            rest, num_classes=num_classes, in_channels=in_channels, vocab_size=vocab_size, **options
        )
    if vocab_size is not None and source in ("torchvision", "timm"):
        raise no_text(name)
    if source == "torchvision":
        return torchvision_model(rest, num_classes=num_classes, in_channels=in_channels, **options)
    if source == "timm":
        return timm_model(rest, num_classes=num_classes, in_channels=in_channels, **options)
    return imported_model(
        name, num_classes=num_classes, in_channels=in_channels, vocab_size=vocab_size, **options
    )


def no_text(name: str) -> PursuhintError:
    """The error for a network of images that is asked to take text."""
    return PursuhintError(
        f"{name} takes images, and the data are text; networks of text are hf:NAME (hf:bert), "
        "package.module:factory, or passed from Python"
    )


def torchvision_model(name: str, *, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build one of torchvision's classification networks, with random weights.

    Args:
        name: as torchvision spells it, such as ``mobilenet_v2``.
        num_classes: number of logits.
        in_channels: channels of the images; other than 3 replaces the first convolution by a new one,
            He-initialised.
        **options: further keywords of the network.

    Raises:
        PursuhintError: unknown network or option, or no first convolution to replace.
    """
    from torchvision import models

    label = f"torchvision:{name}"
    known = models.list_models(module=models)
    if name not in known:
        raise PursuhintError(
            f"torchvision has no classification network {name!r}; {did_you_mean(name, known, shown=6)}"
        )
    _refuse_downloads(label, options)
    usual = {"weights": None, "num_classes": num_classes, **_PLAIN_OUTPUT.get(name, {})}
    network = _build(label, models.get_model, name, usual, options)
    if in_channels != 3:
        _replace_first_convolution(label, network, in_channels)
    return network


def timm_model(name: str, *, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build one of timm's networks, with random weights.

    Args:
        name: as timm spells it, such as ``convnext_tiny``.
        num_classes: number of logits.
        in_channels: channels of the images.
        **options: further keywords of the network.

    Raises:
        PursuhintError: timm is not installed, or unknown network or option.
    """
    label = f"timm:{name}"
    try:
        import timm
    except ImportError:
        raise PursuhintError(f"{label} needs timm: pip install 'pursuhint[timm]'") from None
    # timm would resolve names such as hf-hub:... over the internet; is_model knows local names only.
    if ":" in name or not timm.is_model(name):
        raise PursuhintError(
            f"timm has no network {name!r}; {did_you_mean(name, timm.list_models(), shown=6)}"
        )
    _refuse_downloads(label, options)
    usual = {"pretrained": False, "num_classes": num_classes, "in_chans": in_channels}
    return _build(label, timm.create_model, name, usual, options)


def imported_model(
    reference: str, *, num_classes: int, in_channels: int = 3, vocab_size: int | None = None, **options: Any
) -> nn.Module:
    """Import ``package.module:factory`` and call it. This runs the imported code.

    Args:
        reference: import path of the function or class. Errors of its own code keep their traceback.
        num_classes: passed if the factory takes it.
        in_channels: passed if the factory takes it.
        vocab_size: of data that are text; passed if the factory takes it.
        **options: passed unchanged.

    Raises:
        PursuhintError: the reference cannot be imported, names something that builds no networks (it is then
            not called), the factory does not take these options or needs others, or it returns no
            ``nn.Module``.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise PursuhintError(f"{reference!r} is not of the form package.module:factory")
    refuse_standard_library(reference)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:  # the last two: names such as ".x" or "a..b"
        raise PursuhintError(
            f"cannot import {module_name!r} for {reference}: {error}; is its folder on PYTHONPATH? "
            "(the current folder is not, unless PYTHONPATH=. says so)"
        ) from error
    try:
        factory = getattr(module, attribute)
    except AttributeError:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise PursuhintError(
            f"{module_name} has no {attribute!r}; {did_you_mean(attribute, known)}"
        ) from None
    if isinstance(factory, nn.Module) or not callable(factory):
        kind = "a network" if isinstance(factory, nn.Module) else f"a {type(factory).__name__}"
        raise PursuhintError(f"{reference} is {kind}, not a function or class that builds a network")
    check_factory(reference, factory)
    sizes = {"num_classes": num_classes, "in_channels": in_channels}
    if vocab_size is not None:
        sizes["vocab_size"] = vocab_size
    network = call_factory(reference, factory, sizes, options)
    if not isinstance(network, nn.Module):
        raise PursuhintError(f"{reference} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _refuse_downloads(label: str, options: Mapping[str, Any]) -> None:
    for option in sorted(_DOWNLOADS & options.keys()):
        raise PursuhintError(f"{label}: {option} would fetch weights; give a checkpoint file instead")


def _build(
    label: str,
    builder: Callable[..., nn.Module],
    name: str,
    usual: Mapping[str, Any],
    options: Mapping[str, Any],
) -> nn.Module:
    """Call a builder that forwards its keywords; an unknown option raises somewhere inside it."""
    try:
        return builder(name, **{**usual, **options})
    except Exception as error:
        if not options:
            raise
        raise PursuhintError(f"{label} cannot be built with {', '.join(options)}: {error}") from error


def _replace_first_convolution(label: str, network: nn.Module, in_channels: int) -> None:
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.in_channels != 3 or module.groups != 1:
            break
        convolution = nn.Conv2d(
            in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            bias=module.bias is not None,
            padding_mode=module.padding_mode,
        )
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        network.set_submodule(name, convolution)
        return
    raise PursuhintError(
        f"{label} does not start with a convolution of 3 channels; it cannot take {in_channels}"
    )
