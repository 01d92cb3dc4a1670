"""Whether the images so far choose what all images will choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pursuhint.analysis.auto_samples import AutoSamples, AutoSampling, Look, looks_from
from pursuhint.analysis.collection_plan import Collected
from pursuhint.clustering.inertia import Matrix
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import Activation, HintPoint
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import choose_positions
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.prediction import predictions
from pursuhint.similarity.resampling import leave_out


def repeats(
    choose: Callable[[Matrix], tuple[int, ...]],
    chosen: tuple[int, ...],
    predicted: Iterable[Matrix],
    *,
    most_different: int,
) -> tuple[int, int]:
    """How many predictions have the same choice, and of how many; ends when far too many have another.

    Args:
        choose: maps a similarity to the chosen layers.
        chosen: from the similarity so far.
        predicted: from `pursuhint.similarity.prediction.predictions`.
        most_different: how many may have another choice.
    """
    same = draws = 0
    for draws, values in enumerate(predicted, 1):
        same += choose(values) == chosen
        if draws - same > 2 * most_different + 8:
            break
    return same, draws


class StoppingRule:
    """The looks of one pass; see `pursuhint.analysis.AutoSamples`.

    Args:
        auto: the settings.
        images: all that there are to take.
        metric: the one that is clustered.
        selection: how hint points are chosen.
        samples_needed: fewest images for the metrics asked for; below it no look ends the pass.
        seed: of the draws.

    Attributes:
        looks: what was seen.
        seconds: that it took.
    """

    def __init__(
        self,
        auto: AutoSamples,
        images: int,
        metric: Metric,
        selection: SelectionOptions,
        *,
        samples_needed: int = 0,
        seed: int = 0,
    ) -> None:
        self._auto, self._images, self._metric, self._selection = auto, images, metric, selection
        self._samples_needed, self._seed = samples_needed, seed
        self._number = max(1, len(auto.ends(images)) - 1)
        self.looks: list[Look] = []
        self.seconds = 0.0

    def __call__(self, collected: Mapping[Activation, Collected]) -> bool:
        """Look at the choice; returns whether it is stable in all features that are analyzed.

        Args:
            collected: by activation, statistics of the images so far, with their shards.
        """
        began = time.perf_counter()
        stable = True
        for activation, each in collected.items():
            look = self._look(activation, each)
            self.looks.append(look)
            stable = stable and bool(look.draws) and look.draws - look.same <= self._most_different
        self.seconds += time.perf_counter() - began
        return stable

    @property
    def _most_different(self) -> int:
        return self._auto.most_different(self._number)

    def _look(self, activation: str, collected: Collected) -> Look:
        samples = collected.statistics.count
        if samples < self._samples_needed:
            why = f"there were too few images for the metrics, which need {self._samples_needed:,}"
            return Look(samples, activation, (), 0, 0, why)
        assert collected.shards is not None
        whole, left_out = (each.cpu().numpy() for each in leave_out(collected.shards, self._metric))
        kept = np.flatnonzero(~np.isnan(whole.diagonal()))
        whole, left_out = whole[np.ix_(kept, kept)], left_out[:, kept][:, :, kept]
        points = [collected.points[layer] for layer in kept]
        if np.isnan(left_out).any():
            return Look(samples, activation, (), 0, 0, "a layer did not vary over a part of the images")
        try:
            chosen = self._choose(whole, points)
        except PursuhintError as error:
            return Look(samples, activation, (), 0, 0, str(error))
        same, draws = repeats(
            lambda values: self._choose(values, points),
            chosen,
            predictions(
                whole,
                left_out,
                share=samples / self._images,
                count=self._auto.draws(self._number),
                seed=self._seed,
            ),
            most_different=self._most_different,
        )
        positions = tuple(points[layer].position for layer in chosen)
        return Look(samples, activation, positions, same, draws)

    def _choose(self, similarity: Matrix, points: list[HintPoint]) -> tuple[int, ...]:
        """The layers that a similarity chooses, and so how many: k may be chosen as well."""
        clusterings = self._selection.clusterings(similarity)
        k = self._selection.decide_k(points, clusterings).k
        return choose_positions(clusterings.at(k), self._selection.position, similarity)

    def found(self, samples: int, *, forward: float) -> AutoSampling:
        """How the pass ended.

        Args:
            samples: images that it took.
            forward: seconds of its forward pass.
        """
        draws = self._auto.draws(self._number)
        return AutoSampling(
            stable_at=self._auto.stable_at,
            available=self._images,
            samples=samples,
            needed=(draws - self._most_different, draws),
            looks=tuple(self.looks),
            seconds=self.seconds,
            saved=forward * (self._images / samples - 1),
        )

    # -- resuming after an interruption ----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What was seen, as plain values."""
        return {"looks": [asdict(look) for look in self.looks], "seconds": self.seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self.looks, self.seconds = looks_from(state["looks"]), float(state["seconds"])
