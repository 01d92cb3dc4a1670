"""Texts in the files of a student: what it is, which images it takes, and which classes it names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pursuhint._version import __version__

if TYPE_CHECKING:
    from pursuhint.data import ImageData, InputData

__all__: list[str] = []


def file_metadata(network: str, data: str, weights: str) -> dict[str, str]:
    """What a file holds and where it comes from.

    Args:
        network: name of the student.
        data: name of the data set.
        weights: ``"last"`` or ``"best"``, the epoch that they are of.
    """
    return {
        "producer": f"pursuhint {__version__}",
        "network": network,
        "data": data,
        "weights": f"{weights} epoch",
    }


def weights_metadata(network: str, data: ImageData | InputData, weights: str) -> dict[str, str]:
    """The texts of a file of weights that a run writes: the same as in an exported file."""
    about = file_metadata(network, data.name, weights)
    if data.preprocessing is None:  # samples that are no images
        return about | {"class_names": json.dumps(list(data.class_names))}
    return about | input_metadata(data.preprocessing.to_dict(), data.class_names, normalizes=False)


def input_metadata(
    preprocessing: Mapping[str, Any], class_names: Sequence[str], *, normalizes: bool
) -> dict[str, str]:
    """What a program that reads an exported file has to know of images and classes.

    ``preprocessing`` is a `pursuhint.data.Preprocessing` as JSON, ``class_names`` a JSON list in the
    order of the logits, ``images`` a sentence for people. A reader that subtracts ``preprocessing.mean`` and
    divides by ``preprocessing.std`` is right in any case: where the file normalises by itself they are 0 and
    1, and ``included_normalization`` has the constants inside.

    Args:
        preprocessing: of the data that the student was trained on, as `Preprocessing.to_dict` gives it.
        class_names: in the order of the logits; empty if the run does not know them.
        normalizes: whether the exported program begins with the normalisation.
    """
    scaled = preprocessing.get("value_range", (0.0, 1.0)) is not None
    units = "scaled to [0, 1]" if scaled else "in the units of the training images"
    metadata = {"images": units if normalizes else "normalised as in training"}
    if normalizes:
        constants = {key: preprocessing[key] for key in ("mean", "std")}
        metadata["included_normalization"] = json.dumps(constants)
        count = len(preprocessing["mean"])
        preprocessing = {
            **preprocessing,
            "mean": [0.0] * count,
            "std": [1.0] * count,
            "source": "the program, which normalises by itself",
        }
    metadata["preprocessing"] = json.dumps(preprocessing)
    if class_names:
        metadata["class_names"] = json.dumps(list(class_names))
    return metadata


def text_metadata(tokenizer: str, class_names: Sequence[str]) -> dict[str, str]:
    """What a program that reads an exported file has to know of texts and classes.

    ``tokenizer`` is the content of a ``tokenizer.json``, which cuts and pads; ``class_names`` a JSON list in
    the order of the logits, ``texts`` a sentence for people.
    """
    names = {"class_names": json.dumps(list(class_names))} if class_names else {}
    return {"texts": "numbers and mask of the tokens of this tokenizer", "tokenizer": tokenizer, **names}
