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
from pursuhint.data import ImageData, load_dataset, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights
from pursuhint.report import FIGURES, FigureSettings, write_figure
from pursuhint.report.paper_figures.attention import visible
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.report.paper_figures.network_blocks import BlockRow, block_rows
from pursuhint.report.paper_figures.weight_curve import find_curves
from pursuhint.study.attention_maps import pairs_of
from pursuhint.study.compression import compressed_pairs
from pursuhint.study.embedding_map import choose_images, map_embeddings, read_embeddings
from pursuhint.study.logit_correlation import CorrelationSum
from pursuhint.study.run_networks import load_run_networks
from pursuhint.study.same_setting import setting_of
from pursuhint.training import Recipe, RunRecord, train
from tests.helpers.figure_runs import SUBSET, two_weights
from tests.helpers.study_runs import recipe, untrained, write_teacher


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


def test_a_run_without_a_teacher_is_compared_with_that_of_another(runs, tmp_path):
    alone = tmp_path / "alone"
    train(Recipe.from_dict({"student": "resnet8", "epochs": 1, "data": SUBSET}), alone, device="cpu")
    with pytest.raises(PursuhintError, match="has no teacher to compare its student with; add a run"):
        write_figure("logit-correlation", [alone], tmp_path)
    said: list[str] = []
    first, _ = drawn("logit-correlation", [alone, runs[0]], tmp_path, watch=said.append)["runs"]
    assert first["teacher"] == "resnet14"
    assert "it had no teacher" in said[0]
    assert "it had no teacher" not in said[1]
    (control, own) = load_run_networks([alone, runs[0]], device="cpu")
    assert control.teacher is own.teacher


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


def test_a_teacher_of_its_own_for_every_seed_is_the_same_setting(runs):
    run = RunRecord.load(runs[0])
    several = [
        with_accuracy(
            run, 50.0, seed=seed, losses__at__weight=weight, teacher__checkpoint=f"t/seed-{seed}/x.pth"
        )
        for weight in (5.0, 50.0)
        for seed in (1, 10)
    ]
    _, (curve,) = find_curves(several)
    assert {number: len(values) for number, values in curve.accuracies.items()} == {5.0: 2, 50.0: 2}
    other = with_accuracy(run, 50.0, losses__at__weight=5.0, teacher__checkpoint="t/seed-1/x.pth")
    assert setting_of(other) != setting_of(several[0])  # of seed 0 with the teacher of seed 1


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


# -- embeddings and attention


def test_embeddings_are_what_the_classifiers_take(runs, tmp_path):
    (networks,) = load_run_networks(runs[:1], device="cpu")
    chosen = choose_images(networks.data.test.labels, classes=3, samples=40, seed=1)
    assert len(chosen) == 40
    assert set(networks.data.test.labels[chosen].tolist()) == {0, 1, 2}
    found = read_embeddings(networks, chosen)
    images = networks.data.test.images[chosen] / 255
    with torch.no_grad():
        logits = networks.student((images - networks.data.mean[0]) / networks.data.std[0])
    (weight, bias) = list(networks.student.parameters())[-2:]
    np.testing.assert_allclose(
        found.student @ weight.detach().double().numpy().T + bias.detach().numpy(), logits, atol=1e-4
    )
    assert (found.labels == networks.data.test.labels[chosen].numpy()).all()


def test_classes_that_are_apart_have_a_high_silhouette_and_places_that_are_apart():
    labels = np.arange(40) % 2
    rows = np.random.default_rng(0).normal(size=(40, 5)) + 50 * labels[:, None]
    places, apart = map_embeddings(rows, labels, seed=0)
    assert apart is not None
    assert apart > 0.9
    own = np.linalg.norm(places[labels == 0] - places[labels == 0].mean(0), axis=1).max()
    assert np.linalg.norm(places[labels == 0].mean(0) - places[labels == 1].mean(0)) > own
    assert map_embeddings(rows, labels * 0, seed=0)[1] is None


def test_too_few_images_for_a_map_are_refused():
    with pytest.raises(PursuhintError, match="at least 10 test images, got 4"):
        choose_images(torch.zeros(100), classes=2, samples=4, seed=0)


def test_tsne_has_one_panel_for_a_shared_teacher(runs, tmp_path):
    panels = drawn("tsne", runs, tmp_path, samples=30, seed=3)["panels"]
    assert [panel["title"] for panel in panels] == ["teacher: resnet14", "at-10: resnet8", "at-100: resnet8"]
    assert all(np.shape(panel["places"]) == (30, 2) for panel in panels)


