"""A recorded teacher: runs that record, replay or compute it are equal, and another teacher is refused."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pursuhint.data import Batch, ImageData
from pursuhint.distillation.recorded_teacher import RecordedTeacher
from pursuhint.distillation.teacher import TeacherOutputs
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import Recipe, RunRecord, RunStopped, StepDone, TeacherReplayed, train, train_many
from pursuhint.training.inputs import Inputs, Run
from tests.helpers.run_weights import same_weights
from tests.helpers.study_runs import few_digits, untrained, write_teacher
from tests.helpers.teacher_passes import counted_passes

LOSSES: dict[str, Any] = {"at": 100.0, "kd": 0.9}


@pytest.fixture(scope="module")
def data() -> ImageData:
    return few_digits(64, 32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"), "resnet14")


@pytest.fixture(scope="module")
def make(weights: Path) -> Callable[..., Recipe]:
    def made(**changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "student": "resnet8",
            "teacher": {"network": "resnet14", "checkpoint": str(weights)},
            "losses": LOSSES,
            "acceleration": {"teacher_rounding": "float16"},
            "optimizer": {"lr": 0.02},
            "epochs": 2,
            "batch_size": 32,
            "seed": 3,
        }
        return Recipe.from_dict({**values, **changes})

    return made


@pytest.fixture(scope="module")
def recorded(
    make: Callable[..., Recipe], data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunRecord]:
    """A recording, and the run that made it."""
    folder = tmp_path_factory.mktemp("recorded")
    record = train(make(), folder / "run", device="cpu", data=data, record_teacher=folder / "recording")
    return folder / "recording", record


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every batch that a teacher runs on."""
    return counted_passes(monkeypatch)


def test_recording_replaying_and_computing_give_one_result(
    make: Callable[..., Recipe],
    data: ImageData,
    recorded: tuple[Path, RunRecord],
    passes: list[int],
    tmp_path: Path,
) -> None:
    folder, first = recorded
    again = train(make(), tmp_path / "again", device="cpu", data=data, record_teacher=folder)
    assert passes == []
    alone = train(make(), tmp_path / "alone", device="cpu", data=data)
    assert len(passes) == 4
    assert same_weights(first, again)
    assert same_weights(first, alone)


@pytest.mark.parametrize("inside", ["run", "run/recording"])
def test_a_recording_among_the_results_is_refused(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path, inside: str
) -> None:
    with pytest.raises(PursuhintError, match="a folder apart"):
        train(make(), tmp_path / "run", device="cpu", data=data, record_teacher=tmp_path / inside)
    assert list(tmp_path.iterdir()) == []


def test_rounding_is_small_and_is_there(
    make: Callable[..., Recipe], data: ImageData, recorded: tuple[Path, RunRecord], tmp_path: Path
) -> None:
    exact = train(make(acceleration={}), tmp_path / "exact", device="cpu", data=data)
    assert not same_weights(recorded[1], exact)
    loss, rounded = exact.metrics[0]["train_loss"], recorded[1].metrics[0]["train_loss"]
    assert rounded == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("rounding", ["bf16", "none"])
def test_other_types(
    make: Callable[..., Recipe], data: ImageData, passes: list[int], tmp_path: Path, rounding: str
) -> None:
    recipe = make(acceleration={"teacher_rounding": rounding}, epochs=1, losses={"kd": 1.0})
    runs = [
        train(recipe, tmp_path / str(name), device="cpu", data=data, record_teacher=tmp_path / "recording")
        for name in range(2)
    ]
    alone = train(recipe, tmp_path / "alone", device="cpu", data=data)
    assert len(passes) == 2 + 2
    assert same_weights(runs[0], runs[1])
    assert same_weights(runs[0], alone)


def test_other_students_losses_and_lengths_replay_what_is_there(
    make: Callable[..., Recipe],
    data: ImageData,
    recorded: tuple[Path, RunRecord],
    passes: list[int],
    tmp_path: Path,
) -> None:
    uses = []

    def watch(event: object) -> None:
        if isinstance(event, TeacherReplayed):
            uses.append(event.use)

    other = make(student="resnet14", losses={"kd": 1.0, "at": 5.0}, optimizer={"lr": 0.1}, epochs=3)
    train(other, tmp_path / "longer", device="cpu", data=data, record_teacher=recorded[0], on_event=watch)
    assert len(passes) == 2  # the third epoch
    assert (uses[0].replayed, uses[0].epochs) == (2, 3)
    embedding = make(losses={"srrl": 1.0, "kd": 1.0}, epochs=1)
    train(embedding, tmp_path / "srrl", device="cpu", data=data, record_teacher=recorded[0], on_event=watch)
    assert uses[1].replayed == 0  # srrl looks at the embedding, too
    assert len(passes) > 2
    del passes[:]
    train(embedding, tmp_path / "srrl2", device="cpu", data=data, record_teacher=recorded[0], on_event=watch)
    assert uses[2].replayed == 1
    assert passes == []


