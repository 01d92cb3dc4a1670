"""Run a reference case of a loss through our implementation of it.

The cases name hyperparameters, parameters and states in their own words. An adapter translates them; it
refuses whatever it does not know, so that nothing in a case passes unnoticed.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pursuhint.losses import get_loss
from pursuhint.losses.base import Loss
from pursuhint.losses.context import FeatureShape, LossContext

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class LossCase:
    """One entry of a manifest with its arrays."""

    entry: Mapping[str, Any]
    manifest: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.entry["case"]

    @property
    def method(self) -> str:
        return self.entry["method"]

    @property
    def expected(self) -> Mapping[str, Any]:
        return self.entry["expected"]

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.entry.get("dtype", self.manifest.get("dtype", "float64"))]

    def array(self, value: Any) -> np.ndarray:
        """An expected value: the name of an array, or the numbers themselves."""
        return np.asarray(self.arrays[value] if isinstance(value, str) else value)


def find_cases(folder: Path) -> list[tuple[Path, Mapping[str, Any], Mapping[str, Any]]]:
    """(folder, manifest, entry) of every loss case of every manifest in a folder."""
    found = []
    for path in sorted(folder.glob("*.json")):
        manifest = json.loads(path.read_text())
        if isinstance(manifest, dict) and isinstance(manifest.get("cases"), list):
            found += [(folder, manifest, entry) for entry in manifest["cases"] if "method" in entry]
    return found


def load_case(folder: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> LossCase:
    with np.load(folder / entry["file"], allow_pickle=False) as arrays:
        return LossCase(entry, manifest, dict(arrays))


@dataclass
class Setup:
    """A case on its way through: what an adapter has not asked for yet is left in the dictionaries."""

    case: LossCase
    dtype: torch.dtype
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    roles: dict[str, Any]

    def option(self, name: str, **default: Any) -> Any:
        if name not in self.options and "default" in default:
            return default["default"]
        return self.options.pop(name)

    def given(self, **names: str) -> dict[str, Any]:
        """Those of our hyperparameters that the case sets, by the case's names."""
        return {ours: self.options.pop(theirs) for ours, theirs in names.items() if theirs in self.options}

    def role(self, name: str) -> Any:
        return _looked_up(self.roles.pop(name), self.tensors)


@dataclass
class Prepared:
    """A loss that is ready to be called, and how the case calls its parts."""

    loss: Loss
    inputs: list[Any]
    parameter_name: Callable[[str], str] = lambda name: name
    term_names: Mapping[str, str] = field(default_factory=dict)  # ours -> the case's, where they differ
    state: Callable[[], dict[str, Tensor]] = dict
    terms: Callable[[], dict[str, Tensor]] | None = None  # where the case's terms are not the addends
    settled: tuple[str, ...] = ()  # parameters and buffers of ours that the case need not give values for


@dataclass(frozen=True)
class Outcome:
    """What our implementation gives."""

    loss: Tensor
    terms: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    states: dict[str, Tensor]


def run_case(case: LossCase, dtype: torch.dtype) -> Outcome:
    """Build the loss of a case, call it once and differentiate it.

    Raises:
        AssertionError: the case has an input, hyperparameter or parameter that the adapter does not know, or
            lacks a parameter that the loss has.
    """
    differentiated = set(case.expected.get("grad", {}))
    documented = case.entry["parameters"]
    names = set(_array_names(case.entry["inputs"]))
    tensors = {}
    for name in names:
        tensor = torch.from_numpy(case.arrays[name])
        tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
        tensors[name] = tensor.clone().requires_grad_(name in differentiated)
    setup = Setup(case, dtype, tensors, dict(case.entry["hyperparameters"]), dict(case.entry["inputs"]))
    prepared = ADAPTERS[case.method](setup)
    assert not setup.options, f"hyperparameters that the adapter does not know: {sorted(setup.options)}"
    assert not setup.roles, f"inputs that the adapter does not know: {sorted(setup.roles)}"

    loss = prepared.loss.to(dtype)
    own = dict(loss.named_parameters()) | dict(loss.named_buffers())
    ours = {name: own[prepared.parameter_name(name)] for name in documented}
    forgotten = {
        name
        for name in own.keys() - {prepared.parameter_name(name) for name in documented}
        if not name.endswith("num_batches_tracked") and name not in prepared.settled
    }
    assert not forgotten, f"the case gives no values for {sorted(forgotten)}"
    with torch.no_grad():
        for name, tensor in ours.items():
            value = torch.from_numpy(case.array(documented[name])).to(dtype)
            assert value.shape == tensor.shape, f"{name}: {tuple(value.shape)} and {tuple(tensor.shape)}"
            tensor.copy_(value)

    buffers = {name: tensor.clone() for name, tensor in loss.named_buffers()}
    terms = loss.terms(*prepared.inputs)
    after_terms = {name: tensor.clone() for name, tensor in loss.named_buffers()}
    with torch.no_grad():  # the call itself starts from the state that the case gives
        for name, tensor in loss.named_buffers():
            tensor.copy_(buffers[name])
    value = loss(*prepared.inputs)
    for name, tensor in loss.named_buffers():
        assert torch.equal(tensor, after_terms[name]), f"{name} depends on how the loss is called"
    if value.requires_grad:  # a measure of quality has no gradient
        value.backward()
    arrays = {documented[name]: tensor for name, tensor in ours.items() if isinstance(documented[name], str)}
    gradients = {name: tensor.grad for name, tensor in (arrays | tensors | ours).items()}
    states = ours | prepared.state()
    if prepared.terms is not None:
        terms = prepared.terms()
    return Outcome(
        value.detach(),
        {prepared.term_names.get(name, name): term.detach() for name, term in terms.items()},
        gradients,
        {name: tensor.detach() for name, tensor in states.items()},
    )


