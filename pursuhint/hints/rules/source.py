"""What a rule chooses hint points from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
        similarity: of the teacher's layers, for the rules that look at it.
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
    batches: Callable[[], Iterable[Batch]] | None = None
    images: int = 0

    def needed_similarity(self, rule: str) -> SimilarityLike:
        """The similarity.

        Raises:
            PursuhintError: there is none.
        """
        if self.similarity is None:
            raise PursuhintError(f"{rule} looks at the similarity of layers; analyze the teacher first")
        return self.similarity

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
