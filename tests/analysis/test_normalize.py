"""``normalize`` clusters R2CCA by rank, and without it R2CCA as it is: against formulas written out here."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from pursuhint.analysis.run_analysis import analyze
from pursuhint.analysis.storage import StoredAnalysis
from pursuhint.data import make_loader, sample_indices
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import HintsConfig
from tests.helpers.analysis_networks import noise_images, plain_network

LAYERS, K, SAMPLES = 8, 3, 60


@pytest.fixture(scope="module")
def network():
    """Some channels of the second, third and sixth convolution are dead: rank below width."""
    network = plain_network()
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        for layer, dead in ((1, 3), (2, 2), (5, 1)):
            convolutions[layer].weight[:dead] = 0
            convolutions[layer].bias[:dead] = -1
    return network


@pytest.fixture(scope="module")
def data():
    return noise_images()


@pytest.fixture(scope="module")
def features(network, data):
    """Pooled, centred features of every layer, float64."""
    loader = make_loader(
        data, "train", batch_size=SAMPLES, training=False, subset=sample_indices(data, SAMPLES, 0)
    )
    images = next(iter(loader.epoch(0))).images
    pooled = []
    with torch.no_grad():
        for unit in network.eval()[:LAYERS]:
            images = unit(images)
            pooled.append(images.double().mean((2, 3)))
    return [each - each.mean(0) for each in pooled]


def by_hand(features, *, by_rank):
    """Sum of squared canonical correlations over the smaller width, or over the smaller rank."""
    bases = [torch.linalg.svd(each, full_matrices=False) for each in features]
    ranks = [int((s > 1e-5 * s[0]).sum()) for _, s, _ in bases]
    bases = [u[:, :rank] for (u, _, _), rank in zip(bases, ranks)]
    size = ranks if by_rank else [each.shape[1] for each in features]
    values = [
        [(p.T @ q).square().sum().item() / min(size[i], size[j]) for j, q in enumerate(bases)]
        for i, p in enumerate(bases)
    ]
    return torch.tensor(values, dtype=torch.float64)


def best_contiguous(values):
    """Labels and inertia of the best of all partitions into K runs of layers."""

    def spread(members):
        block = values[members[0] : members[-1] + 1, members[0] : members[-1] + 1]
        return (block.diagonal().sum() - block.sum() / len(members)).item()

    layers = len(values)
    found = []
    for cuts in combinations(range(1, layers), K - 1):
        runs = [range(a, b) for a, b in zip((0, *cuts), (*cuts, layers))]
        labels = tuple(c for c, run in enumerate(runs) for _ in run)
        found.append((sum(map(spread, runs)), labels))
    return min(found)


@pytest.fixture(scope="module", params=[False, True], ids=["raw", "normalized"])
def both(request, network, data):
    kwargs = {
        "metrics": ["r2cca", "cka"],
        "samples": SAMPLES,
        "k": K,
        "algorithm": "segments",
        "device": "cpu",
    }
    return request.param, analyze(network, data, normalize=request.param, **kwargs)


def test_clusters_equal_those_of_the_formula(both, features):
    normalize, analysis = both
    values = by_hand(features, by_rank=normalize)
    assert bool((values.diagonal() < 0.99).any()) is not normalize
    found = analysis.clusters.clusterings["r2cca"]["segments"]
    lowest, labels = best_contiguous(values)
    assert found.labels == labels
    assert found.inertia == pytest.approx(lowest, rel=1e-5)
    assert analysis.clusters.clustered_with["r2cca"] == ("r2cca-rank" if normalize else "r2cca")
    assert analysis.clusters.clustered_with["cka"] == "cka"


def test_choosing_again_normalizes_alike(both, tmp_path):
    normalize, analysis = both
    analysis.save(tmp_path)
    for again in (analysis, StoredAnalysis.load(tmp_path)):
        assert again.select(k=K, algorithm="segments").teacher_points == analysis.plan.teacher_points
        other = again.select(k=K, algorithm="segments", normalize=not normalize)
        assert other.origin["clustered_with"] == ("r2cca" if normalize else "r2cca-rank")
        assert again.selection_stability(other) is not None
        with pytest.raises(PursuhintError, match=r"normalize .* has no effect with cka.*it is for r2cca"):
            again.select(metric="cka", normalize=True)


def test_the_two_differ(features):
    raw, rank = (by_hand(features, by_rank=by_rank) for by_rank in (False, True))
    assert best_contiguous(raw) != best_contiguous(rank)


def test_where_it_would_change_nothing_it_is_refused(network, data):
    with pytest.raises(PursuhintError, match=r"normalize .* has no effect with cka"):
        analyze(network, data, samples=SAMPLES, normalize=True)
    with pytest.raises(PursuhintError, match=r"normalize .* has no effect with cka"):
        HintsConfig(strategy="chosen", normalize=True)
    assert HintsConfig(strategy="chosen", metric="r2cca", normalize=True).normalize