def test_attention_is_energy_over_channels_and_its_cosine_over_all_test_images(runs, tmp_path):
    (found,) = drawn("attention", runs[:1], tmp_path, images=2, seed=1)["runs"]
    plan = RunRecord.load(runs[0]).plan
    assert plan is not None
    assert [(pair["teacher"], pair["student"]) for pair in found["pairs"]] == [
        (pair.teacher.module, pair.student.module) for pair in plan.pairs
    ]
    (networks,) = load_run_networks(runs[:1], device="cpu")
    images = (networks.data.test.images / 255 - networks.data.mean[0]) / networks.data.std[0]
    energies = []
    for network, points in ((networks.teacher, plan.teacher_points), (networks.student, plan.student_points)):
        with torch.no_grad():
            maps = FeatureExtractor(network, points, logits=False)(images).maps
        energies.append([one.square().sum(1).flatten(1) for one in maps])
    for pair, one, other in zip(found["pairs"], *energies):  # both networks have maps of one size here
        assert pair["mean_cosine"] == pytest.approx(
            torch.cosine_similarity(one, other).mean().item(), abs=1e-4
        )
        shown = one[found["test_images"]]
        expected = (shown / shown.norm(dim=1, keepdim=True)).reshape(np.shape(pair["teacher_maps"]))
        np.testing.assert_allclose(pair["teacher_maps"], expected, atol=1e-4)


def test_a_run_without_hints_shows_its_stage_ends(runs, tmp_path):
    (networks,) = load_run_networks(runs[:1], device="cpu")
    found = pairs_of(replace(networks, run=replace(networks.run, plan=None)))
    assert not found.are_hints
    assert [(one.position, other.position) for one, other in found.pairs] == [(2, 1), (4, 2), (6, 3)]


def test_pairs_without_maps_are_left_out_by_name_and_tokens_of_a_known_grid_are_maps(runs):
    (networks,) = load_run_networks(runs[:1], device="cpu")
    plan = networks.run.plan
    first, second, third = plan.pairs
    grid = (2, 2)
    pairs = (
        replace(first, student=replace(first.student, module="fc", spatial=())),
        replace(second, teacher=replace(second.teacher, module="mix", spatial=(7,))),
        replace(third, teacher=replace(third.teacher, spatial=(5,), grid=grid)),
    )
    found = pairs_of(replace(networks, run=replace(networks.run, plan=replace(plan, pairs=pairs))))
    assert found.are_hints
    assert [one.spatial for one, _ in found.pairs] == [grid]
    assert found.left_out == (
        f"{first.teacher.module} → fc (fc is a vector)",
        f"mix → {second.student.module} (mix has 7 tokens, whose places in the image are not known)",
    )


def test_pictures_are_the_images_before_normalization():
    pixels = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    data = ImageData.from_tensors("x", train=(pixels, torch.arange(4)), test=(pixels, torch.arange(4)))
    batch = next(iter(make_loader(data, "test", batch_size=4, training=False).epoch(0)))
    expected = pixels.permute(0, 2, 3, 1) / 255
    np.testing.assert_allclose(visible(batch.images.numpy(), data), expected, atol=1e-5)
    grey = ImageData.from_tensors(
        "y", train=(pixels[:, :1].float(), torch.arange(4)), test=(pixels[:, :1].float(), torch.arange(4))
    )
    batch = next(iter(make_loader(grey, "test", batch_size=4, training=False).epoch(0)))
    shown = visible(batch.images.numpy(), grey)
    assert (shown.shape, shown.min(), shown.max()) == ((4, 5, 6), 0, 1)


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


def test_blocks_of_runs_without_hints_have_no_marks(tmp_path):
    weights = write_teacher(tmp_path)
    taught, alone = tmp_path / "taught", tmp_path / "alone"
    train(recipe(weights, losses={"kd": 1.0}, data=SUBSET), taught, device="cpu")
    train(Recipe.from_dict({"student": "resnet8", "epochs": 1, "data": SUBSET}), alone, device="cpu")
    rows = drawn("network-blocks", [taught, alone], tmp_path)["rows"]
    assert [(row["title"], len(row["blocks"]), row["pairs"]) for row in rows] == [
        ("taught: teacher: resnet14", 6, []),
        ("taught: student: resnet8", 3, []),
        ("alone: student: resnet8", 3, []),
    ]
    assert not any(block["hint"] for row in rows for block in row["blocks"])
    assert (
        "Without hints: taught and alone."
        in json.loads((tmp_path / "network-blocks.json").read_text())["caption"]
    )


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
    assert first["teacher"]["test_top1"] == [run.teacher_accuracy.top1]
    assert (first["runs"], second["runs"]) == ([str(runs[0])], [str(runs[1])])
    twin = replace(with_accuracy(run, 40.0, seed=1), path=Path("twin"))
    (pair,) = compressed_pairs([replace(run, metrics=({**run.last, "test_top1": 60.0},)), twin])
    assert (pair.mean_top1, pair.runs) == (50.0, (str(runs[0]), "twin"))


# -- all figures


def test_names_tell_folders_apart():
    assert short_names([Path("/a/x/at"), Path("/b/x/at"), Path("/b/x/kd")]) == ["a/x/at", "b/x/at", "kd"]
    assert short_names([Path("/a/at/pair/seed-0"), Path("/a/kd/pair/seed-0")]) == ["at", "kd"]
    assert short_names([Path("/b/seed-0"), Path("/b/seed-1")]) == ["seed-0", "seed-1"]
    assert (short_names([Path("/")]), short_names([Path("/a/at")])) == (["/"], ["at"])


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
