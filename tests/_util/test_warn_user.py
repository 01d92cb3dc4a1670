"""Warnings name the line that called, however deep in the package they begin."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch

import pursuhint
from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintWarning
from pursuhint.models import create_model


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    """Floating-point images: a warning says that their normalization is not known."""
    labels = np.arange(40) % 4
    return np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32), labels


def _called() -> int:
    """The number of the line that calls this function."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


@pytest.mark.parametrize("issue", [warn_user, torch.no_grad()(warn_user)], ids=["plain", "decorated"])
def test_the_line_is_that_of_the_caller(issue):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        line = issue("text") or _called()
    assert [(entry.filename, entry.lineno) for entry in found] == [(__file__, line)]


def test_the_line_is_that_of_the_caller_of_an_analysis():
    network = create_model("resnet8", num_classes=4, in_channels=1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        how = {"metrics": ["r2cca"], "samples": 40, "progress": False}
        line = pursuhint.analyze(network, _arrays(), **how) and _called()
    assert {entry.category for entry in found} == {PursuhintWarning}
    assert {(entry.filename, entry.lineno) for entry in found} == {(__file__, line)}
    assert len(found) > 1  # of the data, of the teacher, and of too few images


def test_a_text_is_given_once_a_line():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for _ in range(3):
            warn_user("again")
        warn_user("again")
    assert len(found) == 2
