"""A student, its frozen teacher and the weighted losses between them, as one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.distillation.distiller import Distiller
    from pursuhint.distillation.loss_summary import LossSummary, summarize_losses
    from pursuhint.distillation.meta_gradient import Method, SearchOptions, SgdStep, search_pathways
    from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
    from pursuhint.distillation.teacher_fsdp import check_shardable, shard_teacher
    from pursuhint.distillation.terms import Losses, Term, TermOptions
    from pursuhint.distillation.watched import WatchedStudent

__getattr__, __dir__, __all__ = lazy_exports(__name__)
