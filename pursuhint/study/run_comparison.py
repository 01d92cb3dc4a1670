"""Does the place of the hints matter? One student, several ways of choosing, several seeds.

The module is not called ``compare``, so that ``pursuhint.study.compare`` is always the function.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint.analysis import Analysis, analyze
from pursuhint.errors import PursuhintError
from pursuhint.files import make_folder, read_json, write_json
from pursuhint.hints import HintPlan, default_k
from pursuhint.models.checkpoint import count_parameters
from pursuhint.points import HintPoint, find_hint_points
from pursuhint.study.arms import ARMS
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
from pursuhint.study.events import ArmFinished, ArmStarted, PhaseStarted, Watcher
from pursuhint.tables import lookup
from pursuhint.training.devices import choose_device, keep_random_state
from pursuhint.training.environment import describe_environment
from pursuhint.training.evaluation import evaluate
from pursuhint.training.identity import fingerprint_data, fingerprint_network
from pursuhint.training.prepare import Parts, build_distiller, evaluation_loaders, pair_with_student, prepare
from pursuhint.training.recipe import HintsConfig, LossConfig, Recipe
from pursuhint.training.record import RunRecord
from pursuhint.training.resolve import resolve_recipe
from pursuhint.training.run import train

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import ImageData

__all__ = ["compare"]

_SETTINGS = "settings.json"
_LOCATIONS = ("data.root", "data.download", "data.workers")  # where and how fast, not what


def compare(
    recipe: Recipe,
    out: Path | str,
    *,
    arms: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = (0, 1, 2),
    device: torch.device | str | None = None,
    data: ImageData | None = None,
    teacher: nn.Module | None = None,
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
        arms: names of `pursuhint.study.arms.ARMS`, at least two. ``alone`` trains with cross-entropy only.
            ``random`` draws other positions for every seed.
        seeds: one run of every arm each; at least one, better three or more.
        device: where to run; None for the best there is.
        data: used instead of the recipe's.
        teacher: used instead of the recipe's.
        on_event: hears of `pursuhint.study.events` and of the events of every run.

    Returns:
        The comparison, which is also in ``OUT/compare.json``.

    Raises:
        PursuhintError: unknown or repeated arms, no loss that looks at hints, anything that is wrong with the
            recipe, or a folder that holds another comparison; all before anything is trained.
    """
    out = Path(out)
    watch: Watcher = (lambda event: None) if on_event is None else on_event
    arms, seeds = _checked(arms, seeds)
    where = choose_device(device)
    with keep_random_state(where):
        shared = recipe.model_copy(update={"hints": _without_strategy(recipe.hints), "seed": seeds[0]})
        shared = resolve_recipe(shared, teacher=teacher, data=data)
        if shared.hints is None:
            raise PursuhintError(
                f"no loss of the recipe looks at hint points ({', '.join(shared.losses)}), so their place "
                "cannot matter; add one, e.g. at"
            )
        parts = prepare(shared, teacher=teacher, data=data)
        assert parts.teacher is not None
        points = find_hint_points(parts.teacher, parts.example, activation=shared.hints.activation)
        k = default_k(points) if shared.hints.k is None else shared.hints.k
        study = _Study(shared, shared.hints, parts, points, k, out, where, teacher, data, watch)
        inputs = {"teacher": fingerprint_network(parts.teacher), "data": fingerprint_data(parts.data)}
        study.check()
        again = _check_same(out, shared, inputs, arms, seeds)
        make_folder(out)
        shared.save(out / "recipe.yaml")
        write_json(out / _SETTINGS, _settings(shared, inputs, arms, seeds))
        plans = study.plans(arms, seeds, again=again)
        results = study.run(arms, seeds, plans)
        comparison = study.summary(arms, seeds, results)
        comparison.save()
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
    device: torch.device
    teacher: nn.Module | None
    data: ImageData | None
    watch: Watcher

    def check(self) -> None:
        """Find out now what the first run with hints would find out after the student alone was trained.

        Raises:
            PursuhintError: the number of hints does not fit teacher and student, or the losses do not fit the
                networks.
        """
        self.paired(HintPlan.random(self.points, self.k, seed=0))
        trial = dataclasses.replace(self.parts, student=copy.deepcopy(self.parts.student))
        build_distiller(self.recipe, trial, trial.plan)

    def paired(self, plan: HintPlan) -> HintPlan:
        """A plan with the student's points."""
        return pair_with_student(plan, self.hints, self.parts.student, self.parts.example)

    def plans(
        self, arms: Sequence[str], seeds: Sequence[int], *, again: bool
    ) -> dict[tuple[str, int], HintPlan | None]:
        """The hint points of every arm and seed; None for the student alone."""
        teacher = self.parts.teacher
        assert teacher is not None
        analysis = self.analysis(again=again) if {"kmeans", "segments"} & set(arms) else None
        plans: dict[tuple[str, int], HintPlan | None] = {}
        for arm in arms:
            for seed in seeds:
                plan = None
                if arm == "conventional":
                    plan = HintPlan.conventional(teacher, self.points)
                elif arm == "centers":
                    plan = HintPlan.stage_centers(self.points)
                elif arm == "random":
                    plan = HintPlan.random(self.points, self.k, seed)
                elif arm != "alone":
                    assert analysis is not None
                    plan = analysis.select(k=self.k, algorithm=arm, position=self.hints.position)
                plans[arm, seed] = None if plan is None else self.paired(plan)
        return plans

    def analysis(self, *, again: bool) -> Analysis:
        """The analysis of the teacher that the clustering arms share."""
        folder = self.out / "analysis"
        if again and (folder / "analysis.json").exists():
            return Analysis.load(folder)
        self.watch(PhaseStarted("analysis", "comparing the layers of the teacher"))
        assert self.parts.teacher is not None
        assert self.recipe.teacher is not None
        analysis = analyze(
            self.parts.teacher,
            self.parts.data,
            metrics=(self.hints.metric,),
            k=self.k,
            samples=self.hints.samples,
            seed=self.hints.seed,
            activation=self.hints.activation,
            position=self.hints.position,
            device=self.device,
            network_name=self.recipe.teacher.network,
        )
        analysis.save(folder)
        return analysis

    def run(
        self, arms: Sequence[str], seeds: Sequence[int], plans: dict[tuple[str, int], HintPlan | None]
    ) -> dict[tuple[str, int], SeedResult]:
        """Train what is not there, seed by seed, so that pairs are complete as early as possible."""
        results: dict[tuple[str, int], SeedResult] = {}
        for seed in seeds:
            seen: dict[tuple[Any, ...], SeedResult] = {}
            for arm in arms:
                number, total = len(results) + 1, len(arms) * len(seeds)
                self.watch(ArmStarted(arm, seed, number, total))
                plan = plans[arm, seed]
                same = seen.get(_places(plan))
                if same is None:
                    folder = f"arms/{arm}/seed-{seed}"
                    source = "found" if (self.out / folder / "result.json").exists() else "trained"
                    result = _result(seed, folder, plan, self.train(arm, seed, plan, self.out / folder))
                    seen[_places(plan)] = result
                else:
                    result, source = same.model_copy(update={"same_as": same.folder.split("/")[1]}), "same"
                results[arm, seed] = result
                self.watch(ArmFinished(arm, seed, number, total, result.last_top1, source))
        return results

    def train(self, arm: str, seed: int, plan: HintPlan | None, folder: Path) -> RunRecord:
        """One run of an arm. Its ``recipe.yaml`` names its hint points and repeats it alone."""
        update: dict[str, Any] = {"seed": seed}
        if plan is None:
            options = self.recipe.losses["ce"].options if "ce" in self.recipe.losses else {}
            entropy = LossConfig(weight=1.0, options=options)
            update |= {"teacher": None, "hints": None, "losses": {"ce": entropy}}
        recipe = self.recipe.model_copy(update=update)
        teacher = None if plan is None else self.teacher
        return train(
            recipe,
            folder,
            device=self.device,
            teacher=teacher,
            data=self.data,
            plan=plan,
            on_event=self.watch,
        )

    def summary(
        self, arms: Sequence[str], seeds: Sequence[int], results: dict[tuple[str, int], SeedResult]
    ) -> Comparison:
        """Accuracies, statistics and sentences."""
        by_arm = tuple(ArmResult.of(arm, [results[arm, seed] for seed in seeds]) for arm in arms)
        against, sentences = against_controls(by_arm)
        images = self.parts.data
        return Comparison(
            path=self.out,
            recipe=self.recipe.to_dict(),
            seeds=tuple(seeds),
            k=self.k,
            metric=self.hints.metric,
            position=self.hints.position,
            chosen_on="test" if images.val is None else "val",
            data=DataFacts(
                name=images.name,
                train=len(images.train),
                test=len(images.test),
                num_classes=images.num_classes,
                in_channels=images.in_channels,
                image_size=images.image_size,
            ),
            teacher=self.teacher_facts(),
            student=NetworkFacts(
                name=self.recipe.student.network, parameters=count_parameters(self.parts.student)
            ),
            arms=by_arm,
            against=against,
            sentences=sentences,
            notes=notes_on(by_arm, asked_k=self.k),
            environment=self.environment(seeds[0]),
        )

    def teacher_facts(self) -> NetworkFacts:
        """Size and accuracy of the teacher, which is evaluated once."""
        if self.before is not None:
            return self.before.teacher
        teacher = self.parts.teacher
        assert teacher is not None
        assert self.recipe.teacher is not None
        loader = evaluation_loaders(self.recipe, self.parts.data, self.device, (0, 1))["test"]
        return NetworkFacts(
            name=self.recipe.teacher.network,
            parameters=count_parameters(teacher),
            top1=evaluate(teacher.to(self.device), loader).top1,
        )

    def environment(self, seed: int) -> dict[str, Any]:
        """Where the comparison began; each run has its own description besides."""
        if self.before is not None:
            return self.before.environment
        return describe_environment(self.device, seed=seed)

    @property
    def before(self) -> Comparison | None:
        """What an earlier call has finished, perhaps with fewer arms or seeds."""
        return Comparison.load(self.out) if (self.out / FILE).exists() else None


