"""A search finds the better values by the validation split, resumes, and shares its trials with others."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from pursuhint.errors import PursuhintError
from pursuhint.study import SearchOptions, SearchResult, search
from pursuhint.study.search_result import Confirmation
from pursuhint.study.search_space import parse_varied
from pursuhint.study.search_trials import OpenTrial, Pruned, TrialStore
from pursuhint.study.search_values import check_space
from pursuhint.training import Recipe, RunStopped
from pursuhint.training.inputs import NO_INPUTS
from tests.helpers.study_runs import write_teacher

OPTIONS = SearchOptions(trials=4, pruner="none")
SPACE = ["losses.at=1..1000:log", "optimizer.lr=0.001,0.05"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    weights = write_teacher(tmp_path_factory.mktemp("teacher"), "resnet8")
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(weights)},
            "data": {"name": "digits", "train_samples": 80},
            "losses": {"at": 10.0, "ce": 1.0},
            "optimizer": {"lr": 0.05},
            "schedule": "constant",
            "epochs": 2,
            "batch_size": 36,
        }
    )


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def searched(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> SearchResult:
    out = tmp_path_factory.mktemp("search") / "out"
    options = replace(OPTIONS, confirm_seeds=2, record_teacher=out.parent / "recording")
    return search(recipe, out, SPACE, options=options, device="cpu", watch=lines.append)


def of(result: SearchResult) -> list[tuple[Any, ...]]:
    """What trials did, without times."""
    return [(one.number, one.values, one.state, one.curve) for one in result.trials]


def test_trials_are_ordinary_runs_judged_by_the_validation_split(
    searched: SearchResult, recipe: Recipe, lines: list[str]
) -> None:
    assert [one.number for one in searched.trials] == list(range(4))
    first = searched.trials[0]
    assert first.values == {"losses.at": "10", "optimizer.lr": "0.05"}  # the recipe's own
    assert searched.default == 0
    for one in searched.trials:
        run = searched.path / one.folder
        used = Recipe.load(run / "recipe.yaml")
        assert used.losses["at"].weight == float(one.values["losses.at"])
        assert used.optimizer.lr == float(one.values["optimizer.lr"])
        assert used.data.val_fraction == 0.1
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert list(one.curve) == [line["val_top1"] for line in metrics]
        assert one.top1 == one.curve[-1]
    assert searched.best_trial.top1 == max(one.top1 or 0.0 for one in searched.trials)
    assert searched.importances is not None
    assert sum(searched.importances.values()) == pytest.approx(1)
    assert any("10% of the training images are held out" in line for line in lines)


def test_the_best_recipe_is_the_given_one_with_the_best_values(
    searched: SearchResult, recipe: Recipe
) -> None:
    best = Recipe.load(searched.path / "best.yaml")
    assert best.losses["at"].weight == float(searched.best_trial.values["losses.at"])
    assert best.data.val_fraction == 0  # all training images: nothing is chosen by them any more
    assert best.epochs == recipe.epochs
    assert SearchResult.load(searched.path) == searched


def test_confirmation_is_on_new_seeds(searched: SearchResult, recipe: Recipe) -> None:
    found = searched.confirmation
    if searched.best == searched.default:
        assert found is None
        return
    assert found is not None
    assert found.seeds == (1, 2)
    runs = sorted((searched.path / "confirm").rglob("result.json"))
    assert len(runs) == 4
    tests = {run.parent.parts[-2:]: json.loads(run.read_text())["last"]["test_top1"] for run in runs}
    assert found.best == (tests["best", "seed-1"], tests["best", "seed-2"])
    assert found.default == (tests["default", "seed-1"], tests["default", "seed-2"])


def test_confirmation_is_a_paired_comparison() -> None:
    found = Confirmation(seeds=(1, 2, 3, 4), best=(90.0, 91.0, 92.0, 91.0), default=(80.0, 82.0, 81.0, 81.0))
    assert found.comparison.mean == pytest.approx(10)
    assert found.comparison.verdict == "better"


def test_a_signal_at_the_end_of_a_trial_stops_the_search(
    searched: SearchResult, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = OpenTrial.report

    def end(self: OpenTrial, epoch: int, top1: float, *, last: bool) -> None:
        report(self, epoch, top1, last=last)
        if last:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(OpenTrial, "report", end)
    with pytest.raises(RunStopped) as stopped:
        search(recipe, tmp_path, SPACE, options=OPTIONS, device="cpu")
    assert stopped.value.code == 143
    found = SearchResult.load(tmp_path)
    assert of(found)[0] == of(searched)[0]
    assert found.of_state("complete") == found.trials[:1]
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_a_search_that_is_interrupted_resumes_and_can_be_prolonged(
    searched: SearchResult, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one seed gives one search: here every trial runs the teacher, there it was recorded."""

    class Killed(BaseException):
        pass

    report = TrialStore.end
    ended = 0

    def killed(self: TrialStore, *arguments: Any) -> None:
        nonlocal ended
        ended += 1
        if ended == 2:
            raise Killed
        report(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrialStore, "end", killed)
        with pytest.raises(Killed):
            search(recipe, tmp_path / "out", SPACE, options=replace(OPTIONS, trials=2), device="cpu")
    result = search(recipe, tmp_path / "out", SPACE, options=replace(OPTIONS, trials=2), device="cpu")
    assert of(result) == of(searched)[:2]
    longer = search(recipe, tmp_path / "out", SPACE, options=replace(OPTIONS, trials=3), device="cpu")
    assert of(longer) == of(searched)[:3]


