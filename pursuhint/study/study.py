"""Folder, settings, runs and result of a study: the part that both kinds of studies share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.output_folder import remove_leftovers
from pursuhint._util.provenance import BaseProvenance, now
from pursuhint._util.replace_folder import DifferentResult, check_replaceable, remove_result
from pursuhint.models.checkpoint import count_parameters
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.study.facts import DataFacts, NetworkFacts
from pursuhint.study.finished_study import FinishedStudy
from pursuhint.study.recordings import check_recordings
from pursuhint.study.run_arms import GroupOptions, train_arms
from pursuhint.study.run_key import RunKey
from pursuhint.study.until_decided import check_plan, looks_of, seeds_in
from pursuhint.training.devices import build_accelerator
from pursuhint.training.events import TeacherMeasured, ignore
from pursuhint.training.run_folder.environment import describe_environment, describe_provenance
from pursuhint.training.teacher_accuracy import accuracy_of_teacher

if TYPE_CHECKING:
    import torch

    from pursuhint.errors import PursuhintError
    from pursuhint.study.comparison import Comparison
    from pursuhint.study.events import Watcher
    from pursuhint.study.method_comparison import MethodComparison
    from pursuhint.study.sequential import SequentialPlan
    from pursuhint.study.settings import StudySettings
    from pursuhint.training.inputs import Inputs, Run
    from pursuhint.training.prepare_training import Parts
    from pursuhint.training.recipe.schema import Recipe
    from pursuhint.training.run_folder.record import RunRecord

TEACHER = "teacher.json"

_Finished = TypeVar("_Finished", bound=FinishedStudy)
_Compared = TypeVar("_Compared", "Comparison", "MethodComparison")


@dataclass(frozen=True)
class StudyOptions:
    """How a study trains; none of it affects the results.

    Attributes:
        device: where to train.
        at_once: at most so many students train concurrently; None for all of a seed.
        streams: see `pursuhint.training.train_many`.
        on_event: receives the events of the study, on the main process.
        overwrite: replace a study of other settings, networks or data in the folder, once everything has been
            checked; the same one continues, and files of others are never removed.
        record_teacher: folder that holds a recording of the teacher's outputs for every seed, as
            `pursuhint.training.train` takes one: what is in it is replayed, the rest recorded.
    """

    device: torch.device
    at_once: int | None
    streams: bool
    on_event: Watcher | None
    overwrite: bool = False
    record_teacher: Path | None = None


@dataclass(frozen=True)
class Begun(Generic[_Compared]):
    """What the folder of a study holds before it begins.

    Attributes:
        looks: the seeds at every look that is left.
        before: the result of an earlier call, perhaps with fewer arms or seeds.
        again: whether the folder holds this study.
    """

    looks: list[tuple[int, ...]]
    before: _Compared | None
    again: bool


class Study:
    """Folder, processes and shared settings of a study.

    Args:
        recipe: settings shared by all runs.
        out: folder of the study.
        passed: teacher and data that replace the recipe's.
        options: how to train.

    Attributes:
        watch: receives the events of the study; ignores them on all ranks but 0.
        accuracy: of the teacher; None before `measure_teacher`.
        replaces: whether `claim` removes the study that the folder holds.
    """

    def __init__(self, recipe: Recipe, out: Path, passed: Inputs, options: StudyOptions) -> None:
        self.recipe, self.out, self.passed, self.options = recipe, out, passed, options
        self.started = now()
        self._before: FinishedStudy | None = None
        self.replaces = False
        self.accuracy: TeacherAccuracy | None = None
        self.accelerator = build_accelerator(options.device, recipe.precision)
        silent = options.on_event is None or not self.accelerator.is_main_process
        self.watch: Watcher = ignore if silent or options.on_event is None else options.on_event

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.accelerator.device

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes the files of the study."""
        return bool(self.accelerator.is_main_process)

    def wait(self) -> None:
        """Collective call: a barrier of all processes."""
        self.accelerator.wait_for_everyone()

    def holds(self, settings: StudySettings) -> bool:
        """Whether the folder holds this study, perhaps with fewer arms or seeds.

        Raises:
            PursuhintError: it holds another one that is not to be replaced, or something else.
        """
        try:
            return settings.matches(self.out)
        except DifferentResult as found:
            self.replace(found)
            return False

    def begin(
        self,
        kind: type[_Compared],
        settings_with: Callable[[Sequence[int]], StudySettings],
        *,
        seeds: Sequence[int],
        plan: SequentialPlan | None,
    ) -> Begun[_Compared]:
        """Compare the folder with what is asked for. Nothing is written.

        Args:
            kind: of the result.
            settings_with: the settings of the study with these seeds.
            seeds: to begin with.
            plan: adds seeds; None for ``seeds`` and no more.

        Raises:
            PursuhintError: as `holds`; or the folder's seeds are added by another plan.
        """
        try:
            looks = looks_of(plan, seeds, seeds_in(self.out) if plan else ())
            again = settings_with(looks[0]).matches(self.out)
            before = self.earlier(kind)
            check_plan(before, plan)
        except DifferentResult as found:
            self.replace(found)
            return Begun(looks_of(plan, seeds, ()), None, False)
        return Begun(looks, before, again)

    def check_recordings(self, recipe: Recipe, parts: Parts, seeds: Sequence[int]) -> None:
        """Check that the recordings of the teacher, if there are to be any, are those of this study.

        Args:
            recipe: resolved, with everything that the runs share.
            parts: data and teacher.
            seeds: of the runs.

        Raises:
            PursuhintError: they are not.
        """
        if self.options.record_teacher is not None:
            processes = self.accelerator.num_processes
            check_recordings(self.options.record_teacher, recipe, parts, seeds=seeds, processes=processes)

    def replace(self, found: DifferentResult) -> None:
        """Note that this study replaces the one in the folder when it claims it.

        Raises:
            PursuhintError: it is not to be replaced, has files of others beside it, or is being written.
        """
        if not self.options.overwrite:
            raise found
        self._before = None
        check_replaceable(self.out, "study")
        self.replaces = True

    def earlier(self, kind: type[_Finished]) -> _Finished | None:
        """The result of an earlier call, perhaps with fewer arms or seeds; None if there is none.

        Raises:
            PursuhintError: it is damaged.
        """
        found = kind.load(self.out) if (self.out / kind.FILE).exists() else None
        self._before = found
        return found

    def claim(self, settings: StudySettings) -> None:
        """Make the folder and write the settings into it. Collective call."""
        self.wait()  # every process has read the folder before the first one writes
        if self.is_main_process:
            if self.replaces:
                check_replaceable(self.out, "study")
                remove_result(self.out, "study")
            self.replaces = False
            make_folder(self.out)
            remove_leftovers(self.out)
            settings.save(self.out)  # first: it marks the folder as a study
            self.recipe.save(self.out / "recipe.yaml")

    def measure_teacher(self, parts: Parts, earlier: NetworkFacts | None) -> TeacherAccuracy:
        """The accuracy of the teacher that all runs share. Collective call.

        It is kept in ``teacher.json`` of the folder, and measured once.

        Args:
            parts: data and teacher.
            earlier: the teacher in the result of an earlier call, if there is one.
        """
        if self.passed.accuracy is not None:
            accuracy = self.passed.accuracy
        elif earlier is not None and earlier.accuracy is not None:
            accuracy = earlier.accuracy
            accuracy.warn()
        else:
            accuracy = accuracy_of_teacher(self.recipe, parts, device=self.device, keep=self.out / TEACHER)
        self.accuracy = accuracy
        self.watch(TeacherMeasured(accuracy))
        return accuracy

    def train(
        self, runs: Mapping[RunKey, Run], *, same: Mapping[RunKey, RunKey], keep_going: bool
    ) -> dict[RunKey, RunRecord | PursuhintError]:
        """Train the runs that are not finished, see `train_arms`."""
        options = GroupOptions(
            self.device, self.options.at_once, self.options.streams, keep_going, self.options.record_teacher
        )
        return train_arms(runs, same=same, options=options, watch=self.watch)

    def facts(
        self,
        parts: Parts,
        *,
        teacher: str,
        seeds: Sequence[int],
        before: Comparison | MethodComparison | None,
    ) -> dict[str, Any]:
        """The fields that the results of both studies share.

        Args:
            parts: data and networks.
            teacher: name of the teacher network.
            seeds: in the order of the tables.
            before: the result of an earlier call, whose teacher and environment are taken over.
        """
        assert parts.teacher is not None
        assert self.accuracy is not None  # measured before the runs
        return {
            "path": self.out,
            "recipe": self.recipe.to_dict(),
            "seeds": tuple(seeds),
            "chosen_on": "test" if parts.data.val is None else "val",
            "data": DataFacts.of(parts.data, parts.teacher),
            "teacher": NetworkFacts(
                name=teacher,
                parameters=count_parameters(parts.teacher),
                top1=self.accuracy.top1,
                accuracy=self.accuracy,
            ),
            "student": NetworkFacts(
                name=self.recipe.student.network, parameters=count_parameters(parts.student)
            ),
            "environment": describe_environment(self.device, seed=seeds[0])
            if before is None
            else before.environment,
            "provenance": self._provenance(parts, before),
        }

    def _provenance(
        self, parts: Parts, before: Comparison | MethodComparison | None
    ) -> BaseProvenance | None:
        """Where the study comes from: the first call, if this one adds to it."""
        if before is not None:
            return before.provenance
        return describe_provenance(self.recipe, parts.data, teacher=parts.teacher, started=self.started)

    def finish(self, result: _Finished) -> _Finished:
        """Write the result, with the time at which it ended if it has changed. Collective call."""
        if result != self._before and result.provenance is not None:
            result = result.model_copy(update={"provenance": result.provenance.finished()})
        if self.is_main_process:
            result.save()
        self.wait()
        return result
