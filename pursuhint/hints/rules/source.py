"""What a rule chooses hint points from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data.batch import Batch
    from pursuhint.hints.plan import SimilarityLike
    from pursuhint.hints.rules import Rule

__all__ = ["RuleSource"]


@dataclass(frozen=True)
class RuleSource:
    """The teacher, its layers, and what is known of them.

    Attributes:
        points: all candidates of the teacher, in depth order.
        k: number of hint points.
        seed: of the draw of points or images.
        position: which member of a group is taken; see `pursuhint.hints.choose_positions`.
        teacher: the network, for the rules that run it; in evaluation mode, on the device of the batches.
        teacher_name: as in a recipe.
        losses: names of the losses that will look at the points.
        similarity: of the teacher's layers, for the rules that need an analysis.
        curves: what every layer of the similarity says about the classes, by name of the measure; None where
            that is not defined.
        no_curves: why there are none, and what to do; empty if unknown.
        batches: training images with their labels, anew at every call, for the rules that look at images.
        images: how many images these are.
    """

    points: tuple[HintPoint, ...]
    k: int
    seed: int = 0
    position: str = "center"
    teacher: nn.Module | None = None
    teacher_name: str = ""
    losses: Sequence[str] = ()
    similarity: SimilarityLike | None = None
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    no_curves: str = ""
    batches: Callable[[], Iterable[Batch]] | None = None
    images: int = 0

    def needed_similarity(self, rule: str) -> SimilarityLike:
        """The similarity.

        Raises:
            PursuhintError: there is none.
        """
        if self.similarity is None:
            raise PursuhintError(f"{rule} looks at an analysis of the layers; analyze the teacher first")
        return self.similarity

    def needed_curve(self, rule: str, curve: str) -> list[float]:
        """A number for every layer of the similarity.

        Args:
            rule: its name, for messages.
            curve: name of the numbers.

        Raises:
            PursuhintError: there are none, or one of them is not defined.
        """
        similarity, values = self.needed_similarity(rule), self.curves.get(curve)
        if values is None:
            why = self.no_curves or "analyze the teacher again, on data with labels"
            if self.curves:
                why = f"analyze the teacher again with --class-{curve} (class_{curve}=True in Python)"
            raise PursuhintError(
                f"the rule {rule} takes the class curve {curve!r}, which the analysis does not have: {why}"
            )
        found = [value for value in values if value is not None]
        if len(found) < len(values):
            point = next(point for point, value in zip(similarity.points, values) if value is None)
            raise PursuhintError(
                f"the rule {rule} takes the class curve {curve!r}, not defined for {point.module} "
                f"({point.channels} features, {similarity.num_samples} images); take more images "
                "(--samples, hints.samples)"
            )
        return found

    def network_and_batches(self, rule: str) -> tuple[nn.Module, Iterable[Batch]]:
        """The teacher and images to run it on.

        Raises:
            PursuhintError: there is no network, or there are no images.
        """
        if self.teacher is None or self.batches is None:
            raise PursuhintError(f"{rule} runs the teacher on training images; give the network and the data")
        return self.teacher, self.batches()

    def num_samples(self, rule: Rule) -> int:
        """Number of images that a rule has looked at, by the similarity or by itself."""
        if rule.images:
            return self.images
        return 0 if self.similarity is None else self.similarity.num_samples
