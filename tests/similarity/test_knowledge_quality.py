"""Knowledge quality: against the formula pair by pair, and from the rows of a pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.sample_rows import SampleRows
from pursuhint.similarity.knowledge_quality import knowledge_quality


def slow_quality(x: np.ndarray, y: np.ndarray) -> float:
    """The formula, class by class and pair by pair."""
    classes = sorted(set(y.tolist()))
    cosine = lambda a, b: abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    groups = [x[y == c] for c in classes]
    within = [[cosine(g[i], g[j]) for i in range(len(g)) for j in range(i)] for g in groups]
    between = [np.mean([cosine(a, b) for a in g for b in h]) for g in groups for h in groups if g is not h]
    separation = np.mean([np.mean(w) for w in within]) - np.mean(between)
    spectra = [np.linalg.eigvalsh(np.cov(g.T))[::-1] for g in groups]
    spectra = [s / s.sum() for s in spectra]
    sizes = []
    for spectrum in spectra:
        size = 0
        while spectrum[:size].sum() < 0.95:
            size += 1
        sizes.append(size)
    cut = [s[: int(np.mean(sizes))] for s in spectra]
    cut = [s / s.sum() for s in cut]
    entropy = np.mean([-(s * np.log(s)).sum() for s in cut]) / np.log(np.mean(sizes))
    information = (1 - np.mean([np.min(w) for w in within])) * entropy
    nearest = [min(np.linalg.norm(a - b) for a in g for h in groups if h is not g for b in h) for g in groups]
    norm = np.mean([np.linalg.norm(g, axis=1).mean() for g in groups])
    rank = np.linalg.matrix_rank(x)
    efficiency = 2 * np.mean(nearest) / norm * (len(x) / np.pi) ** (1 / rank)
    return separation + np.sqrt(information * efficiency)


def test_quality_is_the_formula_pair_by_pair():
    generator = np.random.default_rng(0)
    y = np.arange(45) % 3
    x = generator.normal(size=(45, 6)) + 2 * np.eye(6)[y]
    assert knowledge_quality(torch.from_numpy(x), torch.from_numpy(y)).quality == pytest.approx(
        slow_quality(x, y)
    )


def test_quality_does_not_depend_on_scale_and_rotation_and_rises_with_separation():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    noise = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    near, far = (noise + distance * nn.functional.one_hot(labels, 5) for distance in (1, 4))
    assert knowledge_quality(3 * near @ rotation, labels).quality == pytest.approx(
        knowledge_quality(near, labels).quality
    )
    assert knowledge_quality(far, labels).separation > knowledge_quality(near, labels).separation > 0


def test_quality_needs_two_classes():
    with pytest.raises(PursuhintError, match="two classes"):
        knowledge_quality(torch.randn(5, 3), torch.zeros(5))


def test_quality_of_features_that_do_not_vary_is_finite():
    assert math.isfinite(knowledge_quality(torch.ones(6, 3), torch.arange(6) % 2).quality)
    assert math.isfinite(knowledge_quality(torch.zeros(6, 3), torch.arange(6) % 2).quality)


# -- the rows of a pass


def batches(order, sizes=(3, 4, 5)):
    """Batches of twelve samples, numbered 10, 20, ..., 120, in any order: two layers, and labels."""
    features = torch.arange(12.0)[:, None] * torch.ones(12, 5)
    for part in order.split(list(sizes)):
        yield [features[part, :2], features[part, 2:]], part % 3, 10 * (part + 1)


def test_rows_are_those_of_the_samples_whatever_the_order_and_the_state(tmp_path):
    wanted = torch.tensor([70, 10, 110])
    rows, resumed = SampleRows(wanted, 5), SampleRows(wanted, 5)
    for features, labels, samples in batches(torch.arange(12)):
        rows.update(features, labels, samples=samples)
    first, *others = batches(torch.arange(12).flip(0), (8, 1, 3))
    half = SampleRows(wanted, 5)
    half.update(*first[:2], samples=first[2])
    assert half.there()[1].tolist() == [0, 1], "sample 10 comes later"
    half.write(tmp_path / "rows.safetensors")
    resumed.read(tmp_path / "rows.safetensors")
    for features, labels, samples in others:
        resumed.update(features, labels, samples=samples)
    for found in (rows, resumed):
        features, labels = found.there()
        assert features.tolist() == [[value] * 5 for value in (0.0, 6.0, 10.0)]
        assert labels.tolist() == [0, 0, 1]
    with pytest.raises(PursuhintError, match="cannot read"):
        SampleRows(wanted, 6).read(tmp_path / "rows.safetensors")
