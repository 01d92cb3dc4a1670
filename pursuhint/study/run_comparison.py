"""Compare hint positions: one student, several ways to choose the positions, several seeds.

The module is not called ``compare``, so that ``pursuhint.study.compare`` is always the function.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.arguments import READ_RECIPE, expect
from pursuhint._util.devices import choose_device
from pursuhint._util.wrappers import copy_network
from pursuhint.analysis.by_rule import TrainingImages, plan_by_rule
from pursuhint.analysis.result import Analysis
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.hints.options import default_k
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES, check_classes
from pursuhint.hints.rules.source import RuleSource
from pursuhint.hints.schedules import SCHEDULES
from pursuhint.losses import get_loss
from pursuhint.study.arm_result import ArmResult, SeedResult
from pursuhint.study.arms import DEFAULT_ARMS, GIVEN, SWEEP, Candidates, arm_folder, expand_sweep, find_arm
from pursuhint.study.comparison import Comparison
from pursuhint.study.comparison_findings import against_controls, findings_on, notes_on
from pursuhint.study.equality import MARGIN, check_margin
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.image_differences import read_image_hits
from pursuhint.study.progress import study_under_way
from pursuhint.study.run_arms import check_seeds, run_folder
from pursuhint.study.run_key import RunKey
from pursuhint.study.sequential import ERROR, SequentialPlan
from pursuhint.study.settings import StudySettings
from pursuhint.study.study import Study, StudyOptions
from pursuhint.study.until_decided import SequentialResult
from pursuhint.training.final_plan import analyze_teacher
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.own_parts import OwnParts
from pursuhint.training.pairing import pair_with_student, scheduled_plan
from pursuhint.training.prepare_training import (
    Parts,
    build_distiller,
    prepare,
    rule_source,
)
from pursuhint.training.recipe.hint_keys import no_effect, with_effect
from pursuhint.training.recipe.hints_syntax import parse_hints
from pursuhint.training.recipe.resolve import check_activation, needs_hints, resolve_recipe, shared_activation
from pursuhint.training.recipe.schema import HintsConfig, LossConfig, Recipe
from pursuhint.training.recipe.second_view import data_of_losses
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.signals import share_stop

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import DataLike

__all__ = ["ComparisonRequest", "compare"]


@share_stop()
def compare(
    recipe: Recipe,
    out: Path | str,
    *,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    device: torch.device | str | None = None,
    data: DataLike | None = None,
    teacher: nn.Module | None = None,
    analysis: Analysis | None = None,
    at_once: int | None = None,
    streams: bool = False,
    margin: float = MARGIN,
    max_seeds: int | None = None,
    on_event: Watcher | None = None,
    overwrite: bool = False,
    losses: Mapping[str, Any] | None = None,
    record_teacher: Path | str | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Train the same student with hints at different places, over several seeds, and compare.

    All arms of a seed start from the same student weights and see the same batches in the same
    augmentation, so what is compared is the difference within a seed. The outcome is the test accuracy after
    the last epoch, not after the best one. Every run is an ordinary run folder, ``OUT/arms/ARM/seed-N``.
    The same call resumes an interrupted one and reuses finished runs; with more arms or seeds it adds them.
    Arms whose hint points coincide share their run. The analysis of the teacher is shared (``OUT/analysis``).

    Args:
        recipe: student, teacher, data, losses, schedule. At least one loss must look at hint points. Of its
            hints, ``k``, ``metric``, ``position``, ``activation``, ``samples``, ``max_samples``,
            ``stable_at``, ``seed``, ``pairing`` and ``student_points`` apply; the strategy and
            ``recipe.seed`` are what the arms and seeds set.
        out: folder of the comparison.
        arms: names of `pursuhint.study.ARMS`, at least two. ``alone`` trains with cross-entropy only, ``kd``
            with the losses that look at no hint point (with KD, if none of them has a teacher).
            ``random`` draws other positions for every seed, ``random-each-epoch`` for every epoch, too.
            ``r2cca:kmeans:last`` clusters by this metric
            and algorithm and takes this position. ``hints:7,29,49`` has given points, by position or module
            name, ``hints:FILE`` the points of a ``hints.json``. ``sweep`` stands for an arm for every layer
            of the teacher, ``sweep:1`` and so on, each with a single hint.
        seeds: one run of every arm each; at least one. Fewer than three give no intervals.
        device: where to run; None for the best there is.
        data: used instead of the recipe's; as `pursuhint.training.train` takes them.
        teacher: used instead of the recipe's.
        analysis: of the teacher, with the recipe's metric, to use instead of making one.
        at_once: most students in training concurrently; None for all arms of a seed.
        streams: on a GPU, train them on streams of their own; see `pursuhint.training.train_many`.
        margin: the smallest difference that matters, in points: two arms are called equal if their difference
            is shown to be smaller. It affects verdicts, not runs.
        max_seeds: begin with ``seeds``, at least three, and add the integers after them until every arm is
            better, worse or equal to the control after the correction, or there are so many; see
            `pursuhint.study.SequentialPlan` for the looks and their error. None trains ``seeds`` and no more.
        on_event: receives `pursuhint.study.StudyEvent`.
        overwrite: replace a comparison of other settings, networks or data in the folder, or one with more
            arms or seeds, once everything has been checked; the same one continues, and files of others are
            never removed.
        losses: by name, losses of your own beside the recipe's, as `pursuhint.training.train` takes them. An
            arm without hints has those that look at no hint point, the student alone has none.
        record_teacher: folder that gets a recording of the teacher's outputs for every seed, ``seed-N``; what
            is in it is replayed. Later studies of these seeds replay it for other arms, losses, weights and
            students. See `pursuhint.training.train`.
        progress: show a bar: True, False, or None for where somebody looks (a terminal, a notebook) and
            ``on_event`` is not given.

    Returns:
        The comparison, which is also in ``OUT/compare.json``.

    Raises:
        PursuhintError: unknown or repeated arms, no loss that looks at hints, anything that is wrong with the
            recipe, or a folder that holds another comparison; all before anything is trained.
    """
    request = ComparisonRequest(tuple(arms), tuple(seeds), margin, max_seeds, analysis)
    own, recordings = OwnParts(losses or {}), None if record_teacher is None else Path(record_teacher)
    how = StudyOptions(choose_device(device), at_once, streams, on_event, overwrite, recordings)
    with study_under_way(how, own, progress) as options:
        passed = Inputs(teacher=teacher, data=data, own=own)
        steps = comparison_steps(recipe, Path(out), request, passed, options)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                comparison: Comparison = finished.value
                return comparison


