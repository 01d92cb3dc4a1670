"""``--set`` of commands that look at one network: its options, and how texts become tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pursuhint.errors import PursuhintError

from .networks import text_of

_OPTIONS = ("teacher", "options")
_TEXT = ("data", "text")
_OF_A_PASS = (("acceleration", "fuse_batchnorm"), ("acceleration", "channels_last"))


class NetworkSettings(NamedTuple):
    """What ``--set`` says.

    Attributes:
        options: keywords of the network, for `pursuhint.models.create_model`.
        text: the section ``data.text`` of a recipe, with ``--tokenizer``; None without either.
        fuse_batchnorm: whether a pass over data may fuse batch norms.
        channels_last: whether it may run channels-last.
    """

    options: dict[str, Any]
    text: dict[str, Any] | None
    fuse_batchnorm: bool
    channels_last: bool


def network_settings(
    network: str,
    assignments: Sequence[str],
    *,
    data: str | None,
    tokenizer: str | None,
    reads_features: bool = False,
) -> NetworkSettings:
    """Read the assignments as a recipe would, where ``network`` is its teacher.

    Args:
        network: the name.
        assignments: ``teacher.options.NAME=VALUE`` or ``data.text.NAME=VALUE``, values as in YAML; of a
            command that ``reads_features`` ``acceleration.fuse_batchnorm`` and
            ``acceleration.channels_last``, too.
        data: of ``--data``.
        tokenizer: of ``--tokenizer``.
        reads_features: whether the command runs the network over data to read its features.

    Raises:
        PursuhintError: another key, which this command does not look at, or a wrong value.
    """
    from pursuhint.training import Recipe

    for assignment in assignments:
        path = tuple(assignment.partition("=")[0].strip().split("."))
        known = len(path) == 3 and path[:2] in (_OPTIONS, _TEXT)
        if not known and not (reads_features and path in _OF_A_PASS):
            more = ", acceleration.fuse_batchnorm, acceleration.channels_last" if reads_features else ""
            raise PursuhintError(
                f"--set {assignment} would be ignored: this command takes teacher.options.NAME=VALUE, the "
                f"options of its network{more}, and data.text.NAME=VALUE"
            )
    name = {} if data is None else {"name": data}
    start = {"teacher": network, "data": {**name, "text": text_of(tokenizer)}}
    recipe = Recipe.from_dict(start, source="the options").override(assignments)
    assert recipe.teacher is not None
    text = None if recipe.data.text is None else recipe.data.text.model_dump()
    speed = recipe.acceleration
    return NetworkSettings(dict(recipe.teacher.options), text, speed.fuse_batchnorm, speed.channels_last)
