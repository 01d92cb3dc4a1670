"""Differences between arms by test image, from the hits that their runs keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pursuhint.study.new_images import two_way_interval
from pursuhint.study.paired_statistics import PairedComparison
from pursuhint.training.run_folder.image_hits import load_hits

if TYPE_CHECKING:
    from pursuhint.study.arm_result import SeedResult

ImageHits = Mapping[str, NDArray[np.bool_] | None]
"""Whether each test image is classified correctly, (seeds, images), by arm; None where a run has no hits."""


class _Arm(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def runs(self) -> Sequence[SeedResult]: ...


def read_image_hits(folder: Path, arms: Sequence[_Arm]) -> ImageHits:
    """The hits of all runs of a study.

    Args:
        folder: of the study.
        arms: with their runs, in the same order of seeds.

    Returns:
        By arm; None for an arm with a run of an older version, which kept none.

    Raises:
        PursuhintError: a ``correct.json`` is damaged.
    """
    found = {}
    for arm in arms:
        rows = [row for run in arm.runs if (row := load_hits(folder / run.folder)) is not None]
        whole = len(rows) == len(arm.runs) and len({len(row) for row in rows}) == 1
        found[arm.name] = np.stack(rows) if whole else None
    return found


def with_new_images(pair: PairedComparison, hits: ImageHits) -> PairedComparison:
    """A comparison with its interval for new images as well as new seeds, where both arms have hits."""
    arm, control = hits.get(pair.arm), hits.get(pair.control)
    if pair.low is None or arm is None or control is None or arm.shape != control.shape:
        return pair
    points = 100 * (arm.astype(np.int16) - control.astype(np.int16))
    return dataclasses.replace(pair, new_images=two_way_interval(points, confidence=pair.confidence))
