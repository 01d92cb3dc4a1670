"""Features that are hard on a similarity metric, and the metrics in plain NumPy from their definitions."""

from __future__ import annotations

import numpy as np
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


def _different_widths() -> list[np.ndarray]:
    return chained(500, [1, 2, 300, 5, 64])


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
    "different-widths": _different_widths,
    "ill-conditioned": _ill_conditioned,
    "different-scales": _different_scales,
    "two-samples": _two_samples,
}


def hard_set(name: str) -> list[Tensor]:
    """Layers of a set, float32 numbers in float64."""
    return [torch.from_numpy(layer.astype(np.float64)) for layer in SETS[name]()]


def _centred(x: Tensor) -> np.ndarray:
    shifted = x.numpy() - x.numpy()[0]
    return shifted - shifted.mean(0)


def basis(x: Tensor) -> np.ndarray:
    """Left singular vectors with a singular value above 1e-5 of the largest."""
    left, singular, _ = np.linalg.svd(_centred(x), full_matrices=False)
    return left[:, singular > 1e-5 * singular[0]]


def reference(metric: str, layers: list[Tensor]) -> np.ndarray:
    """(layers, layers), pair by pair from the definition."""
    values = np.empty((len(layers), len(layers)))
    for i, x in enumerate(layers):
        for j, y in enumerate(layers):
            values[i, j] = _reference_pair(metric, x, y)
    return values


def _reference_pair(metric: str, x: Tensor, y: Tensor) -> float:
    if metric == "cka":
        xc, yc = _centred(x), _centred(y)
        xc, yc = xc / np.linalg.norm(xc), yc / np.linalg.norm(yc)
        own = np.linalg.norm(xc.T @ xc) * np.linalg.norm(yc.T @ yc)
        return float(np.linalg.norm(xc.T @ yc) ** 2 / own)
    qx, qy = basis(x), basis(y)
    shared = float(np.linalg.norm(qx.T @ qy) ** 2)
    if metric == "r2cca":
        return shared / min(x.shape[1], y.shape[1])
    assert metric == "r2cca-rank"
    return shared / min(qx.shape[1], qy.shape[1])
