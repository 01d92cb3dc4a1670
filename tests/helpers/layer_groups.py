"""Similarities to cluster, and the slow, plain way to measure a clustering."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor


def vectors(layers: int, seed: int, dimensions: int = 6) -> np.ndarray:
    """A walk through a space of unit vectors, as the layers of a network are one."""
    generator = np.random.default_rng(seed)
    walk = generator.standard_normal((layers, dimensions)).cumsum(axis=0) + generator.standard_normal(
        dimensions
    )
    return walk / np.linalg.norm(walk, axis=1, keepdims=True)


def positive(layers: int, seed: int) -> Tensor:
    """A positive semi-definite similarity with unit diagonal."""
    points = vectors(layers, seed)
    return torch.from_numpy(points @ points.T)


def indefinite(layers: int, seed: int) -> Tensor:
    """A symmetric similarity with unit diagonal that is no table of inner products."""
    generator = np.random.default_rng(seed)
    values = generator.uniform(0, 1, (layers, layers))
    values = np.maximum(values, values.T)
    np.fill_diagonal(values, 1)
    values[0, 1] = values[1, 0] = 1.2  # more alike than each is to itself
    return torch.from_numpy(values)


def in_groups(*sizes: int, within: float = 0.9, between: float = 0.1) -> Tensor:
    """Obvious groups of layers."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    values = np.where(group[:, None] == group, within, between)
    np.fill_diagonal(values, 1)
    return torch.from_numpy(values)


def slow_inertia(points: np.ndarray, labels) -> float:
    """With real centroids, in the space that the vectors live in."""
    labels = np.asarray(labels)
    return sum(
        float(((points[labels == label] - points[labels == label].mean(0)) ** 2).sum())
        for label in np.unique(labels)
    )


def contiguous_labelings(layers: int, k: int):
    """Every way to cut the layers into k runs."""
    for cuts in combinations(range(1, layers), k - 1):
        yield [sum(layer >= cut for cut in cuts) for layer in range(layers)]


def labelings(layers: int, k: int):
    """Every way to group the layers into k groups (most of them several times)."""
    for labels in product(range(k), repeat=layers - 1):
        if len({0, *labels}) == k:
            yield [0, *labels]
