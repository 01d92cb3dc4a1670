"""Where the teacher and the student of a run look at their hint points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, conventional_points, find_hint_points
from pursuhint.losses.at import attention_map
from pursuhint.study.run_networks import RunNetworks

Pair = tuple[HintPoint, HintPoint]


@dataclass(frozen=True, eq=False)
class PairAttention:
    """Attention maps at a pair of hint points.

    Attributes:
        teacher: the teacher's point.
        student: the student's point.
        teacher_maps: (shown images, height, width), each of unit length.
        student_maps: likewise, of the student's own size.
        similarity: mean cosine of both maps over all test images, the larger map averaged down to the size
            of the smaller, in [0, 1]; 1 means that both look at the same places.
    """

    teacher: HintPoint
    student: HintPoint
    teacher_maps: NDArray[np.float32]
    student_maps: NDArray[np.float32]
    similarity: float


@dataclass(frozen=True)
class FoundPairs:
    """The pairs of points at which attention can be drawn.

    Attributes:
        pairs: of points with feature maps, or tokens laid out as one, on both sides.
        are_hints: whether they are the run's hints; otherwise they are the stage ends.
        left_out: the other pairs in words, with the reason: ``layer4 → head (head is a vector)``.
    """

    pairs: tuple[Pair, ...]
    are_hints: bool
    left_out: tuple[str, ...]


def pairs_of(networks: RunNetworks) -> FoundPairs:
    """The pairs of hint points of a run; stage ends of both networks, from the last on, for a run without.

    Tokens become a map where the grid of their patches is known, from the point or from the network.
    """
    known = [(pair.teacher, pair.student) for plan in networks.run.all_plans for pair in plan.pairs]
    pairs = list(dict.fromkeys((one, other) for one, other in known if other is not None))
    are_hints = bool(pairs)
    both = networks.teacher, networks.student
    own = [find_hint_points(network, networks.example) for network in both]
    if not are_hints:
        ends = [conventional_points(network, points) for network, points in zip(both, own)]
        pairs = list(zip(reversed(ends[0]), reversed(ends[1])))[::-1]
    grids = [{point.module: point.grid for point in points} for points in own]
    maps: list[Pair] = []
    left_out = []
    for pair in pairs:
        one, other = (_map_of(point, grid.get(point.module)) for point, grid in zip(pair, grids))
        why = [_why_no_map(point) for point in (one, other) if len(point.spatial) != 2]
        if why:
            left_out.append(f"{one.module} → {other.module} ({', '.join(dict.fromkeys(why))})")
        else:
            maps.append((one, other))
    return FoundPairs(tuple(maps), are_hints, tuple(left_out))


def _map_of(point: HintPoint, grid: tuple[int, int] | None) -> HintPoint:
    """The point as a map, with the grid that the network has for its tokens if it has none of its own."""
    return (point if point.grid is not None else replace(point, grid=grid)).as_map()


def _why_no_map(point: HintPoint) -> str:
    if not point.spatial:
        return f"{point.module} is a vector"
    return f"{point.module} has {point.spatial[0]} tokens, whose places in the image are not known"


def attention_of(
    networks: RunNetworks, pairs: Sequence[Pair], shown: Sequence[int]
) -> tuple[list[PairAttention], NDArray[np.float32], NDArray[np.int64]]:
    """Attention maps of teacher and student: channels squared and averaged, of unit length an image.

    Args:
        networks: of a run.
        pairs: of hint points.
        shown: indices of the test images whose maps are kept.

    Returns:
        Maps, one entry a pair; the images as the networks see them, (shown, channels, height, width); and
        their labels. Images are in the order of ``shown``.

    Raises:
        PursuhintError: there is no pair whose features are maps, or one is not in its network.
    """
    points = [tuple(side) for side in zip(*pairs)]
    if not points:
        raise PursuhintError(
            f"the networks of {networks.run.path} have no feature maps whose attention could be drawn"
        )
    readers = [
        FeatureExtractor(network, side, logits=False)
        for network, side in zip((networks.teacher, networks.student), points)
    ]
    sums, count = [0.0] * len(pairs), 0
    kept: dict[int, tuple[Tensor, int, list[tuple[Tensor, Tensor]]]] = {}
    for batch, (teacher, student) in networks.features(*readers):
        places = {index: place for place, index in enumerate(batch.indices.tolist())}
        here = [index for index in shown if index in places]
        maps: list[list[tuple[Tensor, Tensor]]] = [[] for _ in here]
        for number, features in enumerate(zip(student.maps, teacher.maps)):
            same = [attention_map(one) for one in _of_one_size(*features)]
            sums[number] += float((same[0] * same[1]).sum(dtype=torch.float64))
            for found, index in zip(maps, here):
                one, other = (_map(side[places[index]]) for side in features)
                found.append((other, one))
        for found, index in zip(maps, here):
            place = places[index]
            kept[index] = batch.images[place].cpu(), int(batch.labels[place]), found
        count += len(batch)
    result = [
        PairAttention(
            teacher,
            student,
            np.stack([kept[index][2][number][0].numpy() for index in shown]),
            np.stack([kept[index][2][number][1].numpy() for index in shown]),
            sums[number] / count,
        )
        for number, (teacher, student) in enumerate(pairs)
    ]
    images = np.stack([kept[index][0].numpy() for index in shown])
    return result, images, np.array([kept[index][1] for index in shown])


def _of_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps, the larger side of each averaged down to the smaller."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def _map(features: Tensor) -> Tensor:
    """(C, H, W) as a map (H, W)."""
    return attention_map(features.float()[None]).reshape(features.shape[1:]).cpu()
