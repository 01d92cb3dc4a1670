"""Features that are hard on a similarity metric, and the metrics in plain NumPy from their definitions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.spatial
import torch
from torch import Tensor


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def chained(samples: int, widths: list[int], seed: int = 0) -> list[np.ndarray]:
    """A few ReLU layers one after the other, float32."""
    generator = _generator(seed)
    features = generator.standard_normal((samples, widths[0]))
    layers = []
    for width in widths:
        weights = generator.standard_normal((features.shape[1], width)) / np.sqrt(features.shape[1])
        features = np.maximum(features @ weights + 0.3 * generator.standard_normal((samples, width)), 0) + 0.0
        layers.append(features.astype(np.float32))
    return layers


def _ordinary() -> list[np.ndarray]:
    return chained(300, [16, 16, 24, 32])


def _rank_deficient() -> list[np.ndarray]:
    layers = chained(300, [16, 16, 24])
    generator = _generator(1)
    # Multiples of 1/64 with few digits: their products are exact in float32, and the rank is exactly 5.
    few = np.round(64 * generator.standard_normal((300, 5))) / 64
    weights = np.round(4 * generator.standard_normal((5, 20))) / 4
    return [*layers, (few @ weights).astype(np.float32)]


def _dead_channels() -> list[np.ndarray]:
    layers = chained(250, [12, 20, 28])
    layers[0][:, 3:6] = 0
    layers[1][:, [0, 7, 19]] = 0.1
    layers[2][:, 1:27] = 0
    return layers


def _fewer_samples_than_channels() -> list[np.ndarray]:
    return chained(20, [16, 48, 64, 8])


def _duplicated() -> list[np.ndarray]:
    layers = chained(200, [16, 24])
    return [layers[0], layers[0], layers[1], layers[1], layers[0]]


def _large_mean(ratio: float) -> list[np.ndarray]:
    generator = _generator(2)
    layers = [layer - layer.mean(0) for layer in chained(400, [16, 24, 32])]
    # Every channel with its own mean, up to the given number of standard deviations.
    return [
        (layer + ratio * layer.std(0) * generator.uniform(0.2, 1, layer.shape[1])).astype(np.float32)
        for layer in layers
    ]


def _different_channels() -> list[np.ndarray]:
    generator = _generator(4)
    # From hardly alive to loud, each with its own mean; and one layer that holds another one twice.
    layers = [
        (layer * 10.0 ** generator.uniform(-3, 1, layer.shape[1])).astype(np.float32)
        for layer in _large_mean(100)
    ]
    return [*layers, np.concatenate([layers[0], 2 * layers[0]], axis=1)]


def _different_widths() -> list[np.ndarray]:
    return chained(240, [1, 2, 130, 5, 40])


def _ill_conditioned() -> list[np.ndarray]:
    generator = _generator(3)
    layers = []
    for features in chained(400, [20, 24]):
        rotation = np.linalg.qr(generator.standard_normal((features.shape[1],) * 2))[0]
        layers.append((features * np.logspace(0, -3, features.shape[1]) @ rotation).astype(np.float32))
    return [*layers, *chained(400, [16])]


def _different_scales() -> list[np.ndarray]:
    first, second, third = chained(200, [16, 16, 24])
    return [first * np.float32(1e-12), second * np.float32(1e12), third]


def _two_samples() -> list[np.ndarray]:
    return chained(2, [3, 1, 5])


SETS = {
    "ordinary": _ordinary,
    "rank-deficient": _rank_deficient,
    "dead-channels": _dead_channels,
    "fewer-samples-than-channels": _fewer_samples_than_channels,
    "duplicated": _duplicated,
    "mean-10-std": lambda: _large_mean(10),
    "mean-100-std": lambda: _large_mean(100),
    "different-channels": _different_channels,
    "different-widths": _different_widths,
    "ill-conditioned": _ill_conditioned,
    "different-scales": _different_scales,
    "two-samples": _two_samples,
}


def hard_set(name: str) -> list[Tensor]:
    """Layers of a set, float32 numbers in float64."""
    return [torch.from_numpy(layer.astype(np.float64)) for layer in SETS[name]()]


def _centered(x: Tensor) -> np.ndarray:
    shifted = x.numpy() - x.numpy()[0]
    return shifted - shifted.mean(0)


def basis(x: Tensor) -> np.ndarray:
    """Left singular vectors with a singular value above 1e-5 of the largest."""
    left, singular, _ = np.linalg.svd(_centered(x), full_matrices=False)
    return left[:, singular > 1e-5 * singular[0]]


def reference(metric: str, layers: list[Tensor]) -> np.ndarray:
    """(layers, layers), pair by pair from the definition; NaN where that is not unique."""
    return np.array([[REFERENCES[metric](x, y) for y in layers] for x in layers])


def _cka(x: Tensor, y: Tensor) -> float:
    xc, yc = _centered(x), _centered(y)
    xc, yc = xc / np.linalg.norm(xc), yc / np.linalg.norm(yc)
    own = np.linalg.norm(xc.T @ xc) * np.linalg.norm(yc.T @ yc)
    return float(np.linalg.norm(xc.T @ yc) ** 2 / own)


def _unbiased_hsic(kernel: np.ndarray, other: np.ndarray) -> float:
    n = len(kernel)
    k, m = (matrix - np.diag(np.diag(matrix)) for matrix in (kernel, other))
    one = np.ones(n)
    sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + sums - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))


def _debiased_cka(x: Tensor, y: Tensor) -> float:
    xc, yc = _centered(x), _centered(y)
    k, m = (c @ c.T / np.linalg.norm(c) ** 2 for c in (xc, yc))
    return _unbiased_hsic(k, m) / np.sqrt(_unbiased_hsic(k, k) * _unbiased_hsic(m, m))


def _kernel(x: Tensor, over: str) -> np.ndarray:
    xc = _centered(x) / np.abs(_centered(x)).max()
    distances = scipy.spatial.distance.cdist(xc, xc)
    if over == "all":
        scale = np.sqrt(np.median(distances**2))
    else:
        scale = np.median(distances[np.triu_indices(len(xc), 1)])
    kernel = np.exp(-(distances**2) / (2 * (0.8 * scale) ** 2))
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdims=True)


def _rbf_cka(x: Tensor, y: Tensor, over: str) -> float:
    k, m = _kernel(x, over), _kernel(y, over)
    return float(np.trace(k @ m) / np.linalg.norm(k) / np.linalg.norm(m))


def _shared(x: Tensor, y: Tensor) -> float:
    return float(np.linalg.norm(basis(x).T @ basis(y)) ** 2)


def _rank(x: Tensor) -> int:
    return basis(x).shape[1]


def _svcca(x: Tensor, y: Tensor) -> float:
    leading = []
    for layer in (x, y):
        left, singular, _ = np.linalg.svd(_centered(layer), full_matrices=False)
        explained = np.cumsum(singular**2) / np.sum(singular**2)
        leading.append(left[:, : int(np.argmax(explained >= 0.99)) + 1])
    return float(np.linalg.svd(leading[0].T @ leading[1], compute_uv=False).mean())


def _pwcca(x: Tensor, y: Tensor) -> float:
    axes, correlations, _ = np.linalg.svd(basis(x).T @ basis(y), full_matrices=False)
    gaps = -np.diff(correlations)
    if (gaps < 1e-6).any() and correlations[0] - correlations[-1] > 1e-6:
        return np.nan
    weights = np.abs((basis(x) @ axes).T @ _centered(x)).sum(1)
    return float((weights * correlations).sum() / weights.sum())


def _procrustes(x: Tensor, y: Tensor) -> float:
    xc, yc = _centered(x), _centered(y)
    xc, yc = xc / np.linalg.norm(xc), yc / np.linalg.norm(yc)
    return float(np.linalg.svd(xc.T @ yc, compute_uv=False).sum())


def _hat(x: Tensor) -> np.ndarray:
    """The predictions of ridge regression, (samples, samples), at the default ridge."""
    xc = _centered(x) / np.linalg.norm(_centered(x))
    return xc @ np.linalg.solve(xc.T @ xc + 0.01 * np.eye(xc.shape[1]), xc.T)


def _ridge_cca(x: Tensor, y: Tensor) -> float:
    k, m = _hat(x), _hat(y)
    return float((k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m))


def _linear_r2(x: Tensor, y: Tensor) -> float:
    xc = _centered(x) / np.linalg.norm(_centered(x))
    residual = xc - basis(y) @ (basis(y).T @ xc)
    return float(1 - (residual**2).sum())


@functools.cache
def _neighbors(x: Tensor, k: int) -> np.ndarray:
    """Weights of the k nearest by cosine, (samples, samples); those tied for the last places share them."""
    unit = _centered(x) / np.linalg.norm(_centered(x), axis=1, keepdims=True)
    weights = np.zeros((len(x), len(x)))
    for a, cosines in enumerate(unit @ unit.T):
        others = np.delete(np.arange(len(x)), a)
        last = np.sort(cosines[others])[-k]
        nearer = [b for b in others if cosines[b] > last + 1e-9]
        tied = [b for b in others if abs(cosines[b] - last) <= 1e-9]
        weights[a, nearer] = 1
        weights[a, tied] = (k - len(nearer)) / len(tied)
    return weights


def _mutual_knn(x: Tensor, y: Tensor) -> float:
    k = min(10, (len(x) - 1) // 2)
    overlap = np.minimum(_neighbors(x, k), _neighbors(y, k)).sum() / (len(x) * k)
    chance = k / (len(x) - 1)
    return float((overlap - chance) / (1 - chance))


REFERENCES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "cka": _cka,
    "debiased-cka": _debiased_cka,
    "rbf-cka": lambda x, y: _rbf_cka(x, y, "all"),
    "rbf-cka-pairs": lambda x, y: _rbf_cka(x, y, "pairs"),
    "r2cca": lambda x, y: _shared(x, y) / min(x.shape[1], y.shape[1]),
    "r2cca-rank": lambda x, y: _shared(x, y) / min(_rank(x), _rank(y)),
    "gcd": lambda x, y: _shared(x, y) / np.sqrt(_rank(x) * _rank(y)),
    "svcca": _svcca,
    "pwcca": _pwcca,
    "procrustes": _procrustes,
    "angular-procrustes": lambda x, y: 1 - 2 / np.pi * np.arccos(min(1.0, _procrustes(x, y))),
    "ridge-cca": _ridge_cca,
    "linear-r2": _linear_r2,
    "mutual-knn": _mutual_knn,
}
