"""A way of teaching, by name: one loss of the table, or several together."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pursuhint.errors import PursuhintError
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.passed import PREFIX, full_name
from pursuhint.training.recipe.loss_syntax import parse_losses
from pursuhint.training.recipe.schema import HintsConfig, LossConfig, Recipe

ALONE = "alone"
"""The student without a teacher; part of every study."""

_RECIPE = "recipe:"
_JOINT = re.compile(r"\+(?=\s*[A-Za-z])")  # not the plus of 1e+3
_ODD = re.compile(r"[^A-Za-z0-9.+_-]+")


@dataclass(frozen=True)
class Method:
    """One way of training the student.

    Attributes:
        name: as it was typed, without spaces: ``at``, ``crd+kd``, ``at=500``, ``recipe:cifar100-afd``.
        losses: the terms, as in a recipe; cross-entropy is added as there.
        hints: the hints of the recipe that was named; None for the hints of each loss's paper.
        label: title in tables, where it does not follow from the losses.
        second_view: augmentations of a second view of each image, of the recipe that was named.
    """

    name: str
    losses: dict[str, LossConfig]
    hints: HintsConfig | None = None
    label: str = ""
    second_view: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Method:
        """Read a method.

        Args:
            text: losses as ``--loss`` takes them, joined by ``+``: ``kd``, ``crd+kd``, ``at=1000:p=1``; those
                that were passed from Python by their names there, ``mine`` or ``kd+mine=10``.
                Weights that are not given are the papers' weights. Or ``recipe:NAME`` for the losses,
                the hints and the second view of a shipped recipe or a file; its rest does not apply.

        Raises:
            PursuhintError: it cannot be read, or names a loss that does not exist or one twice; options of a
                loss that was passed; there is no such recipe, it has no teacher, or it chooses its hint
                points by an analysis.
        """
        if text.strip().startswith(_RECIPE):
            return cls._from_recipe(text.strip())
        terms = [part.strip() for part in _JOINT.split(text)]
        values = {full_name(name): value for name, value in parse_losses(terms).items()}
        for name, value in values.items():
            get_loss(name)
            if name.startswith(PREFIX) and set(value) - {"weight"}:
                raise PursuhintError(f"{text!r}: a loss that was passed from Python has its options there")
        losses = {name: LossConfig.model_validate(value) for name, value in values.items()}
        return cls("+".join("".join(term.split()) for term in terms), losses)

    @classmethod
    def _from_recipe(cls, text: str) -> Method:
        recipe = Recipe.read(text.removeprefix(_RECIPE))
        if not any(get_loss(name).info.needs_teacher for name in recipe.losses):
            raise PursuhintError(f"{text!r} has no loss that looks at a teacher, so it is no method")
        if recipe.hints is not None and looks_at_teacher(recipe.hints.strategy):
            raise PursuhintError(
                f"{text!r} chooses its hint points by an analysis for every run; choose them first "
                "(pursuhint analyze) and give its losses and the points: --method NAME+NAME --hints FILE"
            )
        return cls(text, recipe.losses, recipe.hints, second_view=recipe.data.second_view)

    @property
    def folder(self) -> str:
        """Its name as part of a path."""
        return _ODD.sub("_", self.name)

    @property
    def title(self) -> str:
        """Title in tables and figures: ``CRD + KD``."""
        return self.title_with("sgd")

    def title_with(self, optimizer: str) -> str:
        """Title with an optimizer that is a method itself: ``KD + DOT``.

        Args:
            optimizer: as `pursuhint.training.OptimizerConfig` names it.
        """
        dot = " + DOT" if optimizer == "dot" else ""
        if self.label:
            return self.label + dot
        names = [name for name in self.losses if name != "ce"] or list(self.losses)
        titles = (
            name.removeprefix(PREFIX)
            if name.startswith(PREFIX)
            else get_loss(name).info.title_with(self.losses[name].options)
            for name in names
        )
        return " + ".join(titles) + dot


def all_methods() -> tuple[str, ...]:
    """Every loss of the table except cross-entropy, each alone with its paper's weight."""
    return tuple(name for name in LOSSES if name != "ce")


def parse_methods(names: Sequence[str | Method]) -> tuple[Method, ...]:
    """Read several methods, unless they have been read.

    Raises:
        PursuhintError: as `Method.parse`; there is none, or two are the same.
    """
    methods = tuple(Method.parse(name) if isinstance(name, str) else name for name in names)
    folders = [method.folder for method in methods]
    twice = sorted({method.name for method in methods if folders.count(method.folder) > 1})
    if not methods or twice:
        raise PursuhintError(
            f"a study of methods needs at least one, and each once, got {', '.join(twice) or 'none'}"
        )
    if ALONE in folders:
        raise PursuhintError(f"the student alone is part of every study; leave out {ALONE!r}")
    return methods


def with_own_losses(methods: Sequence[Method], own: Collection[str]) -> tuple[Method, ...]:
    """The methods, and every loss passed from Python that none of them names, which must be known.

    Args:
        methods: as they were asked for.
        own: names of the losses, as they were passed.

    Raises:
        PursuhintError: as `parse_methods`; or a loss has the name of one of the table, or is no single word.
    """
    for name in own:
        if name in LOSSES or not re.fullmatch(r"[A-Za-z][\w-]*", name):
            why = "the table has one of that name" if name in LOSSES else "methods join names by +"
            raise PursuhintError(f"the loss {name!r} needs a name that is another single word: {why}")
    named = {name for method in methods for name in method.losses}
    return parse_methods([*methods, *(name for name in own if full_name(name) not in named)])
