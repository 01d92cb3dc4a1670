"""One split of data that the user has in Python: arrays, a data set, a loader, or an iterable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from pursuhint._util.arguments import LOAD_DATA
from pursuhint._util.arrays import as_tensor
from pursuhint._util.network_input import NetworkInput
from pursuhint._util.random_state import seeded
from pursuhint.data.augment import channel_statistics
from pursuhint.data.dataset_split import DatasetSplit, flattened
from pursuhint.data.decode import has_16_bits
from pursuhint.data.preprocessing import ITS_TRANSFORM, Normalization
from pursuhint.data.samples import (
    LABEL_KEYS,
    PROBED,
    Randomness,
    SampleReader,
    is_image,
)
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError

IN_MEMORY = 2**30
"""Bytes; samples that are the same at every reading and take no more are read once and kept."""

_MEASURED = 1_000  # samples by which mean and deviation of a large data set of uint8 images are measured


@dataclass(frozen=True)
class OpenSource:
    """One split of data, read as far as needed to know what it holds.

    Attributes:
        samples: the images; or the inputs of a network that takes something else.
        labels: as the user gave them: whole numbers, or the names of classes.
        class_names: in the order of the labels, where the data say them.
        given: the normalisation that floating-point images have, where the data say it.
        statistics: mean and deviation by channel of uint8 images; None for other data.
        notes: what was assumed, and which promise does not hold.
    """

    samples: MemorySplit | DatasetSplit | NetworkInput
    labels: Any
    class_names: tuple[str, ...] | None = None
    given: Normalization | None = None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    notes: tuple[str, ...] = ()


def open_source(source: Any, name: str, size: tuple[int, int] | None) -> OpenSource:
    """Find out what the user gave for one split.

    Args:
        source: (inputs, labels), a mapping of tensors with labels among them, a map-style data set, a
            `torch.utils.data.DataLoader`, or an iterable of samples.
        name: of the data and the split, for messages.
        size: to which PIL images are resized; None if they have one size.

    Raises:
        PursuhintError: it is none of these, or its samples cannot be used.
    """
    if isinstance(source, DataLoader):
        return _of_loader(source, name, size)
    if isinstance(source, Mapping):
        key = next((key for key in LABEL_KEYS if key in source), None)
        if key is None:
            raise PursuhintError(
                f"{name} has the entries {', '.join(map(str, source))}; expected train and test (or val), or "
                f"tensors with labels among them ({', '.join(LABEL_KEYS[:2])})"
            )
        return _of_arrays(
            {other: value for other, value in source.items() if other != key}, source[key], name
        )
    if is_pair_of_arrays(source):
        return _of_arrays(source[0], source[1], name)
    if is_map_style(source):
        return _of_dataset(SampleReader(source, name, size=size), name)
    if isinstance(source, Iterable) and not isinstance(source, str | bytes | Tensor | np.ndarray):
        return _of_iterable(source, SampleReader(None, name, size=size), name)
    raise PursuhintError(
        f"the data must be of type ImageData, Dataset, DataLoader or (images, labels), got a "
        f"{type(source).__name__}; {LOAD_DATA}"
    )


def is_map_style(source: Any) -> bool:
    """Whether samples can be requested by their number."""
    if isinstance(source, IterableDataset | str | bytes | Tensor | np.ndarray | Mapping):
        return False
    return hasattr(type(source), "__getitem__") and hasattr(type(source), "__len__")


def is_pair_of_arrays(source: Any) -> bool:
    """Whether a source is (inputs, labels): of two entries, the second is one label a sample.

    Labels that are no whole numbers (0.5, True, None, rows of one-hot numbers) count, so that the message is
    about them.
    """
    return isinstance(source, tuple | list) and len(source) == 2 and _are_labels(source[1])


def _are_labels(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(_is_scalar(one) for one in value)
    return getattr(value, "ndim", None) in (1, 2) and not hasattr(value, "columns")


def _is_scalar(value: Any) -> bool:
    one_number = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    return value is None or one_number or isinstance(value, int | float | str | np.generic)


# -- arrays ------------------------------------------------------------------------------------------------


def _of_arrays(inputs: Any, labels: Any, name: str) -> OpenSource:
    """Images (uint8 of three or four axes, floating point of four) or other inputs in memory."""
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], Image.Image):
        if len(inputs) != len(labels):
            raise PursuhintError(f"{name}: {len(inputs)} images but {len(labels)} labels")
        return _of_dataset(SampleReader(list(zip(inputs, labels)), name), name)
    if isinstance(inputs, Mapping):
        return OpenSource({key: as_tensor(value, f"{name}: {key}") for key, value in inputs.items()}, labels)
    if isinstance(inputs, tuple):
        return OpenSource(tuple(as_tensor(value, f"{name}: inputs") for value in inputs), labels)
    pixels = as_tensor(inputs, f"{name}: images").cpu()
    if pixels.dtype == torch.uint16 and pixels.ndim in (3, 4):
        raise PursuhintError(
            f"{name}: images of 16 bits have no known range here; scale them to 8 bits "
            "((images / 257).round().astype('uint8') for 0 to 65535), or give them as floating point with "
            "their normalization"
        )
    notes: tuple[str, ...] = ()
    bytes_ = pixels.dtype == torch.uint8
    if bytes_ and pixels.ndim == 3:
        pixels, notes = pixels[:, None], (f"images of shape {tuple(pixels.shape)} were taken as grey",)
    elif bytes_ and pixels.ndim == 4 and pixels.shape[3] in (1, 3, 4) and pixels.shape[1] not in (1, 3, 4):
        notes = (f"the last axis of the images of shape {tuple(pixels.shape)} was taken as their channels",)
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    if pixels.ndim == 4 and (bytes_ or pixels.is_floating_point()):
        pixels = pixels if bytes_ else pixels.to(torch.float32)
        return _in_memory(pixels, labels, OpenSource(pixels, labels, notes=notes))
    return OpenSource(pixels if not pixels.is_floating_point() else pixels.to(torch.float32), labels)


def _in_memory(images: Tensor, labels: Any, about: OpenSource) -> OpenSource:
    """Images in memory, with their statistics if they are uint8."""
    if len(labels) != len(images):
        raise PursuhintError(f"{len(images)} images have {len(labels)} labels")
    statistics = channel_statistics(images) if images.dtype == torch.uint8 and len(images) else None
    unnumbered = torch.zeros(len(images), dtype=torch.int64)
    return replace(about, samples=MemorySplit.whole(images, unnumbered), statistics=statistics)


# -- data sets ---------------------------------------------------------------------------------------------


def _of_loader(loader: DataLoader, name: str, size: tuple[int, int] | None) -> OpenSource:
    """The data set of a loader, with its collate function and its sampler where these are special."""
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    reader = SampleReader(loader.dataset, name, collate, size=size)
    notes: tuple[str, ...] = ("batch size and workers are this program's, not the DataLoader's",)
    if isinstance(loader.dataset, IterableDataset):
        if loader.batch_size is None:
            raise PursuhintError(
                f"{name} is a DataLoader without batches over an iterable; pass its data set"
            )
        opened = _of_iterable(loader.dataset, replace(reader, dataset=None), name)
    else:
        sampler, more = _special_sampler(loader)
        opened = _of_dataset(reader, name, sampler)
        notes = (*notes, *more)
    if collate is not None:
        notes = (*notes, "its collate_fn is called with one sample at a time")
    return replace(opened, notes=(*notes, *opened.notes))


def _special_sampler(loader: DataLoader) -> tuple[Any, tuple[str, ...]]:
    """The sampler of a loader, unless it only shuffles, and what follows from it."""
    batches = loader.batch_sampler
    own_batches = batches is not None and type(batches) is not BatchSampler
    sampler = batches if own_batches else loader.sampler
    shuffles = type(sampler) is RandomSampler and not sampler.replacement
    whole = shuffles and len(sampler) == len(loader.dataset)  # type: ignore[arg-type]
    if type(sampler) is SequentialSampler or whole:
        return None, ()
    kind = type(sampler).__name__
    orders = []
    for _ in range(2):
        with seeded("probe"):
            orders.append(flattened(sampler))
    notes = [f"training draws its samples by {kind}, with a seed for every epoch"]
    if own_batches:
        notes.append(f"batches of {kind} are joined and cut anew")
    if orders[0] != orders[1]:
        notes.append(
            f"{kind} draws random numbers of its own: equal seeds do not give equal runs, and a resumed run "
            "differs from an uninterrupted one"
        )
    return sampler, tuple(notes)


def _of_dataset(reader: SampleReader, name: str, sampler: Any = None) -> OpenSource:
    """A map-style data set: in memory if it is small and always the same, else read on demand."""
    count = len(reader.dataset)
    if count == 0:
        raise PursuhintError(f"{name} has no samples")
    probed = sorted({round(place * (count - 1) / (PROBED - 1)) for place in range(PROBED)})
    reader, notes = _with_keys(reader, reader.item(0))
    first = reader.parts(reader.item(0))[0]
    randomness = Randomness.of(reader, probed)
    if randomness.private:
        notes.append(
            "its samples change from one reading to the next by random numbers of their own: equal seeds do "
            "not give equal runs, a resumed run differs from an uninterrupted one, and changed samples are "
            "not noticed"
        )
    elif randomness.drawn:
        notes.append(
            "it transforms samples at random: they are drawn from seed, epoch and sample, and an analysis "
            "sees the samples of one such draw"
        )
    about = OpenSource(None, None, _class_names(reader), declared_normalization(reader.dataset))  # type: ignore[arg-type]
    if not is_image(first):
        return replace(_inputs_in_memory(reader, randomness, about), notes=tuple(notes))
    image = reader.image_of(first, 0)
    if isinstance(first, Image.Image) and has_16_bits(first):
        notes.append("images of 16 bits are scaled to 8 (value / 257)")
    changing = randomness.drawn or randomness.private
    if not changing and sampler is None and count * image.numel() * image.element_size() <= IN_MEMORY:
        images, labels = torch.empty((count, *image.shape), dtype=image.dtype), []
        for place in range(count):
            value, label = reader.parts(reader.item(place))
            images[place] = _as_first(reader.image_of(value, place), image, place, name)
            labels.append(label)
        opened = _in_memory(images, labels, about)
        return replace(opened, labels=labels, notes=tuple(notes))
    numbers = torch.arange(count)
    split = DatasetSplit(
        reader, torch.zeros_like(numbers), numbers, numbers, image.dtype, tuple(image.shape),
        drawn=randomness.drawn, private=randomness.private, sampler=sampler,
    )  # fmt: skip
    statistics = None
    if image.dtype == torch.uint8:
        step = -(-count // _MEASURED)
        statistics = channel_statistics(torch.stack([split.read(place) for place in range(0, count, step)]))
    labels = _labels(reader, probed)
    return replace(about, samples=split, labels=labels, statistics=statistics, notes=tuple(notes))


def _as_first(image: Tensor, first: Tensor, place: int, name: str) -> Tensor:
    if image.shape != first.shape or image.dtype != first.dtype:
        raise PursuhintError(
            f"sample {place} of {name} is {image.dtype} of shape {tuple(image.shape)}, and the first is "
            f"{first.dtype} of shape {tuple(first.shape)}; give all images one size and type in the data "
            "set's transform, or PIL images and image_size"
        )
    return image


def _with_keys(reader: SampleReader, item: Any) -> tuple[SampleReader, list[str]]:
    """The reader with the entries of a mapping that are label and image, and what was assumed about them."""
    if not isinstance(item, Mapping):
        more = isinstance(item, tuple | list) and len(item) > 2
        return reader, [f"of the {len(item)} parts of an item the first two are used"] if more else []
    found = [key for key in LABEL_KEYS if key in item]
    if not found:
        reader.parts(item)  # raises
    others = [key for key in item if key != found[0]]
    images = [key for key in others if is_image(item[key])]
    if len(images) == 1:
        rest = [str(key) for key in others if key != images[0]]
        notes = [f"the entries {', '.join(rest)} of an item are not used"] if rest else []
        return replace(reader, input_key=images[0], label_key=found[0]), notes
    return replace(reader, label_key=found[0]), []


def _inputs_in_memory(reader: SampleReader, randomness: Randomness, about: OpenSource) -> OpenSource:
    """Samples that are no images, read once: the collate function joins all of them."""
    if randomness.drawn or randomness.private:
        raise PursuhintError(
            f"{reader.name} transforms samples that are no images at random, and these are read once; "
            "leave the random transform out"
        )
    return _joined([reader.dataset[place] for place in range(len(reader.dataset))], reader, about)


def _joined(items: list[Any], reader: SampleReader, about: OpenSource) -> OpenSource:
    collate = default_collate if reader.collate is None else reader.collate
    if reader.collate is None:
        items = [_plain(item) for item in items]
    try:
        batch = collate(items)
    except (TypeError, RuntimeError, ValueError) as error:
        raise PursuhintError(
            f"the samples of {reader.name} cannot be joined: {str(error)[:200]}; give them one shape, or "
            "pass a DataLoader with a collate_fn that pads them"
        ) from error
    inputs, labels = replace(reader, collate=None).parts(batch)
    return replace(about, samples=inputs, labels=labels)


def _plain(item: Any) -> Any:
    """An item whose lists of numbers (columns of Hugging Face's data sets) are tensors."""
    if isinstance(item, Mapping):
        return {key: torch.tensor(value) if isinstance(value, list) else value for key, value in item.items()}
    return item


def _of_iterable(source: Iterable[Any], reader: SampleReader, name: str) -> OpenSource:
    """An iterable of samples, read once into memory."""
    items, size = [], 0
    for item in source:
        items.append(item)
        size += sum(value.nbytes for value in _tensors(item))
        if size > IN_MEMORY or len(items) > 10_000_000:
            raise PursuhintError(
                f"{name} is an iterable of more than {IN_MEMORY / 2**30:.0f} GiB, which is read into memory; "
                "pass a map-style data set (len() and [index]), which is read on demand"
            )
    opened = _of_dataset(replace(reader, dataset=items), name)
    note = (
        f"an iterable of {len(items):,} samples was read once and every epoch repeats them, random "
        "transforms as they were drawn; a run resumes only if it gives the same samples in the same order"
    )
    return replace(opened, notes=(note, *opened.notes))


def _tensors(item: Any) -> list[Any]:
    if isinstance(item, Mapping):
        return [value for entry in item.values() for value in _tensors(entry)]
    if isinstance(item, tuple | list):
        return [value for entry in item for value in _tensors(entry)]
    if isinstance(item, Image.Image):
        return [np.asarray(item)]
    return [item] if isinstance(item, Tensor | np.ndarray) else []


# -- what a data set says about itself ---------------------------------------------------------------------


def _labels(reader: SampleReader, probed: Sequence[int]) -> list[Any]:
    """Every label: of an attribute or column if it agrees with the samples looked at, else of all samples."""
    count = len(reader.dataset)
    known = _column(reader.dataset, reader.label_key)
    if reader.collate is None and known is not None and len(known) == count:
        labels = known.tolist() if isinstance(known, Tensor | np.ndarray) else list(known)
        if all(_number(labels[place]) == _number(reader.parts(reader.item(place))[1]) for place in probed):
            return labels
    with seeded("labels"):
        return [reader.parts(reader.item(place))[1] for place in range(count)]


def _number(label: Any) -> Any:
    return label.item() if isinstance(label, Tensor | np.generic) and label.size == 1 else label


def _column(dataset: Any, key: str | None) -> Any:
    """Labels that a data set has as an attribute (torchvision) or a column (Hugging Face)."""
    if isinstance(dataset, Subset):
        inner = _column(dataset.dataset, key)
        return None if inner is None else [inner[place] for place in dataset.indices]
    if key is not None and key in (getattr(dataset, "column_names", None) or ()):
        return list(dataset[key])
    for attribute in ("targets", "labels"):
        value = getattr(dataset, attribute, None)
        if _are_labels(value):
            return value
    return None


def _class_names(reader: SampleReader) -> tuple[str, ...] | None:
    """Names of the classes that a data set of torchvision or Hugging Face has."""
    dataset = reader.dataset
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    features = getattr(dataset, "features", None)
    names = getattr(features.get(reader.label_key), "names", None) if isinstance(features, Mapping) else None
    names = getattr(dataset, "classes", None) if names is None else names
    if isinstance(names, list | tuple) and names and all(isinstance(name, str | tuple) for name in names):
        return tuple(name if isinstance(name, str) else ", ".join(name) for name in names)
    return None


def declared_normalization(dataset: Any) -> Normalization | None:
    """The normalisation by torchvision's transforms of a data set; None where none is found.

    Images in [0, 1] without ``Normalize`` have mean 0 and deviation 1.
    """
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    steps = list(_steps(getattr(dataset, "transform", None) or getattr(dataset, "transforms", None)))
    for step in reversed(steps):
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if type(step).__name__ == "Normalize" and mean is not None and std is not None:
            means, deviations = (
                tuple(np.atleast_1d(np.asarray(each, float)).tolist()) for each in (mean, std)
            )
            return Normalization(means, deviations, ITS_TRANSFORM)
    scales = [type(step).__name__ for step in steps]
    if "ToTensor" in scales or any(getattr(step, "scale", None) is True for step in steps):
        return Normalization((0.0,), (1.0,), ITS_TRANSFORM)
    return None


def _steps(transform: Any) -> Iterable[Any]:
    """The steps of composed transforms, in order."""
    inner = getattr(transform, "transforms", None)
    if inner is None and hasattr(transform, "transform"):  # torchvision's pair of image and label transforms
        inner = [transform.transform]
    if isinstance(transform, torch.nn.Sequential):
        inner = list(transform)
    if isinstance(inner, list | tuple):
        for step in inner:
            yield from _steps(step)
    elif transform is not None:
        yield transform
