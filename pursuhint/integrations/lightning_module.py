"""Distillation with Lightning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.integrations.step import DistillationStep

__all__ = ["DistillationModule"]


class DistillationModule(LightningModule):
    """A `pursuhint.distillation.Distiller` as a ``LightningModule``.

    Batches are (images, labels), with the indices of the samples as a third where a loss remembers them, and
    a second view of the images as a fourth where one looks at it. It logs ``train_loss``, every term, and
    ``val_loss`` and ``val_top1`` (percent) of the student alone. A checkpoint has the state of the whole, and
    under ``student`` the weights of the student alone.

    Args:
        distiller: student, teacher and losses.
        optimizer: makes the optimizer from the parameters, such as ``torch.optim.AdamW``.
        scheduler: makes the schedule from the optimizer, stepped after every epoch; None for a constant rate.
    """

    def __init__(
        self,
        distiller: Distiller,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], Any] | None = None,
    ) -> None:
        super().__init__()
        self.step = DistillationStep(distiller)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        own = self.step._ddp_params_and_buffers_to_ignore
        self._ddp_params_and_buffers_to_ignore = [f"step.{name}" for name in own]

    def forward(self, images: Any) -> Tensor:
        """The student's logits, (N, classes)."""
        return self.step._read_logits(images)

    def training_step(self, batch: Sequence[Any], batch_idx: int) -> Tensor:
        """The total loss of (images, labels[, indices[, second view]])."""
        found = self.step(*batch)
        values = {name: value.detach() for name, value in found.items() if name not in ("loss", "logits")}
        self.log_dict({"train_loss": found["loss"].detach(), **values}, batch_size=len(batch[1]))
        return found["loss"]

    def validation_step(self, batch: Sequence[Any], batch_idx: int) -> None:
        """Log cross-entropy and accuracy of the student."""
        found = self.step(*batch)
        top1 = 100 * (found["logits"].argmax(1) == batch[1]).float().mean()
        self.log_dict({"val_loss": found["loss"], "val_top1": top1}, sync_dist=True, batch_size=len(batch[1]))

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule of the student and of what the losses learn."""
        optimizer = self.make_optimizer(self.step.distiller.trainable_parameters())
        return optimizer if self.make_scheduler is None else ([optimizer], [self.make_scheduler(optimizer)])

    def on_train_start(self) -> None:
        """Begin an epoch for which Lightning calls no `on_train_epoch_start`.

        It is an interrupted one, or the next after a checkpoint of the last batch.
        """
        if self.trainer.fit_loop.restarted_mid_epoch:
            self._begin_epoch(underway=self.current_epoch == self.saved_in_epoch)

    def on_train_epoch_start(self) -> None:
        """Pass the progress of training to the losses."""
        self._begin_epoch(underway=False)

    def _begin_epoch(self, *, underway: bool) -> None:
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise PursuhintError("losses may change in time: give Trainer a number of epochs (max_epochs)")
        self.step.begin_epoch(self.current_epoch, epochs, underway=underway)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the epoch in which the checkpoint was written."""
        self.saved_in_epoch = checkpoint["epoch"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the student's weights, which take no room of their own where they are those of the whole."""
        checkpoint["student"] = self.step.distiller.export().state_dict()
