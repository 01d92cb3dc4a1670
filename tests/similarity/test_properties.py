"""What must hold for any features: drawn by Hypothesis, with the hard kinds among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity import METRICS, LayerMoments, PooledFeatures, get_metric
from tests.helpers.statistics_layouts import LAYOUTS, batches, statistics_of

METRIC_NAMES = list(METRICS)
ROTATIONS = [name for name in METRIC_NAMES if name != "pwcca"]
INVERTIBLE = ["r2cca", "r2cca-rank", "gcd"]
TOLERANCE = {"angular-procrustes": 1e-5}  # the arc cosine scales rounding errors near 1 up to their root
SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=4)

quick = settings(max_examples=15, deadline=None, derandomize=True, database=None)


@st.composite
def layers(draw: st.DrawFn, least: int = 2) -> list[Tensor]:
    """Two to four layers of 6 to 60 samples: dense or ReLU, shifted, some channels dead, some layers of low
    rank or repeated; with fewer features than a third of the samples, or twice as many as samples (about as
    many are ill-conditioned, which costs digits)."""
    samples = draw(st.integers(6, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found: list[np.ndarray] = []
    for _ in range(draw(st.integers(least, 4))):
        kind = draw(st.sampled_from(["plain", "relu", "dead", "low-rank", "repeated"]))
        width = 2 * samples if draw(st.integers(0, 4)) == 0 else draw(st.integers(1, samples // 3))
        features = generator.standard_normal((samples, width))
        if found and draw(st.booleans()):
            features += found[0] @ generator.standard_normal((found[0].shape[1], width))
        if kind == "relu":
            features = np.maximum(features, 0)
        elif kind == "dead":
            features[:, : width // 2] = 0.1
        elif kind == "low-rank":
            features = features[:, :2] @ generator.standard_normal((min(2, width), width))
        elif kind == "repeated" and found:
            features = found[-1].copy()
        found.append(
            features + draw(st.sampled_from([0, 1, 30])) * generator.uniform(0, 1, features.shape[1])
        )
    return [torch.from_numpy(features) for features in found]


def rotation(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def matrix_of(name: str, features: list[Tensor], layout: str | None = None, **options) -> Tensor:
    metric = get_metric(name)
    layout = layout or ("rows" if metric.needs == "rows" else "moments")
    return metric.matrix(statistics_of(layout, features, **options))


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", METRIC_NAMES)
@quick
@given(features=layers())
def test_range_diagonal_and_symmetry(name, features):
    matrix = matrix_of(name, features)
    defined = ~matrix.isnan()
    lowest = -1 if name in ("debiased-cka", "mutual-knn") else 0
    assert ((matrix >= lowest - 1e-9) & (matrix <= 1 + 1e-9))[defined].all()
    diagonal = matrix.diagonal()[~matrix.diagonal().isnan()]
    if name == "r2cca":  # rank over width
        assert (diagonal > 0).all()
    else:
        close(diagonal, torch.ones_like(diagonal))
    if get_metric(name).symmetric:
        close(matrix, matrix.T, 0)


@pytest.mark.parametrize("name", METRIC_NAMES)
@quick
@given(features=layers())
def test_all_pairs_are_the_pairs(name, features):
    pair = get_metric(name).pair
    pairs = torch.stack([torch.stack([pair(x, y) for y in features]) for x in features])
    for layout in LAYOUTS if get_metric(name).needs == "moments" else ["rows"]:
        close(matrix_of(name, features, layout), pairs, TOLERANCE.get(name, 1e-9))


@pytest.mark.parametrize("name", METRIC_NAMES)
@quick
@given(features=layers(), seed=st.integers(0, 1000), sizes=SIZES)
def test_order_and_batches_do_not_matter(name, features, seed, sizes):
    order = torch.randperm(len(features[0]), generator=torch.Generator().manual_seed(seed))
    moved = matrix_of(name, [layer[order] for layer in features], sizes=sizes)
    close(moved, matrix_of(name, features), TOLERANCE.get(name, 1e-9))


@pytest.mark.parametrize("name", METRIC_NAMES)
@quick
@given(features=layers(), cuts=st.lists(st.integers(0, 60), max_size=4).map(sorted))
def test_shards_do_not_matter(name, features, cuts):
    widths = [layer.shape[1] for layer in features]
    merged = PooledFeatures(widths) if get_metric(name).needs == "rows" else LayerMoments(widths)
    for start, end in zip([0, *cuts], [*cuts, len(features[0])]):
        shard = type(merged)(widths)
        for batch in batches([layer[start:end] for layer in features], [7]):
            shard.update(batch)
        merged.merge(shard)
    close(get_metric(name).matrix(merged), matrix_of(name, features), TOLERANCE.get(name, 1e-9))


@pytest.mark.parametrize("name", ROTATIONS)
@quick
@given(features=layers(), seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
def test_rotation_scale_and_shift_do_not_matter(name, features, seed, scale, shift):
    moved = [(layer - layer.mean(0)) @ rotation(layer.shape[1], seed) * scale + shift for layer in features]
    close(matrix_of(name, moved), matrix_of(name, features), max(1e-7, TOLERANCE.get(name, 0)))


@pytest.mark.parametrize("name", INVERTIBLE)
@quick
@given(features=layers(), seed=st.integers(0, 1000))
def test_invertible_maps_do_not_matter_to_cca(name, features, seed):
    mapped = []
    for layer in features:
        width = layer.shape[1]
        stretch = torch.linspace(0.3, 3, width, dtype=torch.float64)
        mapped.append(((layer - layer.mean(0)) @ rotation(width, seed) * stretch) @ rotation(width, seed + 1))
    close(matrix_of(name, mapped), matrix_of(name, features), 1e-7)


@pytest.mark.parametrize("name", METRIC_NAMES)
@quick
@given(features=layers(least=3), seed=st.integers(0, 1000))
def test_a_pair_is_the_same_in_any_company(name, features, seed):
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)).tolist()
    moved = matrix_of(name, [features[i] for i in order])
    close(moved, matrix_of(name, features)[order][:, order], TOLERANCE.get(name, 1e-9))


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_numpy_arrays_give_the_value_of_tensors(name):
    metric = get_metric(name).pair
    x, y = (np.random.default_rng(seed).standard_normal((40, width)) for seed, width in ((0, 6), (1, 4)))
    y[:, 0] += x[:, 0]
    expected = float(metric(torch.from_numpy(x), torch.from_numpy(y)))
    for kind in (x, np.ascontiguousarray(x[::-1])[::-1], x.astype(">f8"), x.tolist()):
        assert float(metric(kind, y)) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(PursuhintError, match="the values of x must be numbers"):
        metric("features", y)
