"""Rules that choose the teacher's hint points: the table, and the function that applies one.

A rule is a file with a function ``choose`` from a `RuleSource` to points of the teacher. `RULES` names the
file; reading the table imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pursuhint._util.registry import lookup, resolve
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.hints.plan import HintPlan
    from pursuhint.hints.rules.source import RuleSource

__all__ = ["RULES", "Rule", "choose_by_rule"]


@dataclass(frozen=True)
class Rule:
    """One way of choosing hint points.

    Attributes:
        title: its name in tables and sentences.
        description: where it puts the hints, in a clause.
        takes_k: whether its number of hints is free.
        similarity: whether it looks at the similarity of layers.
        curve: what it needs to know of every layer about the classes: a name of
            `pursuhint.analysis.ClassCurves`; empty for nothing.
        images: the largest number of training images that it looks at by itself; 0 for none.
        draws: whether it draws at random, so that the points depend on the seed.
        takes_position: whether ``position`` chooses among the members of a group.
        pairing: how its points are paired with the student's; empty where the recipe decides.
    """

    title: str
    description: str
    takes_k: bool = True
    similarity: bool = False
    curve: str = ""
    images: int = 0
    draws: bool = False
    takes_position: bool = False
    pairing: str = ""

    @property
    def analysis(self) -> bool:
        """Whether it needs an analysis of the teacher."""
        return self.similarity or self.curve != ""


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "even": Rule("even", "the ends of equal parts of the depth"),
        "first": Rule("first", "the first layers"),
        "last": Rule("last", "the last layers"),
        "reverse": Rule(
            "reverse",
            "the ends of equal parts, the deepest of them taught to the shallowest point of the student",
            pairing="reverse",
        ),
        "all-to-one": Rule(
            "all to one", "one layer, which teaches every point of the student", takes_position=True
        ),
        "published": Rule(
            "published", "the positions that PURSUhInT publishes for its teachers", takes_k=False
        ),
        "influence": Rule(
            "influence",
            "one layer of each of the groups that the least similar neighbours separate",
            similarity=True,
            takes_position=True,
        ),
        "gradnorm": Rule(
            "gradient norm",
            "the layer with the largest gradient in each of the best contiguous groups",
            similarity=True,
            images=256,
        ),
        "quality": Rule(
            "knowledge quality",
            "the layer of the highest knowledge quality in each of the best contiguous groups",
            similarity=True,
            curve="quality",
        ),
        "probe": Rule(
            "linear probe",
            "the earliest layers at equal steps of what a linear probe explains of the labels",
            curve="probe",
        ),
        "ablation": Rule(
            "ablation",
            "the layers whose removal changes the embedding most",
            images=1000,
        ),
    }
)
"""Every rule by name; `choose_by_rule` imports ``pursuhint.hints.rules.NAME``, with ``_`` for ``-``."""


def looks_at_teacher(strategy: str | None) -> bool:
    """Whether points chosen so depend on the teacher's weights: by similarity, or by a pass over images."""
    rule = RULES.get(strategy or "")
    return strategy == "chosen" or (rule is not None and (rule.analysis or rule.images > 0))


def check_classes(strategy: str | None, classes: int) -> None:
    """Make sure that the data have the classes that a rule compares.

    Args:
        strategy: name of a rule, or any other strategy.
        classes: how many classes the data have.

    Raises:
        PursuhintError: they have fewer than two, and the rule compares classes.
    """
    rule = RULES.get(strategy or "")
    if rule is not None and rule.curve and classes < 2:
        raise PursuhintError(
            f"{strategy} compares classes, and the data have {classes or 'none'}; take data with labels, or "
            "another rule (even)"
        )


def choose_by_rule(name: str, source: RuleSource) -> HintPlan:
    """Choose the teacher's hint points by one of `RULES`.

    Args:
        name: of the rule.
        source: what it chooses from.

    Returns:
        A plan without the student's points. ``origin`` has the rule as ``strategy`` and what it depends on.

    Raises:
        PursuhintError: there is no such rule, k is out of range, or the rule cannot choose here.
    """
    from pursuhint.hints.plan import HintPlan

    rule = lookup("rule", RULES, name)
    if rule.takes_k and not 1 <= source.k <= len(source.points):
        raise PursuhintError(
            f"{name} cannot choose {source.k} hint points from {len(source.points)} layers; ask for 1 to "
            f"{len(source.points)} (--k)"
        )
    chosen = resolve(f"{__name__}.{name.replace('-', '_')}:choose")(source)
    origin: dict[str, Any] = {"strategy": name}
    if rule.takes_k:
        origin["k"] = source.k
    if rule.similarity:
        origin["metric"] = source.needed_similarity(name).metric
    if rule.takes_position:
        origin["position"] = source.position
    if rule.images or rule.analysis:
        origin["num_samples"] = source.num_samples(rule)
    if rule.images or rule.draws or rule.analysis:
        origin["seed"] = source.seed
    return HintPlan.of(chosen, origin)
