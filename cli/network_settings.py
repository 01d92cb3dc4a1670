"""``--set`` of commands that look at one network: its options, and how texts become tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pursuhint.errors import PursuhintError

from .networks import text_of

_OPTIONS = ("teacher", "options")
_TEXT = ("data", "text")


class NetworkSettings(NamedTuple):
    """What ``--set`` says.

    Attributes:
        options: keywords of the network, for `pursuhint.models.create_model`.
        text: the section ``data.text`` of a recipe, with ``--tokenizer``; None without either.
    """

    options: dict[str, Any]
    text: dict[str, Any] | None


def network_settings(
    network: str, assignments: Sequence[str], *, data: str | None, tokenizer: str | None
) -> NetworkSettings:
    """Read the assignments as a recipe would, where ``network`` is its teacher.

    Args:
        network: the name.
        assignments: ``teacher.options.NAME=VALUE`` or ``data.text.NAME=VALUE``, values as in YAML.
        data: of ``--data``.
        tokenizer: of ``--tokenizer``.

    Raises:
        PursuhintError: another key, which this command does not look at, or a wrong value.
    """
    from pursuhint.training import Recipe

    for assignment in assignments:
        path = tuple(assignment.partition("=")[0].strip().split("."))
        if len(path) != 3 or path[:2] not in (_OPTIONS, _TEXT):
            raise PursuhintError(
                f"--set {assignment} would be ignored: this command takes teacher.options.NAME=VALUE, the "
                "options of its network, and data.text.NAME=VALUE"
            )
    name = {} if data is None else {"name": data}
    start = {"teacher": network, "data": {**name, "text": text_of(tokenizer)}}
    recipe = Recipe.from_dict(start, source="the options").override(assignments)
    assert recipe.teacher is not None
    text = None if recipe.data.text is None else recipe.data.text.model_dump()
    return NetworkSettings(dict(recipe.teacher.options), text)
