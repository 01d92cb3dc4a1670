"""Two processes with half of every batch each train the student that one would have trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pursuhint.data import make_loader
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights, read_state_dict
from pursuhint.models.evaluation import evaluate
from pursuhint.training.run_folder.image_hits import load_hits
from pursuhint.training.sync_batchnorm import SynchronizedBatchNorm, synchronize_batchnorms
from tests.helpers import processes
from tests.helpers.interrupted_runs import hints_of
from tests.helpers.two_processes import RUNS, WITHOUT_NORMS, odd_digits, run, work

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    processes.spawn(work, folder, processes=2)
    return folder


@pytest.fixture(scope="module")
def found(together) -> list[dict]:
    return [torch.load(together / f"found-{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", [*WITHOUT_NORMS, "synchronised"])
def test_the_student_is_that_of_one_process(together, found, tmp_path, name):
    record = run(name, tmp_path, alone=True)
    alone = read_state_dict(record.path / "student.safetensors")
    ours = read_state_dict(together / name / "student.safetensors")
    for key, tensor in alone.items():
        torch.testing.assert_close(ours[key], tensor, rtol=1e-4, atol=1e-5)
    for line, expected in zip(found[0][name][1], record.metrics, strict=True):
        # A curriculum looks at the samples of one process.
        for key in line.keys() - {"seconds", "samples_per_second", "stage", "train_at_similarity"}:
            assert line[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-5), key
    assert (together / name / "hints.json").exists() == (record.path / "hints.json").exists()
    if record.plan is not None:
        assert hints_of(together / name) == hints_of(record.path)


def test_both_processes_go_back_to_the_best_student(found):
    kept = [[line.get("kept_epoch") for line in part["best kept"][1]] for part in found]
    assert kept == [[None, 1, None]] * 2


def test_both_processes_report_the_same_and_one_writes(together, found):
    for name in RUNS:
        assert [part[name][0] for part in found] == [True, False]
        assert found[0][name][1] == found[1][name][1]
        lines = (together / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == list(found[0][name][1])


@pytest.mark.parametrize("name", ["apart", "synchronised"])
def test_evaluation_is_that_of_the_kept_student_with_every_sample_once(together, found, name):
    student = create_model("resnet8", num_classes=10, in_channels=1)
    load_weights(student, together / name / "student.safetensors")
    loader = make_loader(odd_digits(), "test", batch_size=64, training=False)
    result, last = evaluate(student, loader), found[0][name][1][-1]
    assert result.count == 101
    assert last["test_top1"] == pytest.approx(result.top1)
    assert last["test_loss"] == pytest.approx(result.loss, rel=1e-5)
    assert load_hits(together / name).tolist() == result.hits.tolist()  # both shares, in the split's order


def test_each_process_holds_its_share_of_a_teacher_that_sees_the_same(found):
    for precision, tolerance in (("float32", 1e-5), ("bf16", 0.03)):
        whole, *shares = (found[0]["shares"][precision][0], *(part["shares"][precision][1] for part in found))
        assert sum(shares) == whole
        assert max(shares) < 0.6 * whole
        assert all(part["shares"][precision][2] < tolerance for part in found)


def test_a_signal_to_one_process_stops_both_at_the_same_step(together, found):
    for status, message, resumed in (part["stopped"] for part in found):
        assert status == 143
        assert "after step 10 of 13 of epoch 1" in message
        assert resumed == [(0, 10)]
    weights = [(together / name / "student.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


def test_a_state_of_two_processes_needs_two(together, tmp_path):
    (together / "whole" / "result.json").rename(tmp_path / "result.json")
    try:
        with pytest.raises(PursuhintError, match="is of 2 processes, and here are 1; resume with as many"):
            run("whole", together)
    finally:
        (tmp_path / "result.json").rename(together / "whole" / "result.json")


def test_launched_by_accelerate(tmp_path):
    """Rank 0 alone writes the folder and the result; the command is that of one process."""
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    command = "train --student resnet8 --data digits --train-samples 200 --epochs 1 --no-report --json"
    command += " --device cpu --out"
    done = processes.finished("-m", *launch, "-m", "pursuhint", *command.split(), tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["last"]["epoch"] == 1
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert done.stderr.count("epoch 1 of 1") == 1


class TestSynchronizedBatchNorm:
    def test_alone_is_an_ordinary_batch_norm(self):
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        images = torch.randn(5, 3, 6, 6)
        expected = plain(images)
        statistics = plain[1].running_mean.clone()
        plain[1].reset_running_stats()
        weight = plain[1].weight
        synchronize_batchnorms(plain, torch.device("cpu"))
        assert isinstance(plain[1], SynchronizedBatchNorm)
        assert plain[1].weight is weight
        torch.testing.assert_close(plain(images), expected)
        torch.testing.assert_close(plain[1].running_mean, statistics)
