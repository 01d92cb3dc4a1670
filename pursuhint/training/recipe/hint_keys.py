"""Which keys of a recipe's ``hints`` decide anything, by strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pursuhint.errors import PursuhintError
from pursuhint.hints.rules import RULES, Rule
from pursuhint.hints.schedules import SCHEDULES

if TYPE_CHECKING:
    from pursuhint.training.recipe.schema import HintsConfig

__all__: list[str] = []

_OF_AUTO = ("max_samples", "stable_at")
_CHOICE = (
    *("k", "metric", "algorithm", "normalize", "position", "samples", *_OF_AUTO, "points", "seed"),
    "curriculum",
)


def _used_by(rule: Rule) -> tuple[str, ...]:
    """The keys that decide something with a rule."""
    looks = rule.analysis or rule.images > 0
    return (
        *["k"] * rule.takes_k,
        *["metric", "normalize"] * rule.similarity,
        *["position"] * rule.takes_position,
        *["samples"] * looks,
        *_OF_AUTO * rule.analysis,
        *["seed"] * (looks or rule.draws),
    )


_USED: Mapping[str, tuple[str, ...]] = {
    "chosen": ("k", "metric", "algorithm", "normalize", "position", "samples", *_OF_AUTO, "seed"),
    "random": ("k", "seed"),
    "random-each-epoch": ("k", "seed"),
    "curriculum": ("k", "curriculum"),
    "explicit": ("k", "points"),
    **{name: _used_by(rule) for name, rule in RULES.items()},
}


def keys_without_effect(hints: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that decide nothing in a section ``hints``.

    Args:
        hints: plain values; ``file``, ``strategy``, ``points`` and ``student_points`` count.
    """
    file, strategy = hints.get("file") is not None, hints.get("strategy")
    if strategy is None and hints.get("points"):
        strategy = "explicit"
    used = () if file else _USED.get(str(strategy), ())
    fixed = hints.get("samples") != "auto"
    ignored = [key for key in _CHOICE if key not in used or (fixed and key in _OF_AUTO)]
    paired = bool(hints.get("student_points")) or (not file and _pairing_of(strategy) != "")
    return (*["strategy"] * file, *ignored, *["pairing"] * paired)


def _pairing_of(strategy: object) -> str:
    """The pairing that belongs to a strategy; empty if any may go with it."""
    way = RULES.get(str(strategy)) or SCHEDULES.get(str(strategy))
    return "" if way is None else way.pairing


def with_effect(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The section without the keys that decide nothing."""
    ignored = keys_without_effect(hints)
    return {key: value for key, value in hints.items() if key not in ignored}


def no_effect(key: str, hints: Mapping[str, Any], *, section: str = "hints") -> str:
    """What to say of a key that decides nothing: the key, the strategy, and which strategies use it."""
    strategy = hints.get("strategy")
    if key in _OF_AUTO and hints.get("samples") != "auto":
        return (
            f"{section}.{key} has no effect with a fixed number of samples; it belongs to "
            f"{section}.samples=auto"
        )
    if hints.get("file") is not None:
        how = "the points of a file"
    elif key == "pairing":
        how = "student_points" if hints.get("student_points") else f"hints.strategy {strategy!r}"
    elif strategy is None:
        how = "the points of each loss's paper"
    else:
        how = f"hints.strategy {strategy!r}"
    using = [name for name, used in _USED.items() if key in used and name != "explicit"][:3]
    more = f"; it belongs to {' and '.join(using)} (--hints {using[0]})" if using else ""
    return f"{section}.{key} has no effect with {how}{more}"


def check_keys(hints: HintsConfig, section: str) -> None:
    """Refuse a section whose strategy ignores a key that has another value than its default.

    Args:
        hints: the section.
        section: its name in the message, ``hints`` or ``losses.NAME.hints``.

    Raises:
        PursuhintError: a key decides nothing.
    """
    values, defaults = hints.model_dump(), type(hints)().model_dump()
    if hints.samples == "auto" and not {*_OF_AUTO} <= {*_USED.get(str(hints.strategy), ())}:
        raise PursuhintError(
            f"{section}.samples=auto ends an analysis, and {hints.strategy} needs none; give a number of "
            "images"
        )
    for key in keys_without_effect(values):
        if values[key] != defaults[key]:
            raise PursuhintError(f"{no_effect(key, values, section=section)}; leave it out")
