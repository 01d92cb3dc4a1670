"""Losses, optimizer, scheduler and callbacks that the user passes from Python beside a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pursuhint.errors import PursuhintError
from pursuhint.losses.passed import PREFIX, FunctionLoss, kind_of
from pursuhint.training.recipe.schema import LossConfig, Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from pursuhint.losses.base import Loss

__all__ = ["OwnParts"]


@dataclass(frozen=True, eq=False)
class OwnParts:
    """What a run gets from Python in place of parts of its recipe.

    Attributes:
        losses: by name: a loss, or (loss, weight); see `pursuhint.losses.passed.kind_of`.
        optimizer: from a list of parameters to the optimizer of the main stage; the recipe's section
            ``optimizer`` then holds for warm-ups alone, and its schedule scales the optimizer's own rates.
        scheduler: from the optimizer to a scheduler, which steps after every epoch of the main stage, in
            place of the recipe's schedule.
        callbacks: called with every event and with the distiller, whose ``student`` is in training.
    """

    losses: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None = None
    scheduler: Callable[[Optimizer], LRScheduler] | None = None
    callbacks: Sequence[Callable[[Any, Any], object]] = ()

    def __post_init__(self) -> None:
        for what in ("optimizer", "scheduler"):
            value = getattr(self, what)
            made = hasattr(value, "step") and not isinstance(value, type)  # an optimizer instead of its maker
            if value is not None and (made or not callable(value)):
                source = "a list of parameters" if what == "optimizer" else "the optimizer"
                raise PursuhintError(
                    f"{what} must be a function of {source}, such as "
                    f"{'torch.optim.Adam' if what == 'optimizer' else 'lambda o: StepLR(o, 30)'}; got a "
                    f"{type(value).__name__}"
                )
        for callback in self.callbacks:
            if not callable(callback):
                raise PursuhintError(
                    f"a callback must be a function of event and distiller, got a {type(callback).__name__}"
                )

    def kinds(self) -> dict[str, type[Loss]]:
        """The classes of the losses, under their names in recipes."""
        return {f"{PREFIX}{name}": kind_of(name, loss) for name, (loss, _) in self._weighted().items()}

    def _weighted(self) -> dict[str, tuple[Any, float | None]]:
        pairs = {}
        for name, entry in self.losses.items():
            if not isinstance(name, str) or not name or "." in name:
                raise PursuhintError(f"the name of a loss must be text without dots, got {name!r}")
            pairs[name] = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
        return pairs

    def modules(self) -> dict[str, nn.Module]:
        """The losses that have tensors of their own."""
        losses = {name: loss for name, (loss, _) in self._weighted().items()}
        return {
            name: loss
            for name, loss in losses.items()
            if getattr(loss, "state_dict", None) and not isinstance(loss, type) and loss.state_dict()
        }

    def added_to(self, recipe: Recipe) -> Recipe:
        """The recipe with the losses among its own, and with the names of the other parts.

        Raises:
            PursuhintError: the recipe is that of a run with other parts than these.
        """
        self.check_those_of(recipe)
        configs = {
            f"{PREFIX}{name}": LossConfig(weight=weight) for name, (_, weight) in self._weighted().items()
        }
        losses = {**recipe.losses, **configs}
        return recipe.model_copy(update={"losses": losses, "passed": self.names()})

    def check_those_of(self, recipe: Recipe) -> None:
        """Check that a recipe which names parts from Python names these.

        Raises:
            PursuhintError: it is that of a run with other parts.
        """
        if recipe.passed and recipe.passed != self.names():
            raise PursuhintError(
                f"the recipe was trained with parts passed from Python ({'; '.join(recipe.passed)}); "
                "pass them again, or take them out of the recipe"
            )

    def only(self, losses: Container[str]) -> OwnParts:
        """These parts with some of the losses.

        Args:
            losses: their names in recipes.
        """
        kept = {name: loss for name, loss in self.losses.items() if f"{PREFIX}{name}" in losses}
        return replace(self, losses=kept)

    def weighted(self, losses: Mapping[str, LossConfig]) -> OwnParts:
        """These parts with the losses that a method of a study has, and its weights where it has some.

        Args:
            losses: of the method, by their names in recipes.
        """
        typed = {name: config.weight for name, config in losses.items() if config.weight is not None}
        kept = {
            name: (loss, typed.get(f"{PREFIX}{name}", weight))
            for name, (loss, weight) in self._weighted().items()
            if f"{PREFIX}{name}" in losses
        }
        return replace(self, losses=kept)

    def weights(self) -> dict[str, str]:
        """The weights that were passed with the losses, by name, as text."""
        return {
            f"weight of the loss {name}": str(weight)
            for name, (_, weight) in self._weighted().items()
            if weight is not None
        }

    def names(self) -> tuple[str, ...]:
        """What the parts are called in recipes: ``"optimizer torch.optim.adam.Adam"``."""
        found = [f"loss {name} {_name(loss)}" for name, (loss, _) in self._weighted().items()]
        found += [
            f"{what} {_name(part)}" for what in ("optimizer", "scheduler") if (part := getattr(self, what))
        ]
        return (*found, *(f"callback {_name(callback)}" for callback in self.callbacks))


NO_PARTS = OwnParts()
"""Everything is as the recipe says."""


def _name(part: Any) -> str:
    """Module and name of a function or class, or of an object's class."""
    if isinstance(part, FunctionLoss):
        part = part.function
    named = (
        part if inspect.isfunction(part) or inspect.isclass(part) or inspect.ismethod(part) else type(part)
    )
    return f"{named.__module__}.{named.__qualname__}"
