"""Losses of one's own in comparisons of hint positions and of methods, and the progress bar."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pursuhint._util import progress_bars
from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.report import write_report
from pursuhint.study import compare, compare_methods
from pursuhint.training import Recipe, RunRecord
from tests.helpers.study_runs import recipe

ARMS = ("alone", "kd", "even")


def squared(student_logits, teacher_logits):
    return F.mse_loss(student_logits, teacher_logits)


@pytest.fixture(scope="module")
def own(data, weights, tmp_path_factory):
    """Attention transfer from Python in place of that of the table, and a function of logits."""
    out = tmp_path_factory.mktemp("own") / "out"
    losses = {"mine": (get_loss("at"), 100.0), "squared": (squared, 0.5)}
    short = recipe(weights, losses={"ce": 1.0})
    return compare(short, out, arms=ARMS, seeds=(0,), data=data, device="cpu", losses=losses)


def run_of(comparison, arm):
    return RunRecord.load_finished(comparison.path / comparison.arm(arm).runs[0].folder)


def trained(record):
    return nn.utils.parameters_to_vector(record.load_student().parameters())


def test_every_arm_has_those_that_it_can_have(own):
    losses = {arm: set(run_of(own, arm).recipe.losses) for arm in ARMS}
    assert losses == {
        "alone": {"ce"},
        "kd": {"ce", "python:squared"},
        "even": {"ce", "python:mine", "python:squared"},
    }
    assert run_of(own, "alone").recipe.passed == ()
    assert run_of(own, "kd").recipe.passed == (f"loss squared {__name__}.squared",)
    assert "python:mine" in write_report(own.path).read_text()


def test_they_train_as_those_of_the_table_do(own, data, weights, tmp_path):
    table = compare(
        recipe(weights, losses={"ce": 1.0, "at": 100.0}),
        tmp_path / "table",
        arms=("alone", "even"),
        seeds=(0,),
        data=data,
        device="cpu",
        losses={"squared": (squared, 0.5)},
    )
    for arm in ("alone", "even"):
        assert torch.equal(trained(run_of(table, arm)), trained(run_of(own, arm)))


def test_it_continues_with_the_same_losses_alone(own, data, weights):
    again = {"arms": ARMS, "seeds": (0,), "data": data, "device": "cpu"}
    with pytest.raises(PursuhintError, match="no loss looks at it"):
        compare(recipe(weights, losses={"ce": 1.0}), own.path, **again)
    losses = {"mine": (get_loss("at"), 100.0), "squared": (squared, 0.25)}
    with pytest.raises(PursuhintError, match=r"losses\.python:squared\.weight is 0\.5 there and 0\.25 here"):
        compare(recipe(weights, losses={"ce": 1.0}), own.path, **again, losses=losses)


METHODS = {"mine": (get_loss("at"), 100.0), "squared": squared}


@pytest.fixture(scope="module")
def methods(data, weights, tmp_path_factory):
    """Attention transfer from Python beside that of the table, a function of logits alone and with KD."""
    out = tmp_path_factory.mktemp("methods") / "out"
    asked = ("at=100", "mine", "mine=50", "kd+squared=0.5")
    short = recipe(weights, losses={})
    return compare_methods(short, out, methods=asked, seeds=(0,), data=data, device="cpu", losses=METHODS)


def test_losses_of_ones_own_are_methods(methods):
    titles = {method.name: method.title for method in methods.methods}
    assert titles == {
        "alone": "student alone", "at=100": "AT", "mine": "mine", "mine=50": "mine",
        "kd+squared=0.5": "KD + squared",
    }  # fmt: skip
    runs = {m.name: RunRecord.load_finished(methods.path / m.runs[0].folder) for m in methods.methods}
    weights = {
        name: {key: term.weight for key, term in run.recipe.losses.items()} for name, run in runs.items()
    }
    assert weights["mine"] == {"ce": 1.0, "python:mine": 100.0}
    assert weights["mine=50"] == {"ce": 1.0, "python:mine": 50.0}
    assert weights["kd+squared=0.5"]["python:squared"] == 0.5
    assert runs["alone"].recipe.passed == runs["at=100"].recipe.passed == ()
    assert torch.equal(trained(runs["mine"]), trained(runs["at=100"]))
    assert not torch.equal(trained(runs["mine=50"]), trained(runs["mine"]))
    page = write_report(methods.path).read_text()
    assert "KD + squared" in page
    assert "losses=losses" in page


def test_a_loss_that_no_method_names_is_a_method(data, weights, tmp_path):
    more = {"seeds": (0,), "data": data, "device": "cpu", "losses": METHODS}
    found = compare_methods(recipe(weights, losses={}), tmp_path / "a", methods=("mine",), **more)
    assert [method.name for method in found.methods] == ["alone", "mine", "squared"]
    changed = {**METHODS, "mine": (get_loss("at"), 50.0)}
    with pytest.raises(PursuhintError, match="weight of the loss mine has changed"):
        compare_methods(
            recipe(weights, losses={}), tmp_path / "a", methods=("mine",), **{**more, "losses": changed}
        )
    stored = Recipe.load(tmp_path / "a" / "recipe.yaml")
    with pytest.raises(PursuhintError, match="pass them again"):
        compare_methods(stored, tmp_path / "b", methods=("kd",), data=data)
    for losses, message in (
        ({"kd": squared}, "the table has one of that name"),
        ({"a+b": squared}, "methods join names by"),
        ({"a": 3}, "must be a pursuhint.losses.Loss"),
    ):
        with pytest.raises(PursuhintError, match=message):
            compare_methods(
                recipe(weights, losses={}), tmp_path / "b", methods=("kd",), data=data, losses=losses
            )
    with pytest.raises(PursuhintError, match="has its options there"):
        compare_methods(
            recipe(weights, losses={}), tmp_path / "b", methods=("mine:p=1",), data=data, losses=METHODS
        )


def test_a_bar_shows_the_students_of_a_seed_and_a_line_every_run(own, data, weights, monkeypatch):
    calls = []

    class Bar:
        def __getattr__(self, name):
            return lambda *words: calls.append((name, *words))

    monkeypatch.setattr(progress_bars, "_bar", Bar)
    short = recipe(weights, losses={"ce": 1.0})
    losses = {"mine": (get_loss("at"), 100.0), "squared": (squared, 0.5)}
    again = {"arms": ARMS, "seeds": (0, 1), "data": data, "device": "cpu", "losses": losses}
    more = compare(short, own.path, **again, progress=True)
    (begun,) = [call for call in calls if call[0] == "begin"]
    assert begun == ("begin", "3 students, seed 1 (3 of 6 runs finished)", 2)
    assert [call[1] for call in calls if call[0] == "show"] == [1, 2]
    lines = [call[1] for call in calls if call[0] == "line"]
    top1 = more.arm("even").runs[1].last_top1
    assert lines[-1] == f"6 of 6: even, seed 1: test top-1 {top1:.2f} %"
    assert calls[-1] == ("close",)
    calls.clear()
    compare(short, own.path, **again, progress=False)
    assert not calls
