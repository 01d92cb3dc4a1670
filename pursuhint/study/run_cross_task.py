"""Students of a teacher that knows other classes, at several overlaps, by several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pursuhint._util.arguments import READ_RECIPE, expect
from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.devices import choose_device
from pursuhint._util.distributed import is_main_process, wait_for_everyone
from pursuhint._util.output_folder import claim_folder, remove_leftovers
from pursuhint._util.random_state import keep_random_state
from pursuhint._util.replace_folder import DifferentResult, check_replaceable, remove_result
from pursuhint.data import ClassSplit, ImageData, class_order, class_split
from pursuhint.errors import PursuhintError
from pursuhint.losses.base import Keep
from pursuhint.losses.passed import losses_passed
from pursuhint.models import create_model
from pursuhint.models.safetensors_header import classes_of_weights
from pursuhint.published.names import published_network
from pursuhint.study.cross_task_fit import check_fit
from pursuhint.study.cross_task_measures import Measuring, teacher_doubt
from pursuhint.study.cross_task_methods import cross_task_methods
from pursuhint.study.cross_task_points import with_chosen_points
from pursuhint.study.cross_task_result import (
    CrossTaskCell,
    CrossTaskOverlap,
    CrossTaskResult,
    StudentMeasures,
    TeacherDoubt,
    published_accuracy,
)
from pursuhint.study.equality import MARGIN, check_margin
from pursuhint.study.events import PhaseStarted
from pursuhint.study.method import Method, with_own_losses
from pursuhint.study.method_comparison import MethodComparison
from pursuhint.study.run_arms import check_seeds
from pursuhint.study.run_methods import compare_methods
from pursuhint.study.study import StudyOptions
from pursuhint.training.events import ignore
from pursuhint.training.loaders import load_images
from pursuhint.training.own_parts import OwnParts
from pursuhint.training.recipe.resolve import check_has_student, with_absolute_paths
from pursuhint.training.recipe.schema import LossConfig, NetworkConfig, Recipe
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.run_training import train
from pursuhint.training.signals import share_stop

__all__ = ["CrossTaskRequest", "crosstask"]

PLAN = "crosstask-plan.json"
_MEASURES = "crosstask-measures.json"
_TEACHER = "teacher"
_POINTS = "points"


@dataclass(frozen=True)
class CrossTaskRequest:
    """What a cross-task study trains.

    Attributes:
        overlaps: shares of the student's classes that the teacher knows, in [0, 1].
        methods: names, see `pursuhint.study.CROSS_TASK_METHODS`; the student alone is always there.
        seeds: one run of every method each.
        order: of the classes, see `pursuhint.data.class_order`.
        order_seed: of the order ``seed``.
        task_classes: classes of teacher and of student; None for half of all.
        settings: of REFILLED, a key of `pursuhint.study.REFILLED_SETTINGS`.
        matching_epochs: of REFILLED's first stage; None for as many as the recipe's epochs.
        keep_matching: the student of that stage with which the second begins: ``"best"``, ``"last"`` or
            ``"best-of-test"``, see `pursuhint.losses.WarmUp`; None for that of the settings, ``"best"``.
        score_every: epochs of that stage between two measurements for it; None for the loss's 10.
        margin: the smallest difference that matters, in points.
    """

    overlaps: Sequence[float] = (0.0, 0.5, 1.0)
    methods: Sequence[str] = ("rkd", "aml", "refilled-emb", "refilled-minus", "refilled")
    seeds: Sequence[int] = (0, 1, 2)
    order: str = "published"
    order_seed: int = 0
    task_classes: int | None = None
    settings: str = "supplement"
    matching_epochs: int | None = None
    keep_matching: Keep | None = None
    score_every: int | None = None
    margin: float = MARGIN


@share_stop()
def crosstask(
    recipe: Recipe,
    out: Path | str,
    request: CrossTaskRequest | None = None,
    *,
    options: StudyOptions | None = None,
    losses: Mapping[str, Any] | None = None,
) -> CrossTaskResult:
    """Train a teacher on some classes, and students on others by several methods, and measure them.

    The teacher learns the first half of the classes in an order, alone and once for all overlaps; students
    learn as many classes, of which the teacher knows a share. All students of a seed start from the same
    weights, see the same batches and share one pass of the teacher. The same call on the folder of an
    interrupted study resumes it; with more overlaps, methods or seeds it adds them.

    Source: H.-J. Ye, S. Lu and D.-C. Zhan, Generalized Knowledge Distillation via Relationship Matching,
    TPAMI 2023, and its supplement.

    Args:
        recipe: data, teacher, student, optimizer and schedule of teacher and students; no losses. Weights of
            a teacher that was trained on the right classes may be given as ``teacher.checkpoint``.
        out: folder: ``teacher`` is a run, ``overlap-N`` a study of methods, ``crosstask.json`` the result.
        request: overlaps, methods, seeds and the like.
        options: device, students at once and receiver of events.
        losses: by name, losses of your own, as `pursuhint.study.compare_methods` takes them.

    Returns:
        The result; ``table()`` puts accuracies together.

    Raises:
        PursuhintError: an overlap that is no whole number of classes, an unknown or unfit method, classes or
            a teacher that do not fit, data that are not there, or a folder that holds something else; all
            before anything is trained.

    Example:
        >>> request = CrossTaskRequest(overlaps=(0, 1), methods=("rkd", "refilled"))
        >>> result = crosstask(Recipe.load("cifar100-refilled-supplement"), "gkd", request)
        >>> result.cell(0, "refilled").last.mean
    """
    expect(recipe, Recipe, "the recipe", advice=READ_RECIPE)
    request = CrossTaskRequest() if request is None else request
    options = StudyOptions(choose_device(None), None, False, None) if options is None else options
    own = OwnParts(losses or {})
    with losses_passed(own.kinds()):
        plan = _Plan.of(with_absolute_paths(recipe), Path(out), request)
        plan = replace(plan, methods=with_own_losses(plan.methods, own.losses))
        plan.check_methods(options, own)
    plan.claim(overwrite=options.overwrite)
    watch = ignore if options.on_event is None or not is_main_process() else options.on_event
    watch(PhaseStarted("teacher", f"a teacher of {len(plan.splits[0].teacher)} classes"))
    weights, top1 = plan.teacher(options)
    overlaps = []
    for split in plan.splits:
        known = f"{len(split.shared)} of {len(split.student)} classes that the teacher knows"
        watch(PhaseStarted("comparison", f"students of {known}"))
        students = plan.students(split, weights)
        points = plan.out / _POINTS / _folder(split)
        methods = with_chosen_points(plan.methods, students, points, options=options, watch=watch)
        study = compare_methods(
            students,
            plan.out / _folder(split),
            methods=methods,
            seeds=request.seeds,
            device=options.device,
            at_once=options.at_once,
            streams=options.streams,
            margin=request.margin,
            on_event=options.on_event,
            overwrite=options.overwrite,
            losses=losses,
        )
        watch(PhaseStarted("report", "embeddings, joint label space and weights of samples"))
        overlaps.append(plan.measured(split, study, weights, options))
    assert recipe.teacher is not None
    result = CrossTaskResult(
        path=plan.out,
        data=plan.data.name,
        teacher=recipe.teacher.network,
        student=recipe.student.network,
        teacher_classes=plan.names(plan.splits[0].teacher),
        teacher_top1=top1,
        seeds=tuple(request.seeds),
        settings=request.settings,
        overlaps=tuple(overlaps),
        recipe=plan.recipe.to_dict(),
    )
    if is_main_process():
        result.save()
    return result


def _folder(split: ClassSplit) -> str:
    return f"overlap-{100 * split.overlap:.3g}"


@dataclass(frozen=True)
class _Plan:
    """Everything that is known before anything is trained.

    Attributes:
        recipe: shared by all.
        out: folder.
        request: what is asked for.
        data: with all classes.
        splits: one an overlap.
        methods: without the student alone.
    """

    recipe: Recipe
    out: Path
    request: CrossTaskRequest
    data: ImageData
    splits: tuple[ClassSplit, ...]
    methods: tuple[Method, ...]

    @classmethod
    def of(cls, recipe: Recipe, out: Path, request: CrossTaskRequest) -> _Plan:
        """Check a request.

        Raises:
            PursuhintError: something is wrong with it.
        """
        if recipe.teacher is None:
            raise PursuhintError("a cross-task study needs a teacher; give teacher.network (--teacher)")
        if recipe.losses or recipe.data.classes is not None or recipe.hints is not None:
            what = "losses" if recipe.losses else "hints" if recipe.hints is not None else "data.classes"
            raise PursuhintError(
                f"the recipe names {what}, which a cross-task study decides itself: by its methods and "
                "overlaps; leave it out"
            )
        check_has_student(recipe)
        check_seeds(request.seeds)
        check_margin(request.margin)
        _check_matching(request)
        if not request.overlaps or len(set(request.overlaps)) < len(request.overlaps):
            raise PursuhintError(f"a study needs an overlap or more, each once, got {list(request.overlaps)}")
        methods = cross_task_methods(
            request.methods,
            settings=request.settings,
            matching={
                "matching_epochs": request.matching_epochs or recipe.epochs,
                "keep_matching": request.keep_matching,
                "score_every": request.score_every,
            },
            whole=all(overlap == 1 for overlap in request.overlaps),
        )
        data = load_images(recipe.data.model_copy(update={"train_samples": None}))
        order = class_order(recipe.data.name, data.class_names, order=request.order, seed=request.order_seed)
        splits = tuple(class_split(order, one, size=request.task_classes) for one in request.overlaps)
        plan = cls(recipe, out, request, data, splits, methods)
        plan._check_weights()
        return plan

    def names(self, labels: Sequence[int]) -> tuple[str, ...]:
        """Names of classes."""
        return tuple(self.data.class_names[label] for label in labels)

    def check_methods(self, options: StudyOptions, own: OwnParts) -> None:
        """Check that the methods fit the networks, of which the teacher may not be trained yet."""
        config = self.recipe.teacher
        assert config is not None
        sizes = {"num_classes": len(self.splits[0].teacher), "in_channels": self.data.in_channels}
        with keep_random_state(options.device):
            network = create_model(config.network, **{**sizes, **config.options})
            check_fit(self.methods, self.students(self.splits[0], config), network, own=own)

    def _check_weights(self) -> None:
        """Check that given weights of the teacher are of its classes, if their file says of which."""
        assert self.recipe.teacher is not None
        file = self.recipe.teacher.checkpoint
        known = None if file is None else classes_of_weights(Path(file))
        wanted = self.names(self.splits[0].teacher)
        if known is not None and known != wanted:
            raise PursuhintError(
                f"the teacher in {file} was trained on {', '.join(known[:3])}, ... ({len(known)} classes), "
                f"and this study's teacher on {', '.join(wanted[:3])}, ... ({len(wanted)}); leave "
                "--teacher-checkpoint out to train one, or give the same --order and --task-classes"
            )

    def claim(self, *, overwrite: bool) -> None:
        """Take the folder and write the plan, which lists the classes by name.

        Args:
            overwrite: replace a study of other data or classes of the teacher.

        Raises:
            PursuhintError: it holds something else, or a study of other classes.
        """
        claim_folder(self.out, "crosstask")
        wanted = {"data": self.data.name, "teacher_classes": list(self.names(self.splits[0].teacher))}
        path, replaces = self.out / PLAN, False
        earlier: dict[str, Any] = {}
        if path.exists():
            there = read_json(path, "plan of the cross-task study")
            for key, value in wanted.items():
                if not isinstance(there, dict) or there.get(key) != value:
                    if not overwrite:
                        raise DifferentResult(
                            f"{self.out} holds a cross-task study with another {key.replace('_', ' ')}; "
                            "choose another folder (--out), or replace it (--overwrite)"
                        )
                    check_replaceable(self.out, "crosstask")
                    replaces = True
            earlier = {} if replaces else there.get("student_classes", {})
        wait_for_everyone()  # every process has read the plan before the first one writes
        mine = {_folder(split): list(self.names(split.student)) for split in self.splits}
        if is_main_process():
            if replaces:
                remove_result(self.out, "crosstask")
            make_folder(self.out)
            remove_leftovers(self.out)
            order = {"order": self.request.order, "order_seed": self.request.order_seed}
            write_json(path, {"schema": 1, **wanted, **order, "student_classes": {**earlier, **mine}})

    def teacher(self, options: StudyOptions) -> tuple[NetworkConfig, float | None]:
        """The teacher with its weights, trained unless they are given, and its accuracy on its classes."""
        config, recipe = self.recipe.teacher, self.recipe
        assert config is not None
        if config.checkpoint is not None:
            return config, None
        own = recipe.model_copy(
            update={
                "student": NetworkConfig(network=config.network, options=config.options),
                "teacher": None,
                "losses": {"ce": LossConfig(weight=1.0)},
                "optimizer": recipe.optimizer.of_labels_alone,
                "data": recipe.data.model_copy(update={"classes": self.splits[0].teacher}),
                "seed": 0,
            }
        )
        watch = options.on_event if is_main_process() else None
        record = train(
            own, self.out / _TEACHER, device=options.device, on_event=watch, overwrite=options.overwrite
        )
        file = str((record.path / "student.safetensors").resolve())
        return config.model_copy(update={"checkpoint": file}), record.last["test_top1"]

    def students(self, split: ClassSplit, teacher: NetworkConfig) -> Recipe:
        """What all students of a split share."""
        data = self.recipe.data.model_copy(update={"classes": split.student})
        return self.recipe.model_copy(update={"data": data, "teacher": teacher})

    def measured(
        self, split: ClassSplit, study: MethodComparison, teacher: NetworkConfig, options: StudyOptions
    ) -> CrossTaskOverlap:
        """The methods of a split with all measures; those of finished runs are kept in its folder."""
        path = self.out / _folder(split) / _MEASURES
        if is_main_process():
            self._measure(path, split, study, teacher, options)
        wait_for_everyone()
        kept = read_json(path, "measures of the students")
        networks = tuple(map(_published_name, (teacher, self.recipe.student)))
        overlap = 100 * split.overlap
        cells = tuple(
            CrossTaskCell(
                method=method.name,
                title=method.title,
                last=method.last,
                against_alone=study.difference(method.name, "alone"),
                measures=tuple(StudentMeasures.model_validate(kept[run.folder]) for run in method.runs),
                folders=tuple(f"{_folder(split)}/{run.folder}" for run in method.runs),
                taps=method.taps,
                published=published_accuracy(self.recipe.data.name, networks, method.name, overlap=overlap),
            )
            for method in study.methods
        )
        return CrossTaskOverlap(
            overlap=overlap,
            folder=_folder(split),
            student_classes=self.names(split.student),
            cells=cells,
            weights={name: TeacherDoubt.model_validate(one) for name, one in kept["weights"].items()},
        )

    def _measure(
        self,
        path: Path,
        split: ClassSplit,
        study: MethodComparison,
        teacher: NetworkConfig,
        options: StudyOptions,
    ) -> None:
        """Measure the runs of a split that have not been measured."""
        kept = read_json(path, "measures of the students") if path.exists() else {}
        measuring: Measuring | None = None
        device = choose_device(options.device)
        for method in study.methods:
            for run in method.runs:
                if run.folder not in kept:
                    measuring = measuring or Measuring(self.recipe.data, split, device)
                    record = RunRecord.load_finished(self.out / _folder(split) / run.folder)
                    kept[run.folder] = measuring.of_run(record).model_dump(mode="json")
        if "weights" not in kept:
            found = teacher_doubt(self.students(split, teacher), split, device)
            kept["weights"] = {name: one.model_dump(mode="json") for name, one in found.items()}
        write_json(path, kept)


def _check_matching(request: CrossTaskRequest) -> None:
    """Refuse settings of REFILLED's first stage that decide nothing.

    Raises:
        PursuhintError: there are some.
    """
    typed = {
        name: getattr(request, name)
        for name in ("matching_epochs", "keep_matching", "score_every")
        if getattr(request, name) is not None
    }
    if typed and not any(name.strip().startswith("refilled") for name in request.methods):
        first = next(iter(typed))
        raise PursuhintError(
            f"{first} (--{first.replace('_', '-')}) belongs to the first stage of refilled; add --method "
            "refilled"
        )
    if request.keep_matching == "last" and request.score_every is not None:
        raise PursuhintError(
            "score_every (--score-every) has no effect, since the student of the last epoch is kept "
            "(--keep-matching last); leave one of them out"
        )


def _published_name(config: NetworkConfig) -> str:
    """The network as the papers' tables call it."""
    if config.network == "MobileNetV1":
        return f"MobileNet-{config.options.get('width', 1.0):g}"
    return published_network(config.network)