def _checked(arms: Sequence[str], seeds: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    for arm in arms:
        lookup("arm", ARMS, arm)
    if len(set(arms)) != len(arms) or len(arms) < 2:
        raise PursuhintError(
            f"a comparison needs at least two arms, each named once, got {', '.join(arms) or 'none'}"
        )
    if not seeds or len(set(seeds)) != len(seeds):
        raise PursuhintError(f"a comparison needs at least one seed, and each once, got {list(seeds)}")
    return tuple(arms), tuple(seeds)


def _without_strategy(hints: HintsConfig | None) -> HintsConfig | None:
    """The parts of the recipe's hints that all arms share.

    Raises:
        PursuhintError: the recipe fixes the teacher's points, which is what the arms differ in.
    """
    if hints is None:
        return None
    if hints.file is not None or hints.points:
        raise PursuhintError(
            "the recipe names hint points (hints.file or hints.points), but the arms of a comparison choose "
            "them; leave them out"
        )
    return hints.model_copy(update={"strategy": "conventional", "algorithm": "kmeans"})


def _places(plan: HintPlan | None) -> tuple[Any, ...]:
    """What decides whether two arms are the same run: the pairs of modules."""
    pairs = () if plan is None else plan.pairs
    return tuple((pair.teacher.module, pair.student and pair.student.module) for pair in pairs)


def _result(seed: int, folder: str, plan: HintPlan | None, record: RunRecord) -> SeedResult:
    teachers = () if plan is None else plan.teacher_points
    return SeedResult(
        seed=seed,
        folder=folder,
        positions=tuple(point.position for point in teachers),
        modules=tuple(point.module for point in teachers),
        last_top1=record.last["test_top1"],
        best_top1=record.best["test_top1"],
        best_epoch=record.best["epoch"],
        seconds=sum(line["seconds"] for line in record.metrics),
    )


def _settings(
    recipe: Recipe, inputs: dict[str, str], arms: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """What makes a comparison this one."""
    values = {key: value for key, value in recipe.to_dict().items() if key != "seed"}
    return {"schema": 1, "arms": list(arms), "seeds": list(seeds), "recipe": values, "inputs": inputs}


def _check_same(
    out: Path, recipe: Recipe, inputs: dict[str, str], arms: Sequence[str], seeds: Sequence[int]
) -> bool:
    """Whether the folder holds this comparison, perhaps with fewer arms or seeds.

    Raises:
        PursuhintError: it holds another one, or arms or seeds that are not asked for now.
    """
    path = out / _SETTINGS
    if not path.exists():
        found = [name for name in (FILE, "arms", "recipe.yaml") if (out / name).exists()]
        if found:
            raise PursuhintError(
                f"{out} holds something else ({found[0]}, but no {_SETTINGS}); choose another folder (--out)"
            )
        return False
    there, here = read_json(path, "settings of the comparison"), _settings(recipe, inputs, arms, seeds)
    if not isinstance(there, dict) or there.get("schema") != 1:
        raise PursuhintError(
            f"{path} was not written by this version of PursuHint; choose another folder (--out)"
        )
    old, new = _flat(there.get("recipe", {})), _flat(here["recipe"])
    for key in dict.fromkeys([*old, *new]):
        if key not in _LOCATIONS and old.get(key) != new.get(key):
            raise PursuhintError(
                f"{out} holds another comparison: {key} is {old.get(key)!r} there and {new.get(key)!r} here; "
                "choose another folder (--out)"
            )
    for name, value in inputs.items():
        if there.get("inputs", {}).get(name) != value:
            raise PursuhintError(
                f"{out} holds another comparison: the {name} has changed since; choose another folder (--out)"
            )
    for name, now in (("arms", arms), ("seeds", seeds)):
        dropped = [str(entry) for entry in there.get(name, ()) if entry not in now]
        if dropped:
            raise PursuhintError(
                f"{out} holds a comparison that also has the {name} {', '.join(dropped)}; {name} can be "
                "added but not dropped, so name them too or choose another folder (--out)"
            )
    return True


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
