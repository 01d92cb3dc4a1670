"""Small networks, features and a batch, to build any loss and compute it on the CPU in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.features.extractor import Features
from pursuhint.features.hint_points import find_hint_points
from pursuhint.losses.base import Loss
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.info import LossInfo

Shapes = Sequence[tuple[int, ...]]

SAMPLES, CLASSES = 6, 5
STUDENT: Shapes = ((4, 8, 8), (6, 4, 6))  # (channels, height, width) at two hint points, one rectangular
TEACHER: Shapes = ((7, 4, 4), (5, 4, 6))
WIDTHS = STUDENT[-1][0], TEACHER[-1][0]  # of the embeddings: those of the last maps


def make_teacher() -> nn.Sequential:
    """A network with the modules and widths of the teacher's hint points, for losses that read its norms."""
    teacher, before = nn.Sequential(), 1
    for index, (channels, *_) in enumerate(TEACHER):
        layers = (nn.Conv2d(before, channels, 3), nn.BatchNorm2d(channels), nn.ReLU())
        teacher.add_module(f"t{index}", nn.Sequential(*layers))
        before = channels
    return teacher.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(before, CLASSES))


class Student(nn.Module):
    """A network that ends as students do; `tail` is what comes behind its last map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, CLASSES)

    def tail(self, features: Tensor) -> Tensor:
        """Logits, (N, classes), of the last map, (N, C, H, W)."""
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, (N, 1, H, W)."""
        return self.tail(self.stem(images))


def make_context(*, at_last_map: bool = False, student: Shapes = STUDENT) -> LossContext:
    """What a loss is built from.

    Args:
        at_last_map: whether the last pair of hint points is the only one.
        student: (channels, height, width) of the student at every hint point.
    """
    teacher, example = make_teacher(), torch.zeros(1, 1, 6, 6)
    points = find_hint_points(teacher, example, include=["t0", "t1"])
    pairs = tuple(
        (FeatureShape(s[0], s[1:], "post", "s"), FeatureShape(t[0], t[1:], "post", point.module, point))
        for s, t, point in zip(student, TEACHER, points)
    )
    return LossContext(
        pairs[-1:] if at_last_map else pairs,
        num_classes=CLASSES,
        num_samples=32,
        student_embedding=student[-1][0],
        teacher_embedding=WIDTHS[1],
        teacher_classifier=nn.Linear(WIDTHS[1], CLASSES),
        teacher_classes=CLASSES,
        labels=torch.arange(32) % CLASSES,
        student=Student(student[-1][0]),
        teacher=teacher,
        example=example,
    )


def make_features(
    shapes: Shapes,
    embedding: int,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    samples: int = SAMPLES,
) -> Features:
    """Random logits, embedding and maps; the numbers are those of float64, rounded."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Features(
        draw(samples, CLASSES), draw(samples, embedding), tuple(draw(samples, *shape) for shape in shapes)
    )


def student_features(*, dtype: torch.dtype = torch.float32, samples: int = SAMPLES) -> Features:
    """The student's features; all of them require gradients."""
    features = make_features(STUDENT, WIDTHS[0], 1, dtype=dtype, samples=samples)
    for tensor in tensors(features):
        tensor.requires_grad_()
    return features


def teacher_features(*, dtype: torch.dtype = torch.float32, samples: int = SAMPLES) -> Features:
    """The teacher's features, constants."""
    return make_features(TEACHER, WIDTHS[1], 2, dtype=dtype, samples=samples)


def make_batch(dtype: torch.dtype = torch.float32, samples: int = SAMPLES) -> Batch:
    """A batch whose first and last samples are two views of one."""
    labels = torch.arange(samples) % CLASSES
    return Batch(torch.zeros(samples, 1, 4, 4, dtype=dtype), labels, indices=labels + 3)


def chosen_samples(batch: Batch, samples: Tensor) -> Batch:
    """Some samples of a batch."""
    assert batch.indices is not None
    return Batch(batch.images[samples], batch.labels[samples], batch.indices[samples])


def chosen_features(features: Features, samples: Tensor) -> Features:
    """Features of some samples."""
    logits, embedding, *maps = (tensor[samples] for tensor in tensors(features))
    return Features(logits, embedding, tuple(maps))


def tensors(features: Features) -> list[Tensor]:
    """Logits, embedding, maps."""
    assert features.logits is not None
    assert features.embedding is not None
    return [features.logits, features.embedding, *features.maps]