@dataclass(frozen=True)
class ComparisonRequest:
    """What is compared, see `compare`.

    Attributes:
        arms: their names.
        seeds: one run of every arm each.
        margin: the smallest difference that matters.
        max_seeds: see `compare`; None for ``seeds`` and no more.
        analysis: of the teacher; None for one of the study's own.
        error: chance of a wrong answer that all looks share, with ``max_seeds``.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    margin: float = MARGIN
    max_seeds: int | None = None
    analysis: Analysis | None = None
    error: float = ERROR


def comparison_steps(
    recipe: Recipe, out: Path, request: ComparisonRequest, passed: Inputs, options: StudyOptions
) -> Generator[Mapping[RunKey, Run], None, Comparison]:
    """`compare` as a generator that pauses before it trains, so that several comparisons can train together.

    Args:
        recipe: shared by all runs.
        out: folder of the comparison.
        request: what is compared.
        passed: teacher, data and the teacher's accuracy, where they do not come from the recipe.
        options: how to train.

    Yields:
        The runs that it trains next; those that are finished when it continues are not trained again.
    """
    expect(recipe, Recipe, "the recipe", advice=READ_RECIPE)
    arms, seeds = _checked(request.arms, request.seeds)
    margin, max_seeds, analysis = request.margin, request.max_seeds, request.analysis
    check_margin(margin)
    plan = None if max_seeds is None else SequentialPlan(len(seeds), max_seeds, request.error)
    judge = _Judge(margin, plan)
    if recipe.hints is not None and recipe.hints.curriculum is not None and "curriculum" not in arms:
        raise PursuhintError("hints.curriculum has no effect here: no arm has one; add --arm curriculum")
    _check_samples(recipe.hints, arms)
    shared = resolved_for_arms(recipe, passed, seed=seeds[0])
    study = Study(shared, out, passed, options)
    parts = prepare(shared, passed)
    assert parts.teacher is not None
    assert shared.hints is not None
    assert shared.hints.activation is not None
    points = find_hint_points(parts.teacher, parts.example, activation=shared.hints.activation)
    k = default_k(points) if shared.hints.k is None else shared.hints.k
    placement = _HintPlacement(study, shared.hints, parts, points, k)
    placement.check(analysis, arms)
    given = placement.given_plans(arms)
    asked, arms = arms, expand_sweep(arms, len(points))
    if len({arm_folder(arm) for arm in arms}) != len(arms):
        raise PursuhintError("an arm of a single layer is named twice: sweep contains every sweep:N")
    inputs = Inputs(teacher=parts.teacher, data=parts.data, own=passed.own).fingerprints()

    def settings_with(seeds: Sequence[int]) -> StudySettings:
        lists: dict[str, Sequence[Any]] = {"arms": asked, "seeds": seeds}
        return StudySettings("comparison", shared, inputs=inputs, data=parts.data, lists=lists)

    begun = study.begin(Comparison, settings_with, seeds=seeds, plan=plan)
    looks, before = begun.looks, begun.before
    study.check_recordings(shared, parts, looks[-1])
    study.claim(settings_with(looks[0]))
    study.measure_teacher(parts, None if before is None else before.teacher)
    metrics = placement.metrics(arms)
    if metrics:
        curves = {found.curve for arm in arms if (found := find_arm(arm)).curve}
        analysis = placement.analysis(analysis, metrics, curves, again=begun.again)
    candidates = placement.candidates(analysis, given)
    results: dict[RunKey, SeedResult] = {}
    for look in looks:
        if look != looks[0]:
            study.claim(settings_with(look))
        new = [key for seed in look for arm in arms if (key := RunKey(arm, seed)) not in results]
        results |= yield from _run(study, placement.plans(new, candidates))
        by_arm = tuple(ArmResult.of(arm, [results[RunKey(arm, seed)] for seed in look]) for arm in arms)
        comparison = study.finish(placement.result(by_arm, seeds=look, before=before, judge=judge))
        if comparison.sequential is None or comparison.sequential.decided or look == looks[-1]:
            break
        titles = {arm.name: arm.title for arm in comparison.arms}
        study.watch(PhaseStarted("seeds", comparison.sequential.sentence(titles)))
    return comparison


def _check_samples(hints: HintsConfig | None, arms: Sequence[str]) -> None:
    """Refuse ``samples: auto`` if no arm needs an analysis, and its settings with a fixed number."""
    if hints is None:
        return
    if hints.samples == "auto" and not any(find_arm(arm).clusters for arm in arms):
        raise PursuhintError(
            f"hints.samples=auto ends an analysis, and no arm of {', '.join(arms)} needs one; give a number "
            "of images, or add --arm kmeans"
        )
    if hints.samples != "auto":
        for key in ("max_samples", "stable_at"):
            if getattr(hints, key) != HintsConfig.model_fields[key].default:
                raise PursuhintError(no_effect(key, hints.model_dump()))


@dataclass(frozen=True)
class _Judge:
    """How arms are compared: the smallest difference that matters, and the plan of looks if there is one."""

    margin: float
    plan: SequentialPlan | None

    def confidence(self, seeds: int) -> float:
        """Of the intervals with so many seeds."""
        return 0.95 if self.plan is None else self.plan.confidence(seeds)


@dataclass(frozen=True)
class _HintPlacement:
    """Finds the hint points of every arm.

    Attributes:
        study: folder, processes and settings.
        hints: settings of the hints, shared by all arms.
        parts: networks and data.
        points: all hint points of the teacher, in depth order.
        k: number of hints of the arms whose number is free.
    """

    study: Study
    hints: HintsConfig
    parts: Parts
    points: tuple[HintPoint, ...]
    k: int

    def metrics(self, arms: Sequence[str]) -> tuple[str, ...]:
        """The metrics of the similarities that arms choose from, the recipe's first; none if no arm does."""
        named = {find_arm(arm).metric or self.hints.metric for arm in arms if find_arm(arm).clusters}
        return tuple(sorted(named, key=lambda metric: (metric != self.hints.metric, metric)))

    def check(self, analysis: Analysis | None, arms: Sequence[str]) -> None:
        """Fail before the student alone is trained, not when the first run with hints begins.

        Raises:
            PursuhintError: the number of hints does not fit teacher and student, the losses do not fit the
                networks, the analysis is another one, or an arm compares classes that there are not.
        """
        metrics = self.metrics(arms)
        for arm in arms:
            check_classes(arm, self.parts.data.num_classes)
            if analysis is not None and (curve := find_arm(arm).curve):
                self.rule_source(arm, self.hints.seed, analysis).needed_curve(arm, curve)
        if analysis is not None and (
            not set(metrics) <= set(analysis.metrics)
            or [point.module for point in analysis.layers.points] != [point.module for point in self.points]
        ):
            raise PursuhintError(
                f"the analysis is of {analysis.provenance.network} with {', '.join(analysis.metrics)}, "
                f"but the arms choose by {', '.join(metrics)} among {len(self.points)} points; analyse "
                "this teacher so"
            )
        self.paired(HintPlan.random(self.points, self.k, seed=0))
        trial = dataclasses.replace(self.parts, student=copy_network(self.parts.student))
        build_distiller(self.study.recipe, trial, trial.plan)

    def paired(self, plan: HintPlan) -> HintPlan:
        """The plan with the student's points; the plan itself if it has them."""
        if plan.student_points:
            return plan
        return pair_with_student(plan, self.hints, self.parts.student, self.parts.example)

    def given_plans(self, arms: Sequence[str]) -> dict[str, HintPlan]:
        """The plans of the arms whose hint points were given.

        Raises:
            PursuhintError: a file or a point does not exist, or a plan has the other activation.
        """
        teacher, plans = self.parts.teacher, {}
        assert teacher is not None
        for arm in arms:
            if not arm.startswith(GIVEN):
                continue
            hints = parse_hints(arm.removeprefix(GIVEN))
            if "strategy" in hints:
                raise PursuhintError(f"the arm {arm!r} names no points; give {hints['strategy']} by itself")
            if "points" in hints:
                plan = HintPlan.explicit(self.points, hints["points"])
            else:
                plan = HintPlan.load(hints["file"])
                check_activation(plan, self.hints, hints["file"])
                assert self.study.recipe.teacher is not None
                plan.check_network(teacher, self.study.recipe.teacher.network)
                plan = plan.bind(teacher, self.parts.example, student_network=self.parts.student)
            plans[arm] = self.paired(plan)
        return plans

    def candidates(self, analysis: Analysis | None, given: Mapping[str, HintPlan]) -> Candidates:
        """What the arms choose from.

        Args:
            analysis: of the teacher; None if no arm clusters.
            given: see `given_plans`.
        """

        def cluster(metric: str, algorithm: str, position: str) -> HintPlan:
            assert analysis is not None
            hints = self.hints
            return analysis.select(
                k=self.k,
                algorithm=algorithm,
                position=position or hints.position,
                metric=metric or hints.metric,
            )

        @functools.cache
        def of_rule(name: str, seed: int) -> HintPlan:
            return self.by_rule(name, seed, analysis)

        def by_rule(name: str, seed: int) -> HintPlan:
            return of_rule(name, seed if RULES[name].draws else self.hints.seed)

        teacher = self.parts.teacher
        assert teacher is not None
        activation = self.points[0].activation
        students = find_hint_points(self.parts.student, self.parts.example, activation=activation)
        return Candidates(teacher, self.points, students, self.k, cluster, by_rule, self.by_schedule, given)

    def by_schedule(self, name: str, seed: int) -> HintPlan:
        """The pairs of a schedule of `pursuhint.hints.SCHEDULES`, and which of them teach when."""
        k = self.hints.k if name == "curriculum" else self.k  # a curriculum takes all layers by default
        hints = _scheduled_hints(self.hints.model_copy(update={"k": k}), name, seed)
        recipe, parts = self.study.recipe, self.parts
        return scheduled_plan(hints, self.points, parts.student, example=parts.example, epochs=recipe.epochs)

    def by_rule(self, name: str, seed: int, analysis: Analysis | None) -> HintPlan:
        """The points that a rule of `pursuhint.hints.RULES` chooses.

        Args:
            name: of the rule.
            seed: of its draw.
            analysis: of the teacher, for the rules that need one.
        """
        source = self.rule_source(name, seed, analysis)
        teacher, workers = self.parts.teacher, self.study.recipe.data.workers
        assert teacher is not None
        images = TrainingImages(self.parts.data, self.hints.most_samples, self.study.device, workers)
        return plan_by_rule(name, source, teacher, images)

    def rule_source(self, name: str, seed: int, analysis: Analysis | None) -> RuleSource:
        """What a rule chooses from; arguments as for `by_rule`."""
        recipe = self.study.recipe
        assert recipe.teacher is not None
        update = {"k": self.k, "seed": seed}
        return rule_source(
            self.hints.model_copy(update=update),
            self.points,
            recipe.teacher.network,
            [loss for loss in recipe.losses if needs_hints([loss])],
            analysis=analysis if RULES[name].analysis else None,
        )

    def plans(self, keys: Sequence[RunKey], candidates: Candidates) -> dict[RunKey, HintPlan | None]:
        """The hint points of every run; None for the student alone."""
        chosen = {key: find_arm(key.arm).choose(candidates, key.seed) for key in keys}
        return {key: None if plan is None else self.paired(plan) for key, plan in chosen.items()}

    def analysis(
        self, given: Analysis | None, metrics: tuple[str, ...], curves: Set[str], *, again: bool
    ) -> Analysis:
        """The analysis of the teacher that the clustering arms share. Collective call.

        Args:
            given: the analysis that was passed to `compare`.
            metrics: of the arms.
            curves: what the arms need to know of every layer about the classes.
            again: whether the folder holds this study, so that an analysis in it is reused.
        """
        folder = self.study.out / "analysis"
        if again and (folder / "analysis.json").exists():
            there = Analysis.load(folder)
            if set(metrics) <= set(there.metrics) and curves <= there.curves.keys():
                return there
            metrics = tuple(dict.fromkeys((*there.metrics, *metrics)))
            curves = {*curves, *there.curves}
        if given is None:
            self.study.watch(PhaseStarted("analysis", "comparing the layers of the teacher"))
            given = analyze_teacher(
                self.study.recipe,
                self.parts,
                metrics=metrics,
                selection=dataclasses.replace(self.hints.selection, k=self.k),
                device=self.study.device,
                class_quality="quality" in curves,
                accuracy=self.study.accuracy,
            )
        if self.study.is_main_process:
            given.save(folder)
        self.study.wait()
        return given

    def result(
        self, arms: tuple[ArmResult, ...], *, seeds: Sequence[int], before: Comparison | None, judge: _Judge
    ) -> Comparison:
        """Accuracies, statistics and sentences.

        Args:
            arms: in the order of the tables.
            seeds: in the order in which every arm lists its runs.
            before: the result of an earlier call, perhaps with fewer arms or seeds.
            judge: how to compare the arms.
        """
        against, sentences = against_controls(
            arms,
            margin=judge.margin,
            confidence=judge.confidence(len(seeds)),
            hits=read_image_hits(self.study.out, arms),
            grain=100 / len(self.parts.data.test),
        )
        sequential = None if judge.plan is None else SequentialResult.of(judge.plan, arms, against)
        titles = {arm.name: arm.title for arm in arms}
        ended = () if sequential is None else (sequential.sentence(titles),)
        teacher = self.study.recipe.teacher
        assert teacher is not None
        return Comparison(
            **self.study.facts(self.parts, teacher=teacher.network, seeds=seeds, before=before),
            margin=judge.margin,
            sequential=sequential,
            k=self.k,
            metric=self.hints.metric,
            position=self.hints.position,
            arms=arms,
            findings=(*findings_on(arms), *ended),
            against=against,
            sentences=sentences,
            notes=notes_on(arms, asked_k=self.k),
        )


