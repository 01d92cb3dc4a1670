"""What can be wrong is said in one line, before anything is written."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.kd import SoftTargetLoss
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import Evaluation, train


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def files(tmp_path: Path, teacher_run: Path) -> Path:
    """Checkpoints that are wrong, each in its way."""
    folder = tmp_path / "files"
    folder.mkdir()
    content = (teacher_run / "student.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(content[: len(content) // 2])
    save_weights(create_model("resnet8", num_classes=7, in_channels=1), folder / "seven.safetensors")
    with (folder / "harmful.pth").open("wb") as file:
        pickle.dump({"model": Harmful(tmp_path / "harmed")}, file)
    return folder


MISTAKES = [
    (["student=resnet9"], "no network named 'resnet9'; did you mean"),
    (["student.options.wdth=2"], "has no option 'wdth'"),
    (["teacher=resnet9"], "no network named 'resnet9'; did you mean"),
    (["data=digts"], "no data set named 'digts'; did you mean 'digits'"),
    (["data=cifar100", "data.root=/nowhere"], "cifar100"),
    (["data=folder:/nowhere"], "/nowhere"),
    (["data.val_fraction=0.0001"], "cannot hold out 0"),
    (["losses.at.pp=2"], "AT has no hyperparameter 'pp'; did you mean 'p'"),
    (["losses.kd.temperature=-1"], "temperature must be positive, got -1"),
    (["losses={crd: {temperature: learned}}"], "temperature"),
    (["losses={wsld: 1}", "optimizer.name=dot"], "both must be terms of the main stage with a weight"),
    (["losses.skd=1", "losses.ce=1"], "contains the classification term already; leave out 'ce'"),
    (["losses={ce: 0, at: 0}"], "every loss has weight 0"),
    (["teacher=null"], "loss 'at' needs a teacher; give one with teacher.network"),
    (["losses=null"], "'losses' must be a mapping"),
    (["losses={ce: 1}"], "a teacher is given, but no loss looks at it"),
    (["losses={kd: 1}", "hints=conventional"], "hint points are given, but no loss looks at them"),
    (["teacher.checkpoint=null"], "the teacher resnet8 has no weights; give teacher.checkpoint"),
    (["teacher.checkpoint=FILES/none.pth"], "none.pth"),
    (["teacher.checkpoint=FILES/truncated.safetensors"], "truncated or damaged"),
    (["teacher.checkpoint=FILES/harmful.pth"], "harmful.pth"),
    (["teacher.checkpoint=FILES/seven.safetensors"], "7"),
    (["teacher=resnet20"], "resnet20|CifarResNet|missing"),
    (
        ["teacher.num_classes=7", "teacher.checkpoint=FILES/seven.safetensors"],
        "teacher has 7 classes, student 10; KD compares logits",
    ),
    (["student.num_classes=7"], "student.num_classes is 7, but digits has 10"),
    (["hints={strategy: explicit, points: [layer1.9]}"], "no hint point 'layer1.9' .*did you mean"),
    (["hints={strategy: random, k: 9}"], "9"),
    (["hints={strategy: chosen, k: 4}"], "4"),
    (["hints={strategy: chosen, position: middle}"], "no position in a cluster named 'middle'"),
    (["hints={file: FILES/none.json}"], "no hint plan at .*none.json"),
    (["hints.student_points=[layer1.0]"], "1 student points were named for 3 hint points"),
    (["precision=fp16"], "'fp16' needs a GPU; use 'bf16' or 'float32'"),
]


@pytest.mark.parametrize(
    ("assignments", "message"), MISTAKES, ids=[" ".join(changes) for changes, _ in MISTAKES]
)
def test_mistakes_are_found_before_anything_is_written(make_recipe, files, tmp_path, assignments, message):
    changed = [assignment.replace("FILES", str(files)) for assignment in assignments]
    with pytest.raises(PursuhintError, match=message) as caught:
        train(make_recipe().override(changed), tmp_path / "run", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "harmed").exists()


def test_a_teacher_of_another_task_can_give_hints(make_recipe, files, tmp_path):
    teacher = {"network": "resnet8", "num_classes": 7, "checkpoint": str(files / "seven.safetensors")}
    record = train(make_recipe(teacher=teacher, losses={"at": 1}, epochs=1), tmp_path / "run", device="cpu")
    assert record.finished


def test_devices_that_are_not_there(alone, tmp_path):
    for device in ("cuda:99", "quantum"):
        with pytest.raises(PursuhintError, match=f"there is no device '{device}' here; use 'cpu'"):
            train(alone, tmp_path / "run", device=device)


def test_a_file_in_place_of_the_folder(alone, tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(PursuhintError, match="a file of that name exists"):
        train(alone, tmp_path / "run", device="cpu")
    with pytest.raises(PursuhintError, match="cannot"):
        train(alone, tmp_path / "run" / "deeper", device="cpu")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user that permissions stop")
def test_a_folder_that_may_not_be_written(alone, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(PursuhintError, match="cannot write into the folder"):
        train(alone, tmp_path / "run", device="cpu")


class TestNonFinite:
    def test_the_run_stops_and_names_term_epoch_and_step(self, make_recipe, tmp_path, monkeypatch):
        calls, forward = 0, SoftTargetLoss.forward

        def spoiled(self, *arguments):
            nonlocal calls
            calls += 1
            value = forward(self, *arguments)
            return value * float("nan") if calls == 12 + 5 else value

        monkeypatch.setattr(SoftTargetLoss, "forward", spoiled)
        with pytest.raises(PursuhintError) as caught:
            train(make_recipe(), tmp_path / "run", device="cpu")
        assert str(caught.value) == (
            "loss term 'kd' is not finite at epoch 2, step 5 of 12; "
            "lower optimizer.lr or the weight of the term; what was saved after epoch 1 is kept"
        )
        monkeypatch.undo()
        resumed: list = []
        record = train(make_recipe(), tmp_path / "run", device="cpu", on_event=resumed.append)
        assert [event.epoch for event in resumed if type(event).__name__ == "Resumed"] == [1]
        assert all(torch.isfinite(p).all() for p in record.load_student().parameters())

    def test_a_diverging_run_stops_early(self, make_recipe, tmp_path):
        steps = []
        recipe = make_recipe(optimizer={"lr": 1e12}, batch_size=8, losses={"ce": 1})
        with pytest.raises(
            PursuhintError, match=r"'ce' is not finite at epoch 1, step \d+ of 180.*no epoch was"
        ):
            train(
                recipe.override("teacher=null"),
                tmp_path / "run",
                device="cpu",
                on_event=lambda event: steps.append(event) if type(event).__name__ == "StepDone" else None,
            )
        assert steps[-1].step == 50  # it is looked at every 50 steps, not at every one
        assert not (tmp_path / "run" / "state").exists()

    def test_an_overflowing_sum_is_called_so(self, make_recipe, tmp_path):
        recipe = make_recipe(losses={"ce": 1, "kd": 3e38}, epochs=1)
        with pytest.raises(
            PursuhintError, match="the weighted total of the losses is not finite at epoch 1, step 1"
        ):
            train(recipe, tmp_path / "run", device="cpu")

    def test_a_student_that_breaks_at_the_last_step_is_not_saved(self, alone, tmp_path, monkeypatch):
        results = iter([Evaluation(50, 90, 1.0, 360), Evaluation(10, 50, float("nan"), 360)])
        monkeypatch.setattr("pursuhint.training.runner.evaluate", lambda *a, **k: next(results))
        with pytest.raises(
            PursuhintError, match=r"test loss is not finite after epoch 2; .* before this epoch is kept"
        ):
            train(alone, tmp_path / "run", device="cpu")
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
        assert (tmp_path / "run" / "state" / "latest").read_text() == "0\n"


def test_sharded_networks_are_refused(alone, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(PursuhintError, match=r"cannot shard the networks.*acceleration\.shard_teacher=true"):
        train(alone, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
