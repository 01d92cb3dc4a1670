"""What a loss is built from: shapes of the features, sizes of task and data, the networks themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from pursuhint._util.network_input import NetworkInput
    from pursuhint.features.hint_points import HintPoint

__all__ = ["FeatureShape", "LossContext", "Network"]

Network = Literal["student", "teacher"]


@dataclass(frozen=True)
class FeatureShape:
    """The features of one network at one hint point, without the batch.

    Attributes:
        channels: width.
        spatial: (height, width) of a feature map, (tokens,) of a sequence, () of a vector.
        activation: ``"post"`` or ``"pre"``, see `pursuhint.features.HintPoint`.
        module: name of the sub-block, for losses that look at the modules around it.
        point: the hint point itself, for losses that read the features again while building.
    """

    channels: int
    spatial: tuple[int, ...]
    activation: Literal["pre", "post"] = "post"
    module: str = ""
    point: HintPoint | None = None


@dataclass(frozen=True)
class LossContext:
    """What a loss may need to know when it is built.

    Attributes:
        pairs: the student's and the teacher's features at every pair of hint points, shallow to deep.
        num_classes: classes of the task, and width of the student's logits.
        num_samples: size of the training set, for memory banks.
        student_embedding: width of the student's embedding; 0 if no loss looks at embeddings.
        teacher_embedding: width of the teacher's embedding; 0 likewise.
        teacher_classifier: its last linear layer, where `LossInfo.needs_teacher_classifier` is set.
        teacher_classes: width of the teacher's logits; None means ``num_classes``.
        student: the student, for losses that look for a place in it. Read while building, never kept.
        teacher: the teacher, for losses that read its weights, norms say. Read while building, never kept.
        example: images that both networks can run on, (N, C, H, W), or what else they take.
        labels: class of every training sample by its index, (num_samples,); -1 for samples that are held out
            of training. None if not known.
        chosen: student's and teacher's features of a loss that chooses its own hint points
            (`Loss.choose_points`); None for those of the pairs.
        batch_size: samples in a batch, over all ranks; None if not known.
    """

    pairs: tuple[tuple[FeatureShape, FeatureShape], ...]
    num_classes: int
    num_samples: int
    student_embedding: int
    teacher_embedding: int
    teacher_classifier: nn.Module | None = None
    teacher_classes: int | None = None
    student: nn.Module | None = None
    teacher: nn.Module | None = None
    example: NetworkInput | None = None
    labels: Tensor | None = None
    chosen: tuple[tuple[FeatureShape, ...], tuple[FeatureShape, ...]] | None = None
    batch_size: int | None = None

    @property
    def student_shapes(self) -> tuple[FeatureShape, ...]:
        """The student's features, as ``forward`` gets them."""
        return tuple(own for own, _ in self.pairs) if self.chosen is None else self.chosen[0]

    @property
    def teacher_shapes(self) -> tuple[FeatureShape, ...]:
        """The teacher's features, as ``forward`` gets them."""
        return tuple(other for _, other in self.pairs) if self.chosen is None else self.chosen[1]