def _run(
    study: Study, plans: Mapping[RunKey, HintPlan | None]
) -> Generator[Mapping[RunKey, Run], None, dict[RunKey, SeedResult]]:
    """Train the runs that are not finished, seed by seed, so that pairs are complete early.

    Arms that have the same hint points for a seed share one run.

    Yields:
        The runs, before they are trained.
    """
    first_with: dict[tuple[Any, ...], RunKey] = {}
    same: dict[RunKey, RunKey] = {}
    runs: dict[RunKey, Run] = {}
    for key, plan in plans.items():
        arm = find_arm(key.arm)
        what = arm.teacher, arm.schedule, *_modules(plan)
        first = first_with.setdefault((key.seed, *what), key)
        if first == key:
            runs[key] = _make_run(study, key, plan)
        else:
            same[key] = first
    yield runs
    records = study.train(runs, same=same, keep_going=False)
    results = {}
    for key, plan in plans.items():
        first, record = same.get(key, key), records[key]
        assert isinstance(record, RunRecord)
        result = SeedResult.of(key.seed, run_folder(*first), plan, record)
        results[key] = result if first == key else result.model_copy(update={"same_as": first.arm})
    return results


def _make_run(study: Study, key: RunKey, plan: HintPlan | None) -> Run:
    """One run of an arm. Its ``recipe.yaml`` names its hint points, so it repeats the run by itself."""
    recipe, schedule = study.recipe, find_arm(key.arm).schedule
    update: dict[str, Any] = {"seed": key.seed}
    taught = find_arm(key.arm).teacher
    if schedule:  # its recipe has the strategy in place of the points
        assert recipe.hints is not None
        assert plan is not None
        hints = recipe.hints.model_copy(update={"k": plan.origin["k"]})
        update["hints"], plan = _scheduled_hints(hints, schedule, key.seed), None
    elif plan is None:
        update |= {"hints": None, "losses": _without_hints(recipe.losses, taught=taught)}
    losses = update.get("losses", recipe.losses)
    update["data"] = data_of_losses(recipe.data, losses, taught=taught)
    if not taught:
        update["teacher"] = None
        update["optimizer"] = recipe.optimizer.of_labels_alone
    teacher = study.passed.teacher if taught else None
    accuracy = study.accuracy if taught else None
    own = study.passed.own.only(losses)
    inputs = Inputs(teacher=teacher, data=study.passed.data, plan=plan, accuracy=accuracy, own=own)
    update["passed"] = own.names()
    return Run(recipe.model_copy(update=update), study.out / run_folder(*key), inputs)