def test_a_trial_below_the_median_ends_early(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, [parse_varied("losses.at=1..9")], seed=0, pruner="median", epochs=3)
    for _ in range(5):
        (one,) = store.take(1, 7)
        for epoch, top1 in enumerate((50.0, 60.0, 70.0), 1):
            one.report(epoch, top1, last=epoch == 3)
        store.end(one, 70.0, None)
    (bad,) = store.take(1, 7)
    with pytest.raises(Pruned, match="after epoch 1"):
        bad.report(1, 49.0, last=False)
    store.end(bad, None, Pruned(""))
    (good,) = store.take(1, 7)
    good.report(1, 51.0, last=False)
    good.report(2, 10.0, last=True)  # it is over anyway
    store.end(good, 10.0, None)
    assert store.take(1, 7) == []
    states = [one.state for one in store.trials()]
    assert states == [*["complete"] * 5, "pruned", "complete"]
    assert store.trials()[5].curve == (49.0,)


@pytest.mark.filterwarnings("ignore:The value of `grace_period`")
def test_a_search_that_was_killed_in_the_middle_of_a_line_of_the_journal_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pursuhint.study.search_trials._GRACE", 1)
    monkeypatch.chdir(tmp_path)
    space = [parse_varied("losses.at=1..9")]
    TrialStore(Path(), space, seed=0, pruner="none", epochs=2).begin_with({"losses.at": 2.0})
    Path("trials.journal.lock").touch()
    (trial,) = TrialStore(Path(), space, seed=0, pruner="none", epochs=2).take(1, 1)
    assert trial.values == {"losses.at": "2"}
    assert not Path("trials.journal.lock").exists()


def test_a_diverging_trial_stops_nothing_and_trials_train_side_by_side(
    recipe: Recipe, tmp_path: Path
) -> None:
    options = SearchOptions(trials=4, pruner="none", at_once=4)
    short = recipe.override("epochs=1")
    result = search(short, tmp_path / "out", ["optimizer.lr=0.05,1e9"], options=options, device="cpu")
    states = {one.values["optimizer.lr"]: one.state for one in result.trials}
    assert states == {"0.05": "complete", "1e9": "failed"}
    longer = replace(options, trials=6, at_once=1)
    result = search(short, tmp_path / "out", ["optimizer.lr=0.05,1e9"], options=longer, device="cpu")
    again = [one for one in result.trials[4:] if one.state == "complete"]
    assert again  # with the values of an earlier trial, which is not trained again
    assert {one.folder for one in again} <= {one.folder for one in result.trials[:4]}
    assert {one.top1 for one in again} == {result.best_trial.top1}
    assert "finite" in str(result.of_state("failed")[0].error)
    assert result.best_trial.values == {"optimizer.lr": "0.05"}


def test_two_searches_in_one_folder_share_the_trials(
    searched: SearchResult, recipe: Recipe, tmp_path: Path
) -> None:
    """The second one begins while the first is in its first trial: it takes other trials, and none twice."""
    inner: list[SearchResult] = []

    def watch(line: str) -> None:
        if line.startswith("trial 1 ") and not inner:
            inner.append(search(recipe, tmp_path / "out", SPACE, options=OPTIONS, device="cpu"))

    outer = search(recipe, tmp_path / "out", SPACE, options=OPTIONS, device="cpu", watch=watch)
    assert [one.number for one in outer.trials] == list(range(4))
    assert of(outer) == of(searched)


