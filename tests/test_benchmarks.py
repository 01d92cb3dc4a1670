"""The scripts in benchmarks/ measure what they say, and the tables in docs/ are what they wrote."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pursuhint.cli.main import main

from pursuhint.data import load_dataset
from pursuhint.data.text_files import read_texts
from pursuhint.features import FeatureExtractor, find_hint_points
from pursuhint.losses import LOSSES
from pursuhint.models import create_model
from pursuhint.similarity import debiased_cka, linear_cka, r2cca, rbf_cka
from pursuhint.training import Inputs, Recipe, train
from pursuhint.training.prepare_training import build_distiller, prepare
from pursuhint.training.recipe.resolve import resolve_recipe
from tests.helpers.analysis_networks import noise_images, plain_network

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as Python does for a script


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


analysis = script("analysis")
debian_text = script("debian_text")
evidence = script("evidence")
evidence_page = script("evidence_page")
gallery = script("gallery")
networks = script("networks")
losses = script("losses")
preprocessing = script("preprocessing")
train_step = script("train_step")
whole_analysis = script("whole_analysis")


@pytest.fixture(scope="module")
def features():
    """Rectified features of 40 samples in batches of 8, with large means."""
    generator = np.random.default_rng(0)
    values = np.maximum(3 + generator.standard_normal((40, 12)), 0).astype(np.float32)
    return analysis.Features(values, (3, 4, 5), 8)


def test_references_are_the_metrics_of_the_library(features):
    exact = analysis.references(features)
    layers = [torch.from_numpy(layer).double() for layer in features.layers]
    for name, metric in (("cka", linear_cka), ("debiased-cka", debiased_cka), ("r2cca", r2cca)):
        expected = [[float(metric(x, y)) for y in layers] for x in layers]
        np.testing.assert_allclose(exact[name], expected, atol=1e-12)
    assert np.abs(exact["minibatch"] - exact["debiased-cka"]).max() > 1e-3
    expected = [[float(rbf_cka(x, y)) for y in layers] for x in layers]
    for found in analysis.rbf_references(features.layers):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", analysis.CONTENDERS)
def test_contenders_agree_with_their_formula(features, name):
    contender = analysis.CONTENDERS[name]
    if importlib.util.find_spec(contender.needs) is None:
        pytest.skip(f"{name} is not installed")
    if not name.startswith(("pursuhint", "naive")):
        pytest.skip(f"{name} is somebody else's, and warns")
    own, whole = analysis.errors(contender.run(features), analysis.references(features), features)
    assert own == whole
    assert own < (1e-12 if name.startswith("pursuhint") else 1e-5)


def test_features_survive_the_way_to_another_process(features, tmp_path):
    features.save(tmp_path / "features.npz")
    again = analysis.Features.load(tmp_path / "features.npz")
    np.testing.assert_array_equal(again.values, features.values)
    assert (again.widths, again.batch) == (features.widths, features.batch)
    assert [batch.shape for batch in again.batches] == [(8, 12)] * 5


def test_a_whole_analysis_is_compared_with_the_choice_of_all_images(capsys):
    network, data = plain_network(((2, 4), (2, 6))).eval(), noise_images(640, size=8)
    options = argparse.Namespace(images=640, seeds=1, rounds=1, peers=False, peer_images=64)
    every, auto, half = whole_analysis.measure(network, data, options)
    assert (every.images, auto.images) == (640, 500)
    assert every.same
    assert auto.same == (auto.positions == every.positions)
    assert half.seconds > 0
    points = find_hint_points(network, torch.zeros(1, 3, 8, 8))
    pooled, seen = whole_analysis.Pooled(network, points), []
    for layer in pooled.layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = whole_analysis.images_of(data, 30, 0)
    pooled(images)
    maps = FeatureExtractor(network, points)(images).maps
    assert all(torch.allclose(one, other.mean((2, 3)), atol=1e-6) for one, other in zip(seen, maps))


def rows_of_the_table() -> dict[str, str]:
    lines = (ROOT / "docs" / "networks.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    return {line.split("`")[1]: line for line in rows}


def test_the_table_of_networks_lists_all_that_are_tried():
    assert list(rows_of_the_table()) == [name for name, _ in networks.networks()]
    assert (ROOT / "docs" / "networks.md").read_text().startswith(networks.INTRODUCTION)


@pytest.mark.parametrize(
    "name", ["resnet20", "wrn_40_2", "torchvision:mobilenet_v3_small", "timm:lcnet_035", "timm:starnet_s050"]
)
def test_the_table_of_networks_says_what_is_found_today(name):
    ((found, size),) = networks.networks([name])
    assert f"| {' | '.join(networks.attempt(found, size).cells())} |" == rows_of_the_table()[name]


@pytest.mark.parametrize("name", losses.FORMULAS)
def test_losses_agree_with_the_transcription_of_their_formula(name):
    result = losses.compared(name, losses.QUICK, torch.device("cpu"), repeats=0)
    assert result.tolerance == 1e-8
    assert result.agrees, result


def test_every_loss_has_a_formula():
    assert {name.partition(":")[0] for name in losses.FORMULAS} == set(LOSSES)


def test_time_and_memory_of_a_loss_are_measured():
    result = losses.compared("at", losses.QUICK, torch.device("cpu"), repeats=1)
    assert min(result.seconds) > 0
    assert min(result.bytes) > 0


def test_the_tables_of_losses_say_what_the_losses_say_today():
    document = (ROOT / "docs" / "losses.md").read_text()
    assert losses.filled(document, losses.tables()) == document


@pytest.mark.parametrize("exact", [True, False])
def test_both_training_loops_compute_the_same(exact):
    data = train_step.load("digits")
    setup = train_step.Setup.make(data, torch.device("cpu"), "resnet14", "resnet8")
    assert train_step.largest_difference(setup, 3, exact=exact) < (1e-9 if exact else 1e-4)


def test_a_loop_of_either_kind_can_be_timed():
    data = train_step.load("digits")
    setup = train_step.Setup.make(data, torch.device("cpu"), "resnet14", "resnet8")
    for kind in (
        train_step.Kind(ours=False, options={"item": False, "channels_last": True}),
        train_step.Kind(ours=False, workers=None, fused=True),
        train_step.Kind(ours=True, options={"winograd": True}),
    ):
        times = train_step.timed(kind.build(setup), setup.device, 2)
        assert [len(pair) for pair in times] == [2, 2]
        assert min(wall for wall, _ in times) > 0


def compared(name, folder, capsys):
    """A network to compare on 300 digits, stored as PNG files."""
    data = load_dataset("digits").train
    for split, chosen in (("train", range(200)), ("val", range(200, 300))):
        for index in chosen:
            where = folder / "images" / split / f"digit {int(data.labels[index])}"
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[index, 0].numpy()).save(where / f"{index}.png")

    def command(*words: object) -> str:
        capsys.readouterr()
        main.main(args=[str(word) for word in words], standalone_mode=False)
        return capsys.readouterr().out

    return preprocessing.Comparison(name, folder / "images", folder, 8, command)


@pytest.mark.parametrize(("name", "epochs"), [("torchvision:resnet18", 2), ("timm:test_resnet", 8)])
def test_networks_see_the_images_that_they_were_trained_on(name, epochs, tmp_path, capsys):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    comparison = compared(name, tmp_path, capsys)
    found = comparison.teacher(epochs)
    assert preprocessing.equal(found), found
    assert found["plain PyTorch"] > 15  # better than chance, so that equal means something
    # The control: the constants decide what the network sees.
    assert found["pursuhint evaluate, the data's constants"] != found["plain PyTorch"]
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if name.startswith("timm") and not missing:
        assert preprocessing.equal(found | comparison.student())


def test_the_reader_of_exported_files_needs_nothing_of_ours():
    imported = re.findall(
        r"^(?:import|from) (\w+)", (ROOT / "benchmarks" / "run_exported.py").read_text(), re.M
    )
    assert not {"pursuhint", "torch", "torchvision"} & set(imported)


@pytest.fixture(scope="module")
def evidence_folder(tmp_path_factory):
    """A block of the evidence, with tiny networks on a few digits as PNG files."""
    folder, reports = tmp_path_factory.mktemp("evidence"), []
    data = load_dataset("digits").train
    for split, chosen in (("train", range(80)), ("val", range(80, 120))):
        for index in chosen:
            where = folder / "images" / split / f"digit {int(data.labels[index])}"
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[index, 0].numpy()).save(where / f"{index}.png")
    tiny = replace(evidence.PAIRS["residual"], teacher={"network": "resnet8"}, student={"network": "resnet8"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(evidence.PAIRS, "residual", tiny)
        patch.setattr(evidence, "LOSS_SETS", {"at": evidence.LOSS_SETS["at"]})
        patch.setattr(evidence, "write_report", reports.append)
        arms = [word for arm in ("alone", "conventional", "even", "reverse") for word in ("--arm", arm)]
        words = [
            str(folder / "images"),
            "--out",
            str(folder / "out"),
            "--data",
            "folder",
            "--pair",
            "residual",
        ]
        words += ["--image-size", "8", "--teacher-epochs", "1", "--lengths", "1", "--seeds", "1-3", *arms]
        evidence.main(words)
        evidence.main([*words, "--landscape"])
    assert reports == [folder / "out" / "folder-residual" / name for name in ("arms", "landscape")]
    return folder


def test_the_evidence_of_a_block_is_a_comparison_and_its_tables(evidence_folder):
    (study,) = evidence_page.blocks(evidence_folder / "out").values()
    assert (study.seeds, study.lengths, study.loss_sets) == ((1, 2, 3), (1,), ("at",))
    (cell,) = evidence_page.cells_of("folder-residual", study)
    # The ends of the three stages of the teacher are all of its layers.
    assert [arm.name for arm in cell.placed] == ["conventional", "reverse"]
    assert evidence_page.marked(cell, "even") == "same runs"
    assert cell.pairs["reverse"].new_images is not None
    text = evidence_page.tables(evidence_folder / "out")
    (alone,) = [entry for entry in study.comparisons[0].arms if entry.name == "alone"]
    assert f"| alone, % | {alone.last.mean:.1f} ± {alone.last.std:.1f} (" in text
    assert "| even | 0 | 0 | 0 | 0 | 1 | – |" in text


def test_the_landscape_of_a_block_is_drawn_with_the_positions_of_its_arms(evidence_folder, tmp_path):
    document = tmp_path / "docs" / "evidence.md"
    document.parent.mkdir()
    document.write_text(f"{evidence_page.BEGIN} {evidence_page.END}")
    evidence_page.main([str(evidence_folder / "out"), "--write", str(document)])
    assert "(pictures/evidence-folder-residual.png)" in document.read_text()
    assert (document.parent / "pictures" / "evidence-folder-residual.png").stat().st_size > 1000


def test_arms_that_are_equal_by_chance_are_not_called_the_same_runs(evidence_folder):
    (study,) = evidence_page.blocks(evidence_folder / "out").values()
    (cell,) = evidence_page.cells_of("folder-residual", study)
    level = tuple(
        arm.model_copy(update={"last": replace(arm.last, values=(50.0,) * 3, mean=50.0)})
        for arm in cell.comparison.arms
    )
    level_study = SimpleNamespace(arms=level, against=cell.comparison.against)
    equal = evidence_page.Cell(cell.block, cell.title, level_study)
    assert evidence_page.friedman(equal) is None
    assert evidence_page.rank_correlation(equal, cell) is None
    assert not equal.same_runs("reverse")
    assert equal.same_runs("even")


def test_the_tables_of_the_evidence_replace_those_of_a_document(evidence_folder, tmp_path):
    document = tmp_path / "evidence.md"
    document.write_text(f"before {evidence_page.BEGIN} stale {evidence_page.END} after")
    evidence_page.main([str(evidence_folder / "out"), "--write", str(document)])
    text = document.read_text()
    assert text.startswith("before <!--")
    assert text.endswith("--> after")
    assert "stale" not in text
    assert "### folder-residual" in text


@pytest.mark.parametrize(
    ("controls", "expected"), [(("conventional", "centers"), "conventional"), (("even",), "even")]
)
def test_a_block_without_conventional_hints_is_compared_with_even_ones(controls, expected):
    comparison = SimpleNamespace(against=dict.fromkeys(controls, ()))
    assert evidence_page.Cell("block", "at, 1 epoch", comparison).control == expected


def test_every_block_has_few_seeds_before_one_has_many(monkeypatch):
    begun = []
    monkeypatch.setattr(evidence, "set_up_memory", lambda *_: None)
    monkeypatch.setattr(
        evidence,
        "run_block",
        lambda block, options, seeds, report: begun.append((block.data, block.pair, len(seeds), report)),
    )
    evidence.main(["images", "--seeds", "1-4"])
    blocks = [(data, pair) for pair in evidence.PAIRS for data in evidence.LENGTHS]
    assert begun == [(*block, 3, False) for block in blocks] + [(*block, 4, True) for block in blocks]


@pytest.mark.parametrize("name", evidence.PAIRS)
def test_every_pair_of_the_evidence_can_have_every_loss(name):
    if name == "transformer":
        pytest.importorskip("timm")
    options = argparse.Namespace(precision="float32")
    data = load_dataset("digits", image_size=8, channels=3)
    pair = evidence.PAIRS[name]
    teacher = create_model(
        pair.teacher["network"], num_classes=10, in_channels=3, **pair.teacher.get("options", {})
    )
    inputs = Inputs(data=data, teacher=teacher)
    changes = {"student": pair.student, "teacher": pair.teacher, "hints": {"strategy": "even", "k": 3}}
    for losses_of in evidence.LOSS_SETS.values():
        recipe = evidence.recipe_of(pair, data, options, losses=losses_of, **changes)
        recipe = resolve_recipe(recipe, inputs)
        parts = prepare(recipe, inputs)
        assert len(parts.plan.pairs) == 3
        build_distiller(recipe, parts, parts.plan)


def test_the_gallery_shows_what_the_analysis_of_a_run_finds(tmp_path):
    small = {"student": "resnet14", "data": "digits", "epochs": 1}
    data = load_dataset("digits", image_size=6, train_samples=80)  # passed from Python under its own name
    run = train(Recipe.from_dict(small), tmp_path / "run", data=data, device="cpu", progress=False)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{gallery.BEGIN}\nold\n{gallery.END}\nafter\n")
    gallery.main([str(run.path), "--write", str(page)])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "trained for 1 epochs on 80 images of digits (6x6 pixels)" in text
    assert f"test accuracy {run.last['test_top1']:.1f} %" in text
    (picture,) = re.findall(r"\((pictures/\S+\.png)\)", text)
    with Image.open(tmp_path / picture) as image:
        assert image.width <= 640


def test_a_corpus_of_package_descriptions_has_each_source_and_text_once(tmp_path):
    paragraphs = [
        f"Package: {name}\nSource: {source} (1.0)\nSection: {section}\nDescription: {text}\n more of it"
        for name, source, section, text in [
            ("a1", "a", "games", "A game"),
            ("a2", "a", "games", "Another of the same source"),
            ("b", "b", "contrib/net", "a GAME"),
            ("libc", "c", "libs", "left out"),
            ("d-doc", "d", "net", "left out"),
            *((f"n{i}", f"n{i}", ("net", "games")[i % 2], f"text {i}") for i in range(60)),
        ]
    ]
    (tmp_path / "x_Packages").write_text("\n\n".join(paragraphs))
    assert debian_text.main([str(tmp_path), "--out", str(tmp_path / "out"), "--most", "20"]) == 0
    splits = read_texts(tmp_path / "out")
    assert splits.keys() == {"train", "val", "test"}
    found = [(label, text.lower()) for samples in splits.values() for label, text in samples]
    assert len(found) == len({text for _, text in found}) == 40  # 20 of each section
    assert ("libs", "left out") not in found
    assert len({"a game", "another of the same source"} & {text for _, text in found}) <= 1
    assert all(debian_text.split_of(text.replace("text ", "n")) == name for name, samples in splits.items()
               for _, text in samples if text.startswith("text "))  # fmt: skip
