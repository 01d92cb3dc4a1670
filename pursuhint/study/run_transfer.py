"""Frozen students as feature extractors for other data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pursuhint._util.devices import choose_device
from pursuhint._util.provenance import BaseProvenance, circumstances
from pursuhint.data import ImageData, check_dataset_name, load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.study.linear_classifiers import FrozenStudent, learning_rate
from pursuhint.study.same_setting import setting_of
from pursuhint.study.transfer_result import LinearAccuracy, TransferredRun, TransferResult
from pursuhint.study.transfer_settings import TransferSettings
from pursuhint.training import RunRecord

__all__ = ["transfer"]

_WITHOUT_PLACE = ("digits", "folder:PATH")


def transfer(
    runs: Sequence[Path | str],
    to: Sequence[str | ImageData],
    *,
    settings: TransferSettings | None = None,
    device: torch.device | str | None = None,
    watch: Callable[[str], None] = lambda line: None,
) -> TransferResult:
    """Measure what the representations of trained students are worth on other data sets.

    A student is frozen and takes the target's images at the size and with the channels that it was trained
    on, normalised with the target's own mean and deviation. A linear classifier learns from the embeddings of
    the training images (what the student's own classifier takes) and is measured on the test images. By
    default the embeddings are computed once.

    Source: N. Giakoumoglou and T. Stathaki, Invariant Consistency for Knowledge Distillation, table 3.

    Args:
        runs: folders of finished runs.
        to: names of data sets, as for `pursuhint.data.load_dataset`, or data.
        settings: the protocol; see `pursuhint.study.TransferSettings`.
        device: where to compute; default: the accelerator of this machine, or the CPU.
        watch: is called with a line about every target, and about every accuracy that is known.

    Returns:
        Accuracies in percent with intervals; ``table()`` puts them together.

    Raises:
        PursuhintError: a folder is no finished run or named twice, a target is missing, named twice or cannot
            be converted for a student, or a classifier diverged.
    """
    settings = TransferSettings() if settings is None else settings
    where, begun = choose_device(device), circumstances()
    records = _load_runs(runs)
    targets = _Targets(to, settings)
    for record in records:
        targets.fitting(record)  # a target that is missing is named before long work starts
    for line in targets.lines():
        watch(line)
    groups: list[dict[str, Any]] = []
    done = []
    for given, record in zip(runs, records):
        group = setting_of(record)
        if group not in groups:
            groups.append(group)
        student = record.load_student(settings.weights, trust_code=settings.trust_code).to(where)
        network = record.recipe.student.network
        accuracies = []
        for data in targets.fitting(record):
            frozen = FrozenStudent(student, data, where, settings.workers)
            for classifier in settings.classifiers:
                lr = learning_rate(network, settings.lr) if classifier == "sgd" else None
                predicted = frozen.logistic() if lr is None else frozen.sgd(settings, lr)
                hits = int((predicted == frozen.embedded("test").labels.cpu()).sum())
                one = LinearAccuracy.of(data.name, classifier, hits, len(predicted), lr=lr)
                watch(f"{given} on {one.target} ({one.classifier}): top-1 {one.top1:.2f} %")
                accuracies.append(one)
        about = (str(given), network, record.recipe.data.name, record.recipe.seed, groups.index(group))
        done.append(TransferredRun(*about, tuple(accuracies)))
    made = BaseProvenance(
        network=", ".join(dict.fromkeys(run.network for run in done)), data=", ".join(targets.names), **begun
    )
    return TransferResult(tuple(done), targets.preprocessing(), settings.plain(), made.finished())


def _load_runs(runs: Sequence[Path | str]) -> list[RunRecord]:
    if isinstance(runs, str | Path) or not runs:
        raise PursuhintError(f"runs must be a list of run folders, got {runs!r}")
    seen: set[Path] = set()
    records = []
    for given in runs:
        record = RunRecord.load_finished(given)
        if record.path.resolve() in seen:
            raise PursuhintError(f"the run {given} is named twice; name each run once")
        seen.add(record.path.resolve())
        records.append(record)
    return records


class _Targets:
    """Data sets, converted to the sizes and channels of the students and loaded once for each.

    Args:
        to: names of data sets, or data.
        settings: root, download.
    """

    def __init__(self, to: Sequence[str | ImageData], settings: TransferSettings) -> None:
        if isinstance(to, str | ImageData) or not to:
            raise PursuhintError(f"the targets must be a list of data sets, got {to!r}")
        names = [one if isinstance(one, str) else one.name for one in to]
        if twice := [name for name in names if names.count(name) > 1]:
            raise PursuhintError(f"the target {twice[0]} is named twice; name each target once")
        self._to, self._settings, self.names = tuple(to), settings, tuple(names)
        self._entries = {one: check_dataset_name(one) for one in to if isinstance(one, str)}
        self._loaded: dict[tuple[int, tuple[int, int], int], ImageData] = {}

    def fitting(self, record: RunRecord) -> list[ImageData]:
        """All targets as the student of a run takes them.

        Raises:
            PursuhintError: one is missing or cannot be converted.
        """
        sizes = record.environment["data"]
        size, channels = tuple(sizes["image_size"]), sizes["in_channels"]
        found = []
        for index, target in enumerate(self._to):
            key = (index, size, channels)
            if key not in self._loaded:
                self._loaded[key] = self._load(target, size, channels)
            found.append(self._loaded[key])
        return found

    def _load(self, target: str | ImageData, size: tuple[int, int], channels: int) -> ImageData:
        if isinstance(target, ImageData):
            return target.with_channels(channels).resized(size)
        place: dict[str, Any] = {}
        some_have_one = any(entry not in _WITHOUT_PLACE for entry in self._entries.values())
        if self._entries[target] not in _WITHOUT_PLACE or not some_have_one:
            place = {"root": self._settings.data_root, "download": self._settings.download}
        held_out = self._settings.val_fraction
        data = load_dataset(target, image_size=size, channels=channels, val_fraction=held_out, **place)
        if held_out and data.val is not None:
            raise PursuhintError(
                f"val_fraction (--val-fraction) would be ignored: {data.name} has images for evaluation"
            )
        return data

    def lines(self) -> list[str]:
        """What became of the images of every target."""
        return [f"{data.name}: {data.preprocessing.line()}" for data in self._loaded.values()]

    def preprocessing(self) -> dict[str, list[dict[str, Any]]]:
        """How the images of every target became the students' input."""
        found: dict[str, list[dict[str, Any]]] = {}
        for data in self._loaded.values():
            found.setdefault(data.name, []).append(data.preprocessing.to_dict())
        return found
