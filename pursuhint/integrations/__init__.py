"""A distiller in the training loops of other libraries; each file needs its library (see the extras)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.integrations.hf_trainer import DistillationTrainer
    from pursuhint.integrations.lightning_module import DistillationModule
    from pursuhint.integrations.one_pair import pair_loss
    from pursuhint.integrations.step import DistillationStep
    from pursuhint.integrations.timm_task import HintDistillationTask

__getattr__, __dir__, __all__ = lazy_exports(__name__)
