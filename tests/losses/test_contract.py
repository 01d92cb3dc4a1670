"""What holds for every loss in the table: the shipped contract, and what this house asks beyond it."""

from __future__ import annotations

import inspect
import re

import pytest
import torch

from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import Loss
from pursuhint.losses.context import LossContext
from pursuhint.testing import loss_setting
from pursuhint.testing.loss_contract import CHECKS, LossCase
from pursuhint.testing.loss_setting import STUDENT

SMALLER = {  # than for real data, as everything here is
    **{name: {"negatives": 20} for name in ("crd", "crcd", "wcord")},
    "rrd": {"queue_size": 25},
}
CONSTANTS = {"wcord": ("transport.plan",), "ipwd": ("weights",), "wsld": ("weights",)}


def build(name: str, context: LossContext | None = None, **hyperparameters) -> Loss:
    """A loss with what it needs around it."""
    return loss_setting.build_loss(get_loss(name), context, **{**SMALLER.get(name, {}), **hyperparameters})


def make_context(name: str = "", student: tuple = STUDENT) -> LossContext:
    """What a loss is built from."""
    at_last_map = bool(name) and get_loss(name).info.at_last_map
    return loss_setting.make_context(at_last_map=at_last_map, student=student)


KEPT = [
    pytest.param(check, name, id=f"{check}-{name}")
    for check in CHECKS
    for name in LOSSES
    if check != "second view" or get_loss(name).info.sees_second_view
]


@pytest.mark.parametrize(("check", "name"), KEPT)
def test_keeps_the_contract(name, check):
    torch.manual_seed(0)
    CHECKS[check](LossCase(get_loss(name), SMALLER.get(name, {}), CONSTANTS.get(name, ())))


@pytest.mark.parametrize("name", LOSSES)
def test_cites_its_source(name):
    kind = get_loss(name)
    assert re.search(r"Reference: .*\b(19|20)\d\d\b", inspect.getdoc(kind), re.DOTALL)
    assert re.search(r"\b(19|20)\d\d\b", kind.info.paper)


@pytest.mark.parametrize("name", LOSSES)
def test_documents_formula_and_every_argument(name):
    kind = get_loss(name)
    docstring = inspect.getdoc(kind)
    assert ".. math:: " in docstring
    arguments = docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
    described = re.findall(r"(?m)^    (\w+): \S", arguments)
    taken = list(inspect.signature(kind).parameters) if "__init__" in vars(kind) else []
    assert sorted(described) == sorted(taken)
    example = docstring.partition("\nExample:\n")[2]
    assert ">>> " in example
    if kind.hyperparameters():
        assert "\nRaises:\n    PursuhintError: " in docstring
    computing = kind.forward if kind.terms is Loss.terms else kind.terms
    inputs = re.findall(r"(?m)^    \*?(\w+): \S", inspect.getdoc(computing).partition("Returns:")[0])
    assert inputs == [entry for entry in inspect.signature(computing).parameters if entry != "self"]


def test_few_losses_depend_on_the_order_of_the_samples():
    assert [name for name in LOSSES if LossCase(get_loss(name)).in_order] == ["semckd", "cc"]