def _array_names(value: Any) -> list[str]:
    """The arrays that an entry of a manifest names: one, a list of them, or a mapping of either."""
    if isinstance(value, str):
        return [value]
    return [
        name for part in (value.values() if isinstance(value, dict) else value) for name in _array_names(part)
    ]


def _looked_up(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, str):
        return tensors[value]
    if isinstance(value, dict):
        return {name: _looked_up(part, tensors) for name, part in value.items()}
    return [_looked_up(part, tensors) for part in value]


# ---------------------------------------------------------------------------------------------------------
# Comparing


@dataclass(frozen=True)
class Tolerance:
    """Largest difference relative to the largest entry of an array, and its absolute floor."""

    relative: float
    absolute: float
    zero: float  # for values that are mathematically zero


def tolerance(case: LossCase, dtype: torch.dtype) -> Tolerance:
    if dtype == torch.float64:
        stated = case.entry.get("tolerance", case.manifest.get("tolerance", 1e-9))
        return Tolerance(float(stated), 1e-12, 1e-12)
    return Tolerance(10 * case.entry.get("float32_deviation", 1e-5), 1e-9, 1e-4)


def discrepancies(case: LossCase, outcome: Outcome, allowed: Tolerance) -> list[str]:
    """Everything in which an outcome differs from what the case expects; empty if nothing does."""
    found: list[str] = []

    def compare(name: str, ours: Tensor | None, expected: Any, relative: float, absolute: float) -> None:
        wanted = torch.from_numpy(np.array(case.array(expected), dtype=np.float64))
        if ours is None:
            found.append(f"{name}: we have no such value")
            return
        value = ours.double()
        if value.shape != wanted.shape:
            found.append(f"{name}: shape {tuple(value.shape)} instead of {tuple(wanted.shape)}")
            return
        if not (torch.isfinite(value).all() and torch.isfinite(wanted).all()):
            found.append(f"{name}: not finite")
            return
        if wanted.numel() == 0:
            return
        deviation = (value - wanted).abs().max().item()
        limit = relative * wanted.abs().max().item() + absolute
        if deviation > limit:
            found.append(f"{name}: differs by {deviation:.3g}, allowed are {limit:.3g}")

    for key, value in case.expected.items():
        if key == "loss":
            compare(key, outcome.loss, value, allowed.relative, allowed.absolute)
        elif key == "loss_terms":
            ours = torch.stack([term.double() for term in outcome.terms.values()])
            compare(key, ours, value, allowed.relative, allowed.absolute)
        elif key == "loss_term_names":
            if list(outcome.terms) != list(value):
                found.append(f"terms are called {list(outcome.terms)} instead of {list(value)}")
        elif key == "grad":
            zeros = case.expected.get("zero_grad", ())
            for name, array in value.items():
                relative, absolute = (
                    (0.0, allowed.zero) if name in zeros else (allowed.relative, allowed.absolute)
                )
                compare(f"gradient of {name}", outcome.gradients.get(name), array, relative, absolute)
        elif key == "zero_grad":
            for name in value:
                gradient = outcome.gradients.get(name)
                if gradient is None or gradient.abs().max() > allowed.zero:
                    found.append(f"gradient of {name} is not zero")
        elif key == "no_grad":
            for name in value:
                gradient = outcome.gradients[name]
                if gradient is not None and gradient.any():
                    found.append(f"{name} has a gradient")
        elif key == "state":
            for name, array in value.items():
                compare(f"state {name}", outcome.states.get(name), array, allowed.relative, allowed.absolute)
        else:
            found.append(f"expected {key!r} is not compared with anything")
    if "loss" not in case.expected:
        found.append("the case expects no loss")
    return found


