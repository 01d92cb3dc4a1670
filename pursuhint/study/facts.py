"""Networks and data of a study in plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint.data.preprocessing import Normalization, Preprocessing
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.study.finished_study import StudyModel

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import ImageData, InputData

__all__: list[str] = []


class NetworkFacts(StudyModel):
    """A network of the comparison.

    Attributes:
        name: as in the recipe.
        parameters: trainable numbers.
        top1: test accuracy in percent, of the teacher; None for the student, whose arms have theirs.
        accuracy: of the teacher, with the reason if it was not measured.
    """

    name: str
    parameters: int
    top1: float | None = None
    accuracy: TeacherAccuracy | None = None


class DataFacts(StudyModel):
    """The data of a study.

    Attributes:
        name: of the data set.
        train: number of training samples.
        test: number of test samples.
        num_classes: number of classes.
        in_channels: channels of an image; None for samples that are no images.
        image_size: height and width in pixels; None likewise.
        preprocessing: how images become the input of the student; None in studies of older versions.
        teacher_normalization: what the images are converted to for the teacher, if it expects another
            normalisation.
    """

    name: str
    train: int
    test: int
    num_classes: int
    in_channels: int | None
    image_size: tuple[int, int] | None
    preprocessing: Preprocessing | None = None
    teacher_normalization: Normalization | None = None

    @classmethod
    def of(cls, data: ImageData | InputData, teacher: nn.Module | None) -> DataFacts:
        """The facts of a data set, and the normalization that a teacher expects."""
        from pursuhint.models.normalization import converted_to  # imports torch

        return cls(
            name=data.name,
            train=len(data.train),
            test=len(data.test),
            num_classes=data.num_classes,
            in_channels=getattr(data, "in_channels", None),
            image_size=getattr(data, "image_size", None),
            preprocessing=data.preprocessing,
            teacher_normalization=None if teacher is None else converted_to(teacher),
        )
