"""Arguments that CRD, WCoRD and CRCD share are one record, and arguments of each constructor as any other."""

from __future__ import annotations

import inspect
import pydoc
import re
import typing

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.losses._parts.contrast_options import ContrastOptions, NoiseContrastOptions

LABELS = torch.arange(20) % 4
SHARED = {"negatives", "momentum", "width", "negatives_from", "bank_precision", "bank_on_host"}
RECORDS = {"crd": NoiseContrastOptions, "wcord": ContrastOptions, "crcd": NoiseContrastOptions}


@pytest.mark.parametrize("name", RECORDS)
def test_shared_arguments_are_parameters_with_types_and_defaults(name):
    kind = get_loss(name)
    parameters = inspect.signature(kind).parameters
    assert parameters.keys() >= SHARED
    assert "options" not in parameters
    assert kind.hyperparameters()["negatives"] == {"crcd": 500}.get(name, 16384)
    assert kind.hyperparameters().get("temperature") == {"crd": 0.07, "crcd": 0.05}.get(name)
    assert typing.get_type_hints(kind.__init__).keys() == parameters.keys() | {"return"}


@pytest.mark.parametrize("name", RECORDS)
def test_help_lists_every_argument_with_its_default_and_its_meaning(name):
    kind = get_loss(name)
    text = pydoc.plain(pydoc.render_doc(kind))
    signature = next(line for line in text.splitlines() if f"{kind.__name__}(student_width" in line)
    for option, default in kind.hyperparameters().items():
        assert re.search(rf"\b{option}: [^=]* = {re.escape(repr(default))}[,)]", signature), option
    arguments = inspect.getdoc(kind).partition("\nArgs:\n")[2].partition("\nRaises:")[0]
    entries = [line.strip().split(":")[0] for line in arguments.splitlines() if line[4:5].strip()]
    assert sorted(entries) == sorted(inspect.signature(kind).parameters)


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_passed_arrives_in_the_record(name):
    options = {"gradient": "none"} if name == "crcd" else {}
    loss = get_loss(name)(5, 7, 20, LABELS, negatives=3, width=4, **options)
    assert type(loss.options) is RECORDS[name]
    assert (loss.options.negatives, loss.options.width, loss.options.momentum) == (3, 4, 0.5)
    assert loss.sampler(torch.tensor([1, 2]), loss.options.negatives).shape == (2, 3)
    with pytest.raises(TypeError, match="flavour"):
        get_loss(name)(5, 7, 20, LABELS, flavour=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("negatives", 0), ("momentum", 1.5), ("width", 0), ("negatives_from", "x"), ("bank_precision", "x")],
)
def test_the_record_refuses_what_is_out_of_range(name, value):
    with pytest.raises(PursuhintError, match=name):
        ContrastOptions(**{name: value})
