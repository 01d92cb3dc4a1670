"""Choose hint points from the similarities of an analysis, without the network and without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pursuhint._util.provenance import circumstances
from pursuhint.analysis.findings import AnalyzedLayers, ChoiceRobustness, ClassCurves, LayerClusters
from pursuhint.analysis.provenance import Provenance
from pursuhint.analysis.ways import ChoiceAgreement, ways_of
from pursuhint.clustering import ALGORITHMS, Clustering
from pursuhint.clustering.stability import SelectionStability
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.options import SelectionOptions, default_k
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES, choose_by_rule
from pursuhint.hints.rules.source import RuleSource
from pursuhint.hints.selection import Resampled, choose_plan, stability_of_choice
from pursuhint.similarity import NORMALIZED, check_normalized

__all__ = ["HintSelector"]


_LIGHT = ("kmeans", "segments", "hierarchical")  # the package for k-medoids takes a second to import


class HintSelector:
    """Base of `Analysis` and `StoredAnalysis`: chooses hint points from their similarities.

    Attributes:
        provenance: network, data and settings.
        layers: the layers, and those that could not be compared.
        similarities: by metric: those asked for, and those that these are clustered with.
        clusters: clusterings by every metric and algorithm.
        robustness: whether other images, metrics or activations lead to the same hint points.
        class_curves: what each layer says about the classes, or None.
        no_class_curves: why there are none; empty if there are, and in analyses of older versions.
    """

    provenance: Provenance
    layers: AnalyzedLayers
    similarities: Mapping[str, Resampled]
    clusters: LayerClusters
    robustness: ChoiceRobustness
    class_curves: ClassCurves | None
    no_class_curves: str

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

    @property
    def curves(self) -> Mapping[str, Sequence[float | None]]:
        """The class curves by their names, empty without; what rules look at."""
        return {} if self.class_curves is None else self.class_curves.by_name()

    def select_by_rule(
        self,
        rule: str,
        *,
        k: int | None = None,
        metric: str | None = None,
        position: str = "center",
        seed: int = 0,
    ) -> HintPlan:
        """Choose hint points by a rule, from the same similarities and curves or from the depth alone.

        Args:
            rule: one of `pursuhint.hints.RULES` that runs no network.
            k: number of hint points; default: `pursuhint.hints.default_k`.
            metric: one of those analysed, for the rules that look at it; default: the first.
            position: for the rules that take one member of a group; see `pursuhint.hints.choose_positions`.
            seed: for the rules that draw at random.

        Raises:
            PursuhintError: there is no such rule, it runs the network on images or needs a curve that this
                analysis does not have, or k is out of range.
        """
        if (found := RULES.get(rule)) is not None and found.images:
            raise PursuhintError(
                f"{rule} runs the network on training images, which an analysis does not keep; use it where "
                f"both are at hand (pursuhint train --hints {rule}, pursuhint compare --arm {rule})"
            )
        similarity = self._similarity_for(metric or self.metrics[0], self.clusters.normalize)
        number = default_k(self.candidates) if k is None else k
        plan = choose_by_rule(
            rule,
            RuleSource(
                self.candidates,
                number,
                seed=seed,
                position=position,
                teacher_name=self.provenance.network,
                similarity=similarity,
                curves=self.curves,
                no_curves=self.no_class_curves,
            ),
        )
        return replace(plan, provenance=replace(self.provenance.shared(), **circumstances()).finished())

    def selection_stability(self, plan: HintPlan) -> SelectionStability | None:
        """How often the points of a plan from `select` are chosen again when images are left out.

        Args:
            plan: its ``origin`` says how its points were chosen.

        Returns:
            None if the stability was not estimated when the network was analysed.

        Raises:
            PursuhintError: the plan was not chosen from this analysis.
        """
        chosen, options = self._choice(plan, "stability")
        similarity = self._similarity_for(plan.origin["metric"], options.normalize)
        return stability_of_choice(similarity, chosen, options)

    def choice_agreement(self, plan: HintPlan) -> ChoiceAgreement | None:
        """How many other ways of choosing lead to the hint points of a plan.

        The ways are all algorithms, by all metrics of this analysis, and for each metric the contiguous
        partitions within 1 % of the best inertia; all with as many clusters as the plan has hint points.
        Metrics that cluster the same matrix count once; metrics with too few images do not count. For another
        number of hint points than this analysis has, k-medoids counts only if it chose the plan.

        Args:
            plan: its ``origin`` says how its points were chosen.

        Returns:
            None if the plan was not chosen by clustering, or there are too few images for its metric.

        Raises:
            PursuhintError: the plan was not chosen from this analysis.
        """
        if plan.origin.get("strategy") != "chosen":
            return None
        chosen, options = self._choice(plan, "agreement")
        metric, algorithm = plan.origin["metric"], plan.origin["algorithm"]
        if metric in self.robustness.too_few_samples:
            return None
        metrics: dict[str, str] = {}  # by the matrix that is clustered, the plan's metric first
        for name in (metric, *self.metrics):
            if name not in self.robustness.too_few_samples:
                metrics.setdefault(self._similarity_for(name, options.normalize).metric, name)
        similarities = {name: self._similarity_for(name, options.normalize) for name in metrics.values()}

        def clusterings(name: str) -> Mapping[str, Clustering]:
            there = self.clusters.clusterings.get(name, {})
            if (
                algorithm in there
                and there[algorithm].k == len(chosen)
                and self.clusters.normalize == options.normalize
            ):
                return there
            return {
                other: replace(options, algorithm=other)
                .clusterings(similarities[name].values)
                .at(len(chosen))
                for other in ALGORITHMS
                if other in (algorithm, *_LIGHT)
            }

        ways, near_optimal = ways_of(similarities, clusterings, options)
        positions = tuple(point.position for point in plan.teacher_points)
        return ChoiceAgreement(positions, metric, algorithm, ways, near_optimal)

    def _choice(self, plan: HintPlan, what: str) -> tuple[list[int], SelectionOptions]:
        """The layers of a plan, by index from 0, and how they were chosen."""
        places = {(point.module, point.activation): i for i, point in enumerate(self.candidates)}
        points = [(point.module, point.activation) for point in plan.teacher_points]
        origin = plan.origin
        if (
            origin.get("strategy") != "chosen"
            or not origin.keys() >= {"metric", "algorithm", "position", "normalize"}
            or origin["metric"] not in self.clusters.clustered_with
            or not places.keys() >= set(points)
        ):
            raise PursuhintError(
                f"the {what} of a plan needs the analysis that chose it; pass a plan that select() returned"
            )
        options = SelectionOptions(None, origin["algorithm"], origin["position"], origin["normalize"])
        return [places[point] for point in points], options

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