def _scheduled_hints(hints: HintsConfig, strategy: str, seed: int) -> HintsConfig:
    """The hints of a recipe with a strategy that changes them while the student trains."""
    drawn = {"seed": seed} if SCHEDULES[strategy].draws else {}
    values = with_effect(hints.model_dump() | {"strategy": strategy, **drawn})
    return HintsConfig.model_validate(values)


def _without_hints(losses: Mapping[str, LossConfig], *, taught: bool) -> dict[str, LossConfig]:
    """The losses of an arm without hints; what they share with the other arms has the same weight.

    Args:
        losses: of the recipe, resolved.
        taught: keep those that have a teacher but look at no hint point, and make sure that there is one.
    """
    options = losses["ce"].options if "ce" in losses else {}
    if not taught:
        return {"ce": LossConfig(weight=1.0, options=options)}
    kept = {name: loss for name, loss in losses.items() if not needs_hints([name])}
    kinds = [get_loss(name).info for name in kept]
    if not any(info.needs_teacher for info in kinds):
        kept["kd"] = LossConfig(weight=1.0)
    if "ce" not in kept and not any(info.contains_classification for info in kinds):
        kept["ce"] = LossConfig(weight=1.0)
    return kept


def _checked(arms: Sequence[str], seeds: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    for arm in arms:
        find_arm(arm)
    too_few = len(arms) < 2 and tuple(arms) != (SWEEP,)
    if len({arm_folder(arm) for arm in arms}) != len(arms) or too_few:
        raise PursuhintError(
            f"a comparison needs at least two arms, each named once, got {', '.join(arms) or 'none'}"
        )
    check_seeds(seeds)
    return tuple(arms), tuple(seeds)


def resolved_for_arms(recipe: Recipe, passed: Inputs, *, seed: int) -> Recipe:
    """What all arms share, complete.

    Args:
        recipe: of the comparison.
        passed: teacher and data, where they do not come from the recipe.
        seed: of the first runs.

    Raises:
        PursuhintError: no loss looks at hint points, the recipe fixes them, or something else is wrong.
    """
    recipe = passed.own.added_to(recipe)
    shared = recipe.model_copy(update={"hints": _without_strategy(recipe), "seed": seed})
    shared = resolve_recipe(shared, passed, for_arms=True)
    if shared.hints is None:
        raise PursuhintError(
            f"no loss of the recipe looks at hint points ({', '.join(shared.losses)}), so their place "
            "cannot matter; add one, e.g. at"
        )
    return shared


def _without_strategy(recipe: Recipe) -> HintsConfig | None:
    """The parts of the recipe's hints that all arms share.

    Raises:
        PursuhintError: the recipe fixes the teacher's points, which is what the arms differ in.
    """
    if not needs_hints(recipe.losses):
        return recipe.hints
    hints = recipe.hints or HintsConfig()
    if hints.file is not None or hints.points or any(loss.hints for loss in recipe.losses.values()):
        raise PursuhintError(
            "the recipe names hint points (hints.file, hints.points or hints of a loss), but the arms of a "
            "comparison choose them; leave them out"
        )
    activation = hints.activation or shared_activation(recipe.losses)
    update = {"strategy": "conventional", "algorithm": "kmeans", "activation": activation}
    return hints.model_copy(update=update)


def _modules(plan: HintPlan | None) -> tuple[Any, ...]:
    """The pairs of modules. Arms with identical pairs share one run."""
    pairs = () if plan is None else plan.pairs
    return tuple((pair.teacher.module, pair.student and pair.student.module) for pair in pairs)
