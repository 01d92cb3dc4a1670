"""From options to data and networks: what several commands begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError

from .progress import say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pursuhint.data import ImageData

__all__ = ["default_device", "example_image", "load_data", "load_network"]


def default_device(device: str | None) -> str:
    """The named device, or a GPU when there is one.

    Raises:
        PursuhintError: torch knows no such device, or it is not there.
    """
    import torch

    if device is None:
        accelerator = torch.accelerator.current_accelerator()
        return accelerator.type if accelerator is not None and torch.accelerator.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PursuhintError(f"device {device!r} cannot be used: {reason}; try --device cpu") from None
    return device


def load_data(
    name: str | None, root: Path | None, download: bool, image_size: int | None, *, val_fraction: float = 0.0
) -> ImageData:
    """The data set of the options ``--data``, ``--data-root``, ``--download`` and ``--image-size``."""
    from pursuhint.data import load_dataset

    return load_dataset(
        name or "digits", root=root, download=download, image_size=image_size, val_fraction=val_fraction
    )


def example_image(data: ImageData) -> Tensor:
    """A black image of the data set's size, for finding hint points."""
    import torch

    return torch.zeros(1, data.in_channels, *data.image_size)


def load_network(
    name: str,
    checkpoint: Path | None,
    data: ImageData,
    *,
    num_classes: int | None = None,
    quiet: bool = False,
    role: str = "teacher",
) -> nn.Module:
    """A network for a data set, with weights from a file if one is given."""
    from pursuhint.models import create_model
    from pursuhint.models.checkpoint import load_weights

    network = create_model(name, num_classes=num_classes or data.num_classes, in_channels=data.in_channels)
    if checkpoint is None:
        say(f"note: no checkpoint was given, so the {role} {name} has random weights", quiet)
    else:
        load_weights(network, checkpoint)
    return network
