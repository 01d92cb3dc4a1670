"""Cross-entropy with the labels (Bridle, 1989): the classification term."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.base import LabelLoss

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(LabelLoss):
    r"""Ask the student for the right class.

    .. math:: L = -\frac{1}{b} \sum_i \log \mathrm{softmax}(z_i)_{y_i} .

    With a second view of each image (``data.second_view``) the losses of both views are added, as in MLKD.
    Beside other losses its default weight is the one their papers give it (`LossInfo.default_ce_weight`,
    `LossInfo.ce_weight_beside`).

    Reference: J. S. Bridle, Training Stochastic Model Recognition Algorithms as Networks Can Lead to Maximum
    Mutual Information Estimation of Parameters, NIPS 1989. Label smoothing: C. Szegedy et al., Rethinking the
    Inception Architecture for Computer Vision, CVPR 2016, section 7, https://arxiv.org/abs/1512.00567.

    Args:
        label_smoothing: share of the target probability that is spread evenly over all classes, in [0, 1).

    Raises:
        PursuhintError: ``label_smoothing`` is outside [0, 1).

    Example:
        >>> CrossEntropyLoss()(torch.zeros(8, 10), torch.arange(8))
        tensor(2.3026)
    """

    info = LabelLoss.info.replace(
        title="Cross-entropy",
        paper="Bridle, Training Stochastic Model Recognition Algorithms, NIPS 1989",
        contains_classification=True,
        inputs=(*LabelLoss.info.inputs, "student_second_logits"),
    )

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise PursuhintError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, student: Tensor, labels: Tensor, second: Tensor | None = None) -> Tensor:
        """Compare logits with labels.

        Args:
            student: logits, (N, classes).
            labels: class numbers, (N,), int64.
            second: logits of the second view of each image, (N, classes); None for one view.

        Returns:
            Scalar, at least 0; mean over the batch, and with a second view the sum of the means of both.
        """
        value = F.cross_entropy(student, labels, label_smoothing=self.label_smoothing)
        if second is None:
            return value
        return value + F.cross_entropy(second, labels, label_smoothing=self.label_smoothing)
