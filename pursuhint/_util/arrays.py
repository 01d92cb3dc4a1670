"""Tensors from what callers pass: tensors, NumPy arrays, lists, pandas Series, PIL images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pursuhint.errors import PursuhintError


def as_tensor(values: Any, what: str, *, advice: str = "") -> Tensor:
    """A tensor of what the caller passed: tensor, array of any byte order and strides, list or Series.

    Args:
        values: numbers of equal shapes; arrays of Python objects if all of them are numbers.
        what: noun for messages.
        advice: what to do if the values are no numbers.

    Raises:
        PursuhintError: the values are no numbers, or have uneven shapes.
    """
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = np.asarray(values)
        if array.dtype == object and not any(isinstance(value, str) for value in array.flat):
            array = np.asarray(array.tolist())
    except (TypeError, ValueError, RuntimeError) as error:
        raise PursuhintError(f"{what} have uneven shapes: {str(error)[:100]}") from None
    if array.dtype.kind not in "biufc":
        raise PursuhintError(
            f"{what} must be numbers, got {array.dtype} such as {str(array.flat[:1])[:40]}{advice}"
        )
    # Torch takes neither another byte order nor negative strides.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.as_tensor(native if min(native.strides, default=0) >= 0 else native.copy())
