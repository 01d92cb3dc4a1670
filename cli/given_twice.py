"""Keys of the recipe that a command line gives twice, so that one of the two values would be ignored."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError

from .options import typed
from .recipe_keys import RECIPE_KEYS, whole_key


def refuse_given_twice(assignments: Sequence[str], losses: Sequence[str]) -> None:
    """Refuse a key of the recipe that ``--set`` and another option of the running command give, or two of it.

    Args:
        assignments: the values of ``--set``.
        losses: the values of ``--loss``, whose weights and options are keys, too.

    Raises:
        PursuhintError: a key is given twice.
    """
    given = {RECIPE_KEYS[str(option.name)]: option.opts[0] for option in typed(*RECIPE_KEYS)}
    for loss in losses:
        for key in _keys_of_loss(loss):
            given[key] = f"--loss {loss}"
    for assignment in assignments:
        key = whole_key(assignment)
        if key in given:
            raise PursuhintError(
                f"{given[key]} and --set {assignment} both give {key}, and one of them would be ignored; "
                "leave one out"
            )
        given[key] = f"--set {assignment}"


def _keys_of_loss(loss: str) -> list[str]:
    """The keys that ``at=1000:p=1`` gives; a loss without a weight leaves that to ``--set``."""
    from pursuhint.losses import ALIASES

    head, _, options = loss.partition(":")
    name, weighted, _ = head.partition("=")
    name = ALIASES.get(name.strip(), name.strip())
    keys = [one.partition("=")[0].strip() for one in options.split(",") if "=" in one]
    return [f"losses.{name}.{key}" for key in (["weight"] if weighted else []) + keys]
