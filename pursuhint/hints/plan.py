"""Hint plans: chosen from clusters of layers, or by a rule that serves as control.

A `HintPlan` is the interface between analysis and training: pairs of a teacher's point and the student's
point that learns from it, and how they were chosen, as an object or as ``hints.json``.
"""

from __future__ import annotations

import glob
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint._util.provenance import BaseProvenance
from pursuhint._util.registry import did_you_mean, lookup
from pursuhint._util.shown import Shown
from pursuhint.clustering import Clustering
from pursuhint.clustering.inertia import Similarity, checked_similarity, squared_distances, tie_width
from pursuhint.clustering.result import check_k
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.features.hint_points import (
    HintPoint,
    conventional_points,
    even_points,
    find_hint_points,
    resolve_point,
    stage_ends,
)
from pursuhint.hints.options import SelectionOptions, check_position
from pursuhint.hints.schedules import Curriculum, DrawnEachEpoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import nn

    from pursuhint._util.network_input import NetworkInput

__all__ = ["HintPlan", "choose_positions"]

PAIRINGS = ("conventional", "even", "reverse")
"""Rules for choosing the student's points when they are not named; see `HintPlan.with_student`."""


class SimilarityLike(Protocol):
    """Similarity of every pair of layers, such as a `pursuhint.similarity.LayerSimilarity`."""

    @property
    def points(self) -> tuple[HintPoint, ...]:
        """The layers, in depth order."""

    @property
    def values(self) -> Similarity:
        """(layers, layers)."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def num_samples(self) -> int:
        """Number of images that it was computed from."""


def choose_positions(clustering: Clustering, position: str, similarity: Similarity) -> tuple[int, ...]:
    """Choose one layer of each cluster.

    Args:
        clustering: the clusters.
        position: ``"center"``, the lower median of the members' positions (the paper's choice); ``"last"``;
            ``"first"``; or ``"medoid"``, the member nearest to the centroid, the shallower one on a tie.
        similarity: (layers, layers), the matrix that was clustered; used by ``"medoid"`` only.

    Returns:
        Layer indices, from 0, in depth order.

    Raises:
        PursuhintError: the position is unknown, or similarity and clustering differ in the number of layers.
    """
    check_position(position)
    groups = [clustering.members(cluster) for cluster in range(clustering.k)]
    if position == "center":
        chosen = [members[(len(members) - 1) // 2] for members in groups]
    elif position == "last":
        chosen = [members[-1] for members in groups]
    elif position == "first":
        chosen = [members[0] for members in groups]
    else:
        chosen = _medoids(groups, clustering, similarity)
    return tuple(sorted(chosen))


def _medoids(groups: Sequence[tuple[int, ...]], clustering: Clustering, similarity: Similarity) -> list[int]:
    matrix = checked_similarity(similarity, normalize=False)
    if len(matrix) != len(clustering.labels):
        raise PursuhintError(
            f"{len(matrix)} layers in the similarity, {len(clustering.labels)} in the clustering"
        )
    distances = squared_distances(matrix, np.asarray(clustering.labels), clustering.k)
    chosen = []
    for cluster, members in enumerate(groups):
        own = distances[list(members), cluster]
        chosen.append(members[int(np.argmax(own <= own.min() + tie_width(matrix)))])
    return chosen


@dataclass(frozen=True)
class HintPair:
    """A teacher's point and the student's point that learns from it; None while that is undecided."""

    teacher: HintPoint
    student: HintPoint | None = None


@dataclass(frozen=True, repr=False)
class HintPlan(Shown):
    """Pairs of hint points, and how they were chosen.

    Attributes:
        pairs: in the order of the hints' numbers; by depth, unless named in another order.
        origin: how the points were chosen: ``strategy`` and, as they apply, ``metric``, ``k``, ``k_reason``,
            ``algorithm``, ``position``, ``normalize``, ``num_samples``, ``seed``, ``pairing``. Plain values.
        provenance: network, data and command that the plan comes from; None for a plan that was typed. Plans
            that differ in it alone are equal.
        schedule: which pairs teach when; None if all teach all the time.

    Raises:
        PursuhintError: there is no pair, a pair occurs twice, only some have a student's point, or the
            schedule does not fit the pairs.

    Example:
        >>> network = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()) for _ in range(4)))
        >>> points = find_hint_points(network, torch.zeros(1, 3, 12, 12))
        >>> [pair.teacher.position for pair in HintPlan.random(points, 2, seed=1).pairs]
        [1, 3]
    """

    pairs: tuple[HintPair, ...]
    origin: dict[str, Any] = field(default_factory=dict)
    provenance: BaseProvenance | None = field(default=None, compare=False)
    schedule: DrawnEachEpoch | Curriculum | None = None

    def __post_init__(self) -> None:
        if not self.pairs:
            raise PursuhintError("a hint plan needs at least one hint point")
        if self.schedule is not None:
            self.schedule.check(len(self.pairs))
        seen: set[tuple[str, ...]] = set()
        for pair in self.pairs:  # a teacher's point may teach several points of the student
            if pair.student is None:
                continue
            sides = [(point.module, point.activation) for point in (pair.teacher, pair.student)]
            if (*sides[0], *sides[1]) in seen:
                raise PursuhintError(f"the pair {sides[0][0]!r} -> {sides[1][0]!r} occurs twice in the plan")
            seen.add((*sides[0], *sides[1]))
        if len({pair.student is None for pair in self.pairs}) > 1:
            raise PursuhintError(
                "some hint points have a student's point and others do not; name all or none"
            )

    def _headline(self) -> str:
        pairs = [
            str(pair.teacher.position) + (f" -> {pair.student.position}" if pair.student else "")
            for pair in self.pairs
        ]
        return f"{self.origin.get('strategy', 'unknown')} hints at {', '.join(pairs)}"

    def _draw(self, axes: Axes) -> None:
        for name, points, y in (("teacher", self.teacher_points, 1), ("student", self.student_points, 0)):
            if points:
                axes.plot(range(1, points[0].total + 1), [y] * points[0].total, "o", color="#BBBBBB")
                axes.plot([point.position for point in points], [y] * len(points), "o", label=name)
        for pair in self.pairs:
            if pair.student is not None:
                axes.plot([pair.teacher.position, pair.student.position], [1, 0], color="#767676", zorder=0)
        axes.set(xlabel="layer", ylim=(-0.5, 1.5), title="hint points")
        axes.locator_params(axis="x", integer=True)
        axes.set_yticks([0, 1], ["student", "teacher"])

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                f"{side}_{key}": None if point is None else getattr(point, key)
                for side, point in (("teacher", pair.teacher), ("student", pair.student))
                for key in ("position", "module", "activation", "channels")
            }
            for pair in self.pairs
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def teacher_points(self) -> tuple[HintPoint, ...]:
        """The teacher's points."""
        return tuple(pair.teacher for pair in self.pairs)

    @property
    def student_points(self) -> tuple[HintPoint, ...]:
        """The student's points, in the order of the teacher's; empty while they are undecided."""
        return tuple(pair.student for pair in self.pairs if pair.student is not None)

    # -- choosing the teacher's points -----------------------------------------------------------------------

    @classmethod
    def choose(
        cls,
        similarity: SimilarityLike,
        *,
        k: int | Literal["auto"] | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalize: bool = False,
    ) -> HintPlan:
        """Cluster the layers and choose one of each cluster: the method of PURSUhInT.

        Args:
            similarity: similarity of the teacher's layers.
            k: number of hint points, at least 2; ``"auto"``: the one with the highest silhouette, see
                `pursuhint.clustering.choose_k` (``origin["k_reason"]`` says why); default: see
                `default_k`.
            algorithm: ``"kmeans"``, the paper's, or another name of `pursuhint.clustering.ALGORITHMS`.
            position: rule that picks one member of each cluster; see `choose_positions`.
            normalize: see `pursuhint.clustering.kmeans`.

        Raises:
            PursuhintError: a name is unknown, k is out of range, or the similarity is not finite.
        """
        options = SelectionOptions(k, algorithm, position, normalize)
        clusterings = options.clusterings(similarity.values)
        choice = options.decide_k(similarity.points, clusterings)
        return cls.from_clustering(
            similarity, clusterings.at(choice.k), position=position, origin=options.origin(choice)
        )

    @classmethod
    def from_clustering(
        cls,
        similarity: SimilarityLike,
        clustering: Clustering,
        *,
        position: str = "center",
        origin: Mapping[str, Any] = MappingProxyType({}),
    ) -> HintPlan:
        """Take one layer of each cluster of a clustering that was computed before.

        Args:
            similarity: of the teacher's layers, from which the clustering was computed.
            clustering: the clusters.
            position: which member of a cluster is taken; see `choose_positions`.
            origin: further entries of ``origin`` (``k``, ``k_reason``, ``algorithm``, ...); they replace
                those that follow from the similarity, the clustering and the position.

        Raises:
            PursuhintError: there is no such position, or the similarity does not fit the clustering.
        """
        layers = choose_positions(clustering, position, similarity.values)
        entries = {"strategy": "chosen", "metric": similarity.metric, **origin}
        known = {
            "k": clustering.k,
            "algorithm": clustering.algorithm,
            "position": position,
            "num_samples": similarity.num_samples,
        }
        entries |= {name: value for name, value in known.items() if name not in entries}
        return cls.of([similarity.points[layer] for layer in layers], entries)

    @classmethod
    def conventional(cls, network: nn.Module, points: Sequence[HintPoint]) -> HintPlan:
        """The last sub-block of every resolution stage, as in most papers.

        Args:
            network: the teacher.
            points: all its candidates.
        """
        return cls.of(conventional_points(network, points), {"strategy": "conventional"})

    @classmethod
    def stage_centers(cls, points: Sequence[HintPoint]) -> HintPlan:
        """The middle sub-block (the lower of two) of every resolution stage.

        The control that clustering has to beat: it moves hints to centers without using similarity.

        Args:
            points: all candidates of the teacher.
        """
        stages: dict[int, list[HintPoint]] = {}
        for point in points:
            stages.setdefault(point.stage, []).append(point)
        centers = [members[(len(members) - 1) // 2] for members in stages.values()]
        return cls.of(centers, {"strategy": "centers"})

    @classmethod
    def random(cls, points: Sequence[HintPoint], k: int, seed: int) -> HintPlan:
        """k distinct points drawn uniformly, in depth order.

        Args:
            points: all candidates of the teacher.
            k: number of hint points, from 2 to the number of candidates.
            seed: seed of the draw.

        Raises:
            PursuhintError: k is out of range.
        """
        check_k(k, len(points))
        layers = sorted(random.Random(seed).sample(range(len(points)), k))
        return cls.of([points[i] for i in layers], {"strategy": "random", "k": k, "seed": seed})

    @classmethod
    def all_by_depth(cls, points: Sequence[HintPoint], student_points: Sequence[HintPoint]) -> HintPlan:
        """Every sub-block of teacher and student, paired by relative depth.

        Points of the shallower network occur in several pairs.

        Args:
            points: all candidates of the teacher.
            student_points: all candidates of the student.
        """
        number = max(len(points), len(student_points))
        pairs = tuple(
            HintPair(points[i * len(points) // number], student_points[i * len(student_points) // number])
            for i in range(number)
        )
        return cls(pairs, {"strategy": "all", "pairing": "even"})

    @classmethod
    def explicit(cls, points: Sequence[HintPoint], names: Sequence[str | int]) -> HintPlan:
        """Points named by hand, in the given order.

        Args:
            points: all candidates of the teacher.
            names: module names (``"layer2.4"``) or positions (23 or ``"23"``). A point may be named more than
                once, to teach several points of the student.

        Raises:
            PursuhintError: there is no such point.
        """
        chosen = [resolve_point(points, name) for name in names]
        return cls.of(chosen, {"strategy": "explicit"})

    @classmethod
    def of(cls, teacher_points: Sequence[HintPoint], origin: dict[str, Any]) -> HintPlan:
        """A plan without a student's points.

        Args:
            teacher_points: in the order of the hints.
            origin: how they were chosen.
        """
        return cls(tuple(HintPair(point) for point in teacher_points), origin)

    # -- pairing with a student ------------------------------------------------------------------------------

    def with_student(
        self,
        student_points: Sequence[HintPoint],
        student_network: nn.Module | None = None,
        *,
        pairing: str | Sequence[str] = "conventional",
    ) -> HintPlan:
        """Choose the student's point that learns from each hint.

        Args:
            student_points: all candidates of the student.
            student_network: the student, which may define its own conventional points; without it they are
                the last of each resolution stage.
            pairing: ``"conventional"``: the conventional points if their number equals the number of hints,
                else as ``"even"``; ``"even"``: the student's depth in equal parts, the last point of each.
                Either way shallower hints go to shallower points; with ``"reverse"`` to deeper ones, and the
                points are as for ``"conventional"``. Or the student's points by name, in the order of the
                plan's pairs.

        Raises:
            PursuhintError: the student has fewer points than the plan, or a pairing or point is unknown.
        """
        wanted, there = len(self), len(student_points)
        if there < wanted:
            raise PursuhintError(
                f"the student has {there} candidate point{'s' if there > 1 else ''}, fewer than the {wanted} "
                f"hint points of the plan; name at most {there} of the teacher's (--hints NAME, "
                "HintPlan.explicit), or take the last map of both (--hints last-map)"
            )
        if not isinstance(pairing, str):
            if len(pairing) != wanted:
                raise PursuhintError(f"{len(pairing)} student points were named for {wanted} hint points")
            return self.paired([resolve_point(student_points, name) for name in pairing], "explicit")
        lookup("pairing", {name: name for name in PAIRINGS}, pairing)
        chosen: Sequence[HintPoint] = ()
        if pairing != "even":
            chosen = (
                stage_ends(student_points)
                if student_network is None
                else conventional_points(student_network, student_points)
            )
        if len(chosen) != wanted:
            pairing = "even" if pairing == "conventional" else pairing
            chosen = even_points(student_points, wanted)
        by_depth = sorted(range(wanted), key=lambda i: self.pairs[i].teacher.position)
        if pairing == "reverse":
            by_depth.reverse()
        rank = {pair: depth for depth, pair in enumerate(by_depth)}
        return self.paired([chosen[rank[i]] for i in range(wanted)], pairing)

    def paired(self, student_points: Sequence[HintPoint], pairing: str) -> HintPlan:
        """The plan with given points of the student, as many as hints and in their order.

        Args:
            student_points: the points.
            pairing: how they were chosen, for `origin`.
        """
        pairs = tuple(HintPair(pair.teacher, point) for pair, point in zip(self.pairs, student_points))
        return replace(self, pairs=pairs, origin={**self.origin, "pairing": pairing})

    # -- files -----------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write ``hints.json``.

        Raises:
            PursuhintError: the file cannot be written.
        """
        file = _PlanFile(
            pairs=list(self.pairs), origin=self.origin, provenance=self.provenance, schedule=self.schedule
        )
        unscheduled = {"schedule"} if self.schedule is None else None
        write_json(path, file.model_dump(mode="json", by_alias=True, exclude=unscheduled))

    @classmethod
    def load(cls, path: Path | str) -> HintPlan:
        """Read ``hints.json``.

        Raises:
            PursuhintError: the file is missing, damaged, of another schema, or not a hint plan.
        """
        file = validated(_PlanFile, read_json(path, "hint plan"), f"the hint plan {path}")
        try:
            return cls(tuple(file.pairs), file.origin, file.provenance, file.schedule)
        except PursuhintError as error:
            raise PursuhintError(f"the hint plan {path} is not valid: {error}") from None

    # -- the network that it was made from -------------------------------------------------------------------

    def check_network(self, network: nn.Module, name: str) -> None:
        """Warn if the points were chosen from the similarities of another network, or of other weights.

        Silent for plans that do not depend on weights, or do not say where they are from.

        Args:
            network: the teacher.
            name: of the teacher, for the warning.
        """
        made = self.provenance
        from pursuhint._util.fingerprint import fingerprint_network
        from pursuhint.hints.rules import looks_at_teacher

        if made is None or not made.network_fingerprint or not looks_at_teacher(self.origin.get("strategy")):
            return
        if fingerprint_network(network) == made.network_fingerprint:
            return
        source = made.network + (f" ({made.checkpoint})" if made.checkpoint else "")
        other = f"the teacher {name}" if name != made.network else f"the weights of the teacher {name}"
        warnings.warn(
            f"the hint points were chosen from {source}, not from {other}; analyze the teacher itself "
            "(pursuhint analyze) unless this is meant",
            PursuhintWarning,
            stacklevel=1,  # always this line, so that many runs with one plan warn once
        )

    # -- binding to a network --------------------------------------------------------------------------------

    def bind(
        self, teacher_network: nn.Module, example: NetworkInput, *, student_network: nn.Module | None = None
    ) -> HintPlan:
        """Find the plan's points in networks.

        Only the names of a plan are kept: sizes and taps are found again for these networks and images.

        Args:
            teacher_network: the network that the teacher's points belong to.
            example: images of the size that will be used, (N, C, H, W), or what else the networks take.
            student_network: the network that the student's points belong to, if the plan has any; without
                it they stay unchanged.

        Raises:
            PursuhintError: a point does not exist in its network; the message names the closest that does.
        """
        teachers = _found(self.teacher_points, teacher_network, example)
        students: Sequence[HintPoint | None] = [pair.student for pair in self.pairs]
        if student_network is not None and self.student_points:
            students = _found(self.student_points, student_network, example)
        return replace(self, pairs=tuple(HintPair(*points) for points in zip(teachers, students)))

    # -- other tools -----------------------------------------------------------------------------------------

    def to_modelopt(
        self, loss: Callable[[HintPoint, HintPoint], nn.Module], *, weight: float = 1.0
    ) -> dict[str, Any]:
        """``criterion`` and ``loss_balancer`` of NVIDIA Model Optimizer's distillation (``kd_loss``).

        The balancer adds the student's own loss, if ``compute_kd_loss`` is given one, and all criteria.

        Args:
            loss: makes a module ``loss(student, teacher)`` of features for a pair of points of student and
                teacher; `pursuhint.integrations.pair_loss` makes it from the name of a loss.
            weight: factor of every pair, at least 0.

        Raises:
            PursuhintError: modelopt is not installed, or the plan has no student or a point that is not
                what a module returns.

        Example:
            >>> config = {"teacher_model": teacher, **plan.to_modelopt(pair_loss("fitnet"), weight=100)}
            >>> network = modelopt.torch.distill.convert(student, mode=[("kd_loss", config)])
        """
        from pursuhint.hints.exports.module_outputs import readable_pairs

        pairs = readable_pairs(self, "modelopt", inputs=False, axes=True)
        try:
            from pursuhint.hints.exports.modelopt import PairCriterion, SumOfLosses
        except ModuleNotFoundError as error:
            raise PursuhintError(
                f"to_modelopt needs {error.name}; install it with: pip install 'pursuhint[modelopt]'"
            ) from None
        criterion = {
            (own.tap.module, other.tap.module): PairCriterion(
                number, (own.tap, other.tap), loss(own, other), weight
            )
            for number, (own, other) in enumerate(pairs)
        }
        return {"criterion": criterion, "loss_balancer": SumOfLosses()}

    def to_torchdistill(self, loss: str = "ATLoss", *, weight: float | None = None) -> dict[str, Any]:
        """The entries ``teacher``, ``student`` and ``criterion`` of a ``train`` section of torchdistill.

        Plain values, for its YAML files or its ``DistillationBox``: forward hooks at the plan's points, and
        the sum of cross-entropy and the loss of the pairs. torchdistill leaves the mode of the teacher to
        you: call ``teacher.eval()``.

        Args:
            loss: ``ATLoss``, for maps of equal height and width, or ``SPKDLoss``: those of its losses that
                compare pairs and learn nothing (what a criterion learns is not trained there).
            weight: factor of the loss; None for that of torchdistill's own examples, 1000 for ``ATLoss`` and
                1 for ``SPKDLoss``.

        Raises:
            PursuhintError: the loss is another one or cannot compare a pair, or the plan has no student or a
                point that is not input or output of a module.
        """
        from pursuhint.hints.exports.module_outputs import readable_pairs
        from pursuhint.hints.exports.torchdistill import WEIGHTS, configuration

        usual = lookup("loss of torchdistill", WEIGHTS, loss)
        pairs = readable_pairs(self, "torchdistill", inputs=True, axes=False)
        return configuration(pairs, loss, usual if weight is None else weight)


def _found(points: Sequence[HintPoint], network: nn.Module, example: NetworkInput) -> list[HintPoint]:
    candidates = {
        activation: find_hint_points(network, example, activation=activation)
        for activation in sorted({point.activation for point in points})
    }
    modules = _module_names(network)
    found = []
    for point in points:
        same = [other for other in candidates[point.activation] if other.module == point.module]
        if not same:
            if point.module not in modules:
                names = [other.module for other in candidates[point.activation]]
                raise PursuhintError(
                    f"hint point {point.module!r} is not a module of {type(network).__name__}; "
                    f"{did_you_mean(point.module, names)}"
                )
            # No candidate by default: a pattern selected it, so position and stage stay as they were then.
            pattern = glob.escape(point.module)
            (other,) = find_hint_points(network, example, activation=point.activation, include=[pattern])
            same = [replace(other, position=point.position, total=point.total, stage=point.stage)]
        found.append(same[0])
    return found


def _module_names(network: nn.Module) -> set[str]:
    from pursuhint._util.wrappers import original_modules

    with original_modules(network) as inner:
        return {name for name, _ in inner.named_modules()}


# ---------------------------------------------------------------------------------------------------------
# File schema


class _PlanFile(BaseModel):
    """hints.json."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    origin: dict[str, Any]
    pairs: list[HintPair]
    provenance: BaseProvenance | None = None
    schedule: DrawnEachEpoch | Curriculum | None = None
