"""Ways to learn from a teacher of other classes, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.study.method import Method, parse_methods
from pursuhint.training.recipe.hints_syntax import parse_hints
from pursuhint.training.recipe.schema import HintsConfig, LossConfig

__all__ = ["CROSS_TASK_METHODS", "REFILLED_SETTINGS"]

REFILLED_SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "supplement": MappingProxyType(
            {
                "k_hat": "fewest",
                "temperature": 1.0,
                "strength": 1.0,
                "weighting": "teacher_relative_confidence",
                "keep_matching": "best",
            }
        ),
        "conference": MappingProxyType({"keep_matching": "best"}),
    }
)
"""Hyperparameters of REFILLED by paper: the extended one with its supplement, and that of the conference."""

CROSS_TASK_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "refilled": "REFILLED, both stages with weights of the samples",
        "refilled-minus": "the same with equal weights",
        "refilled-emb": "the first stage, then labels alone",
        "refilled-kN": "at most N negatives in a comparison, or all: refilled-k1 (triplets), refilled-kall",
        "refilled-lambdaX": "with the strength X of the second stage: refilled-lambda2",
        "LOSS": "a loss without the teacher's classes, as --loss takes it: rkd, aml, at=500, crd+at",
        "METHOD@HINTS": "with these hint points: at@conventional, at@chosen, at@3,5,7, at@hints.json",
    }
)
"""Names of ways to learn from a teacher of other classes."""

_VARIANT = re.compile(
    r"refilled(?:-(?P<name>emb|minus)|-k(?P<k>[1-9]\d*|all)|-lambda(?P<strength>\d+(\.\d+)?))?"
)
_CHANGES: Mapping[str | None, Mapping[str, Any]] = MappingProxyType(
    {"emb": {"strength": 0.0}, "minus": {"weighting": "constant"}}
)
_TITLES = {"emb": "REFILLED^EMB", "minus": "REFILLED-", None: "REFILLED"}


def cross_task_methods(
    names: Sequence[str], *, settings: str, matching: Mapping[str, Any], whole: bool
) -> tuple[Method, ...]:
    """Read methods for a teacher of other classes.

    Args:
        names: see `CROSS_TASK_METHODS`.
        settings: a key of `REFILLED_SETTINGS`.
        matching: hyperparameters of REFILLED's first stage that are not those of the settings; None for
            these.
        whole: whether the teacher knows all of the student's classes in every split.

    Raises:
        PursuhintError: a name is unknown or repeated, or the loss compares logits of the same classes and the
            teacher has others.
    """
    if settings not in REFILLED_SETTINGS:
        raise PursuhintError(f"the settings are those of {' or '.join(REFILLED_SETTINGS)}, got {settings!r}")
    typed = {name: value for name, value in matching.items() if value is not None}
    options = {**REFILLED_SETTINGS[settings], **typed}
    methods = parse_methods([_method(name.strip(), options) for name in names])
    for method in methods:
        for name in method.losses:
            info = get_loss(name).info
            same_classes = info.compares == "logits" or info.needs_teacher_classifier
            if same_classes and info.needs_teacher and not whole:
                raise PursuhintError(
                    f"method {method.name!r}: {info.title} needs a teacher of the same classes, and this one "
                    "knows others; give it with --overlap 100 alone, or leave it out"
                )
    return methods


def _method(text: str, options: Mapping[str, Any]) -> Method:
    name, at, points = text.partition("@")
    hints = HintsConfig.model_validate(parse_hints(points)) if at else None
    found = _VARIANT.fullmatch(name)
    if found is None:
        method = Method.parse(name)
        return method if hints is None else Method(text, method.losses, hints, f"{method.title} at {points}")
    if hints is not None:
        raise PursuhintError(f"method {text!r}: REFILLED looks at no hint points; write {name}")
    own = dict(_CHANGES.get(found["name"], {}))
    title = _TITLES[found["name"]]
    if found["k"]:
        most = None if found["k"] == "all" else int(found["k"])
        own, title = {"k_hat": most}, f"REFILLED, {'all' if most is None else f'at most {most}'} negatives"
    if found["strength"]:
        own, title = {"strength": float(found["strength"])}, f"REFILLED, strength {found['strength']}"
    return Method(name, {"refilled": LossConfig(weight=1.0, options={**options, **own})}, None, title)


def refilled_settings(methods: Sequence[str], settings: str) -> dict[str, dict[str, str]]:
    """Which methods of a study are REFILLED with another number of negatives or another strength.

    Args:
        methods: names.
        settings: a key of `REFILLED_SETTINGS`.

    Returns:
        For ``k_hat`` and for ``strength`` the methods by the value of the setting, ascending, with REFILLED
        itself if it is there: with the number of negatives (``all``, or the ``fewest`` that a comparison of
        the batch has) and the strength of the settings.
    """
    kept = "all" if REFILLED_SETTINGS[settings].get("k_hat") is None else "fewest"
    negatives: dict[str, str] = {}
    strengths: dict[float, str] = {}
    for name in methods:
        found = _VARIANT.fullmatch(name)
        if found is None or found["name"]:
            continue
        if found["k"]:
            negatives[found["k"]] = name
        elif found["strength"]:
            strengths[float(found["strength"])] = name
        else:
            negatives.setdefault(kept, name)
            strengths[float(REFILLED_SETTINGS[settings].get("strength", 2.0))] = name
    return {
        "k_hat": {k: negatives[k] for k in sorted(negatives, key=_by_number)},
        "strength": {f"{value:g}": strengths[value] for value in sorted(strengths)},
    }


def _by_number(negatives: str) -> float:
    """Order of numbers of negatives: the fewest of a batch first, all of them last."""
    words = {"fewest": 0.0, "all": float("inf")}
    return words[negatives] if negatives in words else float(negatives)
