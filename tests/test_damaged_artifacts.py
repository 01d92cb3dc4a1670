"""Every file that PursuHint reads again: damaged, it ends in one line; from another editor, it loads."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pursuhint.cli.results import print_analysis, print_comparison, print_plan, print_run, print_selection
from pursuhint.cli.terminal import echo

from pursuhint._util.atomic_files import write_json
from pursuhint.analysis import Analysis, analyze
from pursuhint.analysis.storage import StoredAnalysis
from pursuhint.data import ImageData
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.models import create_model
from pursuhint.published.formats import FORMATS
from pursuhint.report.sections.transfer import facts_of
from pursuhint.study import Comparison, LinearAccuracy, TransferredRun, TransferResult, TransferSettings
from pursuhint.study.settings import StudySettings
from pursuhint.study.step_memory import read_memory
from pursuhint.study.until_decided import seeds_in
from pursuhint.training import Recipe, RunRecord, train
from pursuhint.training.loaders import load_data
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.run_folder.environment import stored_provenance
from pursuhint.training.run_folder.files import read_environment
from pursuhint.training.run_folder.fingerprint import check_same_run
from pursuhint.training.run_folder.image_hits import load_hits
from tests.helpers.study_runs import few_digits
from tests.study.test_comparison import ALONE, CONVENTIONAL, KMEANS, comparison

DELETED = object()
DIGITS, DEEP = "@digits", "@deep"  # what json.dumps cannot write
VALUES = (
    DELETED, None, "nonsense", 5, -1, 1.5, True, [], {}, [[None]], float("nan"), "\ud800", DIGITS, DEEP
)  # fmt: skip
TRIED = 150  # of all changes: each kind of value, at places all over the file


@dataclass(frozen=True)
class Artifact:
    """A kind of file, with what a user does with it."""

    file: str
    make: Callable[[Path], object]
    use: Callable[[Path], object]


def make_analysis(folder: Path) -> None:
    torch.manual_seed(0)
    network = create_model("resnet14", num_classes=10, in_channels=1)
    analyze(network, few_digits(), metrics=["cka", "r2cca-rank"], samples=128, device="cpu").save(folder)


def use_analysis(folder: Path) -> None:
    stored = StoredAnalysis.load(folder)
    plan = stored.select(k=3)
    print_selection(stored, plan, stored.selection_stability(plan), as_json=False)
    for as_json in (True, False):
        print_analysis(Analysis.load(folder), as_json=as_json)


def make_plan(folder: Path) -> None:
    network, example = create_model("resnet14", num_classes=10, in_channels=1), torch.zeros(1, 1, 8, 8)
    points = find_hint_points(network, example)
    HintPlan.explicit(points, [1, 3]).paired(points[:2], "conventional").save(folder / "hints.json")


def make_run(folder: Path) -> None:
    train(Recipe.from_dict({"student": "resnet8", "epochs": 1, "batch_size": 512}), folder, device="cpu")


def use_run(folder: Path) -> None:
    record = RunRecord.load(folder)
    _ = record.all_plans, record.dominant_term
    for as_json in (True, False):
        print_run(record, as_json=as_json)


def resume_run(folder: Path) -> None:
    """What a run checks before it goes on in a folder."""
    recipe = resolve_recipe(Recipe.read(folder / "recipe.yaml"))
    check_same_run(folder, recipe, {}, digits())
    stored_provenance(read_environment(folder))


@functools.cache
def digits() -> ImageData:
    return load_data(Recipe.from_dict({"student": "resnet8"}).data)


@functools.cache
def study_settings() -> StudySettings:
    recipe = resolve_recipe(Recipe.from_dict({"student": "resnet8"}))
    lists, inputs = {"arms": ["alone", "kd"], "seeds": [0, 1]}, {"teacher": "0" * 16}
    return StudySettings("comparison", recipe, inputs=inputs, data=digits(), lists=lists)


def use_settings(folder: Path) -> None:
    seeds_in(folder)
    study_settings().matches(folder)


def make_recipe(folder: Path) -> None:
    values = {"student": "resnet8", "teacher": "resnet14", "losses": {"at": 1, "kd": None}, "hints": "chosen"}
    resolve_recipe(Recipe.from_dict(values)).save(folder / "recipe.yaml")


def make_transfer(folder: Path) -> None:
    accuracies = tuple(LinearAccuracy.of("photos", name, 30, 40) for name in ("sgd", "logistic"))
    runs = tuple(
        TransferredRun(f"runs/{seed}", "resnet8", "digits", seed, 0, accuracies) for seed in range(3)
    )
    images = {"photos": [digits().preprocessing.to_dict()]}
    TransferResult(runs, images, TransferSettings().plain()).save(folder)


def use_transfer(folder: Path) -> None:
    result = TransferResult.load(folder)
    echo(FORMATS["text"](result.table()))
    facts_of(result)


ARTIFACTS = {
    "transfer": Artifact("transfer.json", make_transfer, use_transfer),
    "analysis": Artifact("analysis.json", make_analysis, use_analysis),
    "plan": Artifact(
        "hints.json",
        make_plan,
        lambda folder: print_plan(HintPlan.load(folder / "hints.json"), as_json=False),
    ),
    "hits by image": Artifact("correct.json", make_run, load_hits),
    "environment of a run": Artifact("environment.json", make_run, use_run),
    "environment of a run that resumes": Artifact("environment.json", make_run, resume_run),
    "settings of a study": Artifact(
        "settings.json", lambda folder: study_settings().save(folder), use_settings
    ),
    "memory of the methods": Artifact(
        "memory.json",
        lambda folder: write_json(folder / "memory.json", {"alone": 1, "kd": 2, "crd:negatives=9": 3}),
        lambda folder: read_memory(folder / "memory.json"),
    ),
    "comparison": Artifact(
        "compare.json",
        lambda folder: comparison(folder, ALONE, CONVENTIONAL, KMEANS).save(),
        lambda folder: print_comparison(Comparison.load(folder), as_json=False),
    ),
    "recipe": Artifact(
        "recipe.yaml", make_recipe, lambda folder: resolve_recipe(Recipe.load(folder / "recipe.yaml"))
    ),
}


@pytest.fixture(scope="module", params=ARTIFACTS, ids=lambda name: name.replace(" ", "-"))
def written(request, tmp_path_factory) -> tuple[Artifact, Path]:
    artifact, folder = ARTIFACTS[request.param], tmp_path_factory.mktemp("artifact")
    artifact.make(folder)
    return artifact, folder


@pytest.fixture
def restored(written) -> Iterator[tuple[Artifact, Path, bytes]]:
    artifact, folder = written
    content = (folder / artifact.file).read_bytes()
    yield artifact, folder, content
    (folder / artifact.file).write_bytes(content)


def places(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key, and the first entry of every list."""
    yield path
    if isinstance(values, dict):
        for key, value in values.items():
            yield from places(value, (*path, key))
    elif isinstance(values, list) and values:
        yield from places(values[0], (*path, 0))


