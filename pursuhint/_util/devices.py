"""The device that computations run on when nobody names one."""

from __future__ import annotations

import torch

from pursuhint.errors import PursuhintError

__all__ = ["choose_device"]


def choose_device(device: torch.device | str | None) -> torch.device:
    """The named device, or the best available one.

    Args:
        device: as PyTorch names it; None for the accelerator of this machine, or the CPU if it has none.

    Raises:
        PursuhintError: PyTorch knows no such device, or this machine has none.
    """
    if device is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if found is None else found
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise PursuhintError(f"there is no device {str(device)!r} here; use 'cpu'") from None
    return chosen
