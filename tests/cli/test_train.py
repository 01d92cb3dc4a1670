"""train, evaluate and report, and what they say when something is wrong."""

from __future__ import annotations

import json
import pickle
import stat

import pytest
import torch
import yaml

QUICK = ("--student", "resnet8", "--epochs", "1", "--quiet")


def test_train_evaluate_report(pursuhint, teacher_file, tmp_path):
    run = tmp_path / "run"
    distil = (
        "--teacher",
        "resnet8",
        "--teacher-checkpoint",
        teacher_file,
        "--loss",
        "kd",
        "--loss",
        "at=500:p=1",
    )
    done = pursuhint("train", *QUICK, *distil, "--val-fraction", "0.1", "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["best"]["chosen_on"] == "val"
    evaluated = json.loads(pursuhint("evaluate", run, "--json").stdout)
    assert evaluated["top1"] == pytest.approx(result["last"]["test_top1"], abs=1e-9)
    assert json.loads(pursuhint("report", run, "--json").stdout) == {"report": str(run / "report.html")}
    again = pursuhint("train", *QUICK, *distil, "--val-fraction", "0.1", "--out", run, "--json")
    assert json.loads(again.stdout) == result


def test_the_recipe_in_a_run_folder_repeats_the_run(pursuhint, tmp_path):
    first = pursuhint("train", *QUICK, "--seed", "3", "--out", tmp_path / "a", "--json")
    second = pursuhint(
        "train", "--recipe", tmp_path / "a" / "recipe.yaml", "--out", tmp_path / "b", "--json", "-q"
    )
    same = [json.loads(done.stdout)["last"] for done in (first, second)]
    for timings in ("seconds", "samples_per_second"):
        for last in same:
            last.pop(timings)
    assert same[0] == same[1]


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def files(folder):
    """Checkpoints that must be refused, by name."""
    torch.save({"model": torch.nn.Linear(3, 2).state_dict()}, folder / "other-network.pth")
    wide = {"fc.weight": torch.zeros(100, 64), "fc.bias": torch.zeros(100)}
    from pursuhint.models import create_model

    torch.save(
        create_model("resnet8", num_classes=100, in_channels=1).state_dict() | wide, folder / "classes.pth"
    )
    whole = (folder / "classes.pth").read_bytes()
    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "attack.pth").write_bytes(pickle.dumps({"model": Attack(str(folder / "attacked"))}))
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pth", "does not exist"),
        ("truncated.pth", "truncated.pth"),
        ("other-network.pth", "missing"),
        ("classes.pth", "100 classes"),
        ("attack.pth", "attack.pth"),
    ],
)
def test_bad_checkpoints_are_refused_before_anything_is_written(pursuhint, tmp_path, name, message):
    folder = files(tmp_path)
    options = ("--teacher", "resnet8", "--teacher-checkpoint", folder / name, "--loss", "kd")
    done = pursuhint("train", *QUICK, *options, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("pursuhint: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
    assert not (folder / "attacked").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--loss", "atx"), "no loss named 'atx'; did you mean 'at'"),
        (("--loss", "kd"), "needs a teacher"),
        (("--loss", "at=1:q=2", "--teacher", "resnet8"), "'q'"),
        (("--set", "optimizer.lrr=1"), "unknown key 'optimizer.lrr'; did you mean 'lr'"),
        (("--recipe", "cifar100-ate"), "no recipe named 'cifar100-ate'; did you mean 'cifar100-at'"),
        (("--teacher", "resnet8", "--loss", "at", "--hints", "gone.json"), "gone.json"),
        (("--data", "folder:nowhere"), "nowhere"),
        (
            (
                "--teacher",
                "resnet8",
                "--loss",
                "at",
                "--set",
                "hints={strategy: explicit, points: [layer7.0]}",
            ),
            "layer7.0",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(pursuhint, tmp_path, options, message):
    done = pursuhint("train", *QUICK, *options, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("pursuhint: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_weight_may_be_set_beside_a_loss_without_one_and_a_folder_needs_a_name(pursuhint, tmp_path):
    done = pursuhint("train", *QUICK, "--loss", "ce", "--set", "losses.ce=2", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["losses"]["ce"]["weight"] == 2
    assert "times" not in done.stderr
    twice = ("--batch-size", "8", "--batch-size", "60", "--seed", "1", "--seed", "2", "--json", "--json")
    repeated = pursuhint("train", *QUICK, *twice, "--out", tmp_path / "twice")
    notes = [line for line in repeated.stderr.splitlines() if line.startswith("note: ")]
    assert [line.rpartition(": ")[2] for line in notes] == ["--batch-size 60", "--seed 2"]
    assert yaml.safe_load((tmp_path / "twice/recipe.yaml").read_text())["batch_size"] == 60
    unnamed = pursuhint("train", *QUICK, "--out", "")
    assert unnamed.returncode == 2
    assert "'--out': it is empty" in unnamed.stderr


def test_another_run_in_the_folder_is_left_alone(pursuhint, tmp_path):
    run = tmp_path / "run"
    assert pursuhint("train", *QUICK, "--out", run).returncode == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = pursuhint("train", *QUICK, "--lr", "0.01", "--out", run)
    assert done.returncode == 1
    assert "holds a different run: optimizer.lr is 0.05 there and 0.01 here" in done.stderr
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_folder_that_cannot_be_written(pursuhint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = pursuhint("train", *QUICK, "--out", tmp_path / "file" / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("pursuhint: cannot")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with (locked / "extractor").open("w"):
            pytest.skip("this user may write everywhere")
    except PermissionError:
        done = pursuhint("train", *QUICK, "--out", locked / "run")
        assert done.returncode == 1
        assert "cannot" in done.stderr


def test_train_as_a_process_shows_plain_progress(process, tmp_path):
    done = process("train", "--student", "resnet8", "--epochs", "2", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 2 of 2" in done.stderr
    assert done.stdout.startswith("last epoch (2): test top-1")


def test_report_on_how_alike_teacher_and_student_are(pursuhint, teacher_file, tmp_path):
    out = tmp_path / "run"
    pursuhint(
        "train", "--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--student", "resnet8",
        "--data", "digits", "--loss", "kd", "--epochs", "1", "--batch-size", "512", "--out", out, "-q",
    )  # fmt: skip
    done = pursuhint("report", out, "--teacher-student", "--metric", "procrustes", "--samples", "60")
    assert done.returncode == 0, done.stderr
    assert (out / "figures" / "teacher-student-procrustes.png").exists()
    assert "--metric would be ignored" in pursuhint("report", out, "--metric", "cka").stderr


def test_a_subset_of_images_and_classes_is_trained_on(pursuhint, tmp_path):
    run = tmp_path / "few"
    subset = ("--train-samples", "60", "--only-classes", "3,7,1")
    assert pursuhint("train", *QUICK, "--data", "digits", *subset, "--out", run).returncode == 0
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["num_classes"] == 3
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recipe["data"]["classes"], recipe["data"]["train_samples"]) == ([3, 7, 1], 60)
