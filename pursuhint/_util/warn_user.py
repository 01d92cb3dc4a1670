"""Warnings that name the line of the user's program from which they come."""

from __future__ import annotations

import sys
import warnings

from pursuhint.errors import PursuhintWarning

__all__ = ["warn_user"]

_NOT_THE_USERS = ("pursuhint", "torch", "contextlib")


def warn_user(text: str) -> None:
    """Issue a `PursuhintWarning` at the innermost line outside of this package.

    Decorators and context managers of torch and of the standard library are passed over. With a fixed
    ``stacklevel`` the line depends on how deep the caller is, and is often one of ours.

    Args:
        text: one line.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(PursuhintWarning(text), stacklevel=level)
