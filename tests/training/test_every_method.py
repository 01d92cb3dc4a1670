"""Every method trains a student from the command line: stages, resume, the exported student, its accuracy."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pursuhint.cli import progress
from pursuhint.cli.main import main

from pursuhint.data import digits
from pursuhint.losses import LOSSES, get_loss
from pursuhint.models import create_model
from pursuhint.models.checkpoint import read_state_dict
from pursuhint.training import RunRecord

# What makes a method short enough for a test, as it is typed behind its name.
SHORT = {
    "fitnet": ":two_stages=true,warm_up_epochs=1",
    "ab": ":warm_up_epochs=1",
    "fsp": ":warm_up_epochs=1",
    "ft": ":warm_up_epochs=1",
    "refilled": ":matching_epochs=1",
    "crd": ":negatives=32",
    "wcord": ":negatives=32",
    "crcd": ":negatives=32",
    "rrd": ":queue_size=256",
}
WARM_UPS = {
    "fitnet": "hint",
    "ab": "initialisation",
    "fsp": "initialisation",
    "ft": "paraphraser",
    "refilled": "matching",
}
BEFORE_ACTIVATION = ("ofd",)  # which reads the batch norms there
LOGGED = {  # beside what is logged of every method: at its first epoch, at its last
    "ipwd": ({"train_ipwd_median_weight"}, {"test_ipwd_kd_top1", "val_ipwd_kd_top1"}),
    "refilled": ({"train_refilled_comparisons"}, set()),
}
THROUGH_A_PROCESS = ("simkd",)  # whose student is altered


def pursuhint(*words: Any) -> str:
    """Run a command in this process; what it wrote to stdout."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def few_digits():
    """A third of the digits, 100 of them to test."""
    images, labels = digits._read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "_read", lambda: (images[:600], labels[:600]))
        patch.setattr(digits, "TEST_SAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """Weights of a teacher of another family than the student, twice as wide."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    short = ("--val-fraction", 0.2, "--epochs", 1, "--quiet", "--no-report")
    pursuhint("train", "--student", "wrn_10_2", *short, "--out", run)
    return run / "student.safetensors"


def command(losses: Sequence[str], teacher: Path, out: Path) -> list[Any]:
    words: list[Any] = ["train", "--student", "resnet8", "--data", "digits"]
    words += ["--train-samples", 216, "--val-fraction", 0.1]
    words += ["--epochs", 2, "--batch-size", 64, "--out", out, "--quiet", "--json", "--no-report"]
    for loss in losses:
        words += ["--loss", loss]
    methods = [loss.partition("=")[0].partition(":")[0] for loss in losses]
    if any(get_loss(method).info.needs_teacher for method in methods):
        words += ["--teacher", "wrn_10_2", "--teacher-checkpoint", teacher]
    if set(methods) & set(BEFORE_ACTIVATION):
        words += ["--set", "hints.activation=pre"]
    return words


@pytest.fixture
def cut_short(monkeypatch, tmp_path) -> Path:
    """What a crash after the first epoch of the run in ``tmp_path/run`` would have left."""
    copy = tmp_path / "cut-short"

    class Watching(progress.TrainingProgress):
        def __call__(self, event: Any) -> None:
            if type(event).__name__ == "EpochFinished" and not copy.exists():
                shutil.copytree(tmp_path / "run", copy)

    monkeypatch.setattr(progress, "TrainingProgress", Watching)
    return copy


@pytest.mark.parametrize("method", LOSSES)
def test_trains_resumes_and_evaluates(method, teacher, cut_short, tmp_path):
    run = tmp_path / "run"
    last = json.loads(pursuhint(*command([method + SHORT.get(method, "")], teacher, run)))["last"]
    record = RunRecord.load(run)
    stages = [line["stage"] for line in record.metrics]
    warm_up = [f"{method}:{WARM_UPS[method]}"] if method in WARM_UPS else []
    assert stages == [*warm_up, "main", "main"]
    for line in record.metrics:
        assert all(math.isfinite(value) for key, value in line.items() if key != "stage")
    assert record.recipe.losses[method].weight == get_loss(method).info.default_weight
    for line, names in zip((record.metrics[0], record.metrics[-1]), LOGGED.get(method, ())):
        assert names <= line.keys()

    pursuhint(*command([method + SHORT.get(method, "")], teacher, cut_short))
    for name in ("student.safetensors", "best.safetensors"):
        assert (cut_short / name).read_bytes() == (run / name).read_bytes()

    evaluated = json.loads(pursuhint("evaluate", run, "--json"))
    assert (evaluated["top1"], evaluated["loss"]) == (last["test_top1"], last["test_loss"])
    if method != "simkd":
        plain = create_model("resnet8", num_classes=10, in_channels=1).state_dict()
        kept = read_state_dict(run / "student.safetensors")
        assert {name: tensor.shape for name, tensor in kept.items()} == {
            name: tensor.shape for name, tensor in plain.items()
        }


@pytest.mark.parametrize("method", THROUGH_A_PROCESS)
def test_trains_as_a_process(method, teacher, process, tmp_path):
    done = process(*command([method + SHORT.get(method, "")], teacher, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout)["last"]
    again = process("evaluate", tmp_path / "run", "--json")  # on all digits, as it was trained
    assert json.loads(again.stdout)["top1"] == last["test_top1"]


@pytest.mark.parametrize(
    ("losses", "weights"),
    [
        (["crd:negatives=32", "at=1000", "kd=0.9"], {"ce": 1, "crd": 0.8, "at": 1000, "kd": 0.9}),
        (["wsld", "at=500:p=1"], {"wsld": 1, "at": 500}),
        (["norm", "crd:negatives=32"], {"ce": 0.1, "norm": 1, "crd": 0.8}),
        (["ce=0.5", "simkd", "rkd"], {"ce": 0.5, "simkd": 1, "rkd": 1}),
        (
            ["ft:warm_up_epochs=1", "ab:warm_up_epochs=1", "reviewkd"],
            {"ce": 1, "ft": 200, "ab": 1, "reviewkd": 5},
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_losses_combine_on_the_command_line(losses, weights, teacher, tmp_path):
    last = json.loads(pursuhint(*command(losses, teacher, tmp_path / "run")))["last"]
    record = RunRecord.load(tmp_path / "run")
    assert {name: config.weight for name, config in record.recipe.losses.items()} == weights
    main = [name for name in weights if not get_loss(name).info.warm_up_only]
    total = sum(weights[name] * last[f"train_{name}"] for name in main)
    assert last["train_loss"] == pytest.approx(total, rel=1e-4)
    assert json.loads(pursuhint("evaluate", tmp_path / "run", "--json"))["top1"] == last["test_top1"]
