"""Does the place of the hints matter? One student, several ways of choosing, several seeds.

The module is not called ``compare``, so that ``pursuhint.study.compare`` is always the function.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.devices import choose_device
from pursuhint._util.output_folder import remove_leftovers
from pursuhint._util.random_state import keep_random_state
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.hints.options import default_k
from pursuhint.hints.plan import HintPlan
from pursuhint.models.checkpoint import count_parameters
from pursuhint.study.arms import ARMS, GIVEN, arm_folder, find_arm
from pursuhint.study.comparison import (
    FILE,
    ArmResult,
    Comparison,
    DataFacts,
    NetworkFacts,
    SeedResult,
    against_controls,
    notes_on,
)
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.run_arms import RunKey, check_seeds, run_folder, train_arms
from pursuhint.study.settings import StudySettings
from pursuhint.study.teacher_facts import teacher_facts
from pursuhint.training.devices import build_accelerator
from pursuhint.training.events import ignore
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.prepare_training import Parts, build_distiller, pair_with_student, prepare
from pursuhint.training.recipe.hints_syntax import parse_hints
from pursuhint.training.recipe.resolve import check_activation, needs_hints, resolve_recipe, shared_activation
from pursuhint.training.recipe.schema import HintsConfig, LossConfig, Recipe
from pursuhint.training.run_folder.environment import describe_environment
from pursuhint.training.run_folder.record import RunRecord

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from pursuhint.data import ImageData

__all__ = ["compare"]


def compare(
    recipe: Recipe,
    out: Path | str,
    *,
    arms: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = (0, 1, 2),
    device: torch.device | str | None = None,
    data: ImageData | None = None,
    teacher: nn.Module | None = None,
    analysis: Analysis | None = None,
    at_once: int | None = None,
    streams: bool = False,
    on_event: Watcher | None = None,
) -> Comparison:
    """Train the same student with hints at different places, over several seeds, and compare.

    All arms of a seed start from the same student weights and see the same batches in the same
    augmentation, so what is compared is the difference within a seed. The outcome is the test accuracy after
    the last epoch, whatever the best epoch was. Every run is an ordinary run folder,
    ``OUT/arms/ARM/seed-N``; the same call goes on where an interrupted one stopped and picks up what is
    finished, and one with more arms or seeds adds them. Arms whose hint points coincide share their run.
    The teacher's layers are analysed once (``OUT/analysis``).

    Args:
        recipe: student, teacher, data, losses, schedule. At least one loss must look at hint points. Of its
            hints, ``k``, ``metric``, ``position``, ``activation``, ``samples``, ``seed``, ``pairing`` and
            ``student_points`` apply; the strategy and ``recipe.seed`` are what the arms and seeds set.
        out: folder of the comparison.
        arms: names of `pursuhint.study.ARMS`, at least two. ``alone`` trains with cross-entropy only.
            ``random`` draws other positions for every seed. ``hints:7,29,49`` has given points, by position
            or module name, ``hints:FILE`` those of a ``hints.json``.
        seeds: one run of every arm each; at least one, better three or more.
        device: where to run; None for the best there is.
        data: used instead of the recipe's.
        teacher: used instead of the recipe's.
        analysis: of the teacher, with the recipe's metric, to use instead of making one.
        at_once: at most so many students in training at the same time; None for all arms of a seed.
        streams: on a GPU, train them on streams of their own; see `pursuhint.training.train_many`.
        on_event: hears of `pursuhint.study.events` and of the steps that the students take together.

    Returns:
        The comparison, which is also in ``OUT/compare.json``.

    Raises:
        PursuhintError: unknown or repeated arms, no loss that looks at hints, anything that is wrong with the
            recipe, or a folder that holds another comparison; all before anything is trained.
    """
    out = Path(out)
    arms, seeds = _checked(arms, seeds)
    where = choose_device(device)
    with keep_random_state(where):
        shared = recipe.model_copy(update={"hints": _without_strategy(recipe), "seed": seeds[0]})
        shared = resolve_recipe(shared, Inputs(teacher=teacher, data=data))
        if shared.hints is None:
            raise PursuhintError(
                f"no loss of the recipe looks at hint points ({', '.join(shared.losses)}), so their place "
                "cannot matter; add one, e.g. at"
            )
        accelerator = build_accelerator(where, shared.precision)
        watch: Watcher = ignore if on_event is None or not accelerator.is_main_process else on_event
        parts = prepare(shared, Inputs(teacher=teacher, data=data))
        assert parts.teacher is not None
        assert shared.hints.activation is not None  # resolved
        points = find_hint_points(parts.teacher, parts.example, activation=shared.hints.activation)
        k = default_k(points) if shared.hints.k is None else shared.hints.k
        study = _Study(shared, shared.hints, parts, points, k, out, accelerator, teacher, data, watch)
        inputs = Inputs(teacher=parts.teacher, data=parts.data).fingerprints()
        study.check(analysis)
        given = study.given_plans(arms)
        settings = StudySettings("comparison", shared, inputs, {"arms": arms, "seeds": seeds})
        again = settings.matches(out)
        before = Comparison.load(out) if (out / FILE).exists() else None
        accelerator.wait_for_everyone()  # every process has looked before the first one writes
        if accelerator.is_main_process:
            make_folder(out)
            remove_leftovers(out)
            settings.save(out)  # first: it marks the folder as a study
            shared.save(out / "recipe.yaml")
        plans = study.plans(arms, seeds, analysis, given, again=again)
        results = study.run(plans, at_once=at_once, streams=streams)
        comparison = study.summary(arms, seeds, results, before)
        if accelerator.is_main_process:
            comparison.save()
        accelerator.wait_for_everyone()
    return comparison


@dataclass(frozen=True)
class _Study:
    """What all runs of a comparison share."""

    recipe: Recipe
    hints: HintsConfig
    parts: Parts
    points: tuple[HintPoint, ...]
    k: int
    out: Path
    accelerator: Accelerator
    teacher: nn.Module | None
    data: ImageData | None
    watch: Watcher

    def check(self, analysis: Analysis | None) -> None:
        """Find out now what the first run with hints would find out after the student alone was trained.

        Raises:
            PursuhintError: the number of hints does not fit teacher and student, the losses do not fit the
                networks, or the analysis is another one.
        """
        if analysis is not None and (
            self.hints.metric not in analysis.metrics
            or [point.module for point in analysis.layers.points] != [point.module for point in self.points]
        ):
            raise PursuhintError(
                f"the analysis is of {analysis.provenance.network} with {', '.join(analysis.metrics)}, "
                f"but the recipe chooses by {self.hints.metric} among {len(self.points)} points; analyse "
                "this teacher so"
            )
        self.paired(HintPlan.random(self.points, self.k, seed=0))
        trial = dataclasses.replace(self.parts, student=copy.deepcopy(self.parts.student))
        build_distiller(self.recipe, trial, trial.plan)

    def paired(self, plan: HintPlan) -> HintPlan:
        """A plan with the student's points."""
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
                plan = plan.bind(teacher, self.parts.example, student_network=self.parts.student)
            plans[arm] = plan if plan.student_points else self.paired(plan)
        return plans

    def plans(
        self,
        arms: Sequence[str],
        seeds: Sequence[int],
        analysis: Analysis | None,
        given: Mapping[str, HintPlan],
        *,
        again: bool,
    ) -> dict[RunKey, HintPlan | None]:
        """The hint points of every arm and seed, seed by seed; None for the student alone."""
        teacher = self.parts.teacher
        assert teacher is not None
        if {"kmeans", "segments"} & set(arms):
            analysis = self.analysis(analysis, again=again)
        plans: dict[RunKey, HintPlan | None] = {}
        for seed in seeds:
            for arm in arms:
                plan = None
                if arm == "conventional":
                    plan = HintPlan.conventional(teacher, self.points)
                elif arm == "centers":
                    plan = HintPlan.stage_centers(self.points)
                elif arm == "random":
                    plan = HintPlan.random(self.points, self.k, seed)
                elif arm in given:
                    plans[arm, seed] = given[arm]
                    continue
                elif arm != "alone":
                    assert analysis is not None
                    plan = analysis.select(
                        k=self.k, algorithm=arm, position=self.hints.position, metric=self.hints.metric
                    )
                plans[arm, seed] = None if plan is None else self.paired(plan)
        return plans

    def analysis(self, given: Analysis | None, *, again: bool) -> Analysis:
        """The analysis of the teacher that the clustering arms share."""
        folder = self.out / "analysis"
        if again and (folder / "analysis.json").exists():
            return Analysis.load(folder)
        if given is None:
            self.watch(PhaseStarted("analysis", "comparing the layers of the teacher"))
            assert self.parts.teacher is not None
            assert self.recipe.teacher is not None
            assert self.hints.activation is not None
            given = analyze(
                self.parts.teacher,
                self.parts.data,
                metrics=(self.hints.metric,),
                k=self.k,
                samples=self.hints.samples,
                seed=self.hints.seed,
                activation=self.hints.activation,
                position=self.hints.position,
                device=self.accelerator.device,
                network_name=self.recipe.teacher.network,
            )
        if self.accelerator.is_main_process:
            given.save(folder)
        self.accelerator.wait_for_everyone()
        return given

    def run(
        self, plans: Mapping[RunKey, HintPlan | None], *, at_once: int | None, streams: bool
    ) -> dict[RunKey, SeedResult]:
        """Train what is not there, seed by seed, so that pairs are complete as early as possible."""
        seen: dict[tuple[Any, ...], RunKey] = {}
        same: dict[RunKey, RunKey] = {}
        planned: dict[RunKey, Run] = {}
        for place, plan in plans.items():
            first = seen.setdefault((place[1], *_places(plan)), place)
            if first == place:
                planned[place] = self.planned(place, plan)
            else:
                same[place] = first
        records = train_arms(
            planned,
            same=same,
            device=self.accelerator.device,
            at_once=at_once,
            streams=streams,
            keep_going=False,
            watch=self.watch,
        )
        results = {}
        for place, plan in plans.items():
            first, record = same.get(place, place), records[place]
            assert isinstance(record, RunRecord)
            result = SeedResult.of(place[1], run_folder(*first), plan, record)
            results[place] = result if first == place else result.model_copy(update={"same_as": first[0]})
        return results

    def planned(self, place: RunKey, plan: HintPlan | None) -> Run:
        """One run of an arm. Its ``recipe.yaml`` names its hint points and repeats it alone."""
        update: dict[str, Any] = {"seed": place[1]}
        if plan is None:
            options = self.recipe.losses["ce"].options if "ce" in self.recipe.losses else {}
            entropy = LossConfig(weight=1.0, options=options)
            update |= {"teacher": None, "hints": None, "losses": {"ce": entropy}}
        return Run(
            self.recipe.model_copy(update=update),
            self.out / run_folder(*place),
            Inputs(teacher=None if plan is None else self.teacher, data=self.data, plan=plan),
        )

    def summary(
        self,
        arms: Sequence[str],
        seeds: Sequence[int],
        results: Mapping[RunKey, SeedResult],
        before: Comparison | None,
    ) -> Comparison:
        """Accuracies, statistics and sentences.

        Args:
            arms: in the order of the tables.
            seeds: likewise.
            results: of every arm and seed.
            before: what an earlier call has finished, perhaps with fewer arms or seeds.
        """
        by_arm = tuple(ArmResult.of(arm, [results[arm, seed] for seed in seeds]) for arm in arms)
        against, sentences = against_controls(by_arm)
        images, named = self.parts.data, self.recipe.teacher
        assert named is not None
        return Comparison(
            path=self.out,
            recipe=self.recipe.to_dict(),
            seeds=tuple(seeds),
            k=self.k,
            metric=self.hints.metric,
            position=self.hints.position,
            chosen_on="test" if images.val is None else "val",
            data=DataFacts.of(images),
            teacher=teacher_facts(self.recipe, named.network, self.parts, self.accelerator.device)
            if before is None
            else before.teacher,
            student=NetworkFacts(
                name=self.recipe.student.network, parameters=count_parameters(self.parts.student)
            ),
            arms=by_arm,
            against=against,
            sentences=sentences,
            notes=notes_on(by_arm, asked_k=self.k),
            environment=describe_environment(self.accelerator.device, seed=seeds[0])
            if before is None
            else before.environment,
        )


def _checked(arms: Sequence[str], seeds: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    for arm in arms:
        find_arm(arm)
    if len({arm_folder(arm) for arm in arms}) != len(arms) or len(arms) < 2:
        raise PursuhintError(
            f"a comparison needs at least two arms, each named once, got {', '.join(arms) or 'none'}"
        )
    check_seeds(seeds)
    return tuple(arms), tuple(seeds)


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


def _places(plan: HintPlan | None) -> tuple[Any, ...]:
    """What decides whether two arms are the same run: the pairs of modules."""
    pairs = () if plan is None else plan.pairs
    return tuple((pair.teacher.module, pair.student and pair.student.module) for pair in pairs)
