"""Studies that record their teacher: later ones replay it for other arms, losses, weights and students."""

from __future__ import annotations

from typing import Any

import pytest
from safetensors.torch import load_file

from pursuhint._util.devices import choose_device
from pursuhint._util.text import file_size
from pursuhint.errors import PursuhintError
from pursuhint.study import (
    ComparisonRequest,
    Crossing,
    PhaseStarted,
    StudyOptions,
    compare,
    compare_crossed,
    compare_methods,
)
from pursuhint.training import train
from pursuhint.training.inputs import Inputs
from pursuhint.training.recipe.schema import LossConfig
from tests.helpers.study_runs import few_digits, recipe, write_teacher
from tests.helpers.teacher_passes import counted_passes


@pytest.fixture(scope="module")
def data():
    return few_digits(64, 32)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    weights = write_teacher(tmp_path_factory.mktemp("teacher"))

    def made(**changes: Any):
        return recipe(weights, acceleration={"teacher_rounding": "float16"}, **changes)

    return made


@pytest.fixture
def passes(monkeypatch):
    """One entry for every batch that a teacher runs on."""
    return counted_passes(monkeypatch)


ARMS = ("alone", "conventional", "first", "last")


@pytest.fixture(scope="module")
def recorded(make, data, tmp_path_factory):
    """Recordings of two seeds, the comparison that made them, and what it said about them."""
    folder, said = tmp_path_factory.mktemp("recorded"), []
    comparison = compare(
        make(), folder / "first", arms=ARMS, seeds=(0, 1), data=data, device="cpu",
        record_teacher=folder / "recordings", on_event=said.append,
    )  # fmt: skip
    (line,) = [one.text for one in said if isinstance(one, PhaseStarted) and one.name == "recording"]
    return folder / "recordings", comparison, line


def test_all_students_of_a_seed_share_a_recording_and_its_size_is_said_first(recorded):
    folder, comparison, line = recorded
    assert comparison.arm("alone").runs
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0", "seed-1"]
    written = {
        seed: [load_file(file)["values"].nbytes for file in (folder / seed).rglob("*.safetensors")]
        for seed in ("seed-0", "seed-1")
    }
    assert {len(sizes) for sizes in written.values()} == {1 + 6}  # the logits, and all layers
    total = sum(map(sum, written.values()))
    assert line.endswith(f"0 of 2 epochs replayed, the others take about {file_size(total)}")


def test_another_comparison_replays_it_and_has_the_numbers_of_one_without(
    recorded, make, data, passes, tmp_path
):
    other = make(losses={"ce": 1.0, "at": 5.0, "fitnet": 1.0, "kd": 0.5}, student="resnet14")
    arms = ("kd", "reverse", "hints:1,4,5")
    said: list[Any] = []
    replayed = compare(
        other, tmp_path / "replayed", arms=arms, seeds=(1,), data=data, device="cpu",
        record_teacher=recorded[0], on_event=said.append,
    )  # fmt: skip
    assert passes == []
    assert any("1 of 1 epochs replayed" in one.text for one in said if isinstance(one, PhaseStarted))
    computed = compare(other, tmp_path / "computed", arms=arms, seeds=(1,), data=data, device="cpu")
    assert len(passes) == 1
    assert [arm.last for arm in replayed.arms] == [arm.last for arm in computed.arms]
    for run in replayed.arm("hints:1,4,5").runs:
        one, two = (
            load_file(study.path / run.folder / "student.safetensors") for study in (replayed, computed)
        )
        assert all((one[name] == two[name]).all() for name in one)


def test_crossed_comparisons_and_methods_replay_it(recorded, make, data, passes, tmp_path):
    sets = {"at": {"at": LossConfig(weight=3)}, "sp": {"sp": LossConfig(), "ce": LossConfig(weight=1)}}
    options = StudyOptions(choose_device("cpu"), None, False, None, record_teacher=recorded[0])
    request = ComparisonRequest(("conventional", "first"), (0,))
    compare_crossed(
        make(losses={}), tmp_path / "crossed", Crossing(sets, (1,)), request=request, options=options,
        passed=Inputs(data=data),
    )  # fmt: skip
    assert passes == []
    methods = ("kd", "at+kd")
    arguments = {"data": data, "seeds": (0,), "device": "cpu", "record_teacher": recorded[0]}
    study = compare_methods(make(losses={}), tmp_path / "methods", methods=methods, **arguments)
    assert [method.name for method in study.methods] == ["alone", *methods]
    assert len(passes) == len(methods)  # one step of each is tried before any is trained
    exact = make(losses={}).override("acceleration.teacher_rounding=none")
    with pytest.raises(PursuhintError, match="jacobian differentiates the teacher"):
        compare_methods(exact, tmp_path / "unfit", methods=("jacobian",), **arguments)
    assert not (tmp_path / "unfit").exists()


def test_another_pass_is_refused_before_anything_is_written(recorded, make, data, tmp_path):
    for changes, message in (
        ({"batch_size": 16}, "batch_size is 64 there and 16 here"),
        ({"data": {"augment": "none"}}, "augment is"),
    ):
        with pytest.raises(PursuhintError, match=message):
            compare(
                make(**changes), tmp_path / "out", arms=ARMS, seeds=(1,), data=data, device="cpu",
                record_teacher=recorded[0],
            )  # fmt: skip
    assert not (tmp_path / "out").exists()
    with pytest.raises(PursuhintError, match="is the recording of one seed"):
        compare(
            make(), tmp_path / "out", arms=ARMS, seeds=(0,), data=data, device="cpu",
            record_teacher=recorded[0] / "seed-0",
        )  # fmt: skip
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "thesis.tex").write_text("")
    with pytest.raises(PursuhintError, match="holds no recording"):
        compare(
            make(), tmp_path / "out", arms=ARMS, seeds=(0, 1), data=data, device="cpu",
            record_teacher=tmp_path,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_run_by_itself_replays_the_recording_of_its_seed(recorded, make, data, passes, tmp_path):
    train(make(), tmp_path / "run", data=data, device="cpu", record_teacher=recorded[0] / "seed-0")
    assert passes == []
    with pytest.raises(PursuhintError, match=r"or one of its recordings, such as .*seed-0"):
        train(make(), tmp_path / "other", data=data, device="cpu", record_teacher=recorded[0])
