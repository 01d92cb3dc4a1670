"""Losses that the user passes from Python, beside those of the table; their names begin with ``python:``."""

from __future__ import annotations

import contextlib
import copy
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.base import Loss
from pursuhint.losses.context import LossContext
from pursuhint.losses.info import Input, LossInfo

PREFIX = "python:"
"""Begins the name of a loss, network or data set that was passed from Python."""

_INPUTS: tuple[Input, ...] = typing.get_args(Input)

_PASSED: ContextVar[Mapping[str, type[Loss]]] = ContextVar("passed", default=MappingProxyType({}))


def passed_loss(name: str) -> type[Loss]:
    """The loss that was passed under a name such as ``python:mine``.

    Raises:
        PursuhintError: there is none here.
    """
    found = _PASSED.get().get(name)
    if found is None:
        short = name.removeprefix(PREFIX)
        raise PursuhintError(
            f"the loss {name} was passed from Python; pass it again: train(..., losses={{{short!r}: ...}})"
        )
    return found


def full_name(name: str) -> str:
    """The name in recipes of a loss that may have been passed: ``mine`` becomes ``python:mine``."""
    return f"{PREFIX}{name}" if f"{PREFIX}{name}" in _PASSED.get() else name


@contextlib.contextmanager
def losses_passed(kinds: Mapping[str, type[Loss]]) -> Iterator[None]:
    """Let `pursuhint.losses.get_loss` find these losses by name."""
    before = _PASSED.set({**_PASSED.get(), **kinds})
    try:
        yield
    finally:
        _PASSED.reset(before)


def kind_of(name: str, loss: Any) -> type[Loss]:
    """A class that builds the passed loss, whatever form it has.

    Args:
        name: for messages.
        loss: a subclass of `Loss`, built for the networks; an instance, of which a copy is trained; or a
            function or module whose parameters have names of `Input`, such as ``student_logits`` and
            ``labels``.

    Raises:
        PursuhintError: it is none of these.
    """
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss
    if isinstance(loss, Loss):
        return _same_as(loss)
    called = loss.forward if isinstance(loss, nn.Module) else loss
    if isinstance(loss, type) or not callable(loss):
        raise PursuhintError(
            f"loss {name!r} must be a pursuhint.losses.Loss, or a function or module of "
            f"{', '.join(_INPUTS)}; got {loss!r:.60}"
        )
    parameters = inspect.signature(called).parameters.values()
    inputs = [one.name for one in parameters if one.default is one.empty]
    unknown = [each for each in inputs if each not in _INPUTS]
    if unknown or not inputs:
        what = f"a parameter {unknown[0]!r}" if unknown else "no parameter"
        raise PursuhintError(
            f"loss {name!r} has {what}; the names of its parameters say what it looks at: "
            f"{', '.join(_INPUTS)}"
        )
    return _same_as(FunctionLoss(loss, tuple(inputs), title=name))  # type: ignore[arg-type]


class FunctionLoss(Loss):
    """A loss whose value a function or a module computes.

    Args:
        function: takes the inputs by name and returns a scalar.
        inputs: their names.
        title: of the loss, for messages.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Input, ...], *, title: str) -> None:
        super().__init__()
        teacher = any(each.startswith("teacher_") for each in inputs)
        info = LossInfo(title=title, inputs=inputs, needs_teacher=teacher, minimum=None)
        self.info = info
        self.function = function

    @classmethod
    def needs_second_view(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether the function has a parameter for it."""
        return cls.info.sees_second_view

    def forward(self, *inputs: Any) -> Tensor:
        if any(value is None for value in inputs):
            raise PursuhintError(
                f"loss {self.info.title!r} looks at a second view of each image, and there is none; give one "
                "(data.second_view=standard,randaugment)"
            )
        return self.function(**dict(zip(self.info.inputs, inputs)))


def _same_as(loss: Loss) -> type[Loss]:
    """A class of losses that are copies of one, with nothing left to choose."""

    class PassedLoss(type(loss)):  # type: ignore[misc]
        info = loss.info

        @classmethod
        def build(cls, context: LossContext, **hyperparameters: Any) -> Loss:
            cls.check_context(context)
            return copy.deepcopy(loss)

        @classmethod
        def hyperparameters(cls) -> Mapping[str, Any]:
            return {}

        @classmethod
        def needs_second_view(cls, hyperparameters: Mapping[str, Any]) -> bool:
            options = {name: getattr(loss, name, None) for name in type(loss).hyperparameters()}
            return super().needs_second_view(options)

    PassedLoss.__name__, PassedLoss.__qualname__ = type(loss).__name__, type(loss).__qualname__
    return PassedLoss
