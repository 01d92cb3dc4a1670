"""Choose hint points from the similarities of an analysis, without the network and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pursuhint._util.provenance import circumstances
from pursuhint.analysis.findings import AnalyzedLayers, LayerClusters
from pursuhint.analysis.provenance import Provenance
from pursuhint.clustering.stability import SelectionStability
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.selection import Resampled, choose_plan, stability_of_choice
from pursuhint.similarity import NORMALIZED, check_normalized

__all__ = ["HintSelector"]


class HintSelector:
    """Base of `Analysis` and `StoredAnalysis`: chooses hint points from their similarities.

    Attributes:
        provenance: network, data and settings.
        layers: the layers, and those that could not be compared.
        similarities: by metric: those asked for, and those that these are clustered with.
        clusters: clusterings by every metric and algorithm.
    """

    provenance: Provenance
    layers: AnalyzedLayers
    similarities: Mapping[str, Resampled]
    clusters: LayerClusters

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics asked for; the first one chose the plan."""
        return self.clusters.metrics

    @property
    def candidates(self) -> tuple[HintPoint, ...]:
        """The layers of the matrices and clusterings."""
        return self.layers.candidates

    def select(
        self,
        *,
        k: int | Literal["auto"] | None = None,
        metric: str | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalize: bool | None = None,
    ) -> HintPlan:
        """Choose hint points anew from the same similarities, without the network.

        Args:
            k: number of hint points, or ``"auto"``; default: `pursuhint.hints.default_k`.
            metric: one of those analysed; default: the first.
            algorithm: see `pursuhint.clustering.ALGORITHMS`.
            position: see `pursuhint.hints.choose_positions`.
            normalize: cluster R2CCA by rank in place of R2CCA; default: as in this analysis.

        Raises:
            PursuhintError: the metric was not analysed, a name is unknown, k is out of range, or the metric
                has no other form to normalise to.
        """
        metric = self.metrics[0] if metric is None else metric
        if normalize:
            check_normalized([metric])
        normalize = self.clusters.normalize if normalize is None else normalize
        similarity = self._similarity_for(metric, normalize)
        options = SelectionOptions(k, algorithm, position, normalize)
        clusterings = options.clusterings(similarity.values)
        plan = choose_plan(similarity, options, clusterings, metric=metric, seed=self.provenance.seed)
        made = replace(self.provenance.shared(), **circumstances()).finished()
        return replace(plan, provenance=made)

    def selection_stability(self, plan: HintPlan) -> SelectionStability | None:
        """How often the points of a plan from `select` are chosen again when images are left out.

        Args:
            plan: its ``origin`` says how its points were chosen.

        Returns:
            None if the stability was not estimated when the network was analysed.

        Raises:
            PursuhintError: the plan was not chosen from this analysis.
        """
        places = {(point.module, point.activation): i for i, point in enumerate(self.candidates)}
        points = [(point.module, point.activation) for point in plan.teacher_points]
        origin = plan.origin
        if origin.get("strategy") != "chosen" or not places.keys() >= set(points):
            raise PursuhintError(
                "the stability of a plan needs the analysis that chose it; pass a plan that select() returned"
            )
        options = SelectionOptions(None, origin["algorithm"], origin["position"], origin["normalize"])
        chosen = [places[point] for point in points]
        return stability_of_choice(
            self._similarity_for(origin["metric"], origin["normalize"]), chosen, options
        )

    def frequencies(self, stability: SelectionStability) -> dict[str, float]:
        """Share of half-samples in which each position was chosen, without those that never were.

        Args:
            stability: of a choice among the candidates.
        """
        pairs = zip(self.candidates, stability.frequency)
        return {str(point.position): share for point, share in pairs if share > 0}

    def clustered_similarity(self, metric: str) -> Resampled:
        """The similarities that were clustered for a metric."""
        return self.similarities[self.clusters.clustered_with[metric]]

    def _similarity_for(self, metric: str, normalize: bool) -> Resampled:
        if metric not in self.similarities:
            raise PursuhintError(
                f"metric {metric!r} was not analysed; there are {', '.join(self.similarities)}"
            )
        return self.similarities[NORMALIZED.get(metric, metric) if normalize else metric]
