"""Data that the user has in Python, as the rest of the package takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pursuhint._util.arguments import LOAD_DATA
from pursuhint._util.said_once import first_time
from pursuhint._util.warn_user import warn_user
from pursuhint.data.dataset_split import DatasetSplit
from pursuhint.data.image_data import ImageData
from pursuhint.data.input_data import InputData, InputSplit
from pursuhint.data.preprocessing import AS_THEY_ARE, ASKED_FOR, ImageSize, Normalization, height_and_width
from pursuhint.data.python_sources import OpenSource, is_pair_of_arrays, open_source
from pursuhint.data.splits import MemorySplit, check_labels, hold_out, skips_numbers
from pursuhint.errors import PursuhintError

__all__ = ["DataLike", "as_data"]

DataLike = Any
"""Whatever `as_data` takes."""

_NO_TEST = "there is no test split: accuracies are those on the training samples"

_ROLES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def as_data(
    source: DataLike,
    *,
    name: str | None = None,
    class_names: Sequence[str] | None = None,
    normalization: Normalization | Mapping[str, Any] | str | None = None,
    image_size: ImageSize | None = None,
    test_fraction: float = 0.0,
) -> ImageData | InputData:
    """Take data as they are at hand in Python; the functions of this package that take data call this.

    What was assumed, and which promise does not hold, is said in one `pursuhint.errors.PursuhintWarning`,
    once for the same arrays or data set, and stands in ``notes`` of the result, from where it gets into runs
    and analyses.

    - **Samples that are always the same** are read once if they take no more than 1 GiB, larger sets on
      demand by ``data.workers`` processes.
    - **Random transforms** of a map-style data set draw from seed, epoch and sample, so runs can be repeated
      and resumed, unless they have generators of their own. Iterables are read once.
    - **uint8 and PIL images** are scaled to [0, 1] and normalised, by default with mean and deviation of the
      training images. **Floating-point images stay as they are.** Their normalisation is known where the
      data set has torchvision's ``Normalize`` or ``ToTensor`` as its ``transform``, or ``normalization``
      says it; then networks that were trained on other constants get converted images.
    - **Of a DataLoader** the data set, the ``collate_fn`` (called with single samples) and, for training, a
      sampler that does more than shuffle are used.

    Args:
        source: `ImageData` or `InputData`, returned as it is, or one of:

            - (images, labels) as tensors or arrays: images uint8 (N, C, H, W), (N, H, W, C) or (N, H, W), or
              floating point (N, C, H, W); any other tensor, a tuple or a mapping of tensors is given to the
              network as it is. Labels are whole numbers, or text, whose sorted names are the classes;
              numbers from 0 up that leave some out (10, 20, 30) are numbered anew, in their order;
            - a mapping of tensors with ``labels`` among them;
            - a `torch.utils.data.Dataset` or anything else with ``len()`` and whole-number indices, or an
              iterable, whose items are (image, label) or mappings with a label: also data sets of Hugging
              Face. Items without an image are joined and given to the network as they are;
            - a `torch.utils.data.DataLoader`;
            - a pair (train, test) of any of these, (train, val, test), or a mapping with these names.

        name: what to call the data. Default: of the class of the data set.
        class_names: in the order of the labels. Default: those of the data set, or the labels as text.
        normalization: ``mean`` and ``std`` of images in [0, 1]: those that floating-point images have been
            normalised with, or that uint8 images are to be normalised with. ``"data"``: as without it, but
            no image is converted for a network that says that it expects other constants.
        image_size: resize PIL images to cover this size and cut out the centre.
        test_fraction: of data without a test split, the share that is held out as one, by class, in [0, 1).

    Returns:
        Images with labels, or other inputs with labels. Without a test split, the training split is both.

    Raises:
        PursuhintError: the data are none of these, or samples, labels and options do not fit together.

    Example:
        >>> digits = torch.rand(20, 1, 8, 8), torch.arange(20) % 4
        >>> as_data((digits, digits), normalization={"mean": 0, "std": 1}).num_classes
        4
    """
    asked = (name, class_names, normalization, image_size, test_fraction or None)
    if isinstance(source, ImageData | InputData):
        if any(option is not None for option in asked):
            raise PursuhintError(f"{source.name} is complete already; leave the options of as_data out")
        return source
    if isinstance(source, str):
        raise PursuhintError(
            f"the data must be of type ImageData or another kind of data, got the text {source[:40]!r}; "
            f"{LOAD_DATA}"
        )
    parts = _divided(source)
    called = _name_of(parts["train"]) if name is None else name
    size = None if image_size is None else height_and_width(image_size)
    opened = {
        role: open_source(part, f"{called}, {role} split" if len(parts) > 1 else called, size)
        for role, part in parts.items()
    }
    notes = [note for one in opened.values() for note in one.notes]
    names, numbers = _numbered(opened, called, class_names, notes)
    if len(opened) == 1 and not test_fraction:
        notes.append(_NO_TEST)
    if test_fraction and not 0 < test_fraction < 1:
        raise PursuhintError(f"test_fraction must be at least 0 and below 1, got {test_fraction}")
    if test_fraction and "test" in opened:
        raise PursuhintError("the data have a test split; leave test_fraction out")
    held_out = None
    if test_fraction:
        count = round(test_fraction * len(numbers["train"]))
        held_out = hold_out(numbers["train"], count, seed=0)
    found = _Opened(called, opened, numbers, names, notes, held_out)
    if all(isinstance(one.samples, MemorySplit | DatasetSplit) for one in opened.values()):
        data: ImageData | InputData = _images(found, normalization)
    else:
        if normalization is not None or image_size is not None:
            raise PursuhintError(f"{called} holds no images; leave normalization and image_size out")
        data = _inputs(found)
    said = [note for note in data.notes if note != _NO_TEST]  # which the accuracy of one split implies
    text = f"{called}: {'; '.join(said)}"
    if said and first_time(text, source):
        warn_user(text)
    return data


def _divided(source: Any) -> dict[str, Any]:
    """The splits of a source by role; a test split is missing if there is one split only."""
    if isinstance(source, Mapping) and source and all(str(key).lower() in _ROLES for key in source):
        found = {_ROLES[str(key).lower()]: part for key, part in source.items()}
        if "train" not in found:
            raise PursuhintError(f"the data have the splits {', '.join(source)}, and no train")
        if "test" not in found and "val" in found:
            found["test"] = found.pop("val")
        return {role: found[role] for role in ("train", "val", "test") if role in found}
    if isinstance(source, tuple) and len(source) in (2, 3) and not is_pair_of_arrays(source):
        kinds = Dataset | DataLoader | Mapping
        if all(isinstance(part, kinds) or _is_split(part) for part in source):
            roles = ("train", "test") if len(source) == 2 else ("train", "val", "test")
            return dict(zip(roles, source))
    return {"train": source}


def _is_split(part: Any) -> bool:
    """Whether an entry of a tuple is a split by itself, not an array."""
    return is_pair_of_arrays(part) or not isinstance(part, Tensor | np.ndarray | int | float | str)


def _name_of(source: Any) -> str:
    dataset = getattr(source, "dataset", source)
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    kind = type(dataset).__name__
    return "arrays" if isinstance(dataset, tuple | list | Mapping) else kind


def _numbered(
    opened: Mapping[str, OpenSource], name: str, class_names: Sequence[str] | None, notes: list[str]
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Names of the classes, and the labels of every split as numbers of them.

    Raises:
        PursuhintError: labels are neither whole numbers nor text, or some have no class.
    """
    if isinstance(class_names, str):
        raise PursuhintError(f"class_names must be a list of names, got the text {class_names!r}")
    arrays = {role: _array(one.labels, f"{name}, {role} split") for role, one in opened.items()}
    train = arrays["train"]
    known = opened["train"].class_names if class_names is None else tuple(class_names)
    if train.dtype.kind in "UO":
        names = tuple(sorted(set(map(str, train.tolist())))) if known is None else known
        number = {each: place for place, each in enumerate(names)}
        found = {role: [number.get(str(value), -1) for value in each] for role, each in arrays.items()}
        for role, values in found.items():
            if -1 in values:
                strange = str(arrays[role][values.index(-1)])[:40]
                raise PursuhintError(f"{name}, {role} split: label {strange!r} is none of the classes")
        return names, {role: torch.tensor(values) for role, values in found.items()}
    numbers = {role: torch.from_numpy(each.astype(np.int64)) for role, each in arrays.items()}
    if known is None:
        used = numbers["train"].unique()
        known = tuple(map(str, used.tolist()))
        if skips_numbers(known):
            notes.append(
                f"labels {', '.join(known[:5])}{', ...' if len(known) > 5 else ''} are the classes 0 to "
                f"{len(known) - 1}, in this order (give class_names if classes have no samples)"
            )
            numbers = {
                role: _renumbered(each, used, f"{name}, {role} split") for role, each in numbers.items()
            }
        else:
            notes.append("classes have no names, their numbers stand for them")
    for role, each in numbers.items():
        check_labels(each, len(known), f"{name}, {role} split")
    return known, numbers


