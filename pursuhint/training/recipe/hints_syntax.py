"""Hints as they are typed: ``conventional``, ``chosen``, ``7,29,49``, ``layer2.4,layer3.1`` or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pursuhint._util.registry import lookup
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.hint_keys import keys_without_effect, no_effect, with_effect
from pursuhint.training.recipe.loss_syntax import parse_value
from pursuhint.training.recipe.schema import HintsConfig, Strategy

STRATEGIES = tuple(name for name in get_args(Strategy) if name != "explicit")
"""What can be typed in place of points or a file."""


def parse_hints(text: str) -> dict[str, Any]:
    """Read one ``--hints`` value.

    Args:
        text: a strategy; a ``hints.json``, if the file exists or the text ends so or has a folder in it;
            otherwise points by position or module name, with commas between them.

    Returns:
        The one key of a recipe's ``hints`` that it decides: ``strategy``, ``file`` or ``points``.

    Raises:
        PursuhintError: a single word that is none of these; the message suggests a strategy.

    Example:
        >>> parse_hints("7,29,49")
        {'points': ['7', '29', '49']}
    """
    if text in STRATEGIES:
        return {"strategy": text}
    if Path(text).is_file() or text.endswith(".json") or len(Path(text).parts) > 1:
        return {"file": text}
    points = [part.strip() for part in text.split(",") if part.strip()]
    if len(points) < 2 and not any(character.isdigit() for character in text):
        lookup("hint strategy", dict.fromkeys(STRATEGIES), text)
    return {"points": points}


def with_hints(values: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Plain values of a recipe with other hint points; its other hint keys stay, where they have an effect.

    The student's points of a recipe that names the teacher's go with these. So do the own hints of single
    losses.

    Args:
        values: of a recipe, as `pursuhint.training.Recipe.to_dict` gives them.
        text: see `parse_hints`.

    Raises:
        PursuhintError: as `parse_hints`.
    """
    typed, before = parse_hints(text), dict(values.get("hints") or {})
    if before.get("points") or before.get("file"):
        before["student_points"] = []
    hints = {**before, "file": None, "points": [], "strategy": None, **typed}
    if "strategy" not in typed:  # the number follows from the points
        hints["k"] = None
    hints = with_effect(hints)
    losses = {name: _without_hints(loss) for name, loss in (values.get("losses") or {}).items()}
    return {**values, "hints": hints, "losses": losses}


def check_effect(
    hints: HintsConfig | None, assignments: Iterable[str], *, decided: Iterable[str] = ()
) -> None:
    """Refuse assignments of hint keys that decide nothing.

    Args:
        hints: the hints with these assignments; None for the points of each loss's paper.
        assignments: as `pursuhint.training.Recipe.override` takes them.
        decided: keys that the command decides itself instead of a strategy; all others then have an effect.

    Raises:
        PursuhintError: a key has no effect with the strategy, or is decided by the command.
    """
    values, decided = {} if hints is None else hints.model_dump(), tuple(decided)
    ignored = decided or keys_without_effect(values)
    for assignment in assignments:
        path, _, text = assignment.partition("=")
        section, _, key = path.strip().partition(".")
        key = key.partition(".")[0]  # of hints.curriculum.threshold, the section
        if section != "hints" or key not in ignored or parse_value(text) in (None, []):
            continue
        if decided:
            raise PursuhintError(f"hints.{key} has no effect here: the arms decide it (--arm)")
        raise PursuhintError(no_effect(key, values))


def _without_hints(loss: Any) -> Any:
    return (
        {key: entry for key, entry in loss.items() if key != "hints"} if isinstance(loss, Mapping) else loss
    )
