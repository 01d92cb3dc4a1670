"""Real runs on the digits: what they learn, and what they leave behind."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pursuhint.analysis import Analysis
from pursuhint.data import ImageData, InputData, load_dataset, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights
from pursuhint.training import Evaluation, HintsConfig, Recipe, RunRecord, evaluate, train


def bytes_of(folder: Path, name: str = "student.safetensors") -> bytes:
    return (folder / name).read_bytes()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_wall_times(metrics) -> list[dict]:
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "samples_per_second")}
        for line in metrics
    ]


FEW = {"name": "digits", "train_samples": 300}


@pytest.fixture
def make_recipe(make_recipe):
    return lambda **changes: make_recipe(**{"data": FEW, **changes})


@pytest.fixture
def alone(alone) -> Recipe:
    return alone.override("data.train_samples=300")


@pytest.fixture(scope="module")
def distilled(teacher_run, tmp_path_factory):
    """A run with every kind of term, and the events that it sent."""
    recipe = Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(teacher_run / "student.safetensors")},
            "losses": {"ce": 1, "at": 10, "kd": 0.9},
            "data": {"name": "digits", "val_fraction": 0.1},
            "epochs": 3,
            "batch_size": 64,
            "schedule": "cosine",
        }
    )
    events: list = []
    folder = tmp_path_factory.mktemp("distilled") / "run"
    return train(recipe, folder, device="cpu", on_event=events.append), events


class TestRunFolder:
    def test_losses_fall_and_accuracy_rises(self, distilled):
        record, _ = distilled
        first, *_, last = record.metrics
        assert last["train_loss"] < first["train_loss"]
        assert last["train_kd"] < first["train_kd"]
        assert last["test_top1"] > max(first["test_top1"], 60)

    def test_holds_every_file(self, distilled):
        record, _ = distilled
        names = {path.name for path in record.path.iterdir()}
        assert names >= {
            "recipe.yaml",
            "environment.json",
            "hints.json",
            "metrics.jsonl",
            "state",
            "student.safetensors",
            "best.safetensors",
            "correct.json",
            "result.json",
        }
        assert {path.name for path in (record.path / "state").iterdir()} == {"0", "1", "latest"}
        assert not list(record.path.rglob("*.tmp"))

    def test_metrics_have_the_promised_keys(self, distilled):
        record, _ = distilled
        assert list(record.metrics) == lines(record.path)
        assert [line["epoch"] for line in record.metrics] == [1, 2, 3]
        for line in record.metrics:
            assert list(line) == [
                "epoch", "stage", "train_loss", "train_ce", "train_at", "train_kd", "train_top1",
                "val_loss", "val_top1", "val_top5", "test_loss", "test_top1", "test_top5",
                "lr", "seconds", "samples_per_second",
            ]  # fmt: skip
            weighted = line["train_ce"] + 10 * line["train_at"] + 0.9 * line["train_kd"]
            assert line["train_loss"] == pytest.approx(weighted, rel=1e-5)

    def test_last_and_best_are_named(self, distilled):
        record, _ = distilled
        result = json.loads((record.path / "result.json").read_text())
        assert result["last"] == record.last == record.metrics[-1]
        assert result["best"] == {**record.best, "chosen_on": "val"}
        assert record.best["val_top1"] == max(line["val_top1"] for line in record.metrics)

    @pytest.mark.parametrize("weights", ["last", "best"])
    def test_weights_load_into_a_plain_network_with_the_logged_accuracy(self, distilled, weights):
        record, _ = distilled
        data = load_dataset("digits")
        network = create_model("resnet8", num_classes=10, in_channels=1)
        file = {"last": "student.safetensors", "best": "best.safetensors"}[weights]
        load_weights(network, record.path / file)
        expected = getattr(record, weights)
        result = evaluate(network, make_loader(data, "test", batch_size=256, training=False))
        assert result == Evaluation(
            expected["test_top1"], expected["test_top5"], expected["test_loss"], len(data.test)
        )
        if weights == "last":
            assert record.load_hits().tolist() == result.hits.tolist()
            assert record.load_hits().mean() * 100 == pytest.approx(expected["test_top1"])
        assert result == evaluate(
            record.load_student(weights),
            make_loader(record.load_data(), "test", batch_size=256, training=False),
        )

    def test_recipe_is_resolved_and_alone_repeats_the_run(self, distilled, tmp_path):
        record, _ = distilled
        recipe = Recipe.load(record.path / "recipe.yaml")
        written = recipe.losses["kd"].options
        assert (written["measure"], written["temperature"]) == ("divergence", 4.0)
        again = train(recipe, tmp_path / "again", device="cpu")
        assert bytes_of(again.path) == bytes_of(record.path)
        assert without_wall_times(again.metrics) == without_wall_times(record.metrics)

    def test_environment_says_where_it_ran(self, distilled):
        record, _ = distilled
        assert record.environment["device"] == "cpu"
        assert record.environment["packages"]["torch"] == torch.__version__.split("+")[0]
        assert record.environment["data"]["samples"] == {"train": 1293, "val": 144, "test": 360}
        assert set(record.environment["inputs"]) == {"teacher"}

    def test_events_tell_the_story(self, distilled):
        record, events = distilled
        passing = {"StepDone", "LossesSoFar"}
        kinds = [name for event in events if (name := type(event).__name__) not in passing]
        assert kinds == [
            "TeacherMeasured",
            "HintsChosen",
            "RunStarted",
            *["EpochStarted", "EpochFinished"] * 3,
        ]
        steps = [event for event in events if type(event).__name__ == "StepDone"]
        assert (len(steps), steps[-1].step, steps[-1].samples) == (3 * 21, 21, 1293)
        started = events[2]
        assert (started.epochs, started.chosen_on, started.parameters) == (3, "val", 77754)
        finished = [event for event in events if type(event).__name__ == "EpochFinished"]
        assert [event.metrics for event in finished] == list(record.metrics)

    def test_a_finished_run_returns_at_once(self, distilled):
        record, _ = distilled
        before = {path: path.stat().st_mtime_ns for path in record.path.rglob("*")}
        events: list = []
        again = train(record.recipe, record.path, device="cpu", on_event=events.append)
        assert again.metrics == record.metrics
        assert again.finished
        assert events == []
        assert {path: path.stat().st_mtime_ns for path in record.path.rglob("*")} == before


def test_seed_decides_everything(alone, tmp_path):
    runs = {
        name: train(alone.override(["epochs=1", f"seed={seed}"]), tmp_path / name, device="cpu")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    assert bytes_of(runs["a"].path) == bytes_of(runs["b"].path) != bytes_of(runs["c"].path)


def test_random_generators_of_the_caller_are_left_alone(alone, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(alone.override("epochs=1"), tmp_path / "run", device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_best_is_the_first_of_the_best_epochs(alone, tmp_path, monkeypatch):
    accuracies = iter([70.0, 90.0, 90.0, 80.0])
    monkeypatch.setattr(
        "pursuhint.training.runner.evaluate",
        lambda network, loader, reduce: Evaluation(next(accuracies), 100.0, 1.0, 360),
    )
    record = train(alone.override("epochs=4"), tmp_path / "run", device="cpu")
    assert (record.best["epoch"], record.last["epoch"], record.chosen_on) == (2, 4, "test")
    last, best = (load_file(record.path / f"{name}.safetensors") for name in ("student", "best"))
    assert not all(torch.equal(last[name], best[name]) for name in best)
    monkeypatch.undo()
    # With a constant rate, a run of two epochs ends where a run of four passes by.
    short = train(alone.override("epochs=2"), tmp_path / "short", device="cpu")
    short_last = load_file(short.path / "student.safetensors")  # whose header says that they are the last
    assert all(torch.equal(short_last[name], best[name]) for name in best)


def test_precisions_follow_each_other_in_one_process(alone, tmp_path):
    for precision in ("bf16", "float32"):
        record = train(
            alone.override(["epochs=1", f"precision={precision}"]), tmp_path / precision, device="cpu"
        )
        weights = load_file(record.path / "student.safetensors")
        assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(("samples", "seen"), [(9, 8), (10, 10), (3, 3)])
def test_a_last_batch_of_one_is_left_out(alone, tmp_path, samples, seen):
    images = torch.rand(samples, 1, 8, 8)
    split = images, torch.arange(samples) % 2
    data = ImageData.from_tensors("few", train=split, test=split)
    counts = []
    train(
        alone.override(["epochs=1", "batch_size=4"]),
        tmp_path / "run",
        device="cpu",
        data=data,
        on_event=lambda event: counts.append(getattr(event, "samples", 0)),
    )
    assert max(counts) == seen


def test_adamw_trains(alone, tmp_path):
    changes = ["optimizer.name=adamw", "optimizer.lr=1e-2", "batch_size=64"]
    record = train(alone.override(changes), tmp_path / "run", device="cpu")
    assert record.last["test_top1"] > 50


class TestHints:
    @pytest.mark.parametrize(
        ("hints", "expected"),
        [
            ({"strategy": "conventional"}, ["layer1.2", "layer2.2", "layer3.2"]),
            ({"strategy": "centers"}, ["layer1.1", "layer2.1", "layer3.1"]),
            ({"strategy": "explicit", "points": ["layer1.0", "layer3.1"]}, ["layer1.0", "layer3.1"]),
            ({"strategy": "random", "k": 2, "seed": 5}, None),
            ({"strategy": "chosen", "k": 3, "samples": 200, "metric": "r2cca"}, None),
        ],
    )
    def test_strategies_give_plans(self, make_recipe, tmp_path, hints, expected):
        teacher = create_model("resnet20", num_classes=10, in_channels=1)
        recipe = make_recipe(hints=hints, epochs=1)
        record = train(recipe, tmp_path / "run", device="cpu", teacher=teacher)
        assert record.recipe.teacher.network == "python:CifarResNet"
        modules = [point.module for point in record.plan.teacher_points]
        assert len(modules) == len(record.plan.student_points) == hints.get("k", len(modules))
        if expected is not None:
            assert modules == expected
        assert (tmp_path / "run" / "analysis" / "analysis.json").exists() == (hints["strategy"] == "chosen")

    def test_as_many_images_as_the_choice_needs(self, make_recipe, tmp_path):
        hints = {"strategy": "chosen", "k": 2, "samples": "auto", "max_samples": 700, "stable_at": 0.8}
        record = train(make_recipe(hints=hints, epochs=1, data="digits"), tmp_path / "run", device="cpu")
        auto = Analysis.load(tmp_path / "run" / "analysis").auto
        assert (auto.available, auto.stable_at) == (700, 0.8)
        assert auto.samples == record.plan.origin["num_samples"] == (500 if auto.ended_early else 700)
        assert (record.recipe.hints.samples, record.recipe.hints.max_samples) == ("auto", 700)

    def test_chosen_points_are_not_chosen_again(self, make_recipe, tmp_path, monkeypatch):
        recipe = make_recipe(hints={"strategy": "chosen", "k": 2, "samples": 100}, epochs=1)

        def stop(event):
            if type(event).__name__ == "EpochStarted":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", device="cpu", on_event=stop)
        monkeypatch.setattr("pursuhint.training.final_plan.analyze", None)
        (tmp_path / "run" / "hints.json").unlink()  # not even when only the analysis is there
        record = train(recipe, tmp_path / "run", device="cpu")
        assert len(record.plan) == 2

    def test_a_plan_becomes_part_of_the_recipe(self, make_recipe, tmp_path):
        teacher = create_model("resnet8", num_classes=10, in_channels=1)
        points = find_hint_points(teacher, torch.zeros(1, 1, 8, 8), activation="pre")
        plan = HintPlan.explicit(points, ["layer1.0", "layer3.0"])
        plan.save(tmp_path / "hints.json")
        by_object = train(make_recipe(epochs=1), tmp_path / "object", device="cpu", plan=plan)
        by_file = train(
            make_recipe(epochs=1, hints={"file": str(tmp_path / "hints.json")}),
            tmp_path / "file",
            device="cpu",
        )
        hints = by_object.recipe.hints
        assert hints == by_file.recipe.hints
        assert hints == HintsConfig(strategy="explicit", points=("layer1.0", "layer3.0"), activation="pre")
        by_recipe = train(Recipe.load(tmp_path / "file" / "recipe.yaml"), tmp_path / "recipe", device="cpu")
        assert bytes_of(by_object.path) == bytes_of(by_file.path) == bytes_of(by_recipe.path)

    def test_a_module_that_is_no_candidate_can_be_named(self, make_recipe, tmp_path):
        hints = {
            "strategy": "explicit",
            "points": ["layer2", "layer3.0"],
            "student_points": ["layer2", "layer3"],
        }
        record = train(make_recipe(hints=hints, epochs=1), tmp_path / "run", device="cpu")
        assert [point.module for point in record.plan.student_points] == ["layer2", "layer3"]


class TestFromPython:
    def test_networks_are_copied(self, make_recipe, tmp_path):
        torch.manual_seed(0)
        teacher = create_model("resnet8", num_classes=10, in_channels=1)
        student = create_model("resnet8", num_classes=10, in_channels=1)
        before = copy.deepcopy([teacher.state_dict(), student.state_dict()])
        record = train(
            make_recipe(epochs=1), tmp_path / "run", device="cpu", teacher=teacher, student=student
        )
        assert record.recipe.student.network == "python:CifarResNet"
        for network, state in zip([teacher, student], before):
            assert network.training
            assert all(parameter.requires_grad for parameter in network.parameters())
            assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())

    def test_the_same_networks_find_the_finished_run_and_others_do_not(self, make_recipe, tmp_path):
        torch.manual_seed(0)
        teacher = create_model("resnet8", num_classes=10, in_channels=1)
        record = train(make_recipe(epochs=1), tmp_path / "run", device="cpu", teacher=teacher)
        assert train(make_recipe(epochs=1), tmp_path / "run", device="cpu", teacher=teacher).metrics == (
            record.metrics
        )
        other = create_model("resnet8", num_classes=10, in_channels=1)
        with pytest.raises(PursuhintError, match="a different run: the teacher has changed"):
            train(make_recipe(epochs=1), tmp_path / "run", device="cpu", teacher=other)

    def test_what_was_passed_must_be_passed_again(self, make_recipe, tmp_path):
        student = create_model("resnet8", num_classes=10, in_channels=1)
        record = train(make_recipe(epochs=1), tmp_path / "run", device="cpu", student=student)
        with pytest.raises(PursuhintError, match="was passed from Python; pass it again"):
            train(record.recipe, tmp_path / "other", device="cpu")
        with pytest.raises(PursuhintError, match=r"pass it again: load_student\(network=\.\.\.\)"):
            record.load_student()
        before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        trained = record.load_student(network=student)
        assert evaluate(trained, record.load_images()).top1 == pytest.approx(record.last["test_top1"])
        assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
        with pytest.raises(PursuhintError, match=r"student\.safetensors"):
            record.load_student(network=create_model("resnet14", num_classes=10, in_channels=1))

    def test_a_student_of_tensors_that_are_no_images_comes_back_trained(self, tmp_path):
        torch.manual_seed(0)
        signals = torch.randn(60, 12)
        samples = (signals, (signals[:, 0] > 0).long())
        student = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        recipe = Recipe.from_dict({"epochs": 2, "batch_size": 20})
        data = InputData.from_tensors("signals", train=samples, test=samples)
        record = train(recipe, tmp_path / "run", device="cpu", data=data, student=student)
        trained = record.load_student(network=student)
        assert evaluate(trained, data).top1 == pytest.approx(record.last["test_top1"])
        assert not torch.equal(trained[0].weight, student[0].weight)

    def test_data_can_be_passed(self, alone, tmp_path):
        data = load_dataset("digits", val_fraction=0.2)
        record = train(alone.override("epochs=1"), tmp_path / "run", device="cpu", data=data)
        assert record.recipe.data.name == "digits"
        assert record.chosen_on == "val"
        with pytest.raises(PursuhintError, match="digits has changed since: the splits were"):
            train(alone.override("epochs=1"), tmp_path / "run", device="cpu", data=load_dataset("digits"))


def test_an_unfinished_run_can_be_read(alone, tmp_path):
    def stop(event):
        if type(event).__name__ == "EpochFinished":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(alone, tmp_path / "run", device="cpu", on_event=stop)
    record = RunRecord.load(tmp_path / "run")
    assert not record.finished
    assert record.last == record.best == record.metrics[0]
    record.load_student("best")


def test_only_run_folders_are_read(tmp_path):
    with pytest.raises(PursuhintError, match=r"is not a run folder: it has no recipe.yaml"):
        RunRecord.load(tmp_path)
