"""What a comparison leaves behind: accuracies, positions, paired statistics and plain sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pursuhint._util.shown import Shown, counted
from pursuhint._util.text import capital, percent
from pursuhint.data.preprocessing import Normalization, Preprocessing
from pursuhint.errors import PursuhintError
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.study.accuracy_axes import draw_accuracies
from pursuhint.study.arms import CONTROLS, WITHOUT_HINTS, Arm, find_arm, is_of_sweep
from pursuhint.study.bounds import FEWEST_SEEDS
from pursuhint.study.equality import MARGIN
from pursuhint.study.finished_study import FinishedStudy, StudyModel, find_by_name
from pursuhint.study.image_differences import ImageHits, with_new_images
from pursuhint.study.paired_statistics import (
    PairedComparison,
    Summary,
    compare_pairs,
    conclusion,
    correct_for_multiplicity,
    summarize,
)
from pursuhint.study.until_decided import SequentialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import nn

    from pursuhint.data import ImageData, InputData
    from pursuhint.hints.plan import HintPlan
    from pursuhint.training.run_folder.record import RunRecord

__all__ = ["ArmResult", "Comparison", "SeedResult", "first_of_same"]


class SeedResult(StudyModel):
    """One run of an arm.

    Attributes:
        seed: its seed.
        folder: its run folder, relative to the comparison's; with ``same_as``, the folder of that arm's run.
        same_as: the arm whose run this is, when both have the same hint points for this seed; None for a
            separate run.
        positions: the teacher's hint positions, from 1, in depth order; none for the student alone. All
            that teach at one time or another, if they change while the student trains.
        modules: their names.
        last_top1: test accuracy after the last epoch, percent.
        best_top1: test accuracy after the best epoch, percent.
        best_epoch: which that was, from 1.
        seconds: time spent training.
        dominant_term: the term with more than 90 % of the loss after the first epoch; None without one.
        dominant_share: its share.
    """

    seed: int
    folder: str
    same_as: str | None = None
    positions: tuple[int, ...] = ()
    modules: tuple[str, ...] = ()
    last_top1: float
    best_top1: float
    best_epoch: int
    seconds: float
    dominant_term: str | None = None
    dominant_share: float | None = None

    @classmethod
    def of(cls, seed: int, folder: str, plan: HintPlan | None, record: RunRecord) -> SeedResult:
        """From a finished run and the hint points that it used."""
        points = () if plan is None else plan.teacher_points
        if plan is not None and plan.schedule is not None:  # a layer teaches in several epochs
            points = tuple(dict.fromkeys(points))
        dominant = record.dominant_term
        return cls(
            seed=seed,
            folder=folder,
            positions=tuple(point.position for point in points),
            modules=tuple(point.module for point in points),
            last_top1=record.last["test_top1"],
            best_top1=record.best["test_top1"],
            best_epoch=record.best["epoch"],
            seconds=sum(line["seconds"] for line in record.metrics),
            dominant_term=None if dominant is None else dominant.name,
            dominant_share=None if dominant is None else dominant.share,
        )


class ArmResult(StudyModel):
    """One arm over all seeds.

    Attributes:
        name: as in `pursuhint.study.ARMS`.
        runs: one a seed, in the order of the comparison's seeds.
        last: accuracy after the last epoch: the primary outcome.
        best: accuracy after the best epoch; flattering when the best epoch was chosen on the test split.
    """

    name: str
    runs: tuple[SeedResult, ...]
    last: Summary
    best: Summary

    @classmethod
    def of(cls, name: str, runs: Sequence[SeedResult]) -> ArmResult:
        """An arm from its runs."""
        return cls(
            name=name,
            runs=tuple(runs),
            last=summarize([run.last_top1 for run in runs]),
            best=summarize([run.best_top1 for run in runs]),
        )

    @property
    def title(self) -> str:
        """How tables call it."""
        return title_of(self.name)

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Hint positions, one entry a seed; a single entry when all seeds have the same."""
        every = tuple(run.positions for run in self.runs)
        return every[:1] if len(set(every)) == 1 else every

    @property
    def positions_text(self) -> str:
        """The positions as a table shows them: ``"2, 5, 8"``, ``"1, 4, 9 / 2, 3, 6"``, ``"none"``."""
        return " / ".join(", ".join(map(str, entry)) or "none" for entry in self.positions)


class NetworkFacts(StudyModel):
    """A network of the comparison.

    Attributes:
        name: as in the recipe.
        parameters: trainable numbers.
        top1: test accuracy in percent, of the teacher; None for the student, whose arms have theirs.
        accuracy: of the teacher, with the reason if it was not measured.
    """

    name: str
    parameters: int
    top1: float | None = None
    accuracy: TeacherAccuracy | None = None