@pytest.mark.parametrize(("p", "channels"), [(2, {1}), (4, {16, 32, 64})])
def test_of_maps_that_attention_transfer_reads_one_channel_is_recorded(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path, p: int, channels: set[int]
) -> None:
    uses = []
    recipe = make(
        epochs=1,
        losses={"at": {"weight": 100.0, "p": p}},
        acceleration={"teacher_rounding": "none", "reduce_teacher": True},
    )
    reduced = train(
        recipe,
        tmp_path / "reduced",
        device="cpu",
        data=data,
        record_teacher=tmp_path / "recording",
        on_event=lambda event: uses.append(event.use) if isinstance(event, TeacherReplayed) else None,
    )
    files = [load_file(file)["values"] for file in (tmp_path / "recording" / "epoch-1").iterdir()]
    assert {values.shape[1] for values in files} == channels
    assert uses[0].size == sum(values.nbytes for values in files)
    assert uses[0].reduced == (3 if p == 2 else 0)
    whole = recipe.override("acceleration.reduce_teacher=false")
    whole_run = train(whole, tmp_path / "whole", device="cpu", data=data)
    assert reduced.metrics[0]["train_at"] == pytest.approx(whole_run.metrics[0]["train_at"], rel=1e-4)


def test_maps_that_another_loss_reads_stay_whole(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path
) -> None:
    recipe = make(
        epochs=1,
        losses={"at": 100.0, "fitnet": 1.0},
        acceleration={"teacher_rounding": "float16", "reduce_teacher": True},
    )
    train(recipe, tmp_path / "run", device="cpu", data=data, record_teacher=tmp_path / "recording")
    files = [load_file(file)["values"] for file in (tmp_path / "recording" / "epoch-1").iterdir()]
    assert sorted(values.shape[1] for values in files) == [1, 1, 32]  # FitNet has the middle one


def test_size_estimate_is_that_of_the_files(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path
) -> None:
    uses = []
    train(
        make(epochs=1),
        tmp_path / "run",
        device="cpu",
        data=data,
        record_teacher=tmp_path / "recording",
        on_event=lambda event: uses.append(event.use) if isinstance(event, TeacherReplayed) else None,
    )
    files = list((tmp_path / "recording" / "epoch-1").iterdir())
    values = sum(load_file(file)["values"].nbytes for file in files)
    assert uses[0].size == values
    assert len(files) == 1 + len(RunRecord.load(tmp_path / "run").plan.pairs)  # type: ignore[union-attr]


def test_a_group_of_students_records_and_replays(
    make: Callable[..., Recipe],
    data: ImageData,
    recorded: tuple[Path, RunRecord],
    passes: list[int],
    tmp_path: Path,
) -> None:
    recipes = [make(), make(losses={"kd": 0.5})]

    def group(folder: Path, recording: Path) -> list[RunRecord]:
        inputs = Inputs(data=data)
        runs = [
            Run(recipe, folder / str(place), inputs, record_teacher=recording)
            for place, recipe in enumerate(recipes)
        ]
        return [record for record in train_many(runs, device="cpu") if isinstance(record, RunRecord)]

    first = group(tmp_path / "first", tmp_path / "recording")
    assert len(passes) == 4
    second = group(tmp_path / "second", tmp_path / "recording")
    assert len(passes) == 4
    assert same_weights(first[0], recorded[1])
    for place in range(2):
        assert same_weights(first[place], second[place])


