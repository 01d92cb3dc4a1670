"""Kinds of arguments, and one line on what an argument should have been."""

from __future__ import annotations

from typing import Any, TypeGuard

from pursuhint.errors import PursuhintError

LOAD_DATA = "load them with pursuhint.data.load_dataset(name), or ImageData.from_tensors(...)"
READ_RECIPE = "read one with Recipe.load(name) or Recipe.from_dict(values)"


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is an integer or floating-point number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def expect_network(value: Any, what: str) -> None:
    """Refuse what is no `torch.nn.Module`.

    Raises:
        PursuhintError: see `expect`.
    """
    from torch import nn  # takes a second; recipes are read without it

    expect(
        value, nn.Module, what, advice="build one, e.g. pursuhint.models.create_model(name, num_classes=10)"
    )


def expect(value: Any, kind: type | tuple[type, ...], what: str, *, advice: str) -> None:
    """Refuse an argument of another type.

    Args:
        value: the argument.
        kind: its expected type, or several.
        what: noun for the message, such as ``the network``.
        advice: how to get such an object.

    Raises:
        PursuhintError: names the argument, the expected type, what was passed, and the advice.
    """
    if isinstance(value, kind):
        return
    found = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    if isinstance(value, str):
        found = f"the text {value[:40]!r}"
    kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
    raise PursuhintError(f"{what} must be of type {kinds}, got {found}; {advice}")