class DataFacts(StudyModel):
    """The data of a study.

    Attributes:
        name: of the data set.
        train: number of training samples.
        test: number of test samples.
        num_classes: number of classes.
        in_channels: channels of an image; None for samples that are no images.
        image_size: height and width in pixels; None likewise.
        preprocessing: how images become the input of the student; None in studies of older versions.
        teacher_normalization: what the images are converted to for the teacher, if it expects another
            normalisation.
    """

    name: str
    train: int
    test: int
    num_classes: int
    in_channels: int | None
    image_size: tuple[int, int] | None
    preprocessing: Preprocessing | None = None
    teacher_normalization: Normalization | None = None

    @classmethod
    def of(cls, data: ImageData | InputData, teacher: nn.Module | None) -> DataFacts:
        """The facts of a data set, and the normalization that a teacher expects."""
        from pursuhint.models.normalization import converted_to  # imports torch

        return cls(
            name=data.name,
            train=len(data.train),
            test=len(data.test),
            num_classes=data.num_classes,
            in_channels=getattr(data, "in_channels", None),
            image_size=getattr(data, "image_size", None),
            preprocessing=data.preprocessing,
            teacher_normalization=None if teacher is None else converted_to(teacher),
        )


class Comparison(Shown, FinishedStudy):
    """A finished comparison.

    Attributes:
        path: its folder.
        outcome: by what arms are compared.
        recipe: settings shared by all arms, resolved; its seed, hint strategy and points do not apply.
        seeds: in the order in which every arm lists its runs.
        k: number of hints of the arms that choose.
        metric: similarity metric of the arms that cluster.
        position: which member of a cluster they take.
        chosen_on: the split on which ``best`` epochs were chosen.
        data: sizes of the data.
        teacher: its size and accuracy.
        student: its size.
        arms: in the order asked for.
        findings: what a reader has to know first: that every student with hints ended below the student
            alone, that one term makes up nearly the whole loss, or that there are too few seeds.
        against: by control: comparisons of the primary outcome, corrected (Holm) for their number.
        sentences: by control: what each of these says, in words; none with fewer than 3 seeds.
        notes: facts that a reader needs beside the numbers, such as arms with identical runs.
        environment: versions, device, command; see ``environment.json`` of a run.
        sequential: looks and outcome, if seeds are added until the comparison is decided; its intervals then
            have the confidence of the last look.
    """

    FILE: ClassVar[str] = "compare.json"
    KIND: ClassVar[str] = "comparison"

    k: int
    metric: str
    position: str
    chosen_on: Literal["val", "test"]
    data: DataFacts
    teacher: NetworkFacts
    student: NetworkFacts
    arms: tuple[ArmResult, ...]
    findings: tuple[str, ...] = ()
    against: dict[str, tuple[PairedComparison, ...]]
    sentences: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    environment: dict[str, Any]
    sequential: SequentialResult | None = None

    def _headline(self) -> str:
        return f"{len(self.arms)} arms, {counted(self.seeds, 'seed')} on {self.data.name}: {self.result}"

    def _draw(self, axes: Axes) -> None:
        draw_accuracies(axes, self.arms)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": arm.name,
                "seed": run.seed,
                "positions": run.positions,
                "last_top1": run.last_top1,
                "best_top1": run.best_top1,
                "best_epoch": run.best_epoch,
                "seconds": run.seconds,
            }
            for arm in self.arms
            for run in arm.runs
        ]

    @property
    def result(self) -> str:
        """What came out, in one sentence without a full stop: see `result_of`."""
        return result_of(self.arms, self.against)

    def arm(self, name: str) -> ArmResult:
        """An arm by name.

        Raises:
            PursuhintError: the comparison has no such arm.
        """
        return find_by_name(self.arms, name, "arm")

    def verdicts(self, name: str) -> dict[str, str]:
        """An arm's verdicts by control, for a table: ``"equal"``; ``"–"`` where it is not compared."""
        pairs = {control: {pair.arm: pair for pair in found} for control, found in self.against.items()}
        return {
            control: "control" if name == control else found[name].verdict_in_short if name in found else "–"
            for control, found in pairs.items()
        }


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
class DominantTerm:
    """A loss that makes up nearly the whole sum.

    Attributes:
        loss: its name.
        share: the smallest that it has after the first epoch of a run that it dominates, in (0, 1].
        titles: of the arms or methods with such a run.
    """

    loss: str
    share: float
    titles: tuple[str, ...]


def dominant_terms(ways: Sequence[_Trained]) -> list[DominantTerm]:
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
        found.append(DominantTerm(name, min(shares), tuple(way.title for way in having)))
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
        changing = (found := _arm(arm.name)) is not None and found.schedule
        free = arm.name in WITHOUT_HINTS or is_of_sweep(arm.name) or changing
        if not free and counts != {asked_k}:
            notes.append(
                f"{capital(arm.title)} has {max(counts)} hints where the chosen arms have {asked_k}, so its "
                "difference to them is not one of place alone."
            )
    return tuple(notes)


def title_of(name: str) -> str:
    """How tables and sentences call an arm."""
    arm = _arm(name)
    return name if arm is None else arm.title


def description_of(name: str) -> str:
    """What an arm does, in a clause; empty for one that this version does not know."""
    arm = _arm(name)
    return "" if arm is None else arm.description


def _arm(name: str) -> Arm | None:
    """An arm by name; None for a method, or an arm of another version."""
    try:
        return find_arm(name)
    except PursuhintError:
        return None


def first_of_same(arms: Sequence[ArmResult]) -> dict[str, str]:
    """For every arm, the first arm with identical runs."""
    seen: dict[tuple[str, ...], str] = {}
    return {arm.name: seen.setdefault(tuple(run.folder for run in arm.runs), arm.name) for arm in arms}


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