def build_loss(kind: type[Loss], context: LossContext | None = None, **options: Any) -> Loss:
    """A loss with what it needs around it; computes, and describes itself, as the loss does.

    Args:
        kind: its class.
        context: what it is built from; None for `make_context`.
        **options: hyperparameters.
    """
    context = make_context(at_last_map=kind.info.at_last_map) if context is None else context
    assert isinstance(context.student, Student)
    loss = kind.build(context, **options)
    if loss.info.at_last_map:
        return cast(Loss, _AtLastMap(loss, context.student))
    if loss.info.needs_input_gradients:
        return cast(Loss, _ThroughImages(loss))
    if kind.needs_second_view(options):
        return cast(Loss, _WithSecondView(loss))
    if kind.prepare is not Loss.prepare:
        return cast(Loss, _WithClassifier(loss, context.student))
    return loss


def with_second_view(features: Features) -> Features:
    """The features with logits of a second view, which follow from those of the first."""
    assert features.logits is not None
    return replace(features, second_logits=torch.sin(2 * features.logits))


class _Around(nn.Module):
    """A loss with something before it; otherwise as the loss is."""

    loss: Loss

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("loss"), name)


class _AtLastMap(_Around):
    """A loss that looks at the last map, with the student, which it may have altered behind that map."""

    student: Any

    def __init__(self, loss: Loss, student: Student) -> None:
        super().__init__(loss)
        self.student = loss.prepare(student)

    @property
    def info(self) -> LossInfo:
        """The loss's traits; what of the student lies behind the taps receives no gradient."""
        tapped = tuple(f"{name}." for name in self.loss.info.extra_taps)
        tapped += tuple(f"classifier.{name}" for name in self.loss.info.classifier_parameters)
        own = [f"loss.{name}" for name in self.loss.info.no_grad_parameters]
        others = [
            f"student.{name}"
            for name, parameter in self.student.named_parameters()
            if parameter.requires_grad and not (tapped and name.startswith(tapped))
        ]
        return self.loss.info.replace(no_grad_parameters=(*own, *others))

    def seen(self, features: Tensor) -> list[Tensor]:
        """The last map and the outputs of the taps behind it."""
        found = [features]
        handles = [
            self.student.get_submodule(name).register_forward_hook(lambda *call: found.append(call[2]))
            for name in self.loss.info.extra_taps
        ]
        with torch.autocast("cpu", enabled=False):
            self.student.tail(features.to(self.student.classifier.weight.dtype))
        for handle in handles:
            handle.remove()
        return found

    def compute(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        student = replace(student, maps=tuple(self.seen(student.maps[-1])))
        return self.loss.compute(student, replace(teacher, maps=teacher.maps[-1:]), batch)

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        return self.loss.terms(self.seen(inputs[0][-1]), inputs[1][-1:], *inputs[2:])


class _WithClassifier(_Around):
    """A loss that looks at the student's classifier, with it."""

    def __init__(self, loss: Loss, student: Student) -> None:
        super().__init__(loss)
        self.classifier = loss.prepare(student).classifier


class _WithSecondView(_Around):
    """A loss that needs a second view of each image, with one."""

    def compute(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return self.loss.compute(with_second_view(student), with_second_view(teacher), batch)

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        values = dict(zip(self.loss.info.inputs, inputs))
        for network in ("student", "teacher"):
            own = with_second_view(Features(values.get(f"{network}_logits")))
            values |= {f"{network}_second_logits": own.second_logits}
        return self.loss.terms(*[values[entry] for entry in self.loss.info.inputs])


class _ThroughImages(_Around):
    """A loss that differentiates by the images, with features that depend on them."""

    def seen(self, features: Features, images: Tensor) -> Features:
        """Logits and maps as smooth functions of the images and of what they were."""

        def depending(tensor: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(tensor[0].numel())
            flat = tensor.flatten(1).to(images.dtype)
            first = torch.randn(images[0].numel(), flat.shape[1], generator=generator).to(images)
            second = torch.randn(flat.shape[1], flat.shape[1], generator=generator).to(images)
            return (torch.tanh(images.flatten(1) @ first + flat) @ second).view_as(tensor)

        with torch.autocast("cpu", enabled=False):
            assert features.logits is not None
            maps = tuple(depending(part) for part in features.maps)
            return Features(depending(features.logits), features.embedding, maps)

    def compute(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        batch = replace(batch, images=batch.images.detach().requires_grad_())
        return self.loss.compute(self.seen(student, batch.images), self.seen(teacher, batch.images), batch)

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        images = inputs[self.loss.info.inputs.index("images")].detach().requires_grad_()
        found = []
        for entry, value in zip(self.loss.info.inputs, inputs):
            if entry.endswith("_logits"):
                value = self.seen(Features(value), images).logits
            elif entry.endswith("_maps"):
                value = list(self.seen(Features(torch.zeros(len(images), 1), maps=tuple(value)), images).maps)
            found.append(images if entry == "images" else value)
        return self.loss.terms(*found)
