"""Measure students, and the weights of their training images, after cross-task distillation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pursuhint._util.seeds import stable_permutation
from pursuhint.data import ClassSplit, ImageData, make_loader
from pursuhint.data.preprocessing import Normalization
from pursuhint.features.call_trace import evaluating
from pursuhint.features.logits import LogitsReader
from pursuhint.losses.refilled_stage2 import class_centers, relative_confidence
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights
from pursuhint.study.cross_task import area_under_curve, joint_accuracy, nearest_center_accuracy
from pursuhint.study.cross_task_result import StudentMeasures, TeacherDoubt
from pursuhint.study.embeddings import Embedded, embed_split
from pursuhint.training.loaders import load_images
from pursuhint.training.recipe.schema import DataConfig, NetworkConfig, Recipe
from pursuhint.training.run_folder.record import RunRecord

_BATCH = 256
_BINS = 20
_MATCHING = "matching"


@dataclass(frozen=True)
class _Embedded(Embedded):
    """A split of the joint classes as the embedding of one student, on the CPU."""

    def of_classes(self, classes: Tensor) -> _Embedded:
        """The samples of some classes, which are numbered anew in this order."""
        place = self.labels.new_full((int(max(self.labels.max(), classes.max())) + 1,), -1)
        place[classes] = torch.arange(len(classes))
        labels = place[self.labels]
        return _Embedded(self.features[labels >= 0], labels[labels >= 0])

    def centers(self) -> Tensor:
        """Directions of the mean embedding of every class."""
        return class_centers(self.features, self.labels, int(self.labels.max()) + 1)


class Measuring:
    """Measures the students of one split.

    Args:
        config: of the data of the students; its classes are replaced.
        split: of the classes.
        device: where to run networks.
    """

    def __init__(self, config: DataConfig, split: ClassSplit, device: torch.device) -> None:
        self.split, self.device, self.workers = split, device, config.workers
        others = tuple(label for label in split.student if label not in set(split.teacher))
        joint = (*split.teacher, *others)
        samples = config.train_samples
        if samples is not None:  # as many images a class as the students had
            samples = samples * len(joint) // len(split.student)
        self._data = load_images(config.model_copy(update={"classes": joint, "train_samples": samples}))
        self._old = torch.arange(len(split.teacher))
        self._student = torch.tensor([joint.index(label) for label in split.student])

    def of_run(self, record: RunRecord) -> StudentMeasures:
        """Measure the student of a finished run."""
        data, used = self._data, record.environment["data"].get("preprocessing")
        if used is not None:
            data = data.normalized_with(Normalization.from_mapping(used, used["source"]))
        train, test = self._embed(record.load_student(), data)
        mine, here = train.of_classes(self._student), test.of_classes(self._student)
        joint = None
        if len(self.split.shared) < len(self.split.student):
            scores = test.features @ train.centers().T
            joint = joint_accuracy(scores, test.labels, self._old)
        matched = None
        if (record.path / f"student-{_MATCHING}.safetensors").is_file():
            before, after = self._embed(record.load_student(_MATCHING), data)
            centers = before.of_classes(self._student).centers()
            matched = _percent(after.of_classes(self._student), centers)
        return StudentMeasures(
            seed=record.recipe.seed,
            nearest_mean=_percent(here, mine.centers()),
            nearest_mean_after_matching=matched,
            nearest_mean_of_test=_percent(here, here.centers()),
            joint_old=None if joint is None else 100 * joint.old,
            joint_current=None if joint is None else 100 * joint.current,
            joint_mean=None if joint is None else 100 * joint.harmonic_mean,
            kept_epoch=next((line["kept_epoch"] for line in record.metrics if "kept_epoch" in line), None),
        )

    def _embed(self, student: nn.Module, data: ImageData) -> tuple[_Embedded, _Embedded]:
        """Training and test images of the joint classes, without augmentation."""
        student = student.to(self.device)
        found = []
        for split in ("train", "test"):
            loader = make_loader(
                data, split, batch_size=_BATCH, training=False, device=self.device, workers=self.workers
            )
            embedded = embed_split(student, loader)
            found.append(_Embedded(embedded.features.float().cpu(), embedded.labels.cpu()))
        return found[0], found[1]


def _percent(embedded: _Embedded, centers: Tensor) -> float:
    return 100 * nearest_center_accuracy(embedded.features, embedded.labels, centers)


def teacher_doubt(recipe: Recipe, split: ClassSplit, device: torch.device) -> dict[str, TeacherDoubt]:
    """Weights of the student's training images under a frozen teacher, with strength 1.

    The images are not augmented, and their batches are drawn by a fixed permutation: the weights of the
    extended paper depend on the others of a batch.

    Args:
        recipe: of the students; its teacher names the weights.
        split: of the classes.
        device: where to run the teacher.
    """
    assert recipe.teacher is not None
    data = load_images(recipe.data)
    logits, labels = _teacher_logits(recipe.teacher, data, len(split.teacher), device)
    known = torch.isin(labels, torch.tensor([split.student.index(label) for label in split.shared]))
    order = stable_permutation(len(labels), 0)
    batches = list(_batches(order, recipe.batch_size))
    relative = torch.cat([relative_confidence(logits[batch]) for batch in batches])
    probable = logits[torch.cat(batches)].softmax(1).amax(1)
    known = known[torch.cat(batches)]
    return {
        "teacher_relative_confidence": _doubt(relative, known),
        "teacher_max_prob": _doubt(probable, known),
    }


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """Equal batches; a last one of a single sample, which would be the surest of its batch, is left out."""
    for batch in order.split(size):
        if len(batch) > 1:
            yield batch


def _doubt(weights: Tensor, known: Tensor) -> TeacherDoubt:
    auc = area_under_curve(weights, known) if known.any() and not known.all() else None
    seen, unseen = (
        tuple(int(n) for n in torch.histc(weights[chosen].float(), bins=_BINS, min=0, max=1))
        for chosen in (known, ~known)
    )
    return TeacherDoubt(auc=auc, seen=seen, unseen=unseen)


def _teacher_logits(
    config: NetworkConfig, data: ImageData, classes: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Logits and labels of the training images, in the order of the split."""
    assert config.checkpoint is not None
    network = create_model(
        config.network, num_classes=classes, in_channels=data.in_channels, **config.options
    )
    load_weights(network, config.checkpoint, checkpoint_key=config.checkpoint_key)
    read = LogitsReader(network.to(device))
    plain = replace(data, val=None)
    loader = make_loader(plain, "train", batch_size=_BATCH, training=False, device=device)
    logits, labels = [], []
    with evaluating(network), torch.no_grad():
        for batch in loader.epoch(0):
            logits.append(read(batch.images).float().cpu())
            labels.append(batch.labels.cpu())
    return torch.cat(logits), torch.cat(labels)
