"""A data set: its splits, classes and normalisation constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pursuhint._util.arrays import as_tensor
from pursuhint._util.size_bounds import check_memory
from pursuhint.data.augment import Augmentation, CropFlip, ResizedCropFlip, channel_statistics, converted
from pursuhint.data.dataset_split import DatasetSplit
from pursuhint.data.preprocessing import (
    AS_THEY_ARE,
    EVALUATION_MARGIN,
    ImageSize,
    Normalization,
    Preprocessing,
    covering_size,
    height_and_width,
)
from pursuhint.data.splits import FileSplit, MemorySplit, Split, check_labels, hold_out
from pursuhint.errors import PursuhintError

__all__ = ["ImageData"]

_NUMBER_THEM = (
    "; text becomes labels by names, labels = numpy.unique(labels, return_inverse=True) and class_names=names"
)
NO_AUGMENTATION = CropFlip(padding=0, flip=False)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images with labels, divided into splits.

    Attributes:
        name: as the user typed it.
        num_classes: how many classes there are.
        in_channels: 1 (grey), 3 (RGB), or any number for tensors of the user.
        image_size: height and width in pixels of the network's input.
        mean: per channel, in units of the image scaled to [0, 1] (for float images: in their own units).
        std: per channel, above 0.
        class_names: one name a class, in the order of the labels.
        train: the training samples, without those of ``val``.
        test: the test samples (for data sets without public test labels, the official validation samples).
        val: samples for choosing a model, or None.
        augmentation: the ``standard`` training augmentation: :class:`CropFlip`, or for files
            :class:`ResizedCropFlip`. ``dataclasses.replace(data, augmentation=...)`` changes it.
        fitted: images are resized to cover the size and cut, rather than having it already.
        normalization_source: where ``mean`` and ``std`` come from, in words.
        exif: image files are turned as their EXIF orientation says.
        given: the normalisation that floating-point images have already, where it is known; loaders convert
            them to ``mean`` and ``std``. None for images of another scale or of unknown normalisation.
        notes: what was assumed of data passed from Python, and which promise does not hold for them, one
            sentence each.
    """

    name: str
    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    train: Split
    test: Split
    val: Split | None = None
    augmentation: Augmentation = NO_AUGMENTATION
    fitted: bool = False
    normalization_source: str = "the data"
    exif: bool = False
    given: Normalization | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise PursuhintError(
                f"{self.name}: {self.num_classes} classes but {len(self.class_names)} class names"
            )
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.in_channels:
                raise PursuhintError(
                    f"{self.name}: {self.in_channels} channels but {what} has {len(values)} values"
                )
        if not all(value > 0 for value in self.std):
            raise PursuhintError(f"{self.name}: std must be above 0 in every channel, got {self.std}")
        for role, split in self.splits.items():
            if len(split) == 0:
                raise PursuhintError(f"{self.name}: the {role} split has no samples")
            check_labels(split.labels, self.num_classes, f"{self.name}, {role} split")
            if not isinstance(split, FileSplit) and not isinstance(self.augmentation, CropFlip):
                where = "in memory" if isinstance(split, MemorySplit) else "a data set of samples"
                raise PursuhintError(
                    f"{self.name}: the {role} split is {where}; its augmentation is a CropFlip, "
                    f"got {type(self.augmentation).__name__}"
                )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, test and, if present, val."""
        splits = {"train": self.train, "test": self.test}
        return splits if self.val is None else {**splits, "val": self.val}

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the input of a network in evaluation."""
        floating = not isinstance(self.train, FileSplit) and self.train.dtype != torch.uint8
        own_units = floating and self.given is None
        return Preprocessing(
            size=self.image_size,
            resize="cover" if self.fitted else "none",
            crop=EVALUATION_MARGIN if isinstance(self.augmentation, ResizedCropFlip) else 1.0,
            mean=self.mean,
            std=self.std,
            channels=self.in_channels,
            value_range=None if own_units else (0.0, 1.0),
            source=self.normalization_source,
            exif=self.exif,
        )

    @property
    def remaining_normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation with which loaders normalise: of images that are not normalised, the data's own.

        Images normalised with ``given`` are converted to ``mean`` and ``std`` in one step.
        """
        if self.given is None:
            return self.mean, self.std
        rows = list(zip(self.mean, self.std, self.given.mean, self.given.std, strict=True))
        means = tuple((mean - given_mean) / given_std for mean, _, given_mean, given_std in rows)
        return means, tuple(std / given_std for _, std, _, given_std in rows)

    def normalized_with(self, normalization: Normalization) -> ImageData:
        """The same images, normalised with other constants; RGB constants are averaged for grey images.

        Raises:
            PursuhintError: the constants are of another number of channels.
        """
        fitting = normalization.for_channels(self.in_channels)
        if fitting is None:
            raise PursuhintError(
                f"{self.name} has {self.in_channels} channels, and {normalization.source} "
                f"{len(normalization.mean)}; give data.normalize as many values, or set data.normalize=data"
            )
        return replace(self, mean=fitting.mean, std=fitting.std, normalization_source=fitting.source)

    def example(self, count: int = 2) -> Tensor:
        """Black images, as many as asked for, for looking at networks: zeros of shape (count, C, H, W)."""
        return torch.zeros(count, self.in_channels, *self.image_size)

    @property
    def num_samples(self) -> int:
        """Size of the full training set (train and val together); training indices are below it."""
        return len(self.train) + (0 if self.val is None else len(self.val))

    def split(self, name: str) -> Split:
        """The split called ``train``, ``val`` or ``test``.

        Raises:
            PursuhintError: no such split, or the data has no validation split.
        """
        if name == "val" and self.val is None:
            raise PursuhintError(
                f"{self.name} has no validation split; ask for one with --val-fraction (val_fraction=0.1)"
            )
        if name not in self.splits:
            raise PursuhintError(f"no split named {name!r}; there are train, val and test")
        return self.splits[name]

    def with_validation(self, fraction: float, *, seed: int = 0) -> ImageData:
        """Hold out some training samples as ``val``.

        The held-out samples are stratified by class, depend on labels, fraction and seed alone, and keep
        their indices.

        Args:
            fraction: share of the training samples, above 0 and below 1; the count is rounded.
            seed: another seed holds out other samples.

        Raises:
            PursuhintError: there is a validation split already, or the fraction holds out no sample or the
                last sample of a class.
        """
        if self.val is not None:
            raise PursuhintError(f"{self.name} already has a validation split of {len(self.val)} samples")
        if not 0 < fraction < 1:
            raise PursuhintError(f"the validation fraction must be above 0 and below 1, got {fraction}")
        kept, held_out = hold_out(self.train.labels, round(fraction * len(self.train)), seed=seed)
        return replace(self, train=self.train.select(kept), val=self.train.select(held_out))

    def resized(self, size: ImageSize) -> ImageData:
        """Resize all images, the aspect ratio kept, to just cover ``size``, and cut out their centre.

        Bilinear with antialiasing, as torchvision's ``Resize``; the crop padding is scaled in proportion.
        Mean and standard deviation are not recomputed.

        Args:
            size: height and width in pixels, or one number for squares.

        Raises:
            PursuhintError: the images are files, whose loaders decide on the size, or ``size`` is below 1,
                or the resized images do not fit into memory.
        """
        target = height_and_width(size)
        if self.image_size == target:
            return self
        covering = covering_size(self.image_size, target)
        if not all(isinstance(split, MemorySplit) for split in self.splits.values()):
            raise PursuhintError(
                f"{self.name} is read on demand; give image_size when it is loaded (load_dataset, as_data)"
            )

        images = [split.images for split in self.splits.values() if isinstance(split, MemorySplit)]
        values = sum(each.shape[0] * each.shape[1] * each.element_size() for each in images)
        what = f"the images of {self.name} at {target[0]} x {target[1]} pixels"
        check_memory(values * target[0] * target[1], what, "choose a smaller image_size")

        def resize(split: Split | None) -> MemorySplit | None:
            if not isinstance(split, MemorySplit):
                return None
            images = F.resize(split.images, list(covering), antialias=True)
            images = F.center_crop(images, list(target))
            return MemorySplit(images, split.labels, split.indices, split.files)

        train, test, augmentation = resize(self.train), resize(self.test), self.augmentation
        assert train is not None
        assert test is not None
        if isinstance(augmentation, CropFlip):
            padding = round(augmentation.padding * min(target) / min(self.image_size))
            augmentation = replace(augmentation, padding=padding)
        return replace(
            self,
            image_size=target,
            train=train,
            test=test,
            val=resize(self.val),
            augmentation=augmentation,
            fitted=True,
        )

    def with_channels(self, channels: int) -> ImageData:
        """The same images in grey (1) or RGB (3).

        Grey becomes RGB by repetition. RGB becomes grey by luma, 0.299 R + 0.587 G + 0.114 B, as Pillow
        converts it; mean and deviation are then measured on the training images if these are in memory, and
        averaged over the channels if not.

        Raises:
            PursuhintError: ``channels`` is neither 1 nor 3, or the images have neither.
        """
        if channels == self.in_channels:
            return self
        if {channels, self.in_channels} != {1, 3}:
            raise PursuhintError(
                f"data.channels (--image-channels) converts between 1 and 3 channels; {self.name} has "
                f"{self.in_channels}, asked for were {channels}"
            )

        def convert(split: Split) -> Split:
            if isinstance(split, DatasetSplit):
                return split.with_channels(channels)
            if not isinstance(split, MemorySplit):
                return split  # whose loaders decode into as many channels as the data set says
            return replace(split, images=converted(split.images, channels))

        train = convert(self.train)
        constants = Normalization(self.mean, self.std, self.normalization_source).for_channels(channels)
        given = None if self.given is None else self.given.for_channels(channels)
        assert constants is not None
        if channels == 1 and self.given is not None and len(set(zip(self.given.mean, self.given.std))) > 1:
            raise PursuhintError(
                f"the channels of {self.name} are normalised in different ways, so the images cannot become "
                "grey any more; convert them in the data set's transform (Grayscale)"
            )
        measured = given is None and self.normalization_source != AS_THEY_ARE
        if channels == 1 and isinstance(train, MemorySplit) and measured:
            constants = Normalization(*channel_statistics(train.images), "the training images")
        return replace(
            self,
            given=given,
            in_channels=channels,
            mean=constants.mean,
            std=constants.std,
            normalization_source=constants.source,
            train=train,
            test=convert(self.test),
            val=None if self.val is None else convert(self.val),
        )

    @classmethod
    def from_tensors(
        cls,
        name: str,
        *,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        augmentation: CropFlip = NO_AUGMENTATION,
        val_fraction: float = 0.0,
        seed: int = 0,
    ) -> ImageData:
        """Build a data set from images in memory.

        Args:
            name: what to call the data in messages and reports.
            train: images and labels. Images: tensor or array of shape (samples, channels, height, width),
                uint8 in 0..255 or floating point in any range; kept on the CPU, copied only if
                necessary; or a list of PIL images of one size and mode. Labels: integers, shape (samples,).
            test: images and labels with the channels, height and width of ``train``.
            num_classes: default: one more than the largest label, or the number of ``class_names``.
            class_names: default: the labels as text.
            mean: per channel or one number, subtracted after uint8 images were scaled to [0, 1]. Default:
                computed from the training images (before a validation split is taken out).
            std: per channel or one number, divided by. Default: computed as ``mean`` is.
            augmentation: default: none, since only the caller knows which changes preserve the class.
            val_fraction: share of the training samples held out as ``val``, in [0, 1).
            seed: of the validation split.

        Raises:
            PursuhintError: wrong shape or type, NaN or infinity, different numbers of images and labels,
                a label out of range, train and test of different sizes.

        Example:
            >>> images, labels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8), torch.arange(20) % 4
            >>> ImageData.from_tensors("noise", train=(images, labels), test=(images, labels)).num_classes
            4
        """
        train_images, train_labels = _checked(*_pair(train, f"{name}, train"), f"{name}, train split")
        test_images, test_labels = _checked(*_pair(test, f"{name}, test"), f"{name}, test split")
        if train_images.shape[1:] != test_images.shape[1:]:
            raise PursuhintError(
                f"{name}: training images have shape {tuple(train_images.shape[1:])}, "
                f"test images {tuple(test_images.shape[1:])}"
            )
        if train_images.dtype != test_images.dtype:
            raise PursuhintError(
                f"{name}: training images are {train_images.dtype}, test images {test_images.dtype}"
            )
        if isinstance(class_names, str):
            raise PursuhintError(f"{name}: class_names must be a list of names, got the text {class_names!r}")
        if num_classes is not None and not isinstance(num_classes, int):
            raise PursuhintError(f"{name}: num_classes must be a whole number, got {num_classes!r}")
        if num_classes is None and class_names is None:
            used = train_labels.unique().tolist()
            if used[0] >= 0 and used != list(range(len(used))):
                raise PursuhintError(
                    f"{name}: the training labels are {', '.join(map(str, used[:5]))}"
                    f"{', ...' if len(used) > 5 else ''}, expected 0 to {len(used) - 1}; number them so, or "
                    "give num_classes if some classes have no images"
                )
        if num_classes is None:
            num_classes = len(class_names) if class_names is not None else int(train_labels.max()) + 1
        names = tuple(class_names) if class_names is not None else tuple(map(str, range(num_classes)))
        if mean is None or std is None:
            own_mean, own_std = channel_statistics(train_images)
            mean = own_mean if mean is None else mean
            std = own_std if std is None else std
        data = cls(
            name=name,
            num_classes=num_classes,
            in_channels=train_images.shape[1],
            image_size=(train_images.shape[2], train_images.shape[3]),
            mean=_constants(mean, f"{name}: mean", train_images.shape[1]),
            std=_constants(std, f"{name}: std", train_images.shape[1]),
            class_names=names,
            train=MemorySplit.whole(train_images, train_labels),
            test=MemorySplit.whole(test_images, test_labels),
            augmentation=augmentation,
        )
        return data.with_validation(val_fraction, seed=seed) if val_fraction else data


def _pair(split: Any, where: str) -> tuple[Any, Any]:
    """Images and labels of a split.

    Raises:
        PursuhintError: it is no pair.
    """
    if not isinstance(split, tuple | list) or len(split) != 2:
        raise PursuhintError(f"{where} must be (images, labels), got a {type(split).__name__}")
    images, labels = split
    return images, labels


def _from_pictures(images: Any) -> Any:
    """Lists of PIL images with their channels first; anything else as it is."""
    if not isinstance(images, list | tuple) or not images or not isinstance(images[0], Image.Image):
        return images
    arrays = [np.asarray(image) for image in images]
    if len({array.shape for array in arrays}) > 1:
        return arrays  # of uneven shapes, which the caller is told
    together = np.stack(arrays)
    return together[:, None] if together.ndim == 3 else together.transpose(0, 3, 1, 2)


def _constants(values: Sequence[float] | float, what: str, channels: int) -> tuple[float, ...]:
    """Mean or deviation by channel; one number holds for all.

    Raises:
        PursuhintError: they are no numbers.
    """
    try:
        found = [float(values)] * channels if isinstance(values, int | float) else list(map(float, values))
    except (TypeError, ValueError):
        raise PursuhintError(f"{what} must be a number, or one a channel, got {values!r}") from None
    return tuple(found)


def _checked(images: Any, labels: Any, where: str) -> tuple[Tensor, Tensor]:
    images = as_tensor(_from_pictures(images), f"{where}: images").cpu()
    labels = as_tensor(labels, f"{where}: labels", advice=_NUMBER_THEM).cpu()
    if images.ndim == 4 and images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        raise PursuhintError(
            f"{where}: images of shape {tuple(images.shape)} have their channels last, expected (samples, "
            "channels, height, width); permute them: images.transpose(0, 3, 1, 2) in NumPy"
        )
    if images.ndim != 4:
        raise PursuhintError(
            f"{where}: images must have shape (samples, channels, height, width), got {tuple(images.shape)}"
            + ("; images.unsqueeze(1) adds a channel" if images.ndim == 3 else "")
        )
    if labels.shape != (len(images),):
        raise PursuhintError(f"{where}: {len(images)} images but labels of shape {tuple(labels.shape)}")
    if images.numel() == 0:
        raise PursuhintError(f"{where}: images of shape {tuple(images.shape)} hold no pixel")
    if images.dtype != torch.uint8:
        if not images.is_floating_point():
            raise PursuhintError(f"{where}: images must be uint8 or floating point, got {images.dtype}")
        finite = images.isfinite().flatten(1).all(1)
        if not finite.all():
            raise PursuhintError(
                f"{where}: {int((~finite).sum())} images hold NaN or infinity, the first is sample "
                f"{int((~finite).nonzero()[0])}"
            )
        images = images.to(torch.float32)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise PursuhintError(f"{where}: labels must be integers, got {labels.dtype}")
    return images, labels.to(torch.int64)
