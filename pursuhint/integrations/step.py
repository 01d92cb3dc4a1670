"""What every loop calls: a batch to losses while training, to the student's logits otherwise."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.warn_user import warn_user
from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.logits import LogitsReader

if TYPE_CHECKING:
    from pursuhint._util.network_input import NetworkInput
    from pursuhint.distillation.distiller import Distiller

__all__ = ["DistillationStep"]


class DistillationStep(nn.Module):
    """A distiller as a network that returns its loss, for loops that are not ours.

    Wrap this module for several processes and give its parameters to the optimizer: it has the student and
    what the losses learn.

    Args:
        distiller: what is trained. A `PursuhintWarning` names losses that ask for a warm-up, which these
            loops do not have: run it before (``distiller.warm_ups()``), or use `pursuhint.training.train`.
    """

    def __init__(self, distiller: Distiller) -> None:
        super().__init__()
        if names := sorted({name for name, _ in distiller.warm_ups()}):
            warn_user(
                f"{', '.join(names)}: the warm-up of the paper is not part of this loop; run it before "
                "(Distiller.warm_ups), or train with pursuhint.training.train"
            )
        self.distiller = distiller
        self._read_logits = LogitsReader(distiller.student)
        losses = [distiller.loss(name) for name in distiller.losses]
        self._needs_indices = distiller.acceleration.cache_teacher or any(
            "indices" in loss.info.inputs for loss in losses
        )
        own = distiller._ddp_params_and_buffers_to_ignore
        self._ddp_params_and_buffers_to_ignore = [f"distiller.{name}" for name in own]

    def forward(
        self,
        images: NetworkInput,
        labels: Tensor,
        indices: Tensor | None = None,
        second_view: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch in training mode, the student's cross-entropy in evaluation mode.

        Args:
            images: what the student takes.
            labels: int64, (N,).
            indices: number of each sample in the training set, (N,), for losses that remember samples.
            second_view: of the same images, for losses that look at one; not used in evaluation mode.

        Returns:
            ``loss`` to minimise, ``logits`` of the student and, in training, each term as ``loss_NAME``,
            unweighted.

        Raises:
            PursuhintError: a loss remembers samples, and there are no indices.
        """
        if not self.training:
            logits = self._read_logits(images)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}
        if indices is None:
            if self._needs_indices:
                raise PursuhintError(
                    "a loss or the cache of the teacher knows samples by their index; let each batch have "
                    "`indices`, the numbers of its samples in the training set"
                )
            indices = torch.arange(len(labels), device=labels.device)
        losses = self.distiller(Batch(images, labels, indices, second_view=second_view))
        parts = {f"loss_{name}": value for name, value in losses.parts.items()}
        return {"loss": losses.total, "logits": losses.logits, **parts}

    def begin_epoch(self, epoch: int, epochs: int, *, underway: bool = False) -> None:
        """Pass the progress of training to the losses.

        Args:
            epoch: from 0.
            epochs: how many there are.
            underway: whether a run resumes in the middle of this epoch, its state loaded already.
        """
        saved = copy.deepcopy(self.distiller.losses.state_dict()) if underway else None
        self.distiller.begin_epoch(epoch, epochs)
        if saved is not None:
            self.distiller.losses.load_state_dict(saved)
            self.distiller.resume_epoch()
