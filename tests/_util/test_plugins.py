"""Losses, metrics, data sets and networks that other distributions register through entry points."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from click.testing import CliRunner

from cli.main import main
from pursuhint._util.registry import plugins
from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.models import create_model
from pursuhint.similarity import get_metric
from pursuhint.training import Recipe

CODE = """
import torch
from torch import nn
from pursuhint.data import load_dataset
from pursuhint.losses import LogitLoss
from pursuhint.similarity import get_metric

class LogCosh(LogitLoss):
    info = LogitLoss.info.replace(title="log-cosh")

metric = get_metric("cka")

def network(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))

def data(root, *, download):
    return load_dataset("digits")

def nothing(root, *, download):
    return None

number = 3
"""

ENTRY_POINTS = """
[pursuhint.losses]
log-cosh = {module}:LogCosh
no-class = {module}:number
missing = {module}:Missing
[pursuhint.metrics]
other-cka = {module}:metric
no-metric = {module}:number
[pursuhint.datasets]
small-digits = {module}:data
no-data = {module}:nothing
[pursuhint.models]
tiny = {module}:network [extra]
tiny.v2 = {module}:network
"""


def distribution(folder, name, entry_points):
    """What installing a distribution leaves behind, as far as entry points go."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with a name of each kind; the name of its module."""
    module = f"code_of_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(CODE)
    distribution(tmp_path, "outside", ENTRY_POINTS.format(module=module))
    monkeypatch.syspath_prepend(tmp_path)
    yield module
    sys.modules.pop(module, None)


def test_each_kind_is_found_by_name(installed):
    assert get_loss("log-cosh").__module__ == installed
    assert get_metric("other-cka") is get_metric("cka")
    assert len(load_dataset("small-digits").train) == len(load_dataset("digits").train)
    assert create_model("tiny", num_classes=7)(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert create_model("tiny", num_classes=7, width=5)[1].out_features == 5
    assert create_model("tiny.v2", num_classes=7)[2].out_features == 7


def test_listing_and_checking_names_imports_nothing_of_them(installed):
    assert [plugin.name for plugin in plugins("loss")] == ["log-cosh", "missing", "no-class"]
    for kind, name in (
        ("losses", "log-cosh"),
        ("metrics", "other-cka"),
        ("datasets", "small-digits"),
        ("models", "tiny"),
    ):
        for more in ([], ["--verbose"]):
            rows = json.loads(CliRunner().invoke(main, ["list", kind, "--json", *more]).stdout)
            assert {"name": name, "from": "outside 1.2"} in rows
        lines = CliRunner().invoke(main, ["list", kind]).stdout.splitlines()
        assert any(line.split() == [name, "from:", "outside", "1.2"] for line in lines)
    hints = {"metric": "other-cka"}
    recipe = {"student": "resnet8", "teacher": "resnet14", "hints": hints, "losses": {"log-cosh": {}}}
    assert list(Recipe.from_dict(recipe).losses) == ["log-cosh"]
    assert installed not in sys.modules


def test_close_names_are_suggested(installed):
    with pytest.raises(PursuhintError, match="no loss named 'logcosh'; did you mean 'log-cosh'"):
        get_loss("logcosh")
    with pytest.raises(PursuhintError, match="no network named 'tinny'; did you mean 'tiny'"):
        create_model("tinny", num_classes=2)
    with pytest.raises(PursuhintError, match="no loss named 'logcosh'; did you mean 'log-cosh'"):
        Recipe.from_dict({"student": "resnet8", "losses": {"logcosh": {}}})


def test_what_is_registered_must_be_of_its_kind(installed):
    with pytest.raises(PursuhintError, match=r"loss 'no-class' must be a subclass of .*\.Loss, got 3"):
        get_loss("no-class")
    with pytest.raises(PursuhintError, match=r"metric 'no-metric' must be a .*\.Metric, got 3"):
        get_metric("no-metric")
    with pytest.raises(PursuhintError, match=r"'no-data' must be a function .* returned a NoneType"):
        load_dataset("no-data")
    with pytest.raises(
        PursuhintError, match=rf"loss 'missing' of outside 1\.2 \({installed}:Missing\) cannot be imported: "
    ):
        get_loss("missing")


@pytest.mark.parametrize("name", ["kd", "KD"])
def test_a_built_in_name_cannot_be_replaced(tmp_path, monkeypatch, name):
    own = get_loss("kd")
    distribution(tmp_path, "greedy", f"[pursuhint.losses]\n{name} = code:Loss\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        for asked in ("kd", name):
            with pytest.raises(
                PursuhintError, match=f"loss 'kd' is built in, and greedy 1.2 .* '{name}'; rename"
            ):
                get_loss(asked)
        assert get_loss("at").__name__ == LOSSES["at"].partition(":")[2], "other names are not concerned"
        rows = json.loads(CliRunner().invoke(main, ["list", "losses", "--json"]).stdout)
        assert {"name": name, "from": "greedy 1.2", "problem": "a built-in has this name"} in rows
    assert get_loss("kd") is own


def test_two_distributions_with_one_name_are_an_error(installed, tmp_path):
    distribution(tmp_path, "second", "[pursuhint.losses]\nlog-cosh = code:Loss\n")
    with pytest.raises(PursuhintError, match=r"'log-cosh' is registered by outside 1\.2 and second 1\.2"):
        get_loss("log-cosh")
