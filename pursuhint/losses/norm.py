"""N-to-one representation matching (Liu et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.wrappers import copy_network
from pursuhint.errors import PursuhintError
from pursuhint.features.head import Head, find_head
from pursuhint.losses._parts.connectors import NormalizedConv
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses._parts.vectors import in_range
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_batch
from pursuhint.losses.context import LossContext

__all__ = ["NToOneLoss"]

Transform = Literal["residual", "plain", "none"]
Ramp = Literal["cifar", "imagenet", "none"]

# Weight from the start on, and from the given epochs on; epochs of the whole schedule.
_RAMPS: dict[str, tuple[float, dict[int, float], int]] = {
    "cifar": (0.1, {10: 0.5, 20: 1.0, 180: 0.5, 210: 0.1}, 240),
    "imagenet": (0.1, {5: 0.5, 15: 0.9, 60: 0.5, 80: 0.1}, 100),
    "none": (1.0, {}, 1),
}


class LinearTransform(nn.Module):
    """Expand the last map to several of the teacher's width, and contract them again. Nothing in it is
    nonlinear.

    Args:
        student_channels: width that comes in and goes out.
        expanded_channels: width in between.
        residual: add what came in to what goes out.
        batch_norm: put a batch norm behind both convolutions.
    """

    def __init__(
        self, student_channels: int, expanded_channels: int, *, residual: bool, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.expand = _layer(student_channels, expanded_channels, batch_norm)
        self.contract = _layer(expanded_channels, student_channels, batch_norm)
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        """(N, C_s, H, W) to the same shape."""
        output: Tensor = self.contract(self.expand(features))
        return features + output if self.residual else output

    @torch.no_grad()
    def folded(self, classifier: nn.Linear) -> nn.Linear:
        """A classifier that makes of the mean of a map what ``classifier`` makes of the transformed one's.

        With the statistics of evaluation mode. Computed in double precision.

        Args:
            classifier: a linear layer with a bias.
        """
        (inner, shift), (outer, outer_shift) = _linear_map(self.expand), _linear_map(self.contract)
        matrix = outer @ inner
        constant = outer @ shift + outer_shift
        if self.residual:
            matrix += torch.eye(len(matrix), dtype=matrix.dtype)
        weight = _double(classifier.weight)
        folded = copy_network(classifier)
        folded.weight.copy_(weight @ matrix)
        folded.bias.copy_(_double(classifier.bias) + weight @ constant)
        return folded


def _double(values: Tensor) -> Tensor:
    return values.detach().cpu().double()


def _layer(channels_in: int, channels_out: int, batch_norm: bool) -> nn.Module:
    if batch_norm:
        return NormalizedConv(channels_in, channels_out)
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _linear_map(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Matrix (out, in) and shift (out,) of a 1x1 convolution, with its batch norm in evaluation mode."""
    if isinstance(layer, nn.Conv2d):
        return _double(layer.weight).flatten(1), layer.weight.new_zeros(layer.out_channels).cpu().double()
    assert isinstance(layer, NormalizedConv)
    norm = layer.bn
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = _double(norm.weight) / (_double(norm.running_var) + norm.eps).sqrt()
    matrix = scale[:, None] * _double(layer.conv.weight).flatten(1)
    return matrix, _double(norm.bias) - scale * _double(norm.running_mean)


