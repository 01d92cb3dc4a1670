"""A second view of each training image: who sees it, equality of all ways to a run, and refusals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pursuhint.data import ImageData
from pursuhint.data.input_data import InputData
from pursuhint.errors import PursuhintError
from pursuhint.study import compare, compare_methods
from pursuhint.study.run_crossed import Crossing
from pursuhint.training import Recipe, RunRecord, RunStopped, StepDone, train, train_many
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.recipe.resolve import resolve_recipe
from tests.helpers.run_weights import same_weights
from tests.helpers.study_runs import few_digits, write_teacher
from tests.helpers.teacher_passes import counted_passes

VIEW = ["standard", "cutout"]


@pytest.fixture(scope="module")
def data() -> ImageData:
    return few_digits(40, 32)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    weights = write_teacher(tmp_path_factory.mktemp("teacher"), "resnet14")

    def made(losses: Any = None, second_view: Any = VIEW, **changes: Any) -> Recipe:
        return Recipe.from_dict(
            {
                "student": "resnet8",
                "teacher": {"network": "resnet14", "checkpoint": str(weights)},
                "data": {"second_view": second_view},
                "losses": {"mlkd": 0.5, "at": 10.0} if losses is None else losses,
                "optimizer": {"lr": 0.02},
                "epochs": 2,
                "batch_size": 20,
                **changes,
            }
        )

    return made


@pytest.fixture(scope="module")
def lone(make: Callable[..., Recipe], data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return train(make(), tmp_path_factory.mktemp("lone") / "run", device="cpu", data=data)


def test_a_second_view_changes_the_run_and_a_stop_does_not(
    make: Callable[..., Recipe], data: ImageData, lone: RunRecord, tmp_path: Path
) -> None:
    assert lone.recipe.data.second_view == ("standard", "cutout")
    without = train(make(second_view=[]), tmp_path / "without", device="cpu", data=data)
    assert not same_weights(lone, without)
    other = train(make(second_view=["cutout"]), tmp_path / "other", device="cpu", data=data)
    assert not same_weights(lone, other)

    def interrupt(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(RunStopped):
        train(make(), tmp_path / "run", device="cpu", data=data, on_event=interrupt)
    assert same_weights(train(make(), tmp_path / "run", device="cpu", data=data), lone)


def test_runs_that_share_a_teacher_are_those_alone(
    make: Callable[..., Recipe], data: ImageData, lone: RunRecord, tmp_path: Path, monkeypatch: Any
) -> None:
    """The teacher sees both views in one pass; the student alone on both views joins in."""
    alone = make({"ce": 1.0}, teacher=None)
    passes = counted_passes(monkeypatch)
    runs = [
        Run(recipe, tmp_path / str(index), Inputs(data=data)) for index, recipe in enumerate([make(), alone])
    ]
    both = train_many(runs, device="cpu")
    assert [len(passes), same_weights(both[0], lone)] == [4, True]
    assert same_weights(both[1], train(alone, tmp_path / "alone", device="cpu", data=data))
    assert not same_weights(both[1], train(make({"ce": 1.0}, [], teacher=None), tmp_path / "one", data=data))


def test_a_recorded_teacher_has_both_views(
    make: Callable[..., Recipe], data: ImageData, lone: RunRecord, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = tmp_path / "recording"
    first = train(make(), tmp_path / "first", device="cpu", data=data, record_teacher=folder)
    passes = counted_passes(monkeypatch)
    again = train(make(), tmp_path / "again", device="cpu", data=data, record_teacher=folder)
    assert passes == []
    assert same_weights(first, lone)
    assert same_weights(again, lone)
    with pytest.raises(PursuhintError, match="second_view"):
        train(make(second_view=["cutout"]), tmp_path / "x", device="cpu", data=data, record_teacher=folder)


def test_methods_of_a_study_have_the_second_view_that_is_theirs(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("data: {second_view: [cutout]}\nlosses: {mlkd: 1}\nstudent: resnet8")
    one = make({}, [], epochs=1)
    names = ["kd", "mlkd", f"recipe:{tmp_path / 'mine.yaml'}"]
    study = compare_methods(one, tmp_path / "one", methods=names, seeds=(0,), data=data, device="cpu")
    views = {method.name: used(study.path, method) for method in study.methods}
    assert views == {"alone": (), "kd": (), "mlkd": (), names[-1]: ("cutout",)}
    taps = {method.name: method.taps.get("mlkd") for method in study.methods}
    assert taps == {"alone": None, "kd": None, "mlkd": "logits", names[-1]: "logits of two views"}
    with pytest.raises(PursuhintError, match="no loss looks at a second view"):
        compare_methods(make({}), tmp_path / "none", methods=["kd"], seeds=(0,), data=data, device="cpu")
    crossed = Crossing({"a": make().losses, "b": make({"at": 10.0}).losses}, (1,))
    assert [recipe.data.second_view for recipe in crossed.cells(make()).values()] == [tuple(VIEW), ()]


def test_arms_of_a_comparison_have_it_but_for_the_student_alone(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path
) -> None:
    arms = ("alone", "kd", "conventional")
    found = compare(make(epochs=1), tmp_path / "study", arms=arms, seeds=(0,), data=data, device="cpu")
    views = {arm.name: used(found.path, arm) for arm in found.arms}
    assert views == {"alone": (), "kd": tuple(VIEW), "conventional": tuple(VIEW)}


def used(folder: Path, method: Any) -> tuple[str, ...]:
    return RunRecord.load(folder / method.runs[0].folder).recipe.data.second_view


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({"losses": {"kd": 0.9, "ce": 0.1}}, "no loss looks at a second view", id="kd"),
        pytest.param({"losses": {"at": 10.0}}, "no loss looks at a second view", id="hints"),
        pytest.param({"data": {"augment": "mixup", "second_view": "cutout"}}, "one image of two", id="mixup"),
        pytest.param({"second_view": ["cutmix"]}, "one image of two", id="cutmix"),
        pytest.param(
            {
                "data": {"augment": "none", "second_view": "cutout"},
                "acceleration": {"cache_teacher": True},
            },
            "cache_teacher",
            id="cached teacher",
        ),
        pytest.param(
            {"losses": {"mlkd": {"second_terms": "instance"}}, "second_view": "none"},
            "data.second_view",
            id="missing",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(
    make: Callable[..., Recipe], changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(PursuhintError, match=fault):
        resolve_recipe(make(**changes))


def test_what_is_looked_at_is_not_refused(make: Callable[..., Recipe]) -> None:
    assert resolve_recipe(make({"mlkd": {"second_terms": "instance"}})).data.second_view == tuple(VIEW)
    assert resolve_recipe(make({"mlkd": 0.9}, second_view="none")).data.second_view == ()
    assert resolve_recipe(make({"ce": 1.0}, teacher=None)).data.second_view == tuple(VIEW)


def test_data_that_are_no_images_have_none(make: Callable[..., Recipe]) -> None:
    signals, labels = torch.randn(6, 5), torch.arange(6) % 2
    inputs = InputData.from_tensors("signals", train=(signals, labels), test=(signals, labels))
    with pytest.raises(PursuhintError, match=r"no images; leave data\.second_view out"):
        resolve_recipe(make(), Inputs(data=inputs))


def test_a_loss_of_python_that_needs_one_says_so(
    make: Callable[..., Recipe], data: ImageData, tmp_path: Path
) -> None:
    def agree(student_logits: torch.Tensor, student_second_logits: torch.Tensor) -> torch.Tensor:
        return (student_logits - student_second_logits).square().mean()

    recipe = make({}, teacher=None, epochs=1)
    record = train(recipe, tmp_path / "with", device="cpu", data=data, losses={"agree": agree})
    assert record.last["train_python:agree"] > 0
    plain = make({}, [], teacher=None, epochs=1)
    with pytest.raises(PursuhintError, match="second view of each image, and there is none"):
        train(plain, tmp_path / "without", device="cpu", data=data, losses={"agree": agree})
    assert not (tmp_path / "without").exists()