# ---------------------------------------------------------------------------------------------------------
# One adapter a method


def _context(students: Sequence[Tensor] = (), teachers: Sequence[Tensor] = ()) -> LossContext:
    pairs = tuple(
        (FeatureShape(s.shape[1], tuple(s.shape[2:])), FeatureShape(t.shape[1], tuple(t.shape[2:])))
        for s, t in zip(students, teachers, strict=True)
    )
    return LossContext(pairs, num_classes=10, num_samples=64, student_embedding=16, teacher_embedding=16)


def _hint_loss(setup: Setup, **options: Any) -> tuple[Loss, list[Any]]:
    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    loss = get_loss(setup.case.method).build(_context(students, teachers), **options)
    return loss, [students, teachers]


def _set_mode(loss: nn.Module, mode: str) -> None:
    assert mode in ("train", "eval"), f"unknown module mode {mode!r}"
    loss.train(mode == "train")


def _logits(setup: Setup) -> list[Any]:
    labels = setup.role("labels") if "labels" in setup.roles else None
    return [setup.role("student_logits"), setup.role("teacher_logits"), labels]


def _ce(setup: Setup) -> Prepared:
    loss = get_loss("ce").build(_context(), **setup.given(label_smoothing="label_smoothing"))
    return Prepared(loss, [setup.role("student_logits"), setup.role("labels")])


def _kd(setup: Setup) -> Prepared:
    options = setup.given(temperature="temperature") or setup.given(temperature="T")
    return Prepared(get_loss("kd").build(_context(), **options), _logits(setup))


def _skd(setup: Setup) -> Prepared:
    options = setup.given(
        normalization="variant", temperature="T", alpha="alpha", multiplier="multiplier", eps="eps"
    )
    assert options["normalization"] == setup.case.entry["variant"]
    loss = get_loss("skd").build(_context(), **options)
    inputs = _logits(setup)

    def state() -> dict[str, Tensor]:
        student, teacher = loss.normalize(inputs[0], inputs[1])
        return {
            "normalised_student": student,
            "normalised_teacher": teacher,
            "mean_teacher_norm": loss.radius(inputs[1]),
        }

    return Prepared(loss, inputs, term_names={"kd": "kd_weighted", "ce": "ce_weighted"}, state=state)


def _at(setup: Setup) -> Prepared:
    return Prepared(*_hint_loss(setup, **setup.given(p="p")))


def _fitnet(setup: Setup) -> Prepared:
    setup.option("regressor", default="")  # says in words what the shapes of the parameters say
    loss, inputs = _hint_loss(setup, **setup.given(relu="relu"))
    _set_mode(loss, setup.option("module_mode", default="train"))
    return Prepared(loss, inputs, lambda name: re.sub(r"^regressor\.(\d+)\.", r"hints.\1.regressor.", name))


def _vid(setup: Setup) -> Prepared:
    loss, inputs = _hint_loss(setup, **setup.given(init_pred_var="init_pred_var", eps="eps"))

    def parameter_name(name: str) -> str:
        return re.sub(r"^vid\.(\d+)\.", r"hints.\1.", re.sub(r"\.(conv\d)\.", r".mean.\1.", name))

    return Prepared(loss, inputs, parameter_name)


ADAPTERS: dict[str, Callable[[Setup], Prepared]] = {
    "ce": _ce,
    "kd": _kd,
    "skd": _skd,
    "at": _at,
    "fitnet": _fitnet,
    "vid": _vid,
}

# Further adapters, one module a group. They are imported last, because they use what is defined above.
GROUPS = ("adapters_attention", "adapters_classic", "adapters_modern", "adapters_beyond")
for group in GROUPS:
    ADAPTERS |= importlib.import_module(f"tests.goldens.{group}").ADAPTERS
beyond = importlib.import_module("tests.goldens.adapters_beyond")
for method, names in {
    "kd": {"temperature": "T"},
    "dkd": {"temperature": "T", "alpha": "alpha", "beta": "beta"},
}.items():
    ADAPTERS[method] = beyond.standardized_or(ADAPTERS[method], **names)
