"""Figures of the papers: the numbers behind them are right, and every one is written as picture and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from matplotlib.text import Text

from pursuhint.analysis import Analysis, analyze
from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights
from pursuhint.report import FIGURES, FigureSettings, write_figure
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.report.paper_figures.network_blocks import BlockRow, block_rows
from pursuhint.report.paper_figures.weight_curve import find_curves
from pursuhint.study.compression import compressed_pairs
from pursuhint.study.logit_correlation import CorrelationSum
from pursuhint.training import Recipe, RunRecord, train
from tests.helpers.figure_runs import SUBSET, two_weights
from tests.helpers.study_runs import untrained


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    return two_weights(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def analysis(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("analysis")
    data = load_dataset("digits")
    found = analyze(
        untrained("resnet14"), data, metrics=("cka", "r2cca"), samples=200, stability=False, device="cpu"
    )
    found.save(folder)
    return folder


def drawn(name: str, folders: list[Path], out: Path, **settings) -> dict:
    """The numbers of a figure, from its file; the picture is there, opaque and not blank."""
    write_figure(name, folders, out, settings=FigureSettings(device="cpu", **settings))
    assert (out / f"{name}.svg").stat().st_size > 1000
    pixels = imread(out / f"{name}.png")
    assert pixels[..., :3].std() > 0.01
    assert (pixels[..., 3:] == 1).all()  # readable on a dark page
    found = json.loads((out / f"{name}.json").read_text())
    assert found["caption"]
    assert found["folders"] == [str(folder) for folder in folders]
    return found["numbers"]


# -- correlations of logits


def test_correlations_from_batches_are_those_of_all_rows():
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1000
    total = CorrelationSum(4)
    for part in rows.split(7):
        total.add(part)
    np.testing.assert_allclose(total.matrix("rows"), np.corrcoef(rows.double().numpy().T), atol=1e-10)


@pytest.mark.parametrize("value", [3.1, float("nan")], ids=["constant", "nan"])
def test_a_column_without_spread_has_no_correlation(value):
    total = CorrelationSum(2)
    total.add(torch.stack([torch.randn(20), torch.full((20,), value)], dim=1))
    with pytest.raises(PursuhintError, match="logits of the teacher are constant or not finite"):
        total.matrix("the teacher")


def test_logit_correlation_is_that_of_both_networks_on_all_test_images(runs, tmp_path):
    found = drawn("logit-correlation", runs, tmp_path)["runs"]
    data = load_dataset("digits")
    images = (data.test.images / 255 - data.mean[0]) / data.std[0]
    teacher = create_model("resnet14", num_classes=10, in_channels=1).eval()
    load_weights(teacher, runs[0].parent / "resnet14.safetensors")
    with torch.no_grad():
        logits = [
            network(images).double().numpy() for network in (teacher, RunRecord.load(runs[1]).load_student())
        ]
    expected = np.corrcoef(logits[0].T) - np.corrcoef(logits[1].T)
    np.testing.assert_allclose(found[1]["difference"], expected, atol=1e-4)
    of_pairs = np.abs(expected)[~np.eye(10, dtype=bool)]
    assert found[1]["mean_absolute_difference"] == pytest.approx(of_pairs.mean(), abs=1e-4)
    assert found[0]["difference"] != found[1]["difference"]
    assert found[0]["test_images"] == len(data.test)


def test_a_run_without_a_teacher_is_refused(tmp_path):
    train(Recipe.from_dict({"student": "resnet8", "epochs": 1, "data": SUBSET}), tmp_path, device="cpu")
    with pytest.raises(PursuhintError, match="has no teacher"):
        write_figure("logit-correlation", [tmp_path], tmp_path / "figures")


# -- weight curves


def with_accuracy(run: RunRecord, top1: float, **changes) -> RunRecord:
    """A run of another recipe that ended with some accuracy."""
    values = run.recipe.to_dict()
    for key, value in changes.items():
        place = values
        *way, last = key.split("__")
        for step in way:
            place = place[step]
        place[last] = value
    return replace(run, recipe=Recipe.from_dict(values), metrics=({**run.last, "test_top1": top1},))


def test_curves_are_means_over_seeds_by_the_number_that_differs(runs):
    run = RunRecord.load(runs[0])
    several = [
        with_accuracy(run, 70.0, losses__at__weight=500.0, seed=1),
        with_accuracy(run, 60.0, losses__at__weight=5.0),
        with_accuracy(run, 74.0, losses__at__weight=500.0),
        with_accuracy(run, 50.0, losses__at__weight=5.0, student__network="resnet14"),
    ]
    key, (first, second) = find_curves(several)
    assert key == "losses.at.weight"
    assert (first.name, first.means) == ("resnet8", {5.0: 60.0, 500.0: 72.0})
    assert (list(first.means), first.best) == ([5.0, 500.0], 500.0)
    assert (second.name, second.means) == ("resnet14", {5.0: 50.0})


def test_the_weight_of_cross_entropy_may_follow_another(runs):
    run = RunRecord.load(runs[0])
    several = [
        with_accuracy(run, 60.0, losses__kd__weight=weight, losses__ce__weight=1 - weight)
        for weight in (0.1, 0.9)
    ]
    key, (curve,) = find_curves(several)
    assert (key, curve.name, list(curve.means)) == ("losses.kd.weight", "", [0.1, 0.9])


def test_runs_that_differ_in_no_number_or_in_two_are_refused(runs):
    run = RunRecord.load(runs[0])
    with pytest.raises(PursuhintError, match=r"differ in none \(but in student.network\)"):
        find_curves([run, with_accuracy(run, 50.0, student__network="resnet14")])
    with pytest.raises(PursuhintError, match=r"losses.kd.weight and losses.at.weight"):
        find_curves([run, with_accuracy(run, 50.0, losses__kd__weight=0.5, losses__at__weight=7.0)])


def test_weight_curve_is_drawn_from_runs(runs, tmp_path):
    (curve,) = drawn("weight-curve", runs, tmp_path)["curves"]
    tops = [RunRecord.load(run).last["test_top1"] for run in runs]
    assert [(point["losses.at.weight"], point["mean"]) for point in curve["points"]] == [
        (10.0, tops[0]),
        (100.0, tops[1]),
    ]


# -- the two steps of an analysis


def test_seconds_of_both_steps_are_those_of_the_analysis(analysis, tmp_path):
    rows = drawn("analysis-seconds", [analysis], tmp_path)["rows"]
    found = Analysis.load(analysis)
    assert [row["metric"] for row in rows] == ["cka", "r2cca"]
    for row in rows:
        assert (row["layers"], row["images"]) == (6, 200)
        assert row["collect"] == found.seconds.collect
        assert row["similarity"] == found.seconds.similarity[row["metric"]]
        assert row["cluster"] == found.seconds.clustering[row["metric"]]


def test_a_folder_without_an_analysis_is_refused(runs, tmp_path):
    with pytest.raises(PursuhintError, match="holds no analysis"):
        write_figure("analysis-seconds", [runs[0]], tmp_path)


# -- networks as blocks


def test_blocks_of_an_analysis_are_its_layers_clusters_and_hints(analysis, tmp_path):
    usual, clustered = drawn("network-blocks", [analysis], tmp_path)["rows"]
    found = Analysis.load(analysis)
    assert [block["position"] for block in usual["blocks"] if block["hint"]] == [2, 4, 6]
    assert {block["cluster"] for block in usual["blocks"]} == {None}
    chosen = [point.position for point in found.plan.teacher_points]
    assert [block["position"] for block in clustered["blocks"] if block["hint"]] == chosen
    labels = found.clusters.clusterings["cka"]["kmeans"].labels
    assert [block["cluster"] for block in clustered["blocks"]] == ["ABC"[label] for label in labels]
    sizes = [(block["channels"], block["spatial"]) for block in usual["blocks"]]
    assert sizes[::2] == [(16, [8, 8]), (32, [4, 4]), (64, [2, 2])]


def test_blocks_of_a_run_join_what_learns_from_what(runs, tmp_path):
    teacher, student = drawn("network-blocks", [runs[0]], tmp_path)["rows"]
    plan = RunRecord.load(runs[0]).plan
    assert plan is not None
    pairs = [[pair.teacher.module, pair.student.module] for pair in plan.pairs]
    assert (teacher["pairs"], student["pairs"]) == (pairs, [])
    assert [block["module"] for block in teacher["blocks"] if block["hint"]] == [one for one, _ in pairs]
    assert [block["module"] for block in student["blocks"] if block["hint"]] == [two for _, two in pairs]
    assert (len(teacher["blocks"]), len(student["blocks"])) == (6, 3)


def test_blocks_of_a_deep_network_and_of_tokens_are_drawn():
    tap = Tap("x", "output", 0)
    deep = tuple(
        HintPoint(f"b{i}", i + 1, 150, "post", 64, (14, 14) if i < 75 else (7, 7), 1 + i // 75, tap)
        for i in range(150)
    )
    tokens = tuple(HintPoint(f"t{i}", i + 1, 12, "post", 192, (65,), 1, tap) for i in range(12))
    rows = [
        BlockRow("deep", deep, (None, *[i % 3 for i in range(149)]), frozenset({"b0", "b1", "b149"})),
        BlockRow("tokens", tokens, None, frozenset({"t11"})),
    ]
    figure = block_rows(rows)
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert {"1", "2", "150", "12", "65 tokens\n192 channels", "A", "B", "C"} <= set(shown)


# -- compression


def test_compression_counts_parameters_and_averages_seeds(runs, tmp_path):
    (first, second) = drawn("compression", runs, tmp_path)["pairs"]
    sizes = [
        sum(p.numel() for p in create_model(name, num_classes=10, in_channels=1).parameters())
        for name in ("resnet8", "resnet14")
    ]
    assert [first[role]["parameters"] for role in ("student", "teacher")] == sizes
    assert first["compression_percent"] == pytest.approx(100 * (1 - sizes[0] / sizes[1]))
    assert first["speed_up"] == first["teacher"]["seconds"] / first["student"]["seconds"]
    run = RunRecord.load(runs[0])
    assert first["student"]["test_top1"] == [run.last["test_top1"]]
    assert first["teacher"]["test_top1"] == run.teacher_accuracy.top1
    assert (first["runs"], second["runs"]) == ([str(runs[0])], [str(runs[1])])
    twin = replace(with_accuracy(run, 40.0, seed=1), path=Path("twin"))
    (pair,) = compressed_pairs([replace(run, metrics=({**run.last, "test_top1": 60.0},)), twin])
    assert (pair.mean_top1, pair.runs) == (50.0, (str(runs[0]), "twin"))


# -- all figures


def test_names_tell_folders_apart():
    assert short_names([Path("/a/x/at"), Path("/b/x/at"), Path("/b/x/kd")]) == ["a/x/at", "b/x/at", "kd"]
    assert short_names([Path("/")]) == ["/"]


def test_a_folder_named_twice_and_none_are_refused(runs, tmp_path):
    with pytest.raises(PursuhintError, match="is named twice"):
        write_figure("weight-curve", [runs[0], runs[0].parent / "." / runs[0].name], tmp_path)
    with pytest.raises(PursuhintError, match="a list of folders"):
        write_figure("weight-curve", [], tmp_path)


def test_every_figure_uses_settings_that_there_are():
    for figure in FIGURES.values():
        assert set(figure.settings) <= set(FigureSettings.__dataclass_fields__) - {"watch"}


def test_the_page_of_documentation_names_every_figure():
    text = Path(__file__).parents[2].joinpath("docs", "figures.md").read_text()
    assert [name for name in FIGURES if f"`{name}`" not in text] == []
