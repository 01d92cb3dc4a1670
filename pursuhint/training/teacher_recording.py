"""The recording of a run's teacher: what it belongs to, how large it is, and who writes it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.atomic_files import make_folder, read_json, remove_halves, write_json
from pursuhint._util.fingerprint import fingerprint_network, flatten_keys
from pursuhint._util.folder_lock import lock_folder
from pursuhint._util.network_input import map_tensors
from pursuhint._util.text import file_size
from pursuhint.data.fingerprint import fingerprint_split
from pursuhint.distillation.recorded_teacher import RecordedTeacher, output_names
from pursuhint.distillation.teacher import ROUNDINGS, TeacherOutputs
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.tap import ReducedTap
from pursuhint.models.normalization import converted_to
from pursuhint.training.recipe.recordable import check_recordable

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import ImageData, InputData, Loader
    from pursuhint.training.prepare_training import Parts
    from pursuhint.training.recipe.schema import Recipe

__all__ = ["RecordingUse"]

_DESCRIPTION = "recording.json"
_VERSION = 1


@dataclass(frozen=True)
class RecordingUse:
    """What a run takes from a recording of its teacher.

    Attributes:
        folder: of the recording.
        epochs: of the run.
        replayed: epochs of which everything that the run looks at is recorded.
        size: bytes that the others need; 0 if another process is recording.
        rounding: as in `pursuhint.acceleration.Acceleration`.
        records: whether the run records the others.
        reduced: hint points of which one channel is enough.
    """

    folder: Path
    epochs: int
    replayed: int
    size: int
    rounding: str
    records: bool
    reduced: int = 0

    def line(self) -> str:
        """All of it in one line, without a full stop."""
        rounded = "" if self.rounding == "none" else f", rounded to {self.rounding}"
        if self.reduced:
            rounded += f", {self.reduced} of the maps reduced to one channel"
        start = f"teacher: {self.replayed} of {self.epochs} epochs replayed from {self.folder}{rounded}"
        if self.replayed == self.epochs:
            return start
        if not self.records:
            return f"{start}; the others are not recorded, since another process is recording there"
        return f"{start}; the others recorded, {file_size(self.size)}"


@dataclass(eq=False)
class TeacherRecording:
    """The folder of a recording, checked against the run that is to use it.

    Attributes:
        folder: it need not exist.
        identity: everything that the teacher's outputs in training depend on.
        stored: type of the values; None for that in which they are computed.
    """

    folder: Path
    identity: dict[str, Any]
    stored: torch.dtype | None
    _exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @classmethod
    def of_run(cls, folder: Path, recipe: Recipe, parts: Parts) -> TeacherRecording:
        """The recording that a run uses. Nothing is written.

        Args:
            folder: for this teacher on these data with this seed alone.
            recipe: resolved.
            parts: data and teacher.

        Raises:
            PursuhintError: the folder holds the recording of another teacher, or of the same one on other
                data, or with another augmentation, seed, batch size or precision; or something else; or the
                images look different in every pass.
        """
        check_recordable(recipe)
        assert parts.teacher is not None
        if parts.data.train.private:
            raise PursuhintError(
                f"the transform of {parts.data.name} draws random numbers of its own, so that a recorded "
                "teacher has seen other images; leave record_teacher out"
            )
        identity = describe(recipe, parts.data, parts.teacher)
        recording = cls(folder, identity, ROUNDINGS[recipe.acceleration.teacher_rounding])
        recording.check()
        return recording

    def of_seed(self, folder: Path, seed: int) -> TeacherRecording:
        """The recording of the same pass with another seed, checked as by `of_run`."""
        other = TeacherRecording(folder, {**self.identity, "seed": seed}, self.stored)
        other.check()
        return other

    def check(self) -> None:
        """Check that the folder holds this recording, or none.

        Raises:
            PursuhintError: it holds another one, or something else.
        """
        path = self.folder / _DESCRIPTION
        if not path.exists():
            if self.folder.is_dir() and any(file.name != ".lock" for file in self.folder.iterdir()):
                inside = [file for file in sorted(self.folder.iterdir()) if is_recording(file)]
                other = f", or one of its recordings, such as {inside[0]}" if inside else ""
                raise PursuhintError(
                    f"{self.folder} holds no recording of a teacher but something else; choose another "
                    f"folder (--record-teacher){other}"
                )
            return
        found = read_json(path, "recording of a teacher")
        if not isinstance(found, Mapping):
            raise PursuhintError(f"{path} is damaged; choose another folder (--record-teacher)")
        there, here = flatten_keys(found), flatten_keys(self.identity)
        keys = [key for key in dict.fromkeys([*there, *here]) if there.get(key) != here.get(key)]
        if keys:
            shown = ", ".join(
                f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in keys[:3]
            )
            raise PursuhintError(
                f"{self.folder} holds the recording of another teacher pass: {shown}; choose another folder "
                "(--record-teacher)"
            )

    def use(
        self, epochs: int, samples: int, outputs: TeacherOutputs | None, sizes: Mapping[str, int]
    ) -> RecordingUse:
        """What a run will take from the recording, and how much it adds.

        Args:
            epochs: of the run.
            samples: in an epoch.
            outputs: that the main stage looks at.
            sizes: values of every output per sample; see `values_per_sample`.

        Raises:
            PursuhintError: there is not enough room for what is to be recorded.
        """
        wanted = TeacherOutputs() if outputs is None else outputs
        recorded = RecordedTeacher(self.folder, samples, 1)
        replayed = sum(recorded.has(epoch, wanted) for epoch in range(1, epochs + 1))
        width = 4 if self.stored is None else self.stored.itemsize
        missing = sum(
            samples * sizes[name] * width
            for epoch in range(1, epochs + 1)
            for name in output_names(wanted)
            if not recorded.path(epoch, name).exists()
        )
        records = self._lock()
        free = shutil.disk_usage(self.folder).free
        if records and missing > free:
            raise PursuhintError(
                f"recording the teacher needs {file_size(missing)}, and {self.folder} has {file_size(free)} "
                "free; make room, choose another folder, or leave --record-teacher out"
            )
        rounding = next(name for name, kind in ROUNDINGS.items() if kind == self.stored)
        reduced = sum(isinstance(point.tap, ReducedTap) for point in wanted.points)
        return RecordingUse(self.folder, epochs, replayed, missing, rounding, records, reduced)

    def open(self, loader: Loader) -> RecordedTeacher:
        """The recorded teacher for the batches of a loader; see `close`."""
        batch_size = loader.joint_size(0)
        recorded = RecordedTeacher(
            self.folder, loader.num_samples, batch_size, stored=self.stored, writes=self._lock()
        )
        self._exits.callback(recorded.close)
        return recorded

    def close(self) -> None:
        """Close what is open, and let others record."""
        self._exits.close()
        self._locked = None

    _locked: bool | None = None

    def _lock(self) -> bool:
        """Whether this process may record: no other one is doing so."""
        if self._locked is None:
            make_folder(self.folder)
            try:
                self._exits.enter_context(lock_folder(self.folder))
            except PursuhintError:
                self._locked = False
                return False
            self._locked = True
            self.check()
            if not (self.folder / _DESCRIPTION).exists():
                write_json(self.folder / _DESCRIPTION, self.identity)
            for epoch in self.folder.glob("epoch-*"):
                for file in epoch.glob("*.safetensors"):
                    remove_halves(file)
        return self._locked


def is_recording(folder: Path) -> bool:
    """Whether a folder is the recording of a teacher."""
    return (folder / _DESCRIPTION).exists()


def check_one_process(processes: int) -> None:
    """Check that the batches that are recorded are those of one process.

    Raises:
        PursuhintError: there are several.
    """
    if processes > 1:
        raise PursuhintError(
            f"a teacher is recorded by one process, and here are {processes}; leave --record-teacher out"
        )


def describe(recipe: Recipe, data: ImageData | InputData, teacher: nn.Module) -> dict[str, Any]:
    """Everything that the outputs of a teacher in training depend on, but for rounding."""
    converted = converted_to(teacher)
    split = asdict(fingerprint_split(data.train))
    return {
        "version": _VERSION,
        "teacher": {
            "name": type(teacher).__name__ if recipe.teacher is None else recipe.teacher.network,
            "weights": fingerprint_network(teacher),
            "normalization": None if converted is None else _plain(asdict(converted)),
        },
        "data": {
            "name": data.name.partition(":")[0],
            "images": {key: split[key] for key in ("samples", "labels", "content")},
            **_image_facts(data),
        },
        "augment": list(recipe.data.augment),
        **({} if recipe.data.flip == "random" else {"flip": recipe.data.flip}),
        **({"second_view": list(recipe.data.second_view)} if recipe.data.second_view else {}),
        "seed": recipe.seed,
        "batch_size": recipe.batch_size,
        "precision": recipe.precision,
        "teacher_precision": recipe.acceleration.teacher_precision,
        "teacher_rounding": recipe.acceleration.teacher_rounding,
    }


def _image_facts(data: ImageData | InputData) -> dict[str, list[float]]:
    """Size and normalisation; nothing for samples that are no images."""
    if data.preprocessing is None:
        return {}
    shown = data.preprocessing
    return {"size": list(shown.size), "mean": list(shown.mean), "std": list(shown.std)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@torch.no_grad()
def values_per_sample(
    teacher: nn.Module, outputs: TeacherOutputs, data: ImageData | InputData
) -> dict[str, int]:
    """Number of values of every output of a teacher for one image."""
    like = next((p for p in teacher.parameters() if p.is_floating_point()), torch.zeros(()))
    images = map_tensors(data.example(), lambda v: v.to(like) if v.is_floating_point() else v.to(like.device))
    with evaluating(teacher):
        features = FeatureExtractor(teacher, outputs.points, embedding=outputs.embedding)(images)
    parts = [features.logits] * outputs.logits + [features.embedding] * outputs.embedding + [*features.maps]
    parts += [features.logits] * outputs.second_view
    return {name: part[0].numel() for name, part in zip(output_names(outputs), parts) if part is not None}
