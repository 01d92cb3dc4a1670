"""Teacher, trained student and data of runs, read again from their folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pursuhint._util.devices import choose_device
from pursuhint._util.random_state import keep_random_state
from pursuhint.data import Batch, ImageData, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.training.inputs import Inputs
from pursuhint.training.prepare_training import prepare
from pursuhint.training.recipe.received import check_code
from pursuhint.training.run_folder.record import RunRecord

_BATCH = 256


@dataclass(frozen=True, eq=False)
class RunNetworks:
    """The networks of a run with a teacher, and its data.

    Attributes:
        run: the run.
        teacher: takes the data's images, on the device, in evaluation mode.
        student: with the weights of the last epoch, likewise.
        data: normalised as in the training.
        device: of the networks.
    """

    run: RunRecord
    teacher: nn.Module
    student: nn.Module
    data: ImageData
    device: torch.device

    @property
    def example(self) -> Tensor:
        """Two black images, where the networks are."""
        return torch.zeros(2, self.data.in_channels, *self.data.image_size, device=self.device)

    @torch.no_grad()
    def features(self, *extractors: FeatureExtractor) -> Iterator[tuple[Batch, tuple[Features, ...]]]:
        """Batches of all test images, in the order of the split, with what the networks make of them.

        Args:
            *extractors: of teacher or student.
        """
        loader = make_loader(
            self.data,
            "test",
            batch_size=_BATCH,
            training=False,
            device=self.device,
            workers=self.run.recipe.data.workers,
        )
        for batch in loader.epoch(0):
            found = []
            for extractor in extractors:
                with evaluating(extractor.network):
                    found.append(extractor(batch.images))
            yield batch, tuple(found)


class _Shared:
    """One teacher for all runs that name the same one and have the same data."""

    def __init__(self) -> None:
        self.teachers: dict[str, nn.Module] = {}
        self.images: dict[str, ImageData] = {}

    def data_of(self, run: RunRecord) -> ImageData:
        used = run.environment["data"].get("preprocessing")
        key = f"{run.recipe.data.model_dump_json()} {used} {run.environment['data'].get('class_names')}"
        if key not in self.images:
            self.images[key] = run.load_data()
        return self.images[key]

    def teacher_of(self, run: RunRecord, data: ImageData) -> nn.Module:
        assert run.recipe.teacher is not None
        key = f"{run.recipe.teacher.model_dump_json()} {id(data)}"
        if key not in self.teachers:
            # Hint points and losses are not needed, and the files that they name may be gone.
            alone = run.recipe.model_copy(update={"hints": None, "losses": {}})
            parts = prepare(alone, Inputs(data=data))
            assert parts.teacher is not None
            self.teachers[key] = parts.teacher
        return self.teachers[key]


def load_run_networks(
    folders: Sequence[Path | str], *, device: torch.device | str | None = None, trust_code: bool = False
) -> Iterator[RunNetworks]:
    """Read the networks of runs, one after the other.

    All folders are checked before the first is read. Runs with the same teacher and data share both.

    Args:
        folders: of finished runs with a teacher.
        device: where the networks go; None for the best there is.
        trust_code: import and call networks that a run names as ``package.module:factory``.

    Raises:
        PursuhintError: a run is not finished, has no teacher, or names code without ``trust_code``; or its
            teacher or data are gone, or were passed from Python.
    """
    where = choose_device(device)
    runs = [RunRecord.load_finished(folder) for folder in folders]
    for run in runs:
        if run.recipe.teacher is None:
            raise PursuhintError(f"the run in {run.path} has no teacher to compare its student with")
        check_code(run.recipe, f"the run {run.path}", trust_code=trust_code)
    return _load(runs, where, trust_code=trust_code)


def _load(runs: Sequence[RunRecord], where: torch.device, *, trust_code: bool) -> Iterator[RunNetworks]:
    shared = _Shared()
    for run in runs:
        with keep_random_state(where):
            data = shared.data_of(run)
            teacher = shared.teacher_of(run, data).to(where).eval()
            student = run.load_student(trust_code=trust_code).to(where)
        yield RunNetworks(run, teacher, student, data, where)
