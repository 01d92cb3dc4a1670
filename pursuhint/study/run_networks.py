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
from pursuhint.training.recipe.schema import NetworkConfig
from pursuhint.training.run_folder.record import RunRecord

_BATCH = 256


@dataclass(frozen=True, eq=False)
class RunNetworks:
    """The networks of a run, and its data.

    Attributes:
        run: the run.
        teacher_name: name of the teacher, which may be another run's; see `load_run_networks`.
        teacher: takes the data's images, on the device, in evaluation mode.
        student: with the weights of the last epoch, likewise.
        data: normalised as in the training.
        device: of the networks.
    """

    run: RunRecord
    teacher_name: str
    teacher: nn.Module
    student: nn.Module
    data: ImageData
    device: torch.device

    @property
    def about(self) -> str:
        """That the teacher is another run's, for people; empty if it is not."""
        return (
            "" if self.run.recipe.teacher is not None else f" (beside {self.teacher_name}; it had no teacher)"
        )

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
            self.images[key] = run.load_images()
        return self.images[key]

    def teacher_for(self, run: RunRecord, config: NetworkConfig, data: ImageData) -> nn.Module:
        key = f"{config.model_dump_json()} {id(data)}"
        if key not in self.teachers:
            # Hint points and losses are not needed, and the files that they name may be gone.
            alone = run.recipe.model_copy(update={"teacher": config, "hints": None, "losses": {}})
            parts = prepare(alone, Inputs(data=data))
            assert parts.teacher is not None
            self.teachers[key] = parts.teacher
        return self.teachers[key]


def load_run_networks(
    folders: Sequence[Path | str], *, device: torch.device | str | None = None, trust_code: bool = False
) -> Iterator[RunNetworks]:
    """Read the networks of runs, one after the other.

    All folders are checked before the first is read. Runs with the same teacher and data share both. A run
    without a teacher gets that of the first run that has one, to serve as its control.

    Args:
        folders: of finished runs, at least one of them with a teacher.
        device: where the networks go; None for the best there is.
        trust_code: import and call networks that a run names as ``package.module:factory``.

    Raises:
        PursuhintError: a run is not finished, none has a teacher, one without has other data than the first
            with one, or one names code without ``trust_code``; or its teacher or data are gone, or were
            passed from Python.
    """
    where = choose_device(device)
    runs = [RunRecord.load_finished(folder) for folder in folders]
    taught = next((run for run in runs if run.recipe.teacher is not None), None)
    if taught is None:
        raise PursuhintError(
            f"the run in {runs[0].path} has no teacher to compare its student with; add a run that has one"
        )
    for run in runs:
        check_code(run.recipe, f"the run {run.path}", trust_code=trust_code)
        if run.recipe.teacher is None and run.recipe.data.name != taught.recipe.data.name:
            raise PursuhintError(
                f"the run in {run.path} has no teacher, and other data ({run.recipe.data.name}) than that in "
                f"{taught.path} ({taught.recipe.data.name}), whose teacher it could be compared with"
            )
    return _load(runs, taught, where, trust_code=trust_code)


def _load(
    runs: Sequence[RunRecord], taught: RunRecord, where: torch.device, *, trust_code: bool
) -> Iterator[RunNetworks]:
    shared = _Shared()
    for run in runs:
        config = run.recipe.teacher or taught.recipe.teacher
        assert config is not None
        with keep_random_state(where):
            data = shared.data_of(run)
            teacher = shared.teacher_for(run, config, data).to(where).eval()
            student = run.load_student(trust_code=trust_code).to(where)
        yield RunNetworks(run, config.network, teacher, student, data, where)
