"""What holds for every loss in the table."""

from __future__ import annotations

import copy
import inspect
import re
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import FeatureShape, Loss, LossContext
from pursuhint.probe import Trace

SAMPLES, CLASSES = 6, 5
STUDENT = ((4, 8, 8), (6, 4, 6))  # (channels, height, width) at two hint points, one of them rectangular
TEACHER = ((7, 4, 4), (5, 4, 6))


def make_context() -> LossContext:
    pairs = tuple(
        (FeatureShape(s[0], s[1:], "post", "s"), FeatureShape(t[0], t[1:], "post", "t"))
        for s, t in zip(STUDENT, TEACHER)
    )
    return LossContext(
        pairs,
        num_classes=CLASSES,
        num_samples=32,
        student_embedding=9,
        teacher_embedding=11,
        teacher_classifier=nn.Linear(11, CLASSES),
        teacher_classes=CLASSES,
    )


def make_trace(features: tuple, embedding: int, seed: int, dtype=torch.float32, samples=SAMPLES) -> Trace:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Trace(
        draw(samples, CLASSES), draw(samples, embedding), tuple(draw(samples, *shape) for shape in features)
    )


def student_trace(**options) -> Trace:
    trace = make_trace(STUDENT, 9, 1, **options)
    for tensor in tensors(trace):
        tensor.requires_grad_()
    return trace


def teacher_trace(**options) -> Trace:
    return make_trace(TEACHER, 11, 2, **options)


def make_batch(dtype=torch.float32, samples=SAMPLES) -> SimpleNamespace:
    labels = torch.arange(samples) % CLASSES
    return SimpleNamespace(
        images=torch.zeros(samples, 1, 4, 4, dtype=dtype), labels=labels, indices=labels + 3
    )


def tensors(trace: Trace) -> list[Tensor]:
    return [trace.logits, trace.embedding, *trace.features]


def permuted(trace: Trace, order: Tensor) -> Trace:
    return Trace(trace.logits[order], trace.embedding[order], tuple(f[order] for f in trace.features))


@pytest.fixture(params=LOSSES)
def name(request) -> str:
    return request.param


@pytest.fixture
def loss(name) -> Loss:
    torch.manual_seed(0)
    return get_loss(name).build(make_context())


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
    assert without == set(loss.no_grad_parameters)
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)


def test_order_of_the_samples_does_not_matter(loss):
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
    batch = make_batch(torch.float64)
    shuffled = SimpleNamespace(
        images=batch.images[order], labels=batch.labels[order], indices=batch.indices[order]
    )
    loss = loss.double()
    student, teacher = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    torch.testing.assert_close(
        loss.compute(student, teacher, batch),
        loss.compute(permuted(student, order), permuted(teacher, order), shuffled),
    )


def test_couples_the_batch_only_if_it_says_so(name, loss):
    """The loss of a batch is the mean of the losses of its halves, batch norm aside."""
    loss = loss.double().eval()
    student, teacher = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    batch = make_batch(torch.float64)
    whole = loss.compute(student, teacher, batch)
    halves = []
    for part in torch.arange(SAMPLES).chunk(2):
        some = SimpleNamespace(
            images=batch.images[part], labels=batch.labels[part], indices=batch.indices[part]
        )
        halves.append(loss.compute(permuted(student, part), permuted(teacher, part), some))
    assert torch.isclose(torch.stack(halves).mean(), whole).item() != loss.couples_batch


def test_survives_a_state_dict(name, loss):
    torch.manual_seed(1)
    other = get_loss(name).build(make_context())
    other.load_state_dict(loss.state_dict())
    arguments = student_trace(), teacher_trace(), make_batch()
    assert torch.equal(loss.compute(*arguments), other.compute(*arguments))


def test_survives_a_deep_copy(loss):
    arguments = student_trace(), teacher_trace(), make_batch()
    value = loss.compute(*arguments)
    assert torch.equal(copy.deepcopy(loss).compute(*arguments), value)


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
        Trace(t.logits.float(), t.embedding.float(), tuple(f.float() for f in t.features))
        for t in (student, teacher)
    ]
    expected = copy.deepcopy(loss).compute(*full, make_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss.compute(student, teacher, make_batch())
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    value.backward()
    assert all(tensor.grad.isfinite().all() for tensor in tensors(student) if tensor.grad is not None)


def test_gradcheck(loss):
    loss = loss.double()
    student, teacher = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    batch = make_batch(torch.float64)
    loss.compute(student, teacher, batch).backward()
    reached = [index for index, tensor in enumerate(tensors(student)) if tensor.grad is not None]
    learned = dict(loss.named_parameters())

    def value(*changed: Tensor) -> Tensor:
        inputs = [tensor.detach() for tensor in tensors(student)]
        for index, tensor in zip(reached, changed):
            inputs[index] = tensor
        trace = Trace(inputs[0], inputs[1], tuple(inputs[2:]))
        parameters = dict(zip(learned, changed[len(reached) :]))
        call = Compute(copy.deepcopy(loss))  # every call starts from the same state
        return torch.func.functional_call(
            call, {f"loss.{name}": tensor for name, tensor in parameters.items()}, (trace, teacher, batch)
        )

    inputs = [tensors(student)[index].detach().requires_grad_() for index in reached]
    inputs += [parameter.detach().clone().requires_grad_() for parameter in learned.values()]
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


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
        "student_features": list(student.features),
        "teacher_features": list(teacher.features),
        "student_logits": student.logits,
        "teacher_logits": teacher.logits,
        "labels": batch.labels,
    }
    terms = loss.terms(*[inputs[entry] for entry in loss.takes])
    torch.testing.assert_close(sum(terms.values()), value)


def test_one_sample_gives_a_result(loss):
    value = loss.compute(student_trace(samples=1), teacher_trace(samples=1), make_batch(samples=1))
    assert value.isfinite()


def test_hooks_are_neutral(loss):
    student = nn.Linear(2, 2)
    logits = torch.randn(3, 2)
    assert loss.prepare(student) is student
    assert loss.export(student) is student
    assert loss.transform_logits(logits) is logits
    assert list(loss.stages()) == []
    loss.enter(None)


def test_describes_itself(name, loss):
    kind = get_loss(name)
    docstring = inspect.getdoc(kind)
    assert re.search(r"Reference: .*\b(19|20)\d\d\b", docstring, re.DOTALL)
    assert re.search(r"\b(19|20)\d\d\b", loss.paper)
    assert loss.title == kind.title
    assert loss.default_weight > 0
    assert 0 <= loss.default_ce_weight <= 1
    assert loss.looks_at in ("labels", "logits", "embedding", "hint points")
    for hyperparameter in kind.hyperparameters():
        assert f"{hyperparameter}:" in docstring


def test_default_hyperparameters_are_valid(name):
    kind = get_loss(name)
    defaults = dict(kind.hyperparameters())
    assert kind.checked(defaults) == defaults
    kind.build(make_context(), **defaults)


def test_unknown_hyperparameter_is_refused(name):
    with pytest.raises(PursuhintError, match="has no hyperparameter 'flavour'"):
        get_loss(name).build(make_context(), flavour=1)


def test_wrong_type_is_refused(name):
    kind = get_loss(name)
    for hyperparameter in kind.hyperparameters():
        with pytest.raises(PursuhintError, match=f"{hyperparameter} must be .*, got {{'a': 1}}"):
            kind.build(make_context(), **{hyperparameter: {"a": 1}})
