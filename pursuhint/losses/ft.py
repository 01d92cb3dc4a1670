"""Factor transfer (Kim, Park and Kwak, 2018)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.losses._parts.connectors import check_can_normalize
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses._parts.vectors import in_range, unit_length
from pursuhint.losses.base import HintLoss, WarmUp
from pursuhint.losses.checks import check_positive

__all__ = ["FactorTransferLoss"]


class Paraphraser(nn.Module):
    """An autoencoder of feature maps, whose code, the factors, has fewer channels.

    Every layer ends in a leaky ReLU, the last one too, so that negative maps are never quite reconstructed.

    Args:
        channels: of the maps.
        factors: channels of the code.
        norm: batch norm behind every convolution.
    """

    def __init__(self, channels: int, factors: int, *, norm: bool = False) -> None:
        super().__init__()
        self.encoder = _layers("conv", nn.Conv2d, (channels, channels, factors, factors), norm)
        self.decoder = _layers("deconv", nn.ConvTranspose2d, (factors, factors, channels, channels), norm)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same and back."""
        output: Tensor = self.decoder(self.encoder(features))
        return output


class FactorTransferLoss(HintLoss):
    r"""Ask the student for the teacher's features in the code that an autoencoder has learned for them.

    A *paraphraser*, an autoencoder of three convolutions each way, first learns to reconstruct the teacher's
    maps, with the mean squared error, for ``warm_up_epochs``; then it is frozen. A *translator* of three
    convolutions, trained along with the student, turns the student's maps into as many channels as the
    paraphraser's code has. With :math:`x` the output of either and :math:`g(x)` the mean of :math:`x^p` over
    the channels, flattened and scaled to unit length,

    .. math:: L = \frac{1}{b h w} \sum \lvert g(x_S) - g(x_T) \rvert ,

    summed over the pairs of hint points. Channels may differ; where sizes do, the larger factors are averaged
    down first. Neither network is needed afterwards.

    This is the form of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), which uses the last feature
    maps and the weight 200. The paper normalises and compares the whole factors instead of their mean over
    the channels: ``collapse_channels=False``. That code raises differences to a power other than 1 as they
    are, signs and all: ``absolute`` takes their absolute values.

    Reference: J. Kim, S. Park and N. Kwak, Paraphrasing Complex Network: Network Compression via Factor
    Transfer, NeurIPS 2018, https://arxiv.org/abs/1802.04977.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        factor_ratio: channels of the factors, as a part of the teacher's; rounded down, at least one.
        power: :math:`p`, a whole number of at least 1.
        difference_power: of the differences, a whole number of at least 1.
        absolute: take absolute values of the differences; matters for odd powers above 1.
        collapse_channels: compare means over the channels.
        translator_norm: batch norms in the translator.
        paraphraser_norm: batch norms in the paraphraser.
        warm_up_epochs: how long the paraphraser is trained.
        warm_up_lr: learning rate of that, constant. The benchmark has 0.01 for residual networks and else
            that of the main stage, which is 0.01 for most of the others.

    Raises:
        PursuhintError: a number is not positive.

    Example:
        >>> loss = FactorTransferLoss(16, 64)
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="FT",
        paper="Kim, Park and Kwak, Paraphrasing Complex Network: Compression via Factor Transfer, "
        "NeurIPS 2018",
        learns="a paraphraser of the teacher, a translator of the student",
        default_weight=200.0,
        points="last-map",
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        factor_ratio: float = 0.5,
        power: int = 2,
        difference_power: int = 1,
        absolute: bool = False,
        collapse_channels: bool = True,
        translator_norm: bool = True,
        paraphraser_norm: bool = False,
        warm_up_epochs: int = 30,
        warm_up_lr: float = 0.01,
    ) -> None:
        super().__init__()
        check_positive(factor_ratio=factor_ratio, power=power, difference_power=difference_power)
        check_positive(warm_up_epochs=warm_up_epochs, warm_up_lr=warm_up_lr)
        self.power = power
        self.difference_power = difference_power
        self.absolute = absolute or difference_power == 1
        self.collapse_channels = collapse_channels
        self.warm_up_epochs = warm_up_epochs
        self.warm_up_lr = warm_up_lr
        factors = max(int(factor_ratio * teacher_channels), 1)
        self.paraphraser = Paraphraser(teacher_channels, factors, norm=paraphraser_norm)
        self.translator = _layers(
            "conv", nn.Conv2d, (student_channels, student_channels, factors, factors), translator_norm
        )
        self.begin_stage(None)

    def stages(self) -> Sequence[WarmUp]:
        """The training of the paraphraser, without the student."""
        return (WarmUp("paraphraser", self.warm_up_epochs, trains_student=False, lr=self.warm_up_lr),)

    def begin_stage(self, stage: str | None) -> None:
        """Train the paraphraser, or freeze it and train the translator."""
        self.paraphrasing = stage is not None
        self.paraphraser.requires_grad_(self.paraphrasing)
        self.translator.requires_grad_(not self.paraphrasing)
        self.train(self.training)

    def train(self, mode: bool = True) -> FactorTransferLoss:
        """Set the mode; a frozen paraphraser stays in evaluation mode."""
        super().train(mode)
        self.paraphraser.train(mode and self.paraphrasing)
        return self

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point; while the paraphraser is trained, its reconstruction error.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least 0 (but see ``absolute``); zero when both maps of factors agree.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        student, teacher = as_maps(student, teacher)
        for network, features in ((self.translator, student), (self.paraphraser, teacher)):
            check_can_normalize(features, network)
        if self.paraphrasing:
            return F.mse_loss(self.paraphraser(teacher), teacher)
        factors = pool_to_smaller(self.translator(student), self.paraphraser.encoder(teacher))
        own, other = (self._compared(factor) for factor in factors)
        difference = (own - other).abs() if self.absolute else own - other
        return difference.pow(self.difference_power).mean()

    def _compared(self, factors: Tensor) -> Tensor:
        """g(x), of unit length per sample: the mean of x^p over the channels, or x itself, (N, ...)."""
        factors = in_range(factors, power=self.power)
        collapsed = factors.pow(self.power).mean(1) if self.collapse_channels else factors
        return unit_length(collapsed.flatten(1), ranged=True)


class _SteadyBatchNorm(nn.BatchNorm2d):
    """Batch norm that maps a channel of equal values to its shift exactly.

    The mean of equal values has a rounding error, which dividing by a deviation of zero (and ``eps``)
    multiplies by 316. Of a student with dead units three norms in a row make factors that are nothing else;
    scaled to unit length they got gradients of 1e9, after which the training was not finite. With
    ``sync_batchnorm`` the synchronized norms take its place.
    """

    def forward(self, features: Tensor) -> Tensor:
        """As batch norm, (N, C, H, W)."""
        if not self.training:
            return super().forward(features)
        # Norm(x) = Norm(x - c), and equal values minus one of them are zeros, whose mean is exact.
        reference = features.detach()[:1, :, :1, :1]
        normalized: Tensor = super().forward(features - reference)
        if self.running_mean is not None and self.momentum is not None:
            # The mean of x, not of x - c. Through `data`, because autograd has saved this buffer, although
            # the backward pass does not use it in training mode.
            self.running_mean.data.add_(reference.flatten(), alpha=self.momentum)
        return normalized


def _layers(name: str, kind: type[nn.Module], channels: Sequence[int], norm: bool) -> nn.Sequential:
    """3x3 convolutions of given widths, each with a leaky ReLU and, if wanted, a batch norm between."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (before, after) in enumerate(pairwise(channels)):
        layers[f"{name}{index}"] = kind(before, after, kernel_size=3, padding=1)
        if norm:
            layers[f"bn{index}"] = _SteadyBatchNorm(after)
        layers[f"activation{index}"] = nn.LeakyReLU(0.1)
    return nn.Sequential(layers)
