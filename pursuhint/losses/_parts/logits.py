"""Transformations of logits that several losses share."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["split_by_label", "standardized", "without_label"]


def standardized(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Logits with mean 0 and standard deviation 1 over the classes of each sample.

    The deviation has the denominator C - 1, as in the authors' code; ``eps`` is added to it. Invariant to a
    shift and a positive scale of the logits. Equal logits give zeros, with a gradient of zero.

    Reference: S. Sun, W. Ren, J. Li, R. Wang and X. Cao, Logit Standardization in Knowledge Distillation,
    CVPR 2024, https://arxiv.org/abs/2403.01427.

    Args:
        logits: (N, classes).
        eps: at least 0.
    """
    centered = logits - logits.mean(1, keepdim=True)
    # The norm has a gradient at zero, where the square root of the variance has none.
    length = torch.linalg.vector_norm(centered, dim=1, keepdim=True)
    return centered / (length / math.sqrt(max(logits.shape[1] - 1, 1)) + eps)


def without_label(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of all classes but each sample's label, (N, classes - 1), in an order of their own.

    Args:
        logits: (N, classes).
        labels: class numbers, (N,).
    """
    # The last class takes the label's place, so that shapes do not depend on the data.
    return logits.scatter(1, labels[:, None], logits[:, -1:])[:, :-1]


def split_by_label(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How likely the label is, and the other classes.

    Args:
        logits: (N, classes).
        labels: class numbers, (N,).

    Returns:
        Logarithms of the probabilities of each sample's label and of all other classes together, (N, 2), or
        (N, 1) where there is one class; logits of the other classes, see `without_label`.
    """
    others = without_label(logits, labels)
    # Softmax of (z_y, log sum exp of the others) is (p_y, 1 - p_y).
    scores = [logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)]
    return F.log_softmax(torch.cat(scores if others.shape[1] else scores[:1], dim=1), dim=1), others
