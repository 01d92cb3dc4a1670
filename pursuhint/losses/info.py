"""The traits of a loss as one record: inputs, source, default weights, needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pursuhint.published.names import with_variants

__all__ = ["Input", "LossInfo"]

Activation = Literal["pre", "post"]
Places = Literal["stages", "last-map", "second-stage", "stem-and-stages", "all"]

Input = Literal[
    "images",
    "labels",
    "indices",
    "student_logits",
    "student_embedding",
    "student_maps",
    "student_second_logits",
    "teacher_logits",
    "teacher_embedding",
    "teacher_maps",
    "teacher_second_logits",
]

SECOND_VIEW: frozenset[Input] = frozenset({"student_second_logits", "teacher_second_logits"})
"""Inputs of the second view of each image; None where a batch has one view."""


_PLACES: dict[Places, str] = {
    "stages": "ends of the stages",
    "last-map": "last map",
    "second-stage": "end of the second stage",
    "stem-and-stages": "stem and ends of the stages",
    "all": "all sub-blocks",
}


@dataclass(frozen=True)
class LossInfo:
    """Traits of a loss.

    A class extends the record of its base class, ``info = HintLoss.info.replace(title=..., paper=...)``. An
    instance whose hyperparameters change a trait sets its own, ``self.info = self.info.replace(...)``.

    Attributes:
        title: name of the method in the literature.
        paper: citation of its source.
        default_weight: the paper's weight, for CIFAR-100 where the paper gives several.
        default_ce_weight: the paper's weight of the cross-entropy beside it.
        weight_beside: its weight where another loss than cross-entropy is trained, too; None for
            ``default_weight``.
        ce_weight_beside: the weight of the cross-entropy then; None for ``default_ce_weight``.
        minimum: the value for a student equal to the teacher, with what the loss learns at its best; None
            where it follows from the data, as the docstring of ``forward`` or of the class says.
        contains_classification: the loss contains the classification term, so that cross-entropy must not
            be added to it.
        needs_teacher: False for losses that look at the student alone.
        compares: the quantity compared, in words.
        learns: what is trained beside the student, in words; empty if nothing is.
        batch_coupled: the samples of a batch enter together, so that the loss of a batch is not the mean of
            the losses of its parts.
        inputs: arguments of ``forward``, in order. Features come as one list for all hint points. A loss with
            ``student_second_logits`` or ``teacher_second_logits`` looks at a second view of each image
            (``data.second_view``); they are None where a batch has one view. All others are of the first.
        at_last_map: its one pair of hint points is the map that each network averages into its embedding
            (`pursuhint.features.find_last_map`), whatever the hint plan says.
        points: where its paper places hints, for losses with a hint plan: at the ends of the resolution
            stages, at the end of the last or of the second one, at the stem and the ends of the stages, or at
            all sub-blocks. It holds where a recipe does not name points.
        activation: whether these are before or after the last activation of a sub-block.
        needs_teacher_classifier: `LossContext.teacher_classifier` must be set.
        needs_input_gradients: the loss differentiates logits by the images: these then require gradients
            and the teacher runs with a graph.
        softens_logits: its hyperparameter ``temperature`` divides the logits, so that it may be ``"learned"``
            as in CTKD.
        only_with: options that count with one value of another option alone, as (option, the other one, the
            value); given with another, such an option is refused.
        classifier_parameters: names of parameters of the student's classifier that the loss computes with, so
            that they get gradients from it; `Loss.prepare` looks it up.
        no_grad_parameters: names of trainable parameters that receive no gradient, as the method has it.
        extra_taps: names of modules that `Loss.prepare` has added to the student; their outputs are appended
            to the student features that this loss gets.
        alters_student: `Loss.prepare` changes the student, so that `Loss.export` has something to do.
        warm_up_only: the loss is computed in its `Loss.stages` and not in the main one.
        shared_buffers: names of buffers that are identical on all ranks by construction, and too large to be
            broadcast for every batch: memory banks, queues.
    """

    title: str = ""
    paper: str = ""
    default_weight: float = 1.0
    default_ce_weight: float = 1.0
    weight_beside: float | None = None
    ce_weight_beside: float | None = None
    minimum: float | None = 0.0
    contains_classification: bool = False
    needs_teacher: bool = True
    compares: str = ""
    learns: str = ""
    batch_coupled: bool = False
    inputs: tuple[Input, ...] = ()
    at_last_map: bool = False
    points: Places = "stages"
    activation: Activation = "post"
    needs_teacher_classifier: bool = False
    needs_input_gradients: bool = False
    softens_logits: bool = False
    only_with: tuple[tuple[str, str, Any], ...] = ()
    classifier_parameters: tuple[str, ...] = ()
    no_grad_parameters: tuple[str, ...] = ()
    extra_taps: tuple[str, ...] = ()
    alters_student: bool = False
    warm_up_only: bool = False
    shared_buffers: tuple[str, ...] = ()

    def papers_weights(self, *, alone: bool) -> tuple[float, float]:
        """The loss's weight and that of the cross-entropy beside it.

        Args:
            alone: no other loss than cross-entropy is trained.
        """
        if alone:
            return self.default_weight, self.default_ce_weight
        return (
            self.default_weight if self.weight_beside is None else self.weight_beside,
            self.default_ce_weight if self.ce_weight_beside is None else self.ce_weight_beside,
        )

    def title_with(self, options: Mapping[str, Any]) -> str:
        """The method with hyperparameters: ``"CTKD"`` is KD with a learned temperature.

        Args:
            options: hyperparameters that are not the default.
        """
        return " + ".join(with_variants(self.title, options))

    @property
    def sees_second_view(self) -> bool:
        """Whether the loss looks at a second view of each image, where there is one."""
        return not SECOND_VIEW.isdisjoint(self.inputs)

    @property
    def taps(self) -> str:
        """The features that the loss looks at by default, in words: ``"last map, before the activation"``."""
        if self.at_last_map:
            return _PLACES["last-map"]
        if "student_maps" not in self.inputs:
            return self.compares
        return _PLACES[self.points] + (", before the activation" if self.activation == "pre" else "")

    def replace(self, **changes: Any) -> LossInfo:
        """The record with some traits changed.

        Raises:
            TypeError: there is no trait of this name.
        """
        return dataclasses.replace(self, **changes)
