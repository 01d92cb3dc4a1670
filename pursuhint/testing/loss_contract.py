"""The contract of a loss: what training relies on, as checks of one loss after the other."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.losses.base import Loss
from pursuhint.losses.info import Activation, Places
from pursuhint.testing.loss_setting import (
    SAMPLES,
    build_loss,
    chosen_features,
    chosen_samples,
    make_batch,
    make_context,
    student_features,
    teacher_features,
    tensors,
    with_second_view,
)

__all__ = ["check_loss"]


def check_loss(kind: type[Loss], *, constants: Sequence[str] = (), **options: Any) -> None:
    """Check that a loss keeps the contract that training relies on.

    The loss is built for two small networks and computed on the CPU, which takes about a second. It must
    return a finite scalar, give gradients that agree with finite differences to the student and to what it
    learns, compute in float32 under autocast and in float64 for float64 inputs, restore from its
    ``state_dict`` and from a copy, treat the samples of a batch as its traits say, refuse unknown
    hyperparameters and values of the wrong type, and more; every check says what it expects.

    Args:
        kind: the class of the loss.
        constants: methods of the loss, or of its submodules (``"transport.plan"``), whose results it treats
            as constants although they depend on the inputs, so that finite differences must as well.
        **options: hyperparameters, say smaller ones for 32 training samples. The defaults are built, too.

    Raises:
        AssertionError: a check fails; one line names the loss, what was expected and what was found.
        PursuhintError: the loss refuses to be built.

    Example:
        >>> from pursuhint.losses import get_loss
        >>> check_loss(get_loss("kd"))
        >>> check_loss(get_loss("crd"), negatives=20)
    """
    case = LossCase(kind, options, tuple(constants))
    for name, check in CHECKS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                check(case)
            except (AssertionError, PursuhintError):
                raise
            except Exception as error:
                line = (str(error).strip().splitlines() or [""])[0]
                case.fail(f"{name}: {type(error).__name__}: {line}", error)


@dataclass(frozen=True)
class LossCase:
    """A loss that is checked.

    Attributes:
        kind: its class.
        options: its hyperparameters.
        constants: see `check_loss`.
    """

    kind: type[Loss]
    options: Mapping[str, Any] = field(default_factory=dict)
    constants: tuple[str, ...] = ()

    def build(self) -> Loss:
        """The loss, for the small networks."""
        return build_loss(self.kind, **self.options)

    def fail(self, line: str, cause: Exception | None = None) -> None:
        """Raise an AssertionError of one line that names the loss."""
        raise AssertionError(f"{self.kind.info.title or self.kind.__name__}: {line}") from cause

    def expect(self, condition: object, line: str) -> None:
        """`fail` unless a condition holds."""
        if not condition:
            self.fail(line)

    @property
    def in_order(self) -> bool:
        """Whether its docstring declares that the order of the samples matters."""
        return "order of the samples matters" in (inspect.getdoc(self.kind) or "")


Inputs = tuple[Features, Features, Batch]


def _inputs(dtype: torch.dtype = torch.float32, samples: int = SAMPLES) -> Inputs:
    return (
        student_features(dtype=dtype, samples=samples),
        teacher_features(dtype=dtype, samples=samples),
        make_batch(torch.float64 if dtype == torch.float64 else torch.float32, samples),
    )


def _chosen(inputs: Inputs, samples: Tensor) -> Inputs:
    student, teacher, batch = inputs
    return (
        chosen_features(student, samples),
        chosen_features(teacher, samples),
        chosen_samples(batch, samples),
    )


def _is_batchnorm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def check_value(case: LossCase) -> None:
    """A batch gives a finite scalar in float32."""
    value = case.build().compute(*_inputs())
    case.expect(value.shape == (), f"returns a tensor of shape {tuple(value.shape)}; expected a scalar, ()")
    case.expect(value.dtype == torch.float32, f"returns {value.dtype} for float32; expected torch.float32")
    case.expect(value.isfinite(), f"returns {value.item()} for random features; expected a finite number")


def check_gradient(case: LossCase) -> None:
    """Finite gradients reach the student and everything that is learned, unless its traits say otherwise."""
    loss, (student, teacher, batch) = case.build(), _inputs()
    for tensor in tensors(teacher):
        tensor.requires_grad_()
    value = loss.compute(student, teacher, batch)
    case.expect(value.requires_grad, "no gradient reaches the student: the value has no graph (detached?)")
    value.backward()
    gradients = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    case.expect(gradients, "no gradient reaches the student: none of its logits, embedding, maps has one")
    case.expect(all(entry.isfinite().all() for entry in gradients), "the student's gradient is not finite")
    case.expect(all(entry.any() for entry in gradients), "a gradient that reaches the student is all zeros")
    learned = [(name, entry) for name, entry in loss.named_parameters() if entry.requires_grad]
    without = {name for name, entry in learned if entry.grad is None}
    stated = set(loss.info.no_grad_parameters)
    case.expect(
        without <= stated,
        f"no gradient reaches {', '.join(sorted(without - stated))}, which requires one; "
        "use it, or name it in info.no_grad_parameters",
    )
    case.expect(
        stated <= without,
        f"info.no_grad_parameters names {', '.join(sorted(stated - without))}, which gets a gradient",
    )
    finite = all(entry.grad.isfinite().all() for _, entry in learned if entry.grad is not None)
    case.expect(finite, "the gradient of what is learned is not finite")


def check_order(case: LossCase) -> None:
    """The order of the samples does not matter, unless the docstring says that it does."""
    if case.in_order:
        return
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
    loss, inputs = case.build().double(), _inputs(torch.float64)
    value = copy.deepcopy(loss).compute(*inputs)
    other = loss.compute(*_chosen(inputs, order))
    case.expect(
        torch.isclose(value, other),
        f"depends on the order of the samples, {value.item():.6g} and {other.item():.6g}; if the method "
        "wants that, its docstring says 'order of the samples matters'",
    )


def couples(loss: Loss) -> bool:
    """Whether the loss of a batch is something else than the mean over its parts, batch norm aside."""
    loss = loss.double()
    loss.train(not any(_is_batchnorm(module) for module in loss.modules()))
    inputs = _inputs(torch.float64)
    whole = copy.deepcopy(loss).compute(*inputs)
    parts = [copy.deepcopy(loss).compute(*_chosen(inputs, part)) for part in torch.arange(SAMPLES).chunk(2)]
    return not torch.isclose(torch.stack(parts).mean(), whole).item()


def check_coupling(case: LossCase) -> None:
    """The samples of a batch enter together if, and only if, the traits say so."""
    loss = case.build()
    found, stated = couples(loss), loss.info.batch_coupled
    case.expect(
        found == stated,
        f"the loss of a batch is {'not ' if found else ''}the mean of the losses of its parts, but "
        f"info.batch_coupled is {stated}",
    )


def check_saved_state(case: LossCase) -> None:
    """A loss that is built anew continues from the state dict of another, as built and after a batch."""
    loss = case.build()
    for moment in ("as built", "after a batch"):
        other = case.build()
        other.load_state_dict(loss.state_dict())
        value, restored = loss.compute(*_inputs()), other.compute(*_inputs())
        case.expect(
            torch.equal(value, restored),
            f"a loss restored from its state_dict {moment} gives {restored.item():.6g} instead of "
            f"{value.item():.6g}; what it remembers must be parameters or persistent buffers",
        )


def check_copy(case: LossCase) -> None:
    """A deep copy gives the same value, as built and after a step."""
    loss = case.build()
    for moment in ("as built", "after a step"):
        other = copy.deepcopy(loss)
        value = loss.compute(*_inputs())
        case.expect(
            torch.equal(other.compute(*_inputs()), value), f"a copy made {moment} gives another value"
        )
        value.backward()


def check_float64(case: LossCase) -> None:
    """Inputs in float64 are computed in float64, and give the value of float32 within its precision."""
    loss = case.build()
    single = copy.deepcopy(loss).compute(*_inputs())
    double = loss.double().compute(*_inputs(torch.float64))
    case.expect(double.dtype == torch.float64, f"returns {double.dtype} for float64 inputs")
    case.expect(
        torch.isclose(double.float(), single, rtol=1.3e-6, atol=1e-5),
        f"gives {double.item():.8g} in float64 and {single.item():.8g} in float32",
    )


def check_autocast(case: LossCase) -> None:
    """Under autocast the value is that of float32, to the bit, for inputs in bfloat16 and float16."""
    for half in (torch.bfloat16, torch.float16):
        loss, (student, teacher, batch) = case.build(), _inputs(half)
        full = [[tensor.float() for tensor in tensors(features)] for features in (student, teacher)]
        own, other = (Features(logits, embedding, tuple(maps)) for logits, embedding, *maps in full)
        expected = copy.deepcopy(loss).compute(own, other, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss.compute(student, teacher, batch)
        case.expect(
            value.dtype == torch.float32,
            f"under autocast computes in {value.dtype} for inputs in {half}; expected torch.float32",
        )
        case.expect(
            torch.equal(value, expected),
            f"under autocast gives {value.item():.8g} for inputs in {half}, and {expected.item():.8g} for "
            "these inputs in float32",
        )
        value.backward()
        finite = all(part.grad.isfinite().all() for part in tensors(student) if part.grad is not None)
        case.expect(finite, f"the gradient of inputs in {half} is not finite")


def check_finite_differences(case: LossCase) -> None:
    """Gradients of the student's features and of what is learned agree with finite differences."""
    loss = case.build().double()
    if any(nn.utils.parametrize.is_parametrized(module) for module in loss.modules()):
        loss.eval()  # a spectral norm approaches its value from call to call
    student, teacher, batch = _inputs(torch.float64)
    loss.compute(student, teacher, batch).backward()
    reached = [index for index, tensor in enumerate(tensors(student)) if tensor.grad is not None]
    learned = {  # the loss itself leaves the others as constants
        name: parameter
        for name, parameter in loss.named_parameters()
        if name not in loss.info.no_grad_parameters
    }
    for path in case.constants:
        _hold(loss, path)

    def value(*changed: Tensor) -> Tensor:
        inputs = [tensor.detach() for tensor in tensors(student)]
        for index, tensor in zip(reached, changed):
            inputs[index] = tensor
        features = Features(inputs[0], inputs[1], tuple(inputs[2:]))
        parameters = {f"loss.{name}": entry for name, entry in zip(learned, changed[len(reached) :])}
        module = _Compute(copy.deepcopy(loss))  # every call starts from the same state
        result: Tensor = torch.func.functional_call(module, parameters, (features, teacher, batch))
        return result

    inputs = [tensors(student)[index].detach().requires_grad_() for index in reached]
    inputs += [parameter.detach().clone().requires_grad_() for parameter in learned.values()]
    try:
        torch.autograd.gradcheck(value, inputs, fast_mode=True)
    except GradcheckError as error:
        line = str(error).strip().splitlines()[0]
        case.fail(f"gradients disagree with finite differences: {line}", error)


