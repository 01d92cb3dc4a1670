"""Our losses against the values of their published implementations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from pursuhint.losses import LOSSES
from tests.goldens.golden_cases import golden_folder
from tests.goldens.loss_adapters import (
    ADAPTERS,
    LossCase,
    Outcome,
    discrepancies,
    find_cases,
    load_case,
    run_case,
    tolerance,
)

CASES = find_cases(golden_folder())
BY_NAME = {f"loss-{entry['case']}": (folder, manifest, entry) for folder, manifest, entry in CASES}
IN_DOUBLE = [
    name
    for name, (_, manifest, entry) in BY_NAME.items()
    if entry["method"] in LOSSES and entry.get("dtype", manifest.get("dtype")) != "float32"
]


def precisions(case: LossCase) -> list[torch.dtype]:
    """The case's own, and float32 where the case says how far the reference itself is off there."""
    return sorted({case.dtype, *([torch.float32] if "float32_deviation" in case.entry else [])}, key=str)


@pytest.mark.parametrize("name", BY_NAME)
def test_case(name):
    case = load_case(*BY_NAME[name])
    assert case.method in LOSSES, f"no loss is named {case.method!r}"
    for dtype in precisions(case):
        found = discrepancies(case, run_case(case, dtype), tolerance(case, dtype))
        assert not found, f"in {dtype}: " + "; ".join(found)


def test_names_are_unique():
    assert len(BY_NAME) == len(CASES)


def test_adapters_are_for_losses_that_exist():
    assert ADAPTERS.keys() <= LOSSES.keys()


def altered(case: LossCase, path: tuple[str, ...], change) -> LossCase:
    """The case with one expected value (a number, a list or an array) changed."""
    expected = dict(case.expected)
    arrays = dict(case.arrays)
    holder, key = expected, path[0]
    if len(path) == 2:
        holder, key = dict(expected[path[0]]), path[1]
        expected[path[0]] = holder
    if isinstance(holder[key], str):
        arrays[holder[key]] = change(arrays[holder[key]].astype(np.float64))
    else:
        holder[key] = change(np.asarray(holder[key], dtype=np.float64)).tolist()
    return dataclasses.replace(case, entry={**case.entry, "expected": expected}, arrays=arrays)


def expected_values(case: LossCase) -> list[tuple[str, ...]]:
    nested = [(key, name) for key in ("grad", "state") for name in case.expected.get(key, {})]
    return [(key,) for key in ("loss", "loss_terms") if key in case.expected] + nested


def value(case: LossCase, path: tuple[str, ...]) -> np.ndarray:
    """The absolute values that are expected."""
    found = case.expected[path[0]]
    return np.abs(case.array(found[path[1]] if len(path) == 2 else found))


def first_entry_shifted(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[0] += 1e-6 * max(1.0, np.abs(values).max())  # of the largest, as deviations are measured
    return values


@pytest.mark.parametrize("name", IN_DOUBLE)
def test_a_change_of_1e_6_fails(name):
    case = load_case(*BY_NAME[name])
    outcome = run_case(case, case.dtype)
    assert not discrepancies(case, outcome, tolerance(case, case.dtype))
    for path in expected_values(case):
        wrong = altered(case, path, first_entry_shifted)
        assert discrepancies(wrong, outcome, tolerance(case, case.dtype)), path
        if value(case, path).max() > 1e-5:  # what is zero cannot be wrong by a factor
            wrong = altered(case, path, lambda values: values * (1 + 1e-6))
            assert discrepancies(wrong, outcome, tolerance(case, case.dtype)), path


# What follows needs no file: the comparison itself, on a case made here.


def made_up(expected: Mapping, outcome_changes: Mapping | None = None) -> list[str]:
    case = LossCase(
        {"case": "x-1", "method": "x", "expected": {"loss": 1.0, **expected}}, {}, {"g": np.ones(3)}
    )
    ones = torch.ones(3, dtype=torch.float64)
    outcome = Outcome(torch.tensor(1.0, dtype=torch.float64), {"a": ones[0]}, {"w": ones}, {"s": ones})
    outcome = dataclasses.replace(outcome, **(outcome_changes or {}))
    return discrepancies(case, outcome, tolerance(case, torch.float64))


def test_agreement_has_no_discrepancy():
    assert (
        made_up({"grad": {"w": "g"}, "state": {"s": "g"}, "loss_terms": [1.0], "loss_term_names": ["a"]})
        == []
    )


def test_an_unknown_expectation_is_a_failure():
    assert "'surprise' is not compared" in made_up({"surprise": 1.0})[0]


def test_an_unknown_state_is_a_failure():
    assert "no such value" in made_up({"state": {"other": "g"}})[0]


def test_an_unknown_gradient_is_a_failure():
    assert "no such value" in made_up({"grad": {"other": "g"}})[0]


def test_a_gradient_that_should_not_be_is_a_failure():
    assert "has a gradient" in made_up({"no_grad": ["w"]})[0]
    assert made_up({"no_grad": ["w"]}, {"gradients": {"w": None}}) == []


def test_a_gradient_that_should_be_zero_is_compared_absolutely():
    assert "not zero" in made_up({"zero_grad": ["w"]})[0]
    noise = {"gradients": {"w": torch.full((3,), 3e-13, dtype=torch.float64)}}
    assert made_up({"zero_grad": ["w"]}, noise) == []


def test_wrong_names_shapes_and_infinities_are_failures():
    assert "called" in made_up({"loss_term_names": ["b"]})[0]
    assert "shape" in made_up({"loss_terms": [0.5, 0.5]})[0]
    assert "finite" in made_up({"state": {"s": "g"}}, {"states": {"s": torch.full((3,), torch.nan)}})[0]


@pytest.mark.parametrize("field", ["hyperparameters", "inputs", "parameters"])
def test_an_adapter_refuses_what_it_does_not_know(field):
    entry = {
        "case": "kd-0",
        "method": "kd",
        "hyperparameters": {"temperature": 4.0},
        "inputs": {"student_logits": "zs", "teacher_logits": "zt"},
        "parameters": {},
        "expected": {"loss": 0.0, "grad": {"zs": "zt"}},
    }
    case = LossCase(entry, {}, {"zs": np.zeros((2, 3)), "zt": np.zeros((2, 3))})
    assert discrepancies(case, run_case(case, torch.float64), tolerance(case, torch.float64)) == []
    strange = dataclasses.replace(case, entry={**entry, field: {**entry[field], "unknown": "zs"}})
    with pytest.raises((AssertionError, KeyError), match="unknown"):
        run_case(strange, torch.float64)
