"""Something else where a network, data or recipe is expected ends in one line that says so."""

from __future__ import annotations

import pytest
import torch

import pursuhint
from pursuhint.data import load_dataset, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.study import compare_methods
from pursuhint.training import Inputs, Recipe, evaluate, train

NETWORK = create_model("resnet8", num_classes=10, in_channels=1)
DIGITS = load_dataset("digits")
RECIPE = Recipe.from_dict({"student": "resnet8", "losses": {"ce": 1}, "epochs": 1})
BATCHES = make_loader(DIGITS, "test", batch_size=100, training=False)

CALLS = {
    "analyze a name": lambda _: pursuhint.analyze("resnet8", DIGITS),
    "analyze a class": lambda _: pursuhint.analyze(type(NETWORK), DIGITS),
    "analyze on a name": lambda _: pursuhint.analyze(NETWORK, "digits"),
    "analyze on a dict": lambda _: pursuhint.analyze(NETWORK, {"train": 1}),
    "analyze on batches": lambda _: pursuhint.analyze(NETWORK, BATCHES),
    "compare networks by name": lambda _: pursuhint.compare_networks(NETWORK, "resnet8", DIGITS),
    "train a dict": lambda out: train({"student": "resnet8"}, out),
    "train a name": lambda out: train("digits-vanilla", out),
    "train with the name of a teacher": lambda out: train(RECIPE, out, teacher="resnet8"),
    "train on a name": lambda out: train(RECIPE, out, data="digits"),
    "train the name of a student": lambda out: train(RECIPE, out, student="resnet8"),
    "train with the file of a plan": lambda out: train(RECIPE, out, plan="hints.json"),
    "compare a dict": lambda out: pursuhint.compare({"student": "resnet8"}, out),
    "compare methods of a dict": lambda out: compare_methods({"student": "resnet8"}, out),
    "evaluate a name": lambda _: evaluate("resnet8", BATCHES),
    "evaluate on a name": lambda _: evaluate(NETWORK, "digits"),
    "batches of a name": lambda _: make_loader("digits", "train", batch_size=4, training=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_another_type_is_one_line(name, tmp_path):
    with pytest.raises(PursuhintError, match="must be of type") as caught:
        CALLS[name](tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)  # what to do
    assert not (tmp_path / "out").exists()


def test_what_is_expected_is_taken():
    assert Inputs(student=NETWORK, teacher=torch.nn.Linear(2, 2), data=DIGITS).data is DIGITS
    assert evaluate(NETWORK, BATCHES).count == len(DIGITS.test)
