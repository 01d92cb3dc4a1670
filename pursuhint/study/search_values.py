"""Checks of what a search varies against its recipe, and the recipe's own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pursuhint._util.arguments import is_number
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.loss_syntax import parse_value
from pursuhint.training.recipe.resolve import resolve_recipe

if TYPE_CHECKING:
    from pursuhint.study.search_space import Varied
    from pursuhint.training.inputs import Inputs
    from pursuhint.training.recipe.schema import Recipe

_FIXED = ("seed", "data.name", "data.root", "data.val_fraction", "data.classes")
"""Keys that decide by which images, or with which draws, all trials are judged."""

_OF_RECORDING = ("teacher", "data", "seed", "batch_size", "precision", "acceleration")
"""Sections on which what a teacher says depends."""


def check_space(
    recipe: Recipe, space: Sequence[Varied], inputs: Inputs, *, recorded: bool
) -> tuple[Varied, ...]:
    """Check that every value gives a recipe, and another one than the others.

    Args:
        recipe: that of all trials.
        space: keys that vary.
        inputs: what replaces the recipe's networks and data.
        recorded: whether all trials replay one recording of the teacher.

    Returns:
        The keys, with ranges of whole numbers where the recipe takes no others.

    Raises:
        PursuhintError: a key is unknown, repeated, fixed in a search or without effect; a value is refused.
    """
    if not space:
        raise PursuhintError("there is nothing to vary; give --vary KEY=LOW..HIGH")
    keys = [varied.key for varied in space]
    for key in keys:
        if keys.count(key) > 1:
            raise PursuhintError(f"{key} is varied twice; give it once, with all its values")
        if key in (*_FIXED, "data"):
            raise PursuhintError(f"{key} cannot be varied: trials are compared on the same images and draws")
    found = []
    for varied in space:
        others = {other.key: other.ends[0] for other in space if other.key != varied.key}
        varied = _with_numbers_that_fit(recipe, varied, others, inputs)
        outcomes = []
        for text in varied.ends:
            trial = with_values(recipe, {**others, varied.key: text})
            outcomes.append(resolve_recipe(trial, inputs).to_dict())
            if recorded and any(trial.to_dict()[part] != recipe.to_dict()[part] for part in _OF_RECORDING):
                raise PursuhintError(
                    f"{varied.key} changes what the teacher says, so its trials cannot replay one recording; "
                    "leave --record-teacher out"
                )
        if any(outcomes.count(outcome) > 1 for outcome in outcomes):
            raise PursuhintError(f"--vary {varied} would be ignored: it changes nothing in this recipe")
        found.append(varied)
    return tuple(found)


def _with_numbers_that_fit(
    recipe: Recipe, varied: Varied, others: Mapping[str, str], inputs: Inputs
) -> Varied:
    """A range of whole numbers if its ends are whole and the recipe refuses a number between."""
    if (
        varied.low is None
        or varied.high is None
        or not (varied.low.is_integer() and varied.high.is_integer())
    ):
        return varied
    try:
        resolve_recipe(with_values(recipe, {**others, varied.key: repr(varied.low + 0.5)}), inputs)
    except PursuhintError:
        return replace(varied, whole=True)
    return varied


def with_values(recipe: Recipe, values: Mapping[str, str]) -> Recipe:
    """A recipe with values assigned to keys."""
    return recipe.override([f"{key}={text}" for key, text in values.items()])


def default_values(recipe: Recipe, space: Sequence[Varied], inputs: Inputs) -> dict[str, float | str] | None:
    """The values that the recipe itself has; None if one of them is not among those to search.

    Args:
        recipe: as it was given.
        space: keys that vary.
        inputs: what replaces the recipe's networks and data.
    """
    given, resolved = recipe.to_dict(), resolve_recipe(recipe, inputs).to_dict()
    found: dict[str, float | str] = {}
    for varied in space:
        for value in (*_values_at(given, varied.key), *_values_at(resolved, varied.key)):
            if (place := _place(varied, value)) is not None:
                found[varied.key] = place
                break
        else:
            return None
    return found


def _values_at(values: Mapping[str, Any], key: str) -> Iterator[Any]:
    """The value of a key; that of its section's short form where the key is a section."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):
        found = next((found[short] for short in ("weight", "strategy", "kind") if short in found), None)
    if found is not None:
        yield found


def _place(varied: Varied, value: Any) -> float | str | None:
    """A value of the recipe as one of those to search; None if it is not among them."""
    if varied.choices:
        plain = list(value) if isinstance(value, tuple) else value
        return next((text for text in varied.choices if parse_value(text) == plain), None)
    if not is_number(value):
        return None
    assert varied.low is not None
    assert varied.high is not None
    return float(value) if varied.low <= value <= varied.high else None
