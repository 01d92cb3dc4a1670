"""Parse losses from the command line: ``at``, ``at=1000``, ``at=1000:p=2,normalize=true``, ``at:p=2``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pursuhint._util.arguments import is_number
from pursuhint._util.yaml_text import parse_yaml
from pursuhint.errors import PursuhintError
from pursuhint.losses import ALIASES, LOSSES

__all__ = ["parse_loss", "parse_loss_set", "parse_losses"]

_FORM = "write NAME, NAME=WEIGHT or NAME=WEIGHT:key=value,key=value"


def parse_value(text: str) -> Any:
    """Parse a value as YAML: a number, ``true``, ``null``, a list such as ``[1, 2]``, or text.

    Unlike in YAML 1.1, ``5e-4`` is a number.

    Raises:
        PursuhintError: the text is not valid YAML.
    """
    try:
        return tidy_numbers(parse_yaml(text, f"the value {text!r}"))
    except PursuhintError:
        raise PursuhintError(
            f"cannot read the value {text!r}; quote text that holds special characters"
        ) from None


def tidy_numbers(value: Any) -> Any:
    """Convert text such as ``"5e-4"``, which YAML 1.1 does not read as a number, into numbers, at any depth.

    Tuples become lists, because that is how YAML returns them.
    """
    if isinstance(value, dict):
        return {key: tidy_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [tidy_numbers(entry) for entry in value]
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def parse_loss(text: str) -> tuple[str, dict[str, Any]]:
    """Parse one ``--loss`` value.

    Args:
        text: ``NAME[=WEIGHT][:key=value,...]``; default weight: the paper's.

    Returns:
        The name (of an alias, the name in the table) and
        ``{"weight": number or None, **hyperparameters}``, as in a recipe.

    Raises:
        PursuhintError: the text does not have this form, or the weight is not a number.

    Example:
        >>> parse_loss("at=1000:p=2")
        ('at', {'weight': 1000, 'p': 2})
    """
    head, _, tail = text.partition(":")
    name, has_weight, weight_text = head.partition("=")
    weight = parse_value(weight_text) if has_weight else None
    if not name.strip() or (has_weight and not is_number(weight)):
        raise PursuhintError(f"cannot read the loss {text!r}; {_FORM}")
    entry: dict[str, Any] = {"weight": weight}
    for option in filter(None, re.split(r",(?![^\[]*\])", tail)):  # commas inside a list belong to it
        key, has_value, value = option.partition("=")
        if not (key.strip() and has_value):
            raise PursuhintError(f"cannot read {option!r} in the loss {text!r}; {_FORM}")
        entry[key.strip()] = parse_value(value)
    return ALIASES.get(name.strip(), name.strip()), entry


def parse_loss_set(text: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Parse one ``--loss-set`` value: ``NAME=LOSS,LOSS``, each loss as `parse_loss` takes it.

    Behind the options of a loss, ``key=value`` belongs to it unless the key is the name of a loss.

    Raises:
        PursuhintError: the text does not have this form, or a loss is given twice.

    Example:
        >>> parse_loss_set("attention=at=1000:p=2,kd")
        ('attention', {'at': {'weight': 1000, 'p': 2}, 'kd': {'weight': None}})
    """
    name, has_losses, rest = text.partition("=")
    parts: list[str] = []
    for part in filter(None, re.split(r",(?![^\[]*\])", rest)):
        key, is_option, _ = part.partition("=")
        is_loss = key.strip() in LOSSES or key.strip() in ALIASES
        if parts and ":" in parts[-1] and is_option and not is_loss and ":" not in key:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    if not (name.strip() and has_losses and parts):
        raise PursuhintError(
            f"cannot read the set of losses {text!r}; write NAME=LOSS,LOSS, e.g. attention=at,kd"
        )
    return name.strip(), parse_losses(parts)


def parse_losses(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse several ``--loss`` values into the ``losses`` section of a recipe.

    Raises:
        PursuhintError: a value cannot be parsed, or a loss is given twice.
    """
    losses: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, entry = parse_loss(text)
        if name in losses:
            raise PursuhintError(f"loss {name!r} is given twice; give it once, with the weight you mean")
        losses[name] = entry
    return losses
