"""points, analyze and select."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from pursuhint.models import create_model


def test_points_lists_positions_and_marks_the_conventional_ones(pursuhint):
    done = pursuhint("points", "resnet110", "--size", "32")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("54 sub-blocks of resnet110")
    assert [line.split()[0] for line in lines if "*" in line.split()[0]] == ["18*", "36*", "54*"]
    rows = json.loads(pursuhint("points", "resnet110", "--size", "32", "--json").stdout)
    assert [row["position"] for row in rows if row["conventional"]] == [18, 36, 54]


def test_points_marks_and_writes_the_points_of_a_rule(pursuhint, tmp_path):
    out = tmp_path / "hints.json"
    done = pursuhint("points", "resnet110", "--size", "32", "--rule", "published", "--out", out)
    assert done.returncode == 0, done.stderr
    marked = [line.split()[0] for line in done.stdout.splitlines()[2:] if "+" in line.split()[0]]
    assert marked == ["7+", "29+", "49+"]
    plan = json.loads(out.read_text())
    assert [pair["teacher"]["position"] for pair in plan["pairs"]] == [7, 29, 49]
    even = pursuhint("points", "resnet8", "--size", "8", "--rule", "even", "--k", "2", "--json")
    assert [row["position"] for row in json.loads(even.stdout) if row["chosen"]] == [1, 3]
    assert "there are some for" in pursuhint("points", "resnet8", "--size", "8", "--rule", "published").stderr


def test_analyze_then_select(pursuhint, teacher_file, tmp_path):
    out = tmp_path / "analysis"
    done = pursuhint(
        "analyze", "--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--samples", "150",
        "--metric", "cka", "--metric", "r2cca", "--k", "2", "--set", "acceleration.fuse_batchnorm=false",
        "--out", out, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["samples"] == 150
    agreement = found["agreement_of_ways"]
    assert agreement["agreement"].keys() == {str(position) for position in found["hint_positions"]}
    assert all(0 < share <= 1 for share in agreement["agreement"].values())
    assert found["too_few_samples"] == {}
    assert len(found["hint_positions"]) == 2
    assert set(found["clusterings"]) == {"cka", "r2cca"}
    assert "report.html" in done.stderr
    written = json.loads((out / "hints.json").read_text())
    assert written["schema"] == 1
    stored = json.loads((out / "analysis.json").read_text())
    assert stored["seconds"]["collect"] > 0
    assert stored["provenance"]["arguments"]["fuse_batchnorm"] is False
    again = pursuhint(
        "select", out, "--k", "3", "--position", "last", "--out", tmp_path / "three.json", "--json"
    )
    assert again.returncode == 0, again.stderr
    assert [point["position"] for point in json.loads(again.stdout)["hint_points"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("analyze", "--teacher", "resnt8"), "no network named 'resnt8'; did you mean 'resnet8'"),
        (
            ("analyze", "--teacher", "resnet8", "--data", "cifar1000"),
            "no data set named 'cifar1000'; did you mean",
        ),
        (
            ("analyze", "--teacher", "resnet8", "--metric", "ckaa"),
            "no metric named 'ckaa'; did you mean 'cka'",
        ),
        (
            ("analyze", "--teacher", "resnet8", "--random-weights", "--k", "12"),
            "cannot choose 12 hint points from 3 layers",
        ),
        (("analyze", "--teacher", "resnet8", "--teacher-checkpoint", "gone.pth"), "gone.pth"),
        (
            ("analyze", "--teacher", "resnet8", "--random-weights", "--points", "layer9.*"),
            "'layer9.*' matches no module",
        ),
        (("analyze",), "which network? give --teacher NAME"),
        (
            ("analyze", "--teacher", "resnet8", "--device", "tpu7"),
            "there is no device 'tpu7' here",
        ),
        (
            ("analyze", "--teacher", "resnet8", "--random-weights", "--device", "cpu", "--precision", "fp16"),
            "autocast 'fp16' needs a GPU; use 'bf16'",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(pursuhint, tmp_path, arguments, message):
    out = tmp_path / "out"
    done = pursuhint(*arguments, "--out", out)
    assert done.returncode == 1
    assert message in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("note:")][-1].startswith(
        "pursuhint: "
    )
    assert "Traceback" not in done.stderr
    assert not (out / "analysis.json").exists()


@pytest.mark.filterwarnings("default")
def test_too_few_images_for_r2cca_are_said_before_and_after(pursuhint, teacher_file, tmp_path):
    done = pursuhint(
        "analyze", "--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--samples", "100",
        "--metric", "r2cca", "--out", tmp_path / "here",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mostly chance" in done.stderr
    assert "mostly chance" in done.stdout
    assert "stability under resampling of images was not estimated" in done.stdout
    assert "agreement" not in done.stdout
    assert "mostly chance" in (tmp_path / "here" / "report.html").read_text()


def test_a_better_partition_than_the_chosen_is_said(pursuhint, tmp_path):
    torch.manual_seed(0)
    weights, out = tmp_path / "resnet32.pth", tmp_path / "analysis"
    torch.save(create_model("resnet32", num_classes=10, in_channels=1).state_dict(), weights)
    teacher = ("--teacher", "resnet32", "--teacher-checkpoint", weights)
    assert pursuhint("analyze", *teacher, "--samples", "64", "--no-stability", "--out", out).returncode == 0

    def select(k, algorithm):
        file = tmp_path / "hints.json"
        words = ("--k", str(k), "--algorithm", algorithm, "--out", file, "--overwrite", "--json")
        done = pursuhint("select", out, *words)
        return json.loads(done.stdout)

    named = 0
    for k in (2, 3, 4, 5):
        better = select(k, "kmeans")["agreement_of_ways"]["better_partition"]
        if better is not None:
            again = select(k, better["algorithm"])
            assert [point["position"] for point in again["hint_points"]] == better["positions"]
            assert again["agreement_of_ways"]["better_partition"] is None
            named += 1
    assert named


def test_analyze_as_a_process_from_another_folder(process, tmp_path):
    words = ("--teacher", "resnet8", "--random-weights", "--samples", "64", "--out", "here")
    done = process("analyze", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 layers of resnet8 on 64 images of digits")
    assert "random weights" in done.stderr
    assert (tmp_path / "here" / "report.html").stat().st_size > 10_000


def test_a_part_of_a_checkpoint_is_chosen_and_said(process, tmp_path: Path) -> None:
    """In a process of its own: the note is printed by the entry point."""
    networks = [create_model("resnet8", num_classes=10, in_channels=1).state_dict() for _ in range(2)]
    torch.save({"state_dict": networks[0], "state_dict_ema": networks[1]}, tmp_path / "w.pth")
    command = [
        "evaluate", "--teacher", "resnet8", "--data", "digits", "--device", "cpu",
        "--teacher-checkpoint", tmp_path / "w.pth", "--json",
    ]  # fmt: skip
    first = process(*command)
    assert re.fullmatch(
        r"note: .*w.pth holds several weights that fit: state_dict was taken, not state_dict_ema; .*\n",
        first.stderr,
    )
    second = process(*command, "--checkpoint-key", "state_dict_ema")
    assert second.stderr == ""
    assert first.stdout != second.stdout