def _renumbered(labels: Tensor, used: Tensor, where: str) -> Tensor:
    """Places of labels among those that are used in training.

    Args:
        labels: whole numbers.
        used: the different labels in training, ascending.
        where: name and split, for the message.

    Raises:
        PursuhintError: a label is not used in training.
    """
    strange = ~torch.isin(labels, used)
    if strange.any():
        raise PursuhintError(f"{where}: label {int(labels[strange][0])} is none of the training labels")
    return torch.searchsorted(used, labels)


def _array(labels: Any, where: str) -> np.ndarray:
    """Labels as an array of one axis: whole numbers or text."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    elif isinstance(labels, list | tuple):
        labels = [
            value.item() if isinstance(value, Tensor) and value.numel() == 1 else value for value in labels
        ]
        if any(isinstance(value, str) for value in labels):  # NumPy would turn all of them into text
            labels = np.array(labels, dtype=object)
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    text = array.dtype.kind == "U" or (array.dtype == object and all(isinstance(each, str) for each in array))
    if array.ndim != 1 or not (text or array.dtype.kind in "iu"):
        raise PursuhintError(
            f"{where}: labels must be one whole number or text a sample, got {_found_instead(array)}"
        )
    return array


def _found_instead(labels: np.ndarray) -> str:
    """What unusable labels are, with the first of them and what makes them usable."""
    kind = labels.dtype.kind
    if labels.ndim == 2 and kind in "iufb":
        return f"{labels.dtype} of shape {labels.shape}; if its rows are one-hot, take labels.argmax(1)"
    if labels.ndim != 1:
        return f"{labels.dtype} of shape {labels.shape}"
    if kind == "O":
        wanted = str if isinstance(labels[0], str) else int | np.integer
        place = next((i for i, one in enumerate(labels) if not isinstance(one, wanted)), None)
        if place is None:
            return "numbers of more than 64 bits"
        before = f", where sample 0 has {str(labels[0])[:40]!r}" if place else ""
        return f"{str(labels[place])[:40]!r} ({type(labels[place]).__name__}) as sample {place}{before}"
    if kind == "f":
        with np.errstate(invalid="ignore"):  # infinity has no remainder
            fractions = np.flatnonzero(np.mod(labels, 1) != 0)
        if len(fractions):
            return f"{labels.dtype}, and sample {fractions[0]} has {labels[fractions[0]]}"
    if kind in "fb":
        return f"{labels.dtype} such as {labels[0]}; convert them: torch.as_tensor(labels).long()"
    return str(labels.dtype)


@dataclass(frozen=True, eq=False)
class _Opened:
    """Data from Python, before they are images or other samples.

    Attributes:
        name: of the data set.
        splits: the sources by role, ``train`` among them.
        labels: of each split, as numbers.
        class_names: in the order of these numbers.
        notes: what was assumed of the data; grows.
        held_out: positions of the training samples that stay, and of those that become the test split; None
            if none are held out.
    """

    name: str
    splits: Mapping[str, OpenSource]
    labels: Mapping[str, Tensor]
    class_names: tuple[str, ...]
    notes: list[str]
    held_out: tuple[Tensor, Tensor] | None


def _images(data: _Opened, normalization: Any) -> ImageData:
    """The data as images, all splits of one shape."""
    name, notes = data.name, data.notes
    splits: dict[str, Any] = {
        role: replace(one.samples, labels=data.labels[role])  # type: ignore[type-var]
        for role, one in data.splits.items()
    }
    shapes = {role: (_shape(split), split.dtype) for role, split in splits.items()}
    for role, (shape, dtype) in shapes.items():
        if (shape, dtype) != shapes["train"]:
            raise PursuhintError(
                f"{name}: training images are {shapes['train'][1]} of shape {shapes['train'][0]}, {role} "
                f"images {dtype} of shape {shape}; preprocess all splits in the same way"
            )
    train = splits["train"]
    if data.held_out is not None:
        splits["train"], splits["test"] = (train.select(positions) for positions in data.held_out)
        splits["test"] = replace(splits["test"], indices=torch.arange(len(splits["test"])))
        splits["train"] = replace(splits["train"], indices=torch.arange(len(splits["train"])))
        if getattr(train, "sampler", None) is not None:
            notes.append("the sampler is not used, because samples are held out")
    (channels, height, width), dtype = shapes["train"]
    constants, given = _constants(
        data.splits, normalization, channels, floating=dtype != torch.uint8, notes=notes
    )
    return ImageData(
        name=name,
        num_classes=len(data.class_names),
        in_channels=channels,
        image_size=(height, width),
        mean=constants.mean,
        std=constants.std,
        class_names=data.class_names,
        train=splits["train"],
        test=splits.get("test", splits["train"]),
        val=splits.get("val"),
        normalization_source=constants.source,
        given=given,
        notes=tuple(dict.fromkeys(notes)),
    )


def _shape(split: MemorySplit | DatasetSplit) -> tuple[int, ...]:
    return split.shape if isinstance(split, DatasetSplit) else tuple(split.images.shape[1:])


def _constants(
    opened: Mapping[str, OpenSource], normalization: Any, channels: int, *, floating: bool, notes: list[str]
) -> tuple[Normalization, Normalization | None]:
    """The normalisation of the images as networks get them, and the one that they have already."""
    own = normalization == "data" if isinstance(normalization, str) else False
    if isinstance(normalization, str) and not own:
        raise PursuhintError(f"normalization must be 'data' or give mean and std, got {normalization!r}")
    asked = None
    if normalization is not None and not own:
        asked = _asked(normalization, channels)
    declared = {role: one.given for role, one in opened.items()}
    if asked is None and floating and len({(n.mean, n.std) if n else None for n in declared.values()}) > 1:
        raise PursuhintError(
            "the splits are normalised in different ways by their transforms; use one Normalize, or say "
            "normalization={'mean': ..., 'std': ...}"
        )
    found = asked
    if found is None and floating and declared["train"] is not None:
        found = declared["train"].for_channels(channels)
    if found is None and floating:
        if not own:
            notes.append(
                "the normalisation of the images is unknown: they are given to every network as they are"
            )
        return Normalization((0.0,) * channels, (1.0,) * channels, AS_THEY_ARE), None
    if found is None:
        statistics = opened["train"].statistics
        assert statistics is not None
        found = Normalization(*statistics, "the training images")
        if not own:
            notes.append(
                f"images in 0..255 are scaled to [0, 1] and normalised with {found}, unless the network says "
                "that it expects others"
            )
    if own:
        found = Normalization(found.mean, found.std, f"{found.source}{ASKED_FOR}")
    return found, found if floating else None


def _asked(normalization: Any, channels: int) -> Normalization:
    """The constants that the caller gave, one value a channel."""
    if isinstance(normalization, Normalization):
        found: Normalization | None = normalization.for_channels(channels)
    else:
        if not isinstance(normalization, Mapping) or {"mean", "std"} - set(normalization):
            raise PursuhintError(f"normalization must have mean and std, got {normalization!r}")
        values = [np.atleast_1d(normalization[key]).astype(float).tolist() for key in ("mean", "std")]
        mean, std = (tuple(each * channels if len(each) == 1 else each) for each in values)
        found = Normalization(mean, std, "the caller")
    if found is None or {len(found.mean), len(found.std)} != {channels}:
        raise PursuhintError(
            f"normalization has another number of values than the images' {channels} channels"
        )
    return found


def _inputs(data: _Opened) -> InputData:
    """The data as samples that networks take as they are."""
    splits: dict[str, InputSplit] = {}
    for role, one in data.splits.items():
        assert not isinstance(one.samples, MemorySplit | DatasetSplit)
        splits[role] = InputSplit.whole(one.samples, data.labels[role], f"{data.name}, {role} split")
    if data.held_out is not None:
        whole = splits["train"]
        splits["train"], splits["test"] = (
            whole.select(positions).renumbered() for positions in data.held_out
        )
    data.notes.append("the samples are no images: they are given to the networks as they are")
    return InputData(
        data.name,
        splits["train"],
        splits.get("test", splits["train"]),
        data.class_names,
        val=splits.get("val"),
        notes=tuple(dict.fromkeys(data.notes)),
    )
