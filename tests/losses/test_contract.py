"""What holds for every loss in the table."""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.features.hint_points import find_hint_points
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import Loss
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.info import LossInfo

SAMPLES, CLASSES = 6, 5
ORDER_MATTERS = ("cc", "semckd")  # and their docstrings say so
STUDENT = ((4, 8, 8), (6, 4, 6))  # (channels, height, width) at two hint points, one of them rectangular
TEACHER = ((7, 4, 4), (5, 4, 6))
WIDTHS = STUDENT[-1][0], TEACHER[-1][0]  # of the embeddings: those of the last maps
SMALLER = {  # than for real data, as everything here is
    **{name: {"negatives": 20} for name in ("crd", "crcd", "wcord")},
    "rrd": {"queue_size": 25},
}
HELD = {"wcord": "transport.plan"}  # what a loss takes for constant, although it follows from the inputs


def make_teacher() -> nn.Module:
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
        return self.classifier(self.pool(features).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.tail(self.stem(images))


def make_context(name: str = "", student: tuple = STUDENT) -> LossContext:
    """What a loss is built from.

    Args:
        name: of the loss.
        student: (channels, height, width) of the student at every hint point.
    """
    teacher, example = make_teacher(), torch.zeros(1, 1, 6, 6)
    points = find_hint_points(teacher, example, include=["t0", "t1"])
    pairs = tuple(
        (FeatureShape(s[0], s[1:], "post", "s"), FeatureShape(t[0], t[1:], "post", point.module, point))
        for s, t, point in zip(student, TEACHER, points)
    )
    if name and get_loss(name).info.at_last_map:
        pairs = pairs[-1:]
    return LossContext(
        pairs,
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


def make_trace(features: tuple, embedding: int, seed: int, dtype=torch.float32, samples=SAMPLES) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Features(
        draw(samples, CLASSES), draw(samples, embedding), tuple(draw(samples, *shape) for shape in features)
    )


def student_trace(**options) -> Features:
    trace = make_trace(STUDENT, WIDTHS[0], 1, **options)
    for tensor in tensors(trace):
        tensor.requires_grad_()
    return trace


def teacher_trace(**options) -> Features:
    return make_trace(TEACHER, WIDTHS[1], 2, **options)


def make_batch(dtype=torch.float32, samples=SAMPLES) -> Batch:
    """The first and the last sample are the same one, in two views."""
    labels = torch.arange(samples) % CLASSES
    return Batch(torch.zeros(samples, 1, 4, 4, dtype=dtype), labels, indices=labels + 3)


def chosen(batch: Batch, samples: Tensor) -> Batch:
    """Some samples of a batch."""
    return Batch(batch.images[samples], batch.labels[samples], batch.indices[samples])


def tensors(trace: Features) -> list[Tensor]:
    return [trace.logits, trace.embedding, *trace.maps]


def permuted(trace: Features, order: Tensor) -> Features:
    return Features(trace.logits[order], trace.embedding[order], tuple(f[order] for f in trace.maps))


@pytest.fixture(params=LOSSES)
def name(request) -> str:
    return request.param


@pytest.fixture
def loss(name) -> Loss:
    torch.manual_seed(0)
    return build(name)


def build(name: str, context: LossContext | None = None, **hyperparameters) -> Loss:
    """A loss with what it needs around it."""
    context = make_context(name) if context is None else context
    loss = get_loss(name).build(context, **{**SMALLER.get(name, {}), **hyperparameters})
    if loss.info.at_last_map:
        return AtLastMap(loss, context.student)
    if loss.info.needs_input_gradients:
        return ThroughImages(loss)
    if get_loss(name).prepare is not Loss.prepare:
        return WithClassifier(loss, context.student)
    return loss


class Around(nn.Module):
    """A loss with something before it; otherwise as the loss is."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("loss"), name)


class AtLastMap(Around):
    """A loss that looks at the last map, with the student, which it may have altered behind that map."""

    def __init__(self, loss: Loss, student: Student) -> None:
        super().__init__(loss)
        self.student = loss.prepare(student)

    @property
    def info(self) -> LossInfo:
        tapped = tuple(f"{name}." for name in self.loss.info.extra_taps)
        own = [f"loss.{name}" for name in self.loss.info.no_grad_parameters]
        others = [
            f"student.{name}"
            for name, parameter in self.student.named_parameters()
            if parameter.requires_grad and not (tapped and name.startswith(tapped))
        ]
        return self.loss.info.replace(no_grad_parameters=(*own, *others))

    def seen(self, features: Tensor) -> list[Tensor]:
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

    def compute(self, student: Features, teacher: Features, batch) -> Tensor:
        student = replace(student, maps=tuple(self.seen(student.maps[-1])))
        return self.loss.compute(student, replace(teacher, maps=teacher.maps[-1:]), batch)

    def terms(self, *inputs) -> dict[str, Tensor]:
        return self.loss.terms(self.seen(inputs[0][-1]), inputs[1][-1:], *inputs[2:])


class WithClassifier(Around):
    """A loss that looks at the student's classifier, with it."""

    def __init__(self, loss: Loss, student: Student) -> None:
        super().__init__(loss)
        self.classifier = loss.prepare(student).classifier


class ThroughImages(Around):
    """A loss that differentiates by the images, with traces that depend on them."""

    def seen(self, trace: Features, images: Tensor) -> Features:
        def depending(tensor: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(tensor[0].numel())
            flat = tensor.flatten(1).to(images.dtype)
            first = torch.randn(images[0].numel(), flat.shape[1], generator=generator).to(images.dtype)
            second = torch.randn(flat.shape[1], flat.shape[1], generator=generator).to(images.dtype)
            return (torch.tanh(images.flatten(1) @ first + flat) @ second).view_as(tensor)

        with torch.autocast("cpu", enabled=False):
            return Features(
                depending(trace.logits), trace.embedding, tuple(depending(part) for part in trace.maps)
            )

    def compute(self, student: Features, teacher: Features, batch) -> Tensor:
        batch = replace(batch, images=batch.images.detach().requires_grad_())
        return self.loss.compute(self.seen(student, batch.images), self.seen(teacher, batch.images), batch)

    def terms(self, *inputs) -> dict[str, Tensor]:
        images = inputs[self.loss.info.inputs.index("images")].detach().requires_grad_()
        found = []
        for entry, value in zip(self.loss.info.inputs, inputs):
            if entry.endswith("_logits"):
                value = self.seen(Features(value), images).logits
            elif entry.endswith("_maps"):
                value = list(self.seen(Features(torch.zeros(len(images), 1), maps=tuple(value)), images).maps)
            found.append(images if entry == "images" else value)
        return self.loss.terms(*found)


def test_is_a_finite_scalar(loss):
    value = loss.compute(student_trace(), teacher_trace(), make_batch())
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()


def test_gradient_reaches_the_student_and_what_is_learned(loss):
    student, teacher = student_trace(), teacher_trace()
    for tensor in tensors(teacher):
        tensor.requires_grad_()
    loss.compute(student, teacher, make_batch()).backward()
    gradients = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    without = {
        name
        for name, parameter in loss.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    }
    assert without == set(loss.info.no_grad_parameters)
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)


def test_order_of_the_samples_does_not_matter(name, loss):
    if name in ORDER_MATTERS:
        assert "order of the samples matters" in inspect.getdoc(get_loss(name))
        return
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
    batch = make_batch(torch.float64)
    loss = loss.double()
    student, teacher = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    torch.testing.assert_close(
        copy.deepcopy(loss).compute(student, teacher, batch),
        loss.compute(permuted(student, order), permuted(teacher, order), chosen(batch, order)),
    )


def test_couples_the_batch_only_if_it_says_so(loss):
    """The loss of a batch is the mean of the losses of its halves, batch norm aside."""
    assert couples(loss) == loss.info.batch_coupled


def couples(loss: Loss) -> bool:
    loss = loss.double()
    loss.train(not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in loss.modules()))
    student, teacher = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    batch = make_batch(torch.float64)
    whole = copy.deepcopy(loss).compute(student, teacher, batch)
    halves = []
    for part in torch.arange(SAMPLES).chunk(2):
        inputs = permuted(student, part), permuted(teacher, part), chosen(batch, part)
        halves.append(copy.deepcopy(loss).compute(*inputs))
    return not torch.isclose(torch.stack(halves).mean(), whole).item()


def test_survives_a_state_dict(name, loss):
    torch.manual_seed(1)
    other = build(name)
    arguments = student_trace(), teacher_trace(), make_batch()
    for _ in range(2):  # as built, and with what it remembers of a batch
        other.load_state_dict(loss.state_dict())
        assert torch.equal(loss.compute(*arguments), other.compute(*arguments))


def test_survives_a_deep_copy(loss):
    arguments = student_trace(), teacher_trace(), make_batch()
    for _ in range(2):  # as built, and after a step
        other = copy.deepcopy(loss)
        value = loss.compute(*arguments)
        assert torch.equal(other.compute(*arguments), value)
        value.backward()


def test_float64_stays_float64(loss):
    arguments = [trace(dtype=torch.float64) for trace in (student_trace, teacher_trace)]
    single = copy.deepcopy(loss).compute(student_trace(), teacher_trace(), make_batch())
    double = loss.double().compute(*arguments, make_batch(torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_computes_in_float32_under_autocast(loss, half):
    student, teacher = student_trace(dtype=half), teacher_trace(dtype=half)
    full = [
        Features(t.logits.float(), t.embedding.float(), tuple(f.float() for f in t.maps))
        for t in (student, teacher)
    ]
    expected = copy.deepcopy(loss).compute(*full, make_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss.compute(student, teacher, make_batch())
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    value.backward()
    assert all(tensor.grad.isfinite().all() for tensor in tensors(student) if tensor.grad is not None)


def test_gradcheck(name, loss):
    loss = loss.double()
    if name == "wcord":
        loss.eval()  # spectral norms approach theirs from step to step
    student, teacher = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    batch = make_batch(torch.float64)
    loss.compute(student, teacher, batch).backward()
    reached = [index for index, tensor in enumerate(tensors(student)) if tensor.grad is not None]
    learned = dict(loss.named_parameters())
    if hasattr(loss, "weights"):  # constants that follow from the inputs stay what they are
        fixed = loss.weights(*[loss._input(entry, student, teacher, batch) for entry in loss.info.inputs])
        loss.weights = lambda *inputs: fixed
    if name in HELD:
        hold(loss, HELD[name])

    def value(*changed: Tensor) -> Tensor:
        inputs = [tensor.detach() for tensor in tensors(student)]
        for index, tensor in zip(reached, changed):
            inputs[index] = tensor
        trace = Features(inputs[0], inputs[1], tuple(inputs[2:]))
        parameters = dict(zip(learned, changed[len(reached) :]))
        call = Compute(copy.deepcopy(loss))  # every call starts from the same state
        return torch.func.functional_call(
            call, {f"loss.{name}": tensor for name, tensor in parameters.items()}, (trace, teacher, batch)
        )

    inputs = [tensors(student)[index].detach().requires_grad_() for index in reached]
    inputs += [parameter.detach().clone().requires_grad_() for parameter in learned.values()]
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


def hold(loss: Loss, path: str) -> None:
    """From the first call on, let a method of a part of the loss return what it returned then."""
    owner, _, method = path.rpartition(".")
    part = loss.get_submodule(owner)
    compute, kept = getattr(part, method), []

    def held(*inputs):
        if not kept:
            kept.append(compute(*inputs).detach())
        return kept[0]

    setattr(part, method, held)


class Compute(nn.Module):
    """`Loss.compute` as a module's forward."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, *arguments):
        return self.loss.compute(*arguments)


def test_terms_add_up(loss):
    student, teacher = student_trace(), teacher_trace()
    value = copy.deepcopy(loss).compute(student, teacher, make_batch())
    batch = make_batch()
    inputs = {
        "student_maps": list(student.maps),
        "teacher_maps": list(teacher.maps),
        "student_logits": student.logits,
        "teacher_logits": teacher.logits,
        "student_embedding": student.embedding,
        "teacher_embedding": teacher.embedding,
        "labels": batch.labels,
        "indices": batch.indices,
        "images": batch.images,
    }
    terms = loss.terms(*[inputs[entry] for entry in loss.info.inputs])
    torch.testing.assert_close(sum(terms.values()), value)


def test_one_sample_gives_a_result_or_a_clear_error(loss):
    student = student_trace(samples=1)
    try:
        value = loss.compute(student, teacher_trace(samples=1), make_batch(samples=1))
    except PursuhintError as error:
        if "batch of one sample" not in str(error):
            raise
        loss.eval()  # what fails is what batch norm learns
        value = loss.compute(student, teacher_trace(samples=1), make_batch(samples=1))
    assert value.isfinite()
    if value.requires_grad:
        value.backward()
    assert all(tensor.grad.isfinite().all() for tensor in tensors(student) if tensor.grad is not None)


def test_hooks_are_neutral(loss):
    if loss.info.alters_student:
        return
    student = make_context().student
    logits = torch.randn(3, 2)
    assert loss.prepare(student) is student
    assert loss.export(student) is student
    assert loss.transform_logits(logits) is logits
    loss.begin_stage(None)


def test_stages_can_be_entered_and_left(loss):
    expected = copy.deepcopy(loss).compute(student_trace(), teacher_trace(), make_batch())
    for stage in loss.stages():
        assert stage.epochs > 0
        student = student_trace()
        loss.begin_stage(stage.name)
        loss.compute(student, teacher_trace(), make_batch()).backward()
        assert stage.trains_student == any(tensor.grad is not None for tensor in tensors(student))
        assert all(p.grad is not None for p in loss.parameters() if p.requires_grad)
    loss.begin_stage(None)
    if loss.stages():
        assert torch.equal(loss.compute(student_trace(), teacher_trace(), make_batch()), expected)


def test_describes_itself(name, loss):
    kind = get_loss(name)
    docstring = inspect.getdoc(kind)
    assert re.search(r"Reference: .*\b(19|20)\d\d\b", docstring, re.DOTALL)
    assert re.search(r"\b(19|20)\d\d\b", loss.info.paper)
    assert loss.info.title == kind.info.title
    assert loss.info.default_weight > 0
    assert 0 <= loss.info.default_ce_weight <= 1
    assert loss.info.compares in ("labels", "logits", "embedding", "hint points", "last map")
    for hyperparameter in kind.hyperparameters():
        assert f"{hyperparameter}:" in docstring


def test_default_hyperparameters_are_valid(name):
    kind = get_loss(name)
    defaults = dict(kind.hyperparameters())
    assert kind.checked(defaults) == defaults
    build(name, **defaults)


def test_unknown_hyperparameter_is_refused(name):
    with pytest.raises(PursuhintError, match="has no hyperparameter 'flavour'"):
        build(name, flavour=1)


def test_wrong_type_is_refused(name):
    kind = get_loss(name)
    for hyperparameter in kind.hyperparameters():
        with pytest.raises(PursuhintError, match=f"{hyperparameter} must be .*, got {{'a': 1}}"):
            build(name, **{hyperparameter: {"a": 1}})
