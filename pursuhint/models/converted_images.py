"""Convert images, while a function runs, for networks that say that they expect another normalisation."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from torch import nn

from pursuhint._util.arguments import expect_network
from pursuhint._util.warn_user import warn_user
from pursuhint.data import as_data
from pursuhint.data.preprocessing import OWN_SOURCES, Normalization
from pursuhint.models.normalization import (
    convert_images,
    converted_to,
    expected_normalization,
    remove_conversion,
)

if TYPE_CHECKING:
    from pursuhint.data import ImageData, InputData

P = ParamSpec("P")
T = TypeVar("T")


def takes_any_data(*networks: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function of networks and ``data``, so that its data may be whatever `as_data` takes.

    Images are converted for the networks while the function runs, see `images_converted`.

    Args:
        networks: names of the parameters that are networks.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            bound = signature.bind(*args, **kwargs)
            called = [(name, bound.arguments[name]) for name in networks]
            for name, network in called:
                expect_network(network, f"the {name}")
            bound.arguments["data"] = data = as_data(bound.arguments["data"])
            with contextlib.ExitStack() as stack:
                for _, network in called:
                    stack.enter_context(images_converted(network, data))
                return function(*bound.args, **bound.kwargs)

        return wrapper

    return decorate


@contextlib.contextmanager
def images_converted(network: nn.Module, data: ImageData | InputData) -> Iterator[None]:
    """Let a network take the images of some data, and leave it as it was at the end.

    Images are converted, and a warning says so, if the network says which normalisation it expects
    (`expected_normalization`), the data have another one, which is their own default, and no conversion was
    set before (`convert_images`).
    """
    expected = _other_constants(network, data)
    if expected is None:
        yield
        return
    used = Normalization(data.mean, data.std, data.normalization_source)  # type: ignore[union-attr]
    warn_user(
        f"the images are normalised with {used}, and are converted for {type(network).__name__}, which "
        f"says that it expects {expected}; if its weights were trained otherwise, pass "
        "pursuhint.data.as_data(data, normalization='data'), or "
        "dataclasses.replace(data, normalization_source='the data, as asked for')"
    )
    convert_images(network, used, expected)
    try:
        yield
    finally:
        remove_conversion(network)


def _other_constants(network: nn.Module, data: ImageData | InputData) -> Normalization | None:
    """The constants to which images are to be converted; None if they stay as they are."""
    preprocessing = getattr(data, "preprocessing", None)
    if preprocessing is None or preprocessing.value_range is None or preprocessing.source not in OWN_SOURCES:
        return None
    expected = expected_normalization(network)
    fitting = None if expected is None else expected.for_channels(preprocessing.channels)
    if fitting is None or converted_to(network) is not None:
        return None
    same = (preprocessing.mean, preprocessing.std) == (fitting.mean, fitting.std)
    return None if same else fitting
