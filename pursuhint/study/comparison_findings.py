"""What the accuracies of arms show: paired differences to the controls, and sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from pursuhint._util.text import capital, percent
from pursuhint.study.arm_result import ArmResult, SeedResult, arm_if_known, first_of_same, title_of
from pursuhint.study.arms import CONTROLS, WITHOUT_HINTS, is_of_sweep
from pursuhint.study.bounds import FEWEST_SEEDS
from pursuhint.study.equality import MARGIN
from pursuhint.study.image_differences import ImageHits, with_new_images
from pursuhint.study.paired_statistics import (
    PairedComparison,
    compare_pairs,
    conclusion,
    correct_for_multiplicity,
)

__all__: list[str] = []


def against_controls(
    arms: Sequence[ArmResult],
    *,
    margin: float | None = MARGIN,
    confidence: float = 0.95,
    hits: ImageHits = MappingProxyType({}),
    grain: float = 0.0,
) -> tuple[dict[str, tuple[PairedComparison, ...]], dict[str, tuple[str, ...]]]:
    """Compare the arms with their controls.

    Every arm is compared with ``conventional``; those that put hints elsewhere are also compared with
    ``centers``, the control that clustering must beat. Without either, the first arm is the control. Arms
    that are the same runs count once in the correction for several comparisons. Single layers (``sweep``) are
    a landscape to look at, not hypotheses to test: they are left out.

    Args:
        arms: in the order of the tables.
        margin: the smallest difference that matters, in points; None if nothing is to be called equal.
        confidence: of the intervals, in (0, 1).
        hits: of the arms whose runs kept them, for intervals that hold for other test images too.
        grain: the smallest step between two accuracies, in points, see `pursuhint.study.compare_pairs`.

    Returns:
        Comparisons and sentences, by control, both in the order of the arms. With fewer than `FEWEST_SEEDS`
        seeds no sentences: `findings_on` says once what that means.
    """
    arms = [arm for arm in arms if not is_of_sweep(arm.name)] or arms
    by_name = {arm.name: arm for arm in arms}
    against, sentences = {}, {}
    for control in [name for name in CONTROLS if name in by_name] or [arms[0].name]:
        spared: tuple[str, ...] = ()
        if control == "centers" and "conventional" in by_name:
            spared = (*WITHOUT_HINTS, "conventional")
        others = [arm for arm in arms if arm.name != control and arm.name not in spared]
        first = first_of_same(others)
        raw = [
            with_new_images(
                compare_pairs(
                    arm.name,
                    arm.last.values,
                    control,
                    by_name[control].last.values,
                    confidence=confidence,
                    margin=None if _same_runs(arm, by_name[control]) else margin,
                    grain=grain,
                ),
                hits,
            )
            for arm in others
            if first[arm.name] == arm.name
        ]
        corrected = {comparison.arm: comparison for comparison in correct_for_multiplicity(raw)}
        against[control] = tuple(
            dataclasses.replace(corrected[first[arm.name]], arm=arm.name) for arm in others
        )
        sentences[control] = tuple(
            _sentence(arm, by_name[control], comparison, first)
            for arm, comparison in zip(others, against[control], strict=True)
            if comparison.n >= FEWEST_SEEDS
        )
    return against, sentences


def findings_on(arms: Sequence[ArmResult]) -> tuple[str, ...]:
    """What a reader has to know before any comparison of two arms, in sentences without full stops."""
    findings = []
    below = best_below_alone(arms)
    if below is not None:
        alone, best = below
        findings.append(
            f"every student with hints ended below the student alone ({alone:.2f} % on average): the "
            f"best of them, {best.title}, at {best.last.mean:.2f} %"
        )
    return (*findings, *dominated(arms), *few_seeds(arms[0].last.n))


def best_below_alone(arms: Sequence[ArmResult]) -> tuple[float, ArmResult] | None:
    """The mean of the student alone and the best arm with hints, if that is worse; else None."""
    alone = [arm.last.mean for arm in arms if arm.name == "alone"]
    hinted = [arm for arm in arms if arm.name not in WITHOUT_HINTS]
    if not alone or not hinted:
        return None
    best = max(hinted, key=lambda arm: arm.last.mean)
    return (alone[0], best) if best.last.mean < alone[0] else None


class _Trained(Protocol):
    """An arm or a method with its runs."""

    @property
    def title(self) -> str: ...

    @property
    def runs(self) -> Sequence[SeedResult]: ...


@dataclasses.dataclass(frozen=True)
class DominantLoss:
    """A loss that makes up nearly the whole sum.

    Attributes:
        loss: its name.
        share: the smallest that it has after the first epoch of a run that it dominates, in (0, 1].
        titles: of the arms or methods with such a run.
    """

    loss: str
    share: float
    titles: tuple[str, ...]


def dominant_terms(ways: Sequence[_Trained]) -> list[DominantLoss]:
    """The losses that make up nearly the whole sum of some arms or methods."""
    terms: dict[str, list[_Trained]] = {}
    for way in ways:
        for name in sorted({run.dominant_term for run in way.runs if run.dominant_term is not None}):
            terms.setdefault(name, []).append(way)
    found = []
    for name, having in terms.items():
        shares = [
            run.dominant_share or 0.0 for way in having for run in way.runs if run.dominant_term == name
        ]
        found.append(DominantLoss(name, min(shares), tuple(way.title for way in having)))
    return found


def dominated(ways: Sequence[_Trained]) -> tuple[str, ...]:
    """One sentence for every term that makes up nearly the whole loss of some arms or methods."""
    return tuple(
        f"the loss {term.loss} makes up {percent(term.share)} or more of the weighted sum after the first "
        f"epoch ({', '.join(term.titles)}), so the other terms hardly count"
        for term in dominant_terms(ways)
    )


def result_of(arms: Sequence[ArmResult], against: Mapping[str, Sequence[PairedComparison]]) -> str:
    """The mean accuracies without and with hints, and whether their place made a difference, in one sentence.

    Args:
        arms: in the order of the tables.
        against: from `against_controls`.
    """
    said = []
    for way, means in accuracies_of(arms).items():
        said.append(f"{' to '.join(dict.fromkeys(f'{mean:.1f}' for mean in means))} % {way}")
    text, conclusion = f"the student reaches {', '.join(said)}", conclusion_of(arms, against)
    return f"{text}; {conclusion}" if conclusion else text


def accuracies_of(arms: Sequence[ArmResult]) -> dict[str, tuple[float, float]]:
    """Lowest and highest mean accuracy of the student alone, with the teacher, and with hints, in words."""
    means: dict[str, list[float]] = {}
    for arm in arms:
        way = {"alone": "alone", "kd": "with the teacher but no hints"}.get(arm.name)
        if way is not None:
            means[way] = [arm.last.mean]
    hinted = [arm.last.mean for arm in arms if arm.name not in WITHOUT_HINTS]
    if hinted:
        means["with hints"] = hinted
    return {way: (min(found), max(found)) for way, found in means.items()}


def conclusion_of(arms: Sequence[ArmResult], against: Mapping[str, Sequence[PairedComparison]]) -> str:
    """Whether the place of the hints made a difference, in a clause; empty if too few seeds can say.

    A difference counts if its interval excludes zero after the correction for the number of comparisons, and
    if it is not too small to matter.

    Args:
        arms: in the order of the tables.
        against: from `against_controls`.
    """
    names = {arm.name for arm in arms if arm.name not in WITHOUT_HINTS}
    pairs = [pair for found in against.values() for pair in found if {pair.arm, pair.control} <= names]
    clear = [pair for pair in pairs if pair.survives_correction and pair.verdict in ("better", "worse")]
    if clear:
        places = (f"{title_of(pair.arm)} is {pair.verdict} than {title_of(pair.control)}" for pair in clear)
        return f"their place matters: {', '.join(places)}"
    tested = [pair for pair in pairs if pair.verdict != "unknown"]
    if tested and all(pair.verdict == "equal" and pair.decided for pair in tested):
        return f"their places are equal within {tested[0].margin:g} points"
    if any(pair.n >= FEWEST_SEEDS for pair in pairs):
        return f"no place of the hints can be told from another in {pairs[0].n} seeds"
    return ""


def few_seeds(seeds: int) -> tuple[str, ...]:
    """The sentence on too few seeds for intervals; none if there are enough."""
    if seeds >= FEWEST_SEEDS:
        return ()
    number = "1 seed gives" if seeds == 1 else f"{seeds} seeds give"
    return (
        f"{number} no intervals, so differences between the means may be chance; take at least "
        f"{FEWEST_SEEDS} (--seeds 0-4)",
    )


def notes_on(arms: Sequence[ArmResult], *, asked_k: int) -> tuple[str, ...]:
    """What a reader has to know besides the numbers."""
    notes = []
    first = first_of_same(arms)
    for arm in arms:
        if first[arm.name] != arm.name:
            other = title_of(first[arm.name])
            notes.append(
                f"{capital(arm.title)} has the same hint positions as {other} ({arm.positions_text}): they "
                "are one and the same set of runs, trained once."
            )
        else:
            shared = [run for run in arm.runs if run.same_as is not None]
            for run in shared:
                notes.append(
                    f"{capital(arm.title)} has, for seed {run.seed}, the same hint positions as "
                    f"{title_of(run.same_as or '')}; that run is shared."
                )
    for arm in arms:
        counts = {len(run.positions) for run in arm.runs}
        changing = (found := arm_if_known(arm.name)) is not None and found.schedule
        free = arm.name in WITHOUT_HINTS or is_of_sweep(arm.name) or changing
        if not free and counts != {asked_k}:
            notes.append(
                f"{capital(arm.title)} has {max(counts)} hints where the chosen arms have {asked_k}, so its "
                "difference to them is not one of place alone."
            )
    return tuple(notes)


def _same_runs(arm: ArmResult, other: ArmResult) -> bool:
    """Whether two arms are the same runs under two names, so that there is nothing to compare."""
    return [run.folder for run in arm.runs] == [run.folder for run in other.runs]


def _sentence(
    arm: ArmResult, control: ArmResult, comparison: PairedComparison, first: Mapping[str, str]
) -> str:
    if _same_runs(arm, control):
        return (
            f"nothing to compare: {arm.title} has the same hint positions as {control.title} "
            f"({arm.positions_text})"
        )
    sentence = conclusion(comparison, arm=arm.title, control=control.title)
    if first[arm.name] != arm.name:
        sentence += f" (the same runs as {title_of(first[arm.name])})"
    return sentence
