"""What a search varies: keys of the recipe, each with a range or a few choices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pursuhint._util.arguments import is_number
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.loss_syntax import parse_value

__all__ = ["Varied", "parse_varied"]

_FORM = "write KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=FIRST,SECOND"
_DIGITS = 4  # significant ones of a value that is drawn from a range


@dataclass(frozen=True)
class Varied:
    """A key of the recipe that a search varies.

    Attributes:
        key: as for ``--set``.
        low: least value; None with choices.
        high: largest value; None with choices.
        log: whether a range is searched on a logarithmic scale.
        whole: whether its values are whole numbers.
        choices: texts as typed; empty with a range.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return f"{self.key}={','.join(self.choices)}"
        return f"{self.key}={self.low:g}..{self.high:g}{':log' if self.log else ''}"

    @property
    def ends(self) -> tuple[str, ...]:
        """The choices, or both ends of the range, as they are assigned to the key."""
        if self.choices:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        return self.text(self.low), self.text(self.high)

    def text(self, value: float | str) -> str:
        """A value as it is assigned to the key, with four significant digits if it is drawn from a range."""
        if isinstance(value, str):
            return value
        if self.whole:
            return str(round(value))
        assert self.low is not None
        assert self.high is not None
        rounded = min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)
        return str(int(rounded)) if rounded.is_integer() else repr(rounded)


def parse_varied(text: str) -> Varied:
    """Parse one ``--vary``.

    Args:
        text: ``KEY=LOW..HIGH``, ``KEY=LOW..HIGH:log`` or ``KEY=FIRST,SECOND,...``.

    Raises:
        PursuhintError: the text does not have one of these forms, the range is empty, or there are fewer than
            two choices.

    Example:
        >>> parse_varied("losses.at=100..10000:log")
        Varied(key='losses.at', low=100.0, high=10000.0, log=True, whole=False, choices=())
    """
    key, has_values, rest = text.partition("=")
    key, rest = key.strip(), rest.strip()
    if not (has_values and rest and all(key.split("."))):
        raise PursuhintError(f"cannot read what to vary, {text!r}; {_FORM}")
    if ".." not in rest:
        choices = tuple(part.strip() for part in re.split(r",(?![^\[]*\])", rest) if part.strip())
        if len(choices) < 2 or len(set(choices)) < len(choices):
            raise PursuhintError(
                f"{text!r} needs a range or at least two different choices; {_FORM}, or fix a value with "
                f"--set {key}=VALUE"
            )
        return Varied(key, choices=choices)
    limits, _, scale = rest.partition(":")
    low, high = (parse_value(limit) for limit in limits.split("..", 1))
    for limit in (low, high):
        if not is_number(limit):
            raise PursuhintError(f"{limit!r} in {text!r} is not a number; {_FORM}")
    if scale not in ("", "log"):
        raise PursuhintError(f"{text!r} has the scale {scale!r}; there is log")
    if not low < high or (scale and low <= 0):
        above = " of positive numbers" if scale else ""
        raise PursuhintError(f"{text!r} is no range{above} from a lower to a higher number")
    return Varied(key, float(low), float(high), bool(scale))
