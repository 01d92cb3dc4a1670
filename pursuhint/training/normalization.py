"""The normalisation of a run's images, and the conversion for a teacher that expects another one."""

from __future__ import annotations

from dataclasses import replace
from typing import overload

from torch import nn

from pursuhint.data import ImageData, InputData, TextData
from pursuhint.data.preprocessing import ASKED_FOR, IMAGENET, Normalization
from pursuhint.errors import PursuhintError
from pursuhint.models.normalization import BY_NETWORK, convert_images, converted_to, expected_normalization
from pursuhint.training.recipe.schema import DataConfig


@overload
def normalized_for(data: ImageData, config: DataConfig, network: nn.Module, name: str) -> ImageData: ...


@overload
def normalized_for(data: TextData, config: DataConfig, network: nn.Module, name: str) -> TextData: ...


@overload
def normalized_for(data: InputData, config: DataConfig, network: nn.Module, name: str) -> InputData: ...


def normalized_for(
    data: ImageData | InputData, config: DataConfig, network: nn.Module, name: str
) -> ImageData | InputData:
    """The data, normalised as the recipe says and the network that is trained on them expects.

    Args:
        data: with the data set's own mean and deviation, or with those that the caller gave them.
        config: of the recipe.
        network: the student.
        name: of the student, as typed.

    Raises:
        PursuhintError: ``model`` with a network that does not say what it expects, or constants of another
            number of channels.
    """
    if isinstance(data, InputData):
        return data
    choice = config.normalize
    if data.preprocessing.value_range is None:
        return data
    if choice == "data":
        asked = "" if data.normalization_source.endswith(ASKED_FOR) else ASKED_FOR
        return replace(data, normalization_source=f"{data.normalization_source}{asked}")
    if choice == "imagenet":
        return data.normalized_with(IMAGENET)
    if choice is not None and choice != "model":
        return data.normalized_with(Normalization(choice.mean, choice.std, "data.normalize"))
    expected = expected_normalization(network, name)
    if expected is None:
        if choice == "model":
            raise PursuhintError(
                f"data.normalize (--image-normalize) is model, but {name} does not say which images it "
                "expects; give imagenet, data or {mean: [...], std: [...]} (MEAN/STD)"
            )
        return data
    if choice is None and expected.for_channels(data.in_channels) is None:
        return data
    return data.normalized_with(expected)


def converted_for(
    teacher: nn.Module, name: str, data: ImageData | InputData, config: DataConfig
) -> nn.Module:
    """The teacher, made to take the run's images even if it was trained on images normalised otherwise.

    Args:
        teacher: changed in place.
        name: as typed.
        data: normalised as the run's batches are.
        config: of the recipe; constants that it names hold for the teacher, too.
    """
    if isinstance(data, InputData):
        return teacher
    if config.normalize not in (None, "model") or data.preprocessing.value_range is None:
        return teacher
    expected = expected_normalization(teacher, name)
    fitting = None if expected is None else expected.for_channels(data.in_channels)
    if fitting is None:
        return teacher
    return convert_images(teacher, Normalization(data.mean, data.std, "the data"), fitting)


def images_line(data: ImageData | InputData, config: DataConfig, teacher: nn.Module | None = None) -> str:
    """How images become the input of the networks, and how to change that, in one line for people.

    Args:
        data: normalised as the batches are.
        config: of the recipe.
        teacher: whose images `converted_for` may have converted.
    """
    if isinstance(data, TextData):
        return f"texts: {data.notes[0]}"
    if isinstance(data, InputData):
        return "samples: given to the networks as they are"
    line = data.preprocessing.line()
    other = None if teacher is None else converted_to(teacher)
    if other is not None:
        line += f"; converted for the teacher to {other}"
    sources = (data.normalization_source, "" if other is None else other.source)
    if config.normalize is None and any(source.startswith(BY_NETWORK) for source in sources):
        line += "; for weights trained on the data's own constants: --image-normalize data (data.normalize)"
    return line
