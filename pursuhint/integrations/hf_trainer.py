"""Distillation with the Trainer of Hugging Face's transformers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.integrations.step import DistillationStep

__all__ = ["DistillationTrainer"]


class DistillationTrainer(Trainer):
    """``transformers.Trainer`` that trains a `pursuhint.distillation.Distiller`.

    Evaluation and prediction run the student alone, and its folders are what ``from_pretrained`` reads;
    checkpoints have ``distiller.pt`` besides, with what the losses have learned. Batches are mappings as
    usual: ``labels``, ``indices`` where a loss remembers samples, ``second_view`` where one looks at a second
    view of each image, and what the student takes by name; for networks that are not of transformers
    ``pixel_values``.

    Args:
        distiller: student, teacher and losses.
        **options: those of ``Trainer``, without ``model``.

    Raises:
        PursuhintError: the arguments ask for another loss, or for FSDP or DeepSpeed.
    """

    model: Any

    def __init__(self, distiller: Distiller, **options: Any) -> None:
        if options.get("compute_loss_func") or getattr(options.get("args"), "label_smoothing_factor", 0):
            raise PursuhintError(
                "the loss is the distiller's: leave out label smoothing and compute_loss_func"
            )
        super().__init__(_NamedStep(distiller), **options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise PursuhintError("FSDP and DeepSpeed split the distiller; use DDP")
        taken = inspect.signature(distiller.student.forward).parameters
        self.label_names = ["labels"]
        self._signature_columns = [*taken, "pixel_values", "labels", "label", "indices", "second_view"]
        self.add_callback(_Epochs(self.model))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        step, self.model = self.model, self.model.distiller.export()
        try:
            super()._save(output_dir)
        finally:
            self.model = step

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir and self.args.should_save:  # a checkpoint
            torch.save(self.model.distiller.state_dict(), Path(output_dir, "distiller.pt"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = torch.load(
            Path(resume_from_checkpoint, "distiller.pt"), map_location="cpu", weights_only=True
        )
        self.model.distiller.load_state_dict(state)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


class _NamedStep(DistillationStep):
    """A step that takes the columns of a data set by name."""

    accepts_loss_kwargs = False  # each loss is a mean over its batch

    def forward(  # type: ignore[override]
        self, *, labels: Any, indices: Any = None, second_view: Any = None, **columns: Any
    ) -> dict[str, Any]:
        images = next(iter(columns.values())) if len(columns) == 1 else columns
        found = super().forward(images, labels, indices, second_view)
        return {"loss": found["loss"], "logits": found["logits"]}


class _Epochs(TrainerCallback):
    """Passes the progress of training to the losses."""

    def __init__(self, step: DistillationStep) -> None:
        self.step = step

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        epoch = int(state.epoch + 1e-6)
        self.step.begin_epoch(epoch, state.num_train_epochs, underway=state.epoch - epoch > 1e-6)