def changed(text: str, path: tuple[Any, ...], value: Any) -> Any:
    values = json.loads(text)
    if not path:
        return value
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is DELETED:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return values


def written_out(values: Any) -> str:
    """JSON, which is YAML too."""
    text = json.dumps(values).replace(f'"{DIGITS}"', "7" * 5000)
    return text.replace(f'"{DEEP}"', "[" * 10_000 + "]" * 10_000)


def test_a_damaged_entry_is_one_line(restored, capsys):
    artifact, folder, content = restored
    values = yaml.safe_load(content) if artifact.file.endswith("yaml") else json.loads(content)
    text = json.dumps(values)
    changes = [(path, value) for path in places(values) for value in VALUES if path or value is not DELETED]
    if artifact.file.endswith("yaml"):  # takes seconds each; once is enough, below
        changes = [(path, value) for path, value in changes if value is not DEEP]
    step = max(1, len(changes) // TRIED)
    while gcd(step, len(VALUES)) > 1:  # or some values would never be tried
        step += 1
    messages = []
    for path, value in changes[::step]:
        (folder / artifact.file).write_text(written_out(changed(text, path, value)))
        try:
            artifact.use(folder)
        except PursuhintError as error:
            messages.append(str(error))
        except Exception as error:
            pytest.fail(f"{'.'.join(map(str, path))} = {value!r}: {type(error).__name__}: {error}")
    assert not [message for message in messages if "\n" in message]
    assert len(messages) > len(changes[::step]) / 3


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
    ],
    ids=["byte-order mark", "CRLF", "both"],
)
def test_saved_by_another_editor_it_is_the_same_file(change, restored, capsys):
    artifact, folder, content = restored
    artifact.use(folder)
    usual = capsys.readouterr().out
    (folder / artifact.file).write_bytes(change(content))
    artifact.use(folder)
    assert capsys.readouterr().out == usual


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"{",
        b"[" * 10_000,
        b"null",
        b"[]",
        b'{"a": 1, "a": 2',
        "\ufeff\ufeff{}".encode(),
    ],
)
def test_a_file_that_is_something_else_is_one_line(content, restored):
    artifact, folder, _ = restored
    (folder / artifact.file).write_bytes(content)
    with pytest.raises(PursuhintError) as caught:
        artifact.use(folder)
    assert "\n" not in str(caught.value)


def test_a_study_of_a_version_with_fewer_keys_goes_on(tmp_path):
    study = study_settings()
    study.save(tmp_path)
    stored = json.loads((tmp_path / "settings.json").read_text())
    del stored["recipe"]["student"]["partial"]
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    assert study.matches(tmp_path)
    stored["recipe"]["epochs"] += 1
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    with pytest.raises(PursuhintError, match="epochs is"):
        study.matches(tmp_path)
