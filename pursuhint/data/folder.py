"""Image data sets stored as one folder per class."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pursuhint.data.augment import CropFlip, ResizedCropFlip, channel_statistics
from pursuhint.data.decode import IMAGE_SUFFIXES, ImageHeader, decode_all, read_headers
from pursuhint.data.image_data import ImageData
from pursuhint.data.splits import FileSplit, MemorySplit
from pursuhint.errors import PursuhintError

__all__ = ["load_folder"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEMORY_LIMIT = 512 * 2**20
LARGEST_DEFAULT_SIDE = 224
SURVEYED_FILES = 200_000  # of more files than this, the headers of an evenly spaced subset are read


def load_folder(
    path: Path | str, *, image_size: int | None = None, memory_limit: int = MEMORY_LIMIT
) -> ImageData:
    """Load images that are sorted into one folder a class.

    ``path`` holds ``train/`` and ``val/`` or ``test/``. With both, ``val`` becomes the validation split (its
    indices follow those of ``train``) and ``test`` the test split; with one of them, that is the test split.
    Each holds one folder a class, all the same classes, with the images anywhere below it: bmp, jpeg, pgm,
    png, ppm, tiff or webp; other files and hidden ones are ignored. Classes are numbered in the sorted order
    of their names. Images with one channel in every file are read as grey, anything else as RGB.

    *Size.* Images of one and the same size keep it. Mixed sizes become square: each image is resized to just
    cover the square and its centre is cut out; the side is the lower median of the images' shorter sides, at
    most 224. ``image_size`` overrides both.

    *Memory.* Data that takes less than ``memory_limit`` is decoded once, into memory, and augmented with a
    crop after padding by an eighth of the shorter side, and a flip unless it is grey (grey sets are
    mostly characters, which a mirror turns into something else). Its mean and standard deviation are computed
    from the training images. Larger data is decoded by the loader's workers, at most 224 pixels on a side by
    default, with ImageNet's augmentation (:class:`ResizedCropFlip`; for evaluation the central 224/256) and
    ImageNet's mean and standard deviation.

    Every file's header is read here (of more than 200,000 files, an even selection), so that damaged files
    are mostly found at once; data in memory is decoded completely.

    Args:
        path: the folder.
        image_size: side in pixels of square images.
        memory_limit: in bytes, for all splits together.

    Raises:
        PursuhintError: a folder is missing, empty or has other classes than ``train``; an image cannot be
            read; all the images are of one class.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise PursuhintError(f"no folder {folder}; folder:PATH needs one with train/ and val/ (or test/)")
    roles = [role for role in ("train", "val", "test") if (folder / role).is_dir()]
    if "train" not in roles or len(roles) == 1:
        found = (
            ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_dir())[:5]) or "no folder"
        )
        raise PursuhintError(
            f"{folder} must hold train/ and val/ (or test/), each with one folder a class; it holds {found}"
        )
    classes = list_classes(folder / "train")
    if len(classes) < 2:
        raise PursuhintError(f"{folder / 'train'} has one class folder, {classes[0]}; two classes are needed")
    files = {role: list_images(folder / role, classes) for role in roles}
    if len(roles) == 2:
        files = {"train": files["train"], "test": files[roles[1]]}
    else:  # val continues the numbers of train, so that an index stands for one sample
        val = files["val"]
        files["val"] = replace(val, indices=val.indices + len(files["train"]))

    headers = _survey(list(files.values()))
    channels = 1 if all(header.gray for header in headers) else 3
    size = (image_size, image_size) if image_size is not None else _common_size(headers)
    count = sum(len(split) for split in files.values())
    in_memory = count * channels * size[0] * size[1] < memory_limit
    splits: dict[str, MemorySplit | FileSplit] = dict(files)
    if in_memory:
        for role, split in files.items():
            images = decode_all(split, channels, size)
            splits[role] = MemorySplit(images, split.labels, split.indices)
        assert isinstance(splits["train"], MemorySplit)
        mean, std = channel_statistics(splits["train"].images)
    else:
        if image_size is None and max(size) > LARGEST_DEFAULT_SIDE:
            size = (LARGEST_DEFAULT_SIDE, LARGEST_DEFAULT_SIDE)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else _gray(IMAGENET_MEAN, IMAGENET_STD)
    return ImageData(
        name=f"folder:{path}",
        num_classes=len(classes),
        in_channels=channels,
        image_size=size,
        mean=mean,
        std=std,
        class_names=classes,
        train=splits["train"],
        test=splits["test"],
        val=splits.get("val"),
        augmentation=CropFlip(padding=min(size) // 8, flip=channels == 3) if in_memory else ResizedCropFlip(),
    )


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in ``folder``, sorted; hidden ones are ignored.

    Raises:
        PursuhintError: the folder does not exist or holds no folder.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise PursuhintError(f"cannot read the folder {folder}: {error.strerror}") from error
    if not names:
        raise PursuhintError(f"{folder} holds no class folders; expected one folder a class")
    return tuple(names)


def list_images(folder: Path, classes: tuple[str, ...]) -> FileSplit:
    """The images of a folder with one folder a class, ordered by class and then by path.

    Args:
        folder: what holds the class folders.
        classes: the classes it must have, in the order of their labels.

    Raises:
        PursuhintError: it has other classes, or a class without images.
    """
    present = list_classes(folder)
    if set(present) != set(classes):
        raise PursuhintError(
            f"{folder} does not have the expected classes: "
            + "; ".join(
                f"{what} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
                for what, names in (
                    ("missing", sorted(set(classes) - set(present))),
                    ("unexpected", sorted(set(present) - set(classes))),
                )
                if names
            )
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            os.path.relpath(os.path.join(parent, file), folder)
            for parent, _, files in os.walk(folder / name)
            for file in files
            if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES and not file.startswith(".")
        )
        if not found:
            raise PursuhintError(
                f"the class folder {folder / name} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        paths.extend(found)
        labels.extend([label] * len(found))
    return FileSplit.whole(folder, np.array(paths), torch.tensor(labels))


def _survey(splits: list[FileSplit]) -> list[ImageHeader]:
    """Headers of all files, or of an evenly spaced subset above `SURVEYED_FILES`."""
    step = -(-sum(map(len, splits)) // SURVEYED_FILES)
    return read_headers(split.path(position) for split in splits for position in range(0, len(split), step))


def _common_size(headers: list[ImageHeader]) -> tuple[int, int]:
    sizes = Counter((header.height, header.width) for header in headers)
    if len(sizes) == 1:
        return next(iter(sizes))
    shorter = sorted(min(header.height, header.width) for header in headers)
    side = min(shorter[(len(shorter) - 1) // 2], LARGEST_DEFAULT_SIDE)
    return side, side


def _gray(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple[float], tuple[float]]:
    """Average the constants of three channels for grey images."""
    return (sum(mean) / len(mean),), (sum(std) / len(std),)
