"""Embeddings of a network in the plane, and how far classes stand apart in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pursuhint._util.seeds import derived_generator
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.study.run_networks import RunNetworks

PERPLEXITY = 30.0
_FEWEST = 10  # images, below which there is nothing to see


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of both networks of a run.

    Attributes:
        teacher: (images, width).
        student: (images, other width).
        labels: (images,).
        indices: (images,).
    """

    teacher: NDArray[np.float64]
    student: NDArray[np.float64]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


def choose_images(labels: torch.Tensor, *, classes: int, samples: int, seed: int) -> torch.Tensor:
    """Draw test images of the first classes.

    Args:
        labels: of all test images.
        classes: images of the first so many classes count.
        samples: how many to draw; all if there are fewer.
        seed: of the draw.

    Returns:
        Indices in ascending order.

    Raises:
        PursuhintError: there are fewer than ten.
    """
    known = (labels < classes).nonzero().flatten()
    if min(len(known), samples) < _FEWEST:
        raise PursuhintError(
            f"a map of embeddings needs at least {_FEWEST} test images, got {min(len(known), samples)}"
        )
    order = torch.randperm(len(known), generator=derived_generator("embedding map", seed))
    return known[order[:samples]].sort().values


def read_embeddings(networks: RunNetworks, chosen: torch.Tensor) -> Embeddings:
    """What the classifiers of teacher and student take, for some test images.

    Args:
        networks: of a run.
        chosen: indices of test images.
    """
    wanted = set(chosen.tolist())
    readers = [
        FeatureExtractor(network, logits=False, embedding=True)
        for network in (networks.teacher, networks.student)
    ]
    parts: list[list[torch.Tensor]] = [[], [], [], []]
    for batch, features in networks.features(*readers):
        kept = torch.tensor([index in wanted for index in batch.indices.tolist()])
        for part, values in zip(
            parts, (*(one.embedding for one in features), batch.labels, batch.indices), strict=True
        ):
            assert values is not None
            part.append(values.cpu()[kept])
    teacher, student, labels, indices = (torch.cat(part).numpy() for part in parts)
    return Embeddings(teacher.astype(np.float64), student.astype(np.float64), labels, indices)


def map_embeddings(
    embeddings: NDArray[np.float64], labels: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], float | None]:
    """t-SNE of embeddings (perplexity 30, or a third of fewer images), and the silhouette of their classes.

    Source: L. van der Maaten and G. Hinton, Visualizing Data using t-SNE, JMLR 2008; by scikit-learn, from
    principal components.

    Args:
        embeddings: (images, width).
        labels: (images,).
        seed: of the optimisation.

    Returns:
        Places (images, 2), and the silhouette in the embeddings; None with one class, or where every image
        has its own.

    Raises:
        PursuhintError: an embedding is not finite.
    """
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    if not np.isfinite(embeddings).all():
        raise PursuhintError("the embeddings hold a value that is not finite; they have no map")
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    start = "pca" if embeddings.shape[1] >= 2 and np.ptp(embeddings) > 0 else "random"
    places = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(embeddings)
    apart = None
    if 1 < len(np.unique(labels)) < len(labels):
        apart = float(silhouette_score(embeddings, labels))
    return places.astype(np.float64), apart
