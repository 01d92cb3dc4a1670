"""Names of networks that stand for code: what ``package.module:factory`` may point to."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from types import FunctionType
from typing import Any

from pursuhint.errors import PursuhintError

_NO_IMPORT = (
    "torchvision",
    "timm",
    "hf",
    "python",
)  # sources of networks, and the mark of a module from Python


def names_code(network: str) -> bool:
    """Whether building the network of this name imports and calls code that the name points to."""
    source, colon, _ = network.partition(":")
    return bool(colon) and source not in _NO_IMPORT


def refuse_standard_library(reference: str) -> None:
    """Refuse ``os:system`` and its kin before anything is imported.

    Raises:
        PursuhintError: the module belongs to Python's standard library, which builds no networks.
    """
    package = reference.partition(":")[0].partition(".")[0]
    if package in sys.stdlib_module_names:
        raise PursuhintError(
            f"{reference} is part of Python's standard library, which builds no networks; nothing was run"
        )


def check_factory(reference: str, factory: Any) -> None:
    """Check, before it is called, that an imported object can be a factory of networks.

    Accepted are subclasses of ``torch.nn.Module`` and functions written in Python in the named package, whose
    return annotation, if they have one, is such a class; also `functools.partial` of either.

    Raises:
        PursuhintError: the object is something else.
    """
    from torch import nn

    while isinstance(factory, functools.partial):
        factory = factory.func
    expected = "a subclass of torch.nn.Module or a Python function that returns one"
    if inspect.isclass(factory):
        if not issubclass(factory, nn.Module):
            raise PursuhintError(f"{reference} is the class {factory.__qualname__}, not {expected}")
        return
    if not isinstance(factory, FunctionType):
        raise PursuhintError(f"{reference} is a {type(factory).__name__}, not {expected}")
    package = reference.partition(":")[0].partition(".")[0]
    home = inspect.unwrap(factory).__module__
    if home.partition(".")[0] != package:
        raise PursuhintError(f"{reference} comes from {home}, not from {package}; name the module it is from")
    returned = _return_class(factory)
    if returned is not None and not issubclass(returned, nn.Module):
        raise PursuhintError(
            f"{reference} returns a {returned.__name__}, as its annotation says, not a network"
        )


def _return_class(function: FunctionType) -> type | None:
    """Class that a function's annotation promises; None without one, or for types that are no class."""
    try:
        returned = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):  # names that exist for type checkers only
        return None
    return returned if inspect.isclass(returned) and returned is not Any else None