class NToOneLoss(HintsLoss):
    r"""Ask for many copies of the teacher's map, made linearly from the student's.

    A linear transform behind the student's last map :math:`x` expands it (1x1 convolution, batch norm) to
    :math:`u`, :math:`N` times as wide as the teacher's map, contracts it again, and adds :math:`x`. Each of
    the :math:`N` segments of :math:`u` shall equal the teacher's map:

    .. math:: L = r \sum_{s=1}^N \frac{1}{b c h w} \lVert u_s - f_T \rVert_2^2 .

    Classification acts on the transformed map. As nothing behind it is nonlinear, `export` folds the
    transform into the classifier: the network that is kept is the student as it was. Widths may differ. A
    teacher's map that is :math:`k \ge 2` times as high (wide) is max-pooled by :math:`k`, as in the authors'
    code; where sizes then still differ, the larger map is averaged down.

    The authors' code does three more things, which are options here, and the default, because the published
    results have them. It puts batch norms behind the two layers, which the paper just calls linear. The
    strength :math:`r` follows the epochs; a training of another length goes through the same steps in
    proportion. The logits of both networks are replaced by ``logit_scale`` times the ones scaled to mean 0
    and standard deviation 1 per sample, before cross-entropy and KD, of which the paper says nothing. For
    :math:`N = 1` the code has no transform and compares :math:`x` itself, which needs equal widths:
    ``transform="none"``.

    Reference: X. Liu, L. Li, C. Li and A. Yao, NORM: Knowledge Distillation via N-to-One Representation
    Matching, ICLR 2023, https://arxiv.org/abs/2305.13803. For CIFAR-100 the weight is 1; that of
    cross-entropy is searched in {0.0625, 0.125, 0.25, 0.5} for each pair, and 0.1 in the one published
    command, which is the default. "NORM+KD" adds KD.

    Args:
        student_channels: width of the student's last map.
        teacher_channels: width of the teacher's.
        head: where the student ends; needed unless ``transform`` is ``"none"``.
        segments: :math:`N`, at least 1.
        transform: ``"residual"``; ``"plain"`` without the addition; ``"none"``.
        batch_norm: whether the layers of the transform have batch norms.
        ramp: steps of the strength: ``"cifar"`` (0.1, 0.5, 1, 0.5, 0.1 from epochs 0, 10, 20, 180, 210 of
            240), ``"imagenet"`` (0.1, 0.5, 0.9, 0.5, 0.1 from epochs 0, 5, 15, 60, 80 of 100) or ``"none"``.
        normalize_logits: whether to replace the logits.
        logit_scale: standard deviation of the new logits, above 0.
        eps: added to the variance of the logits, above 0.

    Raises:
        PursuhintError: a value is out of its range, the student has no place for the transform, or no
            transform is wanted for more than one segment or different widths.

    Example:
        >>> task = {"num_classes": 100, "num_samples": 50_000, "example": images}
        >>> distiller = Distiller.build(student, teacher, losses={"norm": None}, **task)
        >>> distiller.export().state_dict().keys() == student_before.state_dict().keys()
        True
    """

    info = HintsLoss.info.replace(
        title="NORM",
        paper="Liu et al., NORM: Knowledge Distillation via N-to-One Representation Matching, ICLR 2023",
        learns="a linear transform, which is folded into the classifier in the end",
        default_ce_weight=0.1,
        compares="last map",
        at_last_map=True,
        alters_student=True,
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        head: Head | None = None,
        *,
        segments: int = 8,
        transform: Transform = "residual",
        batch_norm: bool = True,
        ramp: Ramp = "cifar",
        normalize_logits: bool = True,
        logit_scale: float = 2.5,
        eps: float = 1e-7,
    ) -> None:
        super().__init__()
        check_positive(segments=segments, logit_scale=logit_scale, eps=eps)
        check_choice(Transform, transform=transform)
        check_choice(Ramp, ramp=ramp)
        if transform == "none" and (segments != 1 or student_channels != teacher_channels):
            raise PursuhintError(
                f"NORM without a transform compares one segment of equal width; got segments={segments}, "
                f"{student_channels} channels of the student and {teacher_channels} of the teacher"
            )
        self.segments = segments
        self.transform = transform
        self.batch_norm = batch_norm
        self.ramp = ramp
        self.normalize_logits = normalize_logits
        self.logit_scale = logit_scale
        self.eps = eps
        self.strength = 1.0
        self.info = self.info.replace(alters_student=transform != "none")
        self._channels = student_channels, segments * teacher_channels
        self._head = head
        if transform != "none":
            assert head is not None
            self.info = self.info.replace(extra_taps=(f"{head.place('transform')}.expand",))

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Widths of the last maps, and the place of the transform."""
        ((student, teacher),) = context.pairs
        assert context.student is not None
        assert context.example is not None
        head = find_head(context.student, context.example)
        head.linear_classifier(context.student)  # to fold into, in the end
        return {"student_channels": student.channels, "teacher_channels": teacher.channels, "head": head}

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """The strength of this epoch."""
        self.strength, steps, length = _RAMPS[self.ramp]
        for start, value in steps.items():
            if epoch * length >= start * epochs:
                self.strength = value

    def transform_logits(self, logits: Tensor) -> Tensor:
        """Logits with mean 0 and standard deviation ``logit_scale`` per sample."""
        if not self.normalize_logits:
            return logits
        return self.logit_scale * F.layer_norm(in_range(logits, dim=1), logits.shape[1:], eps=self.eps)

    def prepare(self, student: nn.Module) -> nn.Module:
        """Put the transform behind the last map."""
        if self._head is not None and self.transform != "none":
            like = next(student.parameters())
            layers = LinearTransform(
                *self._channels, residual=self.transform == "residual", batch_norm=self.batch_norm
            )
            self._head.insert(student, "transform", layers.to(like.device, like.dtype))
        return student

    def export(self, student: nn.Module) -> nn.Module:
        """Take the transform out again and fold it into the classifier."""
        if self._head is not None and self.transform != "none":
            layers = self._head.remove(student, "transform")
            assert isinstance(layers, LinearTransform)
            self._head.change_classifier(student, layers.folded)
        return student

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Compare the maps of one batch.

        Args:
            students: last, the expanded map, (N, segments * C_t, H_s, W_s).
            teachers: the teacher's last map, (N, C_t, H_t, W_t).

        Returns:
            Scalar, at least 0; zero when all segments are the teacher's map.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        return self.strength * self.difference(students[-1], teachers[0])

    def difference(self, expanded: Tensor, teacher: Tensor) -> Tensor:
        """The loss before its strength."""
        check_same_batch(expanded, teacher)
        own, other = as_maps(expanded, teacher)
        # The teacher's map is brought to the student's size by a maximum, as far as whole factors lead.
        factors = [max(1, wanted // given) for wanted, given in zip(other.shape[2:], own.shape[2:])]
        own, other = pool_to_smaller(own, F.max_pool2d(other, factors))
        own = own.unflatten(1, (self.segments, -1))  # N segments, each as wide as the teacher's map
        return self.segments * (own - other[:, None]).square().mean()