def test_a_trial_of_another_process_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    options = SearchOptions(trials=2, pruner="none")
    space = [parse_varied(text) for text in SPACE]
    (tmp_path / "out").mkdir()
    results: list[SearchResult] = []
    taken = []

    def watch(line: str) -> None:
        if line.startswith("trial 0"):
            store = TrialStore(tmp_path / "out", space, seed=0, pruner="none", epochs=2)
            taken.extend(store.take(1, 2))

    (tmp_path / "out").rmdir()
    results.append(search(recipe, tmp_path / "out", SPACE, options=options, device="cpu", watch=watch))
    assert not results[0].finished
    assert [one.state for one in results[0].trials] == ["complete", "running"]
    taken[0].lock.close()  # its process ends
    results.append(search(recipe, tmp_path / "out", SPACE, options=options, device="cpu"))
    assert [one.state for one in results[1].trials] == ["complete", "complete"]
    assert results[1].trials[1].values == taken[0].values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("losses.at", "cannot read what to vary"),
        ("losses.at=5", "at least two different choices"),
        ("losses.at=5..1", "is no range"),
        ("losses.at=0..1:log", "is no range of positive numbers"),
        ("losses.at=1..2:lin", "there is log"),
        ("losses.at=a..b", "'a' in 'losses.at=a..b' is not a number"),
    ],
    ids=["no-values", "one-choice", "backwards", "log-of-zero", "scale", "words"],
)
def test_what_cannot_be_varied_is_refused(text: str, message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        parse_varied(text)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (["losses.att=1..2"], "did you mean 'at'"),
        (["optimizer.lrr=1..2"], "did you mean 'lr'"),
        (["optimizer.lr=-1..2"], "optimizer.lr"),
        (["seed=1,2"], "seed cannot be varied"),
        (["losses.at=1..2", "losses.at=3..4"], "varied twice"),
        (["save_every_steps=5..7", "batch_size=32,64"], "cannot replay one recording"),
        (["losses.at.p=2,+2"], "would be ignored"),
        ([], "nothing to vary"),
    ],
    ids=["loss", "key", "value", "seed", "twice", "recording", "no-effect", "none"],
)
def test_a_wrong_space_is_refused_before_anything_is_written(
    recipe: Recipe, tmp_path: Path, vary: list[str], message: str
) -> None:
    options = SearchOptions(record_teacher=tmp_path / "recording")
    with pytest.raises(PursuhintError, match=message):
        search(recipe, tmp_path / "out", vary, options=options, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_search_is_refused(searched: SearchResult, recipe: Recipe) -> None:
    for changed, vary, message in (
        (recipe.override("epochs=3"), SPACE, "epochs is 2 there and 3 here"),
        (recipe, ["losses.at=1..2000:log", SPACE[1]], "holds a search"),
    ):
        with pytest.raises(PursuhintError, match=message):
            search(changed, searched.path, vary, options=OPTIONS, device="cpu")


def test_overwrite_replaces_another_search(searched: SearchResult, recipe: Recipe, tmp_path: Path) -> None:
    old = Path(shutil.copytree(searched.path, tmp_path / "old"))
    options = replace(OPTIONS, trials=1, overwrite=True)
    found = search(recipe, old, ["losses.at=1..2000:log"], options=options, device="cpu")
    assert len(found.trials) == 1
    assert {path.name for path in (old / "trials").iterdir()} == {"0000"}
    assert not (old / "confirm").exists()
    again = search(recipe, old, ["losses.at=1..2000:log"], options=options, device="cpu")
    assert (again.trials, again.best, again.space) == (found.trials, found.best, found.space)


def test_whole_numbers_stay_whole(recipe: Recipe) -> None:
    texts = ["epochs=1..9", "losses.at=5..20", "losses.at.p=1..3"]
    space = check_space(recipe, [parse_varied(text) for text in texts], NO_INPUTS, recorded=False)
    assert [one.whole for one in space] == [True, False, True]
    assert space[0].text(4.6) == "5"
    assert space[1].text(12.34567) == "12.35"