def test_a_stopped_run_resumes_with_its_recording(
    make: Callable[..., Recipe], data: ImageData, recorded: tuple[Path, RunRecord], tmp_path: Path
) -> None:
    steps = 0

    def stop(event: object) -> None:
        nonlocal steps
        if isinstance(event, StepDone):
            steps += 1
            if steps == 1:
                signal.raise_signal(signal.SIGTERM)

    arguments: dict[str, Any] = {"device": "cpu", "data": data, "record_teacher": tmp_path / "recording"}
    with pytest.raises(RunStopped):
        train(make(), tmp_path / "run", on_event=stop, **arguments)
    assert not list((tmp_path / "recording").rglob("*.safetensors"))
    assert not list((tmp_path / "recording").rglob("*.tmp"))
    resumed = train(make(), tmp_path / "run", **arguments)
    assert same_weights(resumed, recorded[1])
    epochs = {file.parent.name for file in (tmp_path / "recording").rglob("*.safetensors")}
    assert epochs == {"epoch-2"}  # the first one was not seen from its beginning to its end


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "seed is 3 there and 4 here"),
        ({"batch_size": 16}, "batch_size is 32 there and 16 here"),
        ({"data": {"augment": "none"}}, "augment is"),
        ({"acceleration": {"teacher_rounding": "bf16"}}, "teacher_rounding is 'float16' there"),
        ({"precision": "bf16"}, "precision is 'float32' there"),
    ],
    ids=["seed", "batch_size", "augment", "rounding", "precision"],
)
def test_another_pass_is_refused(
    make: Callable[..., Recipe],
    data: ImageData,
    recorded: tuple[Path, RunRecord],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(PursuhintError, match=message):
        train(make(**changes), tmp_path / "run", device="cpu", data=data, record_teacher=recorded[0])
    assert not (tmp_path / "run").exists()


def test_another_teacher_other_data_and_strange_folders_are_refused(
    make: Callable[..., Recipe], data: ImageData, recorded: tuple[Path, RunRecord], tmp_path: Path
) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("")
    (tmp_path / "other").mkdir()
    weights = tmp_path / "other" / "resnet14.safetensors"
    save_weights(untrained("resnet14", seed=5), weights)
    for recipe, images, folder, message in (
        (make(teacher={"network": "resnet14", "checkpoint": str(weights)}), data, recorded[0], "weights is"),
        (make(), few_digits(60, 32), recorded[0], "samples is 64 there and 60 here"),
        (make(), data, strange, "holds no recording"),
        (make(losses={"jacobian": 1.0}, acceleration={}), data, recorded[0], "differentiates"),
    ):
        with pytest.raises(PursuhintError, match=message):
            train(recipe, tmp_path / "run", device="cpu", data=images, record_teacher=folder)
        assert not (tmp_path / "run").exists()


def test_a_damaged_file_is_named(make: Callable[..., Recipe], data: ImageData, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"device": "cpu", "data": data, "record_teacher": tmp_path / "recording"}
    recipe = make(losses={"kd": 1.0}, epochs=1)
    train(recipe, tmp_path / "run", **arguments)
    file = tmp_path / "recording" / "epoch-1" / "logits.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(PursuhintError, match=r"epoch-1/logits.safetensors is damaged.*remove the file"):
        train(recipe, tmp_path / "again", **arguments)
    file.unlink()
    train(recipe, tmp_path / "again", **arguments)


def test_what_float16_does_not_hold_is_an_error(data: ImageData, tmp_path: Path) -> None:
    teacher = RecordedTeacher(tmp_path, 4, 4, stored=torch.float16)
    batch = Batch(torch.zeros(4, 1), torch.zeros(4), torch.arange(4))
    logits = torch.tensor([[1.0], [2.0], [3.0], [70_000.0]])
    with pytest.raises(PursuhintError, match="logits is not finite in float16"):
        teacher((1, 1), batch.indices, TeacherOutputs(logits=True), lambda: Features(logits))
    assert not list(tmp_path.rglob("*.*"))


def test_hint_points_that_change_are_recorded_epoch_by_epoch(make, data, tmp_path, passes):
    """Of each epoch the layers of its draw: another student with these draws needs no teacher."""
    recipe = make(hints={"strategy": "random-each-epoch", "k": 2, "seed": 1})
    options = {"device": "cpu", "data": data, "record_teacher": tmp_path / "recording"}
    first = train(recipe, tmp_path / "first", **options)
    files = [sorted((tmp_path / "recording" / f"epoch-{epoch}").glob("map-*")) for epoch in (1, 2)]
    assert [len(maps) for maps in files] == [2, 2]
    assert [maps.name for maps in files[0]] != [maps.name for maps in files[1]]
    passes.clear()
    assert same_weights(first, train(recipe, tmp_path / "second", **options))
    assert not passes
