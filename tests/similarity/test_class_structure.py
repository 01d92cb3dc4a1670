"""What layers say about classes: against NumPy, and from the pass of an analysis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.data import make_loader, sample_indices
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.report import write_report
from pursuhint.report.figures.class_curves import class_curves
from pursuhint.similarity.accumulators.class_sums import ClassSums
from pursuhint.similarity.class_structure import class_structures
from pursuhint.similarity.knowledge_quality import knowledge_quality
from tests.helpers.analysis_networks import noise_images, plain_network
from tests.helpers.statistics_layouts import LAYOUTS, batches, statistics_of

LABELS = torch.arange(150) % 3


def layers():
    """Separated classes, unrelated features, and a layer of low rank."""
    generator = torch.Generator().manual_seed(0)
    clear = torch.randn(150, 6, generator=generator, dtype=torch.float64) + 3.0 * torch.eye(3, 6)[LABELS]
    unrelated = torch.randn(150, 9, generator=generator, dtype=torch.float64) + 20
    return [clear, unrelated, clear[:, :2] @ torch.ones(2, 4).double() + clear[:, :1]]


def sums_of(features, labels, classes=3):
    sums = ClassSums(sum(layer.shape[1] for layer in features), classes)
    start = 0
    for batch in batches(features, (7, 64)):
        sums.update(batch, labels[start : start + len(batch[0])])
        start += len(batch[0])
    return sums


def reference(x, labels):
    """Probe, H-score, participation ratio and collapse from their definitions."""
    x, one_hot = x.numpy() - x.numpy().mean(0), np.eye(3)[labels]
    y = one_hot - one_hot.mean(0)
    fitted = x @ np.linalg.lstsq(x, y, rcond=1e-9)[0]
    width = x.shape[1]
    probe = 1 - ((y - fitted) ** 2).sum() / (y**2).sum() * (len(x) - 1) / (len(x) - 1 - width)
    means = np.stack([x[labels == label].mean(0) for label in range(3)])
    total, between = np.cov(x.T, bias=True), means.T @ means / 3
    within = np.mean([np.outer(row - means[c], row - means[c]) for row, c in zip(x, labels)], axis=0)
    eigenvalues = np.linalg.eigvalsh(total)
    return (
        probe,
        np.trace(np.linalg.pinv(total, rcond=1e-9) @ between) / 2,
        eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
        np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / 3,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_definition(layout):
    features = layers()
    found = class_structures(statistics_of(layout, features), sums_of(features, LABELS))
    for x, each in zip(features, found, strict=True):
        values = (each.probe, each.h_score, each.participation, each.collapse)
        np.testing.assert_allclose(values, reference(x, LABELS.numpy()), rtol=1e-6)
    clear, unrelated, _ = found
    assert clear.probe > 0.7 > 0.1 > abs(unrelated.probe)
    assert clear.collapse < 0.5 < unrelated.collapse


def test_collapsed_and_constant_layers():
    means = torch.tensor([[0.0, 1, 2], [3, 0, 1], [1, 5, 0]], dtype=torch.float64)
    features = [means[LABELS], torch.ones(150, 2, dtype=torch.float64)]
    collapsed, constant = class_structures(statistics_of("moments", features), sums_of(features, LABELS))
    assert collapsed.probe == pytest.approx(1)
    assert collapsed.h_score == pytest.approx(1)
    assert collapsed.collapse == pytest.approx(0, abs=1e-9)
    assert vars(constant) == dict.fromkeys(vars(constant))


def test_samples_without_a_class_are_left_out():
    features = layers()
    statistics = statistics_of("moments", features)
    assert class_structures(statistics, sums_of(features, LABELS - 1)) == []
    assert class_structures(statistics, sums_of(features, torch.zeros(150))) == []


def test_saved_sums_resume_and_damaged_ones_are_refused(tmp_path):
    features = layers()
    first, second = ([layer[part] for layer in features] for part in (slice(0, 60), slice(60, None)))
    sums = sums_of(first, LABELS[:60])
    sums.write(tmp_path / "state.safetensors")
    resumed = ClassSums(19, 3)
    resumed.read(tmp_path / "state.safetensors")
    resumed.update(second, LABELS[60:])
    torch.testing.assert_close(resumed.sums, sums_of(features, LABELS).sums)
    with pytest.raises(PursuhintError, match="cannot read"):
        ClassSums(19, 4).read(tmp_path / "state.safetensors")


def test_an_analysis_keeps_and_draws_them(tmp_path, monkeypatch):
    monkeypatch.setattr("pursuhint.analysis.run_analysis.QUALITY_SAMPLES", 20)
    network, data = plain_network(), noise_images()
    both = analyze(network, data, samples=40, activation="both", stability=False, class_quality=True)
    for analysis in (both, both.pre):
        loader = make_loader(data, "train", batch_size=20, training=False, subset=sample_indices(data, 20))
        (batch,) = loader.epoch(0)
        with torch.no_grad(), evaluating(network):
            maps = FeatureExtractor(network, analysis.candidates)(batch.images).maps
        expected = [knowledge_quality(layer.mean((2, 3)), batch.labels).quality for layer in maps]
        assert analysis.class_curves.quality == pytest.approx(expected, rel=1e-4)
        curves = vars(analysis.class_curves)
        assert {len(curve) for curve in curves.values()} == {len(analysis.candidates)}
        assert all(0 <= value <= 1 for value in curves["h_score"])
        assert min(curves["participation"]) >= 1
    assert both.class_curves != both.pre.class_curves
    both.save(tmp_path)
    assert Analysis.load(tmp_path).class_curves == both.class_curves
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Labels explained linearly" in page
    assert "Knowledge quality" in page
    assert list(tmp_path.rglob("classes*.png"))


@pytest.mark.parametrize("number", [1, 4, 5])
def test_the_lowest_panel_of_every_column_names_its_axis(number):
    figure = class_curves({str(panel): [0.1, 0.2] for panel in range(number)}, positions=[1, 2])
    named = [axes.get_title("left") for axes in figure.axes if axes.get_xlabel() == "layer"]
    assert named == [str(panel) for panel in range(number)][-2:]


def test_curves_of_other_layers_are_refused():
    with pytest.raises(PursuhintError, match="a number for each of 3 layers"):
        class_curves({"probe": [0.1, None]}, positions=[1, 2, 3])


def test_quality_of_data_without_classes_or_without_memory_is_refused_before_the_pass():
    data, seen = noise_images(), []
    train, test = (replace(split, labels=torch.zeros_like(split.labels)) for split in (data.train, data.test))
    alone = replace(data, train=train, test=test, num_classes=1, class_names=("one",))
    for given, options, message in (
        (alone, {}, "compares classes, and noise has 1"),
        (data, {"memory_limit": 2000}, "keeps the pooled features of 40 images"),
    ):
        with pytest.raises(PursuhintError, match=message):
            analyze(
                plain_network(), given, samples=40, class_quality=True,
                on_progress=lambda *numbers: seen.append(numbers), **options,
            )  # fmt: skip
    assert not seen
