"""The options on images decide what a network sees, and results say what that was."""

from __future__ import annotations

import dataclasses
import json
import warnings

import pytest
import torch

from pursuhint.analysis import Analysis, analyze
from pursuhint.data import load_dataset, make_loader
from pursuhint.data.preprocessing import IMAGENET, Normalization, Preprocessing
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights
from pursuhint.models.normalization import convert_images
from pursuhint.study.facts import DataFacts
from pursuhint.training import Recipe, evaluate, train

HALF = Normalization((0.5,), (0.25,), "half")


@pytest.mark.parametrize(
    ("typed", "constants"), [("imagenet", IMAGENET), ("0.5/0.25", HALF), ("data", None), (None, None)]
)
def test_evaluate_normalises_as_asked_for(pursuhint, teacher_file, typed, constants):
    options = () if typed is None else ("--image-normalize", typed)
    words = ("--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--data", "digits", *options)
    done = pursuhint("evaluate", *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    data = load_dataset("digits")
    data = data if constants is None else data.normalized_with(constants)
    network = create_model("resnet8", num_classes=10, in_channels=1)
    load_weights(network, teacher_file)
    expected = evaluate(network, make_loader(data, "test", batch_size=256, training=False))
    assert found["loss"] == pytest.approx(expected.loss)
    assert found["preprocessing"]["mean"] == list(data.mean)
    assert f"mean {data.mean[0]:.4g}" in pursuhint("evaluate", *words).stderr


@pytest.mark.parametrize("typed", ["0.5", "0.5/0", "0.5,0.5/0.1", "a/b", "nan/1", "grey"])
def test_other_constants_are_refused(pursuhint, teacher_file, typed):
    words = ("--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--image-normalize", typed)
    done = pursuhint("evaluate", *words)
    assert done.returncode == 2
    assert "is neither data, imagenet nor model" in done.stderr


def test_an_analysis_and_its_report_say_what_the_network_saw(pursuhint, teacher_file, tmp_path):
    out = tmp_path / "analysis"
    words = ("--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--data", "digits")
    done = pursuhint(
        "analyze",
        *words,
        "--image-size",
        "12x10",
        "--image-normalize",
        "0.5/0.25",
        "--samples",
        50,
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    stored = json.loads((out / "analysis.json").read_text())["provenance"]["preprocessing"]
    assert (stored["mean"], stored["std"], stored["size"]) == ([0.5], [0.25], [12, 10])
    record = Analysis.load(out).provenance.preprocessing
    assert record == Preprocessing.from_dict(stored)
    assert record.line() in done.stderr
    assert record.line().removeprefix("images: ") in (out / "report.html").read_text()


def test_a_conversion_of_the_network_is_in_the_records():
    data = load_dataset("digits")
    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=10, in_channels=1)
    assert DataFacts.of(data, network).teacher_normalization is None
    assert DataFacts.of(data, None).preprocessing == data.preprocessing
    convert_images(network, Normalization(data.mean, data.std, "the data"), HALF)
    assert DataFacts.of(data, network).teacher_normalization == HALF
    found = analyze(network, data, samples=50, device="cpu")
    assert (found.provenance.preprocessing.mean, found.provenance.preprocessing.std) == (HALF.mean, HALF.std)


def test_the_report_of_a_run_says_it(tmp_path, pursuhint):
    recipe = Recipe.from_dict({"student": "resnet8", "losses": {"ce": 1}, "epochs": 1})
    run = train(recipe.override(["data.normalize=imagenet"]), tmp_path / "run", device="cpu")
    assert pursuhint("report", run.path).returncode == 0
    line = run.load_data().preprocessing.line().removeprefix("images: ")
    assert line.partition(" (from")[0] in (run.path / "report.html").read_text()


def test_python_is_warned_of_a_network_that_expects_other_images():
    """The command line normalises as the network expects; from Python the data keep their constants."""
    data = load_dataset("digits")
    network = create_model("resnet8", num_classes=10, in_channels=1)

    def messages(images, network):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            analyze(network, images, samples=50, device="cpu")
        return [str(one.message) for one in caught if "normalised with" in str(one.message)]

    assert messages(data, network) == []  # it expects nothing
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    assert len(messages(data, network)) == 1
    assert messages(dataclasses.replace(data, mean=(0.5,), std=(0.25,)), network) == []
    assert messages(data.normalized_with(IMAGENET), network) == []  # asked for
    convert_images(network, Normalization(data.mean, data.std, "the data"), HALF)
    assert messages(data, network) == []


def test_a_teacher_of_other_channels_is_told_apart_and_has_a_way_through(tmp_path):
    teacher = create_model("resnet8", num_classes=10, in_channels=3)
    settings = {"student": "resnet8", "losses": {"kd": 1, "at": 1}, "epochs": 1}
    with pytest.raises(PursuhintError, match=r"data.channels: 3\) converts the images"):
        train(
            Recipe.from_dict({**settings, "data": "digits"}), tmp_path / "run", teacher=teacher, device="cpu"
        )
    converted = Recipe.from_dict({**settings, "data": {"name": "digits", "channels": 3}})
    run = train(converted, tmp_path / "run", teacher=teacher, device="cpu")
    assert run.environment["data"]["in_channels"] == 3
    assert run.load_data().in_channels == 3
