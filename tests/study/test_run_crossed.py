"""Arms crossed with sets of losses and lengths."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from html import escape
from types import MappingProxyType

import pytest

from pursuhint._util.devices import choose_device
from pursuhint._util.text import capital
from pursuhint.errors import PursuhintError
from pursuhint.report import write_figure, write_report
from pursuhint.report.figures import grouped_bars
from pursuhint.report.page_model import FigureFolder
from pursuhint.report.sections.crossed import build_crossed_page
from pursuhint.study import (
    Comparison,
    ComparisonRequest,
    CrossedComparison,
    Crossing,
    StudyOptions,
    compare,
    compare_crossed,
)
from pursuhint.study.crossed_summary import summary_of
from pursuhint.study.events import ArmFinished
from pursuhint.study.paired_statistics import summarize
from pursuhint.training import RunRecord
from pursuhint.training.events import TeacherMeasured
from pursuhint.training.inputs import Inputs
from pursuhint.training.recipe.schema import LossConfig
from tests.helpers.study_runs import recipe, write_teacher

SETS = {"attention": {"ce": LossConfig(weight=1), "at": LossConfig(weight=100)}, "sp": {"sp": LossConfig()}}
ARMS = ("alone", "conventional", "even", "random", "sweep")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"))


def crossed(teacher, data, out, *, arms=ARMS, seeds=(0,), epochs=(1, 2), sets=SETS, events=None):
    """Two sets of losses and two lengths of a resnet8 whose teacher has six layers."""
    options = StudyOptions(choose_device("cpu"), None, False, None if events is None else events.append)
    return compare_crossed(
        recipe(teacher, losses={}),
        out,
        Crossing(sets, epochs),
        request=ComparisonRequest(arms, seeds),
        options=options,
        passed=Inputs(data=data),
    )


@pytest.fixture(scope="module")
def finished(teacher, data, tmp_path_factory):
    return crossed(teacher, data, tmp_path_factory.mktemp("crossed") / "out")


def test_every_cell_is_an_ordinary_comparison(finished):
    assert [(cell.loss_set, cell.epochs) for cell in finished.cells] == [
        ("attention", 1), ("attention", 2), ("sp", 1), ("sp", 2),
    ]  # fmt: skip
    for cell, comparison in zip(finished.cells, finished.comparisons):
        assert len(comparison.arms) == 4 + 6
        for arm in comparison.arms:
            record = RunRecord.load(comparison.path / arm.runs[0].folder)
            assert record.finished
            assert len(record.metrics) == cell.epochs
            assert {"attention": "at", "sp": "sp"}[
                cell.loss_set
            ] in record.recipe.losses or arm.name == "alone"


def test_a_cell_equals_the_comparison_by_itself(finished, teacher, data, tmp_path):
    own = recipe(teacher, losses={"ce": 1, "at": 100}, epochs=2)
    alone = compare(
        own, tmp_path, arms=("alone", "conventional", "even"), seeds=(0,), data=data, device="cpu"
    )
    cell = finished.comparisons[1]
    for arm in alone.arms:
        assert cell.arm(arm.name).last.values == arm.last.values


def test_the_same_run_of_two_cells_is_trained_once(finished):
    first, second = (finished.comparisons[i].path / "arms/alone/seed-0/metrics.jsonl" for i in (0, 2))
    assert first.read_bytes() == second.read_bytes()  # times included: a copy


def test_the_same_call_trains_nothing(finished, teacher, data):
    events = []
    again = crossed(teacher, data, finished.path, events=events)
    assert again.comparisons == finished.comparisons
    ended = [event for event in events if isinstance(event, ArmFinished)]
    assert ended
    assert {event.source for event in ended} <= {"found", "same"}
    assert sum(isinstance(event, TeacherMeasured) for event in events) == 1  # cells share the teacher
    with pytest.raises(PursuhintError, match="lengths can be added but not dropped"):
        crossed(teacher, data, finished.path, epochs=(1,))


def test_more_lengths_are_added(teacher, data, tmp_path):
    options = {"arms": ("alone", "conventional"), "sets": {"sp": SETS["sp"]}}
    crossed(teacher, data, tmp_path, epochs=(1,), **options)
    events = []
    longer = crossed(teacher, data, tmp_path, epochs=(1, 2), events=events, **options)
    assert [cell.epochs for cell in longer.cells] == [1, 2]
    ended = Counter(event.source for event in events if isinstance(event, ArmFinished))
    assert ended == {"found": 2, "trained": 2}


@pytest.mark.parametrize(("lowest", "cut"), [(0.0, False), (40.0, True)])
def test_the_caption_says_where_the_axis_of_the_bars_begins(finished, tmp_path, monkeypatch, lowest, cut):
    def bars(groups):
        figure = grouped_bars(groups)
        figure.axes[0].set_ylim(lowest, 100)
        return figure

    monkeypatch.setattr("pursuhint.report.sections.crossed.grouped_bars", bars)
    page = build_crossed_page(finished, FigureFolder(tmp_path))
    (picture,) = (picture for title, picture in page.crossed.pictures if title == "Arms by losses and length")
    assert ("does not begin at zero" in picture.caption) == cut


def with_accuracies(comparison, **means):
    """A comparison with other accuracies of some arms, and no finding of its own."""
    arms = []
    for arm in comparison.arms:
        value = means.get(arm.name, 50.0)
        runs = tuple(
            run.model_copy(update={"last_top1": value, "dominant_term": None, "dominant_share": None})
            for run in arm.runs
        )
        arms.append(arm.model_copy(update={"runs": runs, "last": summarize([value])}))
    return comparison.model_copy(update={"arms": tuple(arms)})


def test_cells_with_the_same_finding_share_a_sentence(finished):
    finished = CrossedComparison.load(finished.path)
    cells = {(cell.loss_set, cell.epochs): number for number, cell in enumerate(finished.cells)}

    def said(below):
        """The sentences, if the student alone is best in these cells; and those on that alone."""
        study = finished.model_copy()
        study.__dict__["comparisons"] = tuple(
            with_accuracies(comparison, alone=60 + number if number in below else 40, even=55)
            for number, comparison in enumerate(finished.comparisons)
        )
        found = summary_of(study)
        return found, [sentence for sentence in found if "below the student alone" in sentence]

    every, (all_below,) = said(set(cells.values()))
    assert all_below.startswith(f"In all {len(cells)} comparisons: ")
    assert f"even, by 5.00 to {5 + len(cells) - 1}.00 points" in all_below
    assert len(every) == 4  # below the student alone, one seed, the best arm, the accuracies
    (reached,) = (sentence for sentence in every if "reaches" in sentence)
    assert f"60.0 to {60 + len(cells) - 1}.0 % alone, 50.0 to 55.0 % with hints" in reached
    some, (below,) = said({cells["attention", 1]})
    assert below.startswith("With loss set attention, 1 epoch: ")
    assert len(some) == 4
    _, (two,) = said({cells["attention", 1], cells["attention", 2], cells["sp", 2]})
    assert two.startswith("With loss set attention, 1 and 2 epochs; loss set sp, 2 epochs: ")
    _, (across,) = said({cells["attention", 2], cells["sp", 2]})
    assert across.startswith("With loss sets attention and sp, 2 epochs: ")
    assert said(set())[1] == []


def test_the_report_has_the_pictures_of_the_study(finished):
    page = write_report(finished.path)
    names = {path.stem for path in (finished.path / "figures").glob("*.png")}
    assert {"bars", "lengths-1", "lengths-2", "landscape-1"} <= names
    text = page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "Every layer alone" in text
    for comparison in finished.comparisons:
        assert comparison.findings  # one seed gives no intervals
        own = (comparison.path / "report.html").read_text(encoding="utf-8")
        for finding in comparison.findings:
            assert escape(capital(finding), quote=False)[:60] in own
    for sentence in summary_of(finished):
        assert escape(sentence, quote=False) in text
    for cell in finished.cells:
        assert (finished.path / cell.folder / "report.html").exists()


def figure_of(name, folders, out):
    """The numbers of a figure, from its file; the picture is there."""
    write_figure(name, folders, out)
    assert all((out / f"{name}.{kind}").stat().st_size > 1000 for kind in ("png", "svg"))
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))["numbers"]


def comparison_in(study, loss_set, epochs):
    return Comparison.load(study.path / "cells" / f"{loss_set}-{epochs}-epochs")


def copy_of(comparison, out, *, arms=None, names=MappingProxyType({})):
    """A comparison with some of its arms, perhaps under other names."""
    out.mkdir()
    shutil.copy(comparison.path / "settings.json", out)
    kept = tuple(
        arm.model_copy(update={"name": names.get(arm.name, arm.name)})
        for arm in comparison.arms
        if arms is None or arm.name.partition(":")[0] in arms
    )
    comparison.model_copy(update={"path": out, "arms": kept, "against": {}, "sentences": {}}).save()
    return out


def test_bars_and_lengths_are_figures_with_names(finished, tmp_path):
    finished = CrossedComparison.load(finished.path)  # others may have added a length
    groups = figure_of("grouped-bars", [finished.path], tmp_path)["groups"]
    assert [group["title"] for group in groups] == [cell.title for cell in finished.cells]
    for group, comparison in zip(groups, finished.comparisons):
        assert group["arms"] == {
            name: list(comparison.arm(name).last.values)
            for name in ("alone", "conventional", "even", "random")
        }
    lengths = figure_of("length-curves", [finished.path], tmp_path)["lengths"]
    assert [(entry["losses"], entry["epochs"]) for entry in lengths] == [
        (cell.loss_set, cell.epochs) for cell in finished.cells
    ]
    assert [entry["arms"] for entry in lengths] == [group["arms"] for group in groups]


def test_comparisons_of_several_folders_are_in_one_figure(finished, tmp_path):
    attention, sp = (comparison_in(finished, name, 1) for name in ("attention", "sp"))
    own = copy_of(sp, tmp_path / "own", arms=("conventional", "even"))
    first, second = figure_of("grouped-bars", [attention.path, own], tmp_path)["groups"]
    assert list(first["arms"]) == list(second["arms"]) == ["conventional", "even"]
    assert "left out: student alone and random" in (tmp_path / "grouped-bars.json").read_text()
    with pytest.raises(PursuhintError, match="two lengths or more of each set"):
        write_figure("length-curves", [attention.path, own], tmp_path)
    with pytest.raises(PursuhintError, match="same losses and length"):
        write_figure("length-curves", [finished.path, copy_of(sp, tmp_path / "x"), own], tmp_path)


def test_the_baseline_stands_beside_every_proposed_arm(finished, tmp_path):
    comparison = comparison_in(finished, "attention", 1)
    with pytest.raises(PursuhintError, match="one that chooses by similarity"):
        write_figure("baseline-proposed", [comparison.path], tmp_path)
    folder = copy_of(comparison, tmp_path / "chosen", names={"even": "kmeans", "random": "segments"})
    rows = figure_of("baseline-proposed", [folder], tmp_path)["rows"]
    assert [row["arm"] for row in rows] == ["kmeans", "segments"]
    assert [row["proposed"] for row in rows] == [
        list(comparison.arm(name).last.values) for name in ("even", "random")
    ]


def test_a_landscape_shows_the_arms_of_another_comparison_of_its_teacher(finished, tmp_path):
    comparison = comparison_in(finished, "attention", 1)
    alone = copy_of(comparison, tmp_path / "landscape", arms=("sweep",))
    (curve,) = figure_of("landscape", [alone], tmp_path)["curves"]
    assert curve["layers"] == {
        str(layer): list(comparison.arm(f"sweep:{layer}").last.values) for layer in range(1, 7)
    }
    assert (curve["arms"], curve["no_hints"]) == ({}, None)
    arms = copy_of(comparison, tmp_path / "arms", arms=("alone", "conventional", "even", "random"))
    (both,) = figure_of("landscape", [alone, arms], tmp_path)["curves"]
    (own,) = figure_of("landscape", [comparison.path], tmp_path)["curves"]
    assert both == own
    assert list(both["arms"]) == ["conventional", "even", "random"]
    longer = comparison_in(finished, "attention", 2)
    (other,) = figure_of("landscape", [alone, longer.path], tmp_path)["curves"][:1]
    assert other["arms"] == {}  # the longer one has a landscape of its own
    with pytest.raises(PursuhintError, match="--arm sweep"):
        write_figure("landscape", [arms], tmp_path)
    settings = (arms / "settings.json").read_text(encoding="utf-8")
    teacher = json.loads(settings)["inputs"]["teacher"]
    (arms / "settings.json").write_text(settings.replace(teacher, teacher[::-1]), encoding="utf-8")
    with pytest.raises(PursuhintError, match="has another teacher"):
        write_figure("landscape", [alone, arms], tmp_path)


@pytest.mark.parametrize(
    ("sets", "epochs", "message"),
    [
        ({"a": {}}, (), "at least one loss"),
        ({"a": SETS["sp"], "A": SETS["sp"]}, (), "have one name"),
        (SETS, (3, 3), "different numbers"),
        (SETS, (0,), "different numbers"),
    ],
)
def test_sets_and_lengths_that_cannot_be_are_refused(sets, epochs, message):
    with pytest.raises(PursuhintError, match=message):
        Crossing(sets, epochs)


def test_a_set_without_hints_is_refused_before_anything_is_trained(teacher, data, tmp_path):
    sets = {**SETS, "kd": {"kd": LossConfig()}}
    with pytest.raises(PursuhintError, match="no loss of the recipe looks at hint points"):
        crossed(teacher, data, tmp_path / "out", sets=sets)
    assert not list((tmp_path / "out").rglob("metrics.jsonl"))


def test_comparisons_of_cells_load_by_themselves(finished):
    assert Comparison.load(finished.path / finished.cells[0].folder) == finished.comparisons[0]