def _hold(loss: Loss, path: str) -> None:
    """From the first call on, let a method of the loss, or of a part of it, return what it returned then."""
    owner, _, method = path.rpartition(".")
    inside: nn.Module = loss if isinstance(loss, Loss) else loss.loss
    part = inside.get_submodule(owner)
    compute = getattr(part, method)
    kept: list[Tensor] = []

    def held(*inputs: Any) -> Any:
        if not kept:
            kept.append(compute(*inputs).detach())
        return kept[0]

    setattr(part, method, held)


class _Compute(nn.Module):
    """`Loss.compute` as a module's forward."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return self.loss.compute(student, teacher, batch)


def check_terms(case: LossCase) -> None:
    """The terms add up to the value."""
    loss, (student, teacher, batch) = case.build(), _inputs()
    value = copy.deepcopy(loss).compute(student, teacher, batch)
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
        "student_second_logits": None,
        "teacher_second_logits": None,
    }
    terms = loss.terms(*[inputs[entry] for entry in loss.info.inputs])
    total = torch.stack(list(terms.values())).sum()
    case.expect(
        torch.isclose(total, value, rtol=1.3e-6, atol=1e-5),
        f"its terms add up to {total.item():.8g}, its value is {value.item():.8g}",
    )


def check_second_view(case: LossCase) -> None:
    """A loss that looks at a second view of each image depends on it, and has the right gradient for it."""
    if not case.kind.info.sees_second_view:
        return
    student, teacher, batch = _inputs(torch.float64)
    loss, other = case.build().double(), with_second_view(teacher)
    own = with_second_view(student).second_logits
    assert own is not None

    def value(second: Tensor) -> Tensor:
        features = replace(student, second_logits=second)
        return copy.deepcopy(loss).compute(features, other, batch)

    alone = copy.deepcopy(loss).compute(student, teacher, batch)
    case.expect(not torch.isclose(value(own), alone), "gives the same with a second view as without")
    try:
        torch.autograd.gradcheck(value, [own.detach().requires_grad_()], fast_mode=True)
    except GradcheckError as error:
        line = str(error).strip().splitlines()[0]
        case.fail(f"gradients of a second view disagree with finite differences: {line}", error)


def check_one_sample(case: LossCase) -> None:
    """One sample gives a finite value and gradient, or an error that names the batch of one sample."""
    loss, inputs = case.build(), _inputs(samples=1)
    try:
        value = loss.compute(*inputs)
    except PursuhintError as error:
        if "batch of one sample" not in str(error):
            raise
        loss.eval()  # what fails is what batch norm learns
        value = loss.compute(*inputs)
    case.expect(value.isfinite(), f"gives {value.item()} for a batch of one sample")
    if value.requires_grad:
        value.backward()
    finite = all(part.grad.isfinite().all() for part in tensors(inputs[0]) if part.grad is not None)
    case.expect(finite, "the gradient for a batch of one sample is not finite")


def check_hooks(case: LossCase) -> None:
    """Hooks leave the student and its logits alone unless the traits say that the student is altered."""
    loss = case.build()
    if loss.info.alters_student:
        return
    student, logits = make_context().student, torch.randn(3, 2)
    assert student is not None
    case.expect(loss.prepare(student) is student, "prepare changes the student; set info.alters_student")
    case.expect(loss.export(student) is student, "export changes the student; set info.alters_student")
    case.expect(loss.transform_logits(logits) is logits, "transform_logits changes the logits")
    loss.begin_stage(None)


def check_stages(case: LossCase) -> None:
    """Every warm-up stage trains what it says, and leaves no trace in the main stage."""
    loss = case.build()
    expected = copy.deepcopy(loss).compute(*_inputs())
    for stage in loss.stages():
        case.expect(
            stage.epochs > 0, f"its stage {stage.name} lasts {stage.epochs} epochs; expected 1 or more"
        )
        inputs = _inputs()
        loss.begin_stage(stage.name)
        loss.compute(*inputs).backward()
        reached = any(tensor.grad is not None for tensor in tensors(inputs[0]))
        case.expect(
            stage.trains_student == reached,
            f"its stage {stage.name} says trains_student={stage.trains_student}, but a gradient "
            f"{'reaches' if reached else 'does not reach'} the student",
        )
        idle = [name for name, p in loss.named_parameters() if p.requires_grad and p.grad is None]
        case.expect(not idle, f"its stage {stage.name} gives no gradient to {', '.join(idle)}")
    loss.begin_stage(None)
    if loss.stages():
        value = loss.compute(*_inputs())
        case.expect(torch.equal(value, expected), "is another loss after its warm-up, with nothing learned")


def check_traits(case: LossCase) -> None:
    """Title, weights and quantity are stated, for the class as for an instance."""
    info = case.build().info
    case.expect(info.title, "has no title; set info = ....info.replace(title=...)")
    case.expect(info.title == case.kind.info.title, f"calls itself {info.title} once it is built")
    case.expect(info.default_weight > 0, f"info.default_weight is {info.default_weight}; expected above 0")
    case.expect(
        0 <= info.default_ce_weight <= 1,
        f"info.default_ce_weight is {info.default_ce_weight}; expected a number in [0, 1]",
    )
    for trait, choices in (("points", get_args(Places)), ("activation", get_args(Activation))):
        value = getattr(info, trait)
        case.expect(value in choices, f"info.{trait} is {value!r}; expected one of {', '.join(choices)}")
    known = ("labels", "logits", "embedding", "hint points", "last map")
    case.expect(
        info.compares in known, f"info.compares is {info.compares!r}; expected one of {', '.join(known)}"
    )


def check_hyperparameters(case: LossCase) -> None:
    """Defaults are valid, documented and buildable; unknown names and wrong types are refused."""
    defaults = dict(case.kind.hyperparameters())
    case.expect(case.kind.checked(defaults) == defaults, "changes its own defaults when it checks them")
    build_loss(case.kind, **{**defaults, **case.options})
    _expect_refusal(case, "flavour", 1, "has no hyperparameter 'flavour'")
    docstring = inspect.getdoc(case.kind) or ""
    for name in defaults:
        case.expect(f"{name}:" in docstring, f"its docstring does not describe the hyperparameter {name}")
        _expect_refusal(case, name, {"a": 1}, f"{name} must be ")


def _expect_refusal(case: LossCase, name: str, value: object, message: str) -> None:
    try:
        build_loss(case.kind, **{**case.options, name: value})
    except PursuhintError as error:
        case.expect(message in str(error), f"refuses {name}={value!r} with {str(error)!r}")
    else:
        case.fail(f"accepts {name}={value!r}; annotate its type in the constructor")


CHECKS: dict[str, Callable[[LossCase], None]] = {
    "traits": check_traits,
    "hyperparameters": check_hyperparameters,
    "value": check_value,
    "gradient": check_gradient,
    "order": check_order,
    "coupling": check_coupling,
    "saved state": check_saved_state,
    "copy": check_copy,
    "float64": check_float64,
    "autocast": check_autocast,
    "finite differences": check_finite_differences,
    "terms": check_terms,
    "second view": check_second_view,
    "one sample": check_one_sample,
    "hooks": check_hooks,
    "stages": check_stages,
}
