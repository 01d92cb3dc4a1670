"""Image data sets stored as one folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch

from pursuhint._util.warn_user import warn_user
from pursuhint.data.augment import CropFlip, channel_statistics
from pursuhint.data.decode import ImageHeader, check_16_bits, decode_all, read_headers
from pursuhint.data.image_data import ImageData
from pursuhint.data.image_files import list_classes, list_images, warn_of_number_names, warn_of_skipped
from pursuhint.data.preprocessing import ImageSize, height_and_width
from pursuhint.data.splits import FileSplit, MemorySplit, hold_out
from pursuhint.errors import PursuhintError

__all__ = ["load_folder"]

MEMORY_LIMIT = 512 * 2**20
LARGEST_DEFAULT_SIDE = 224
MEASURED_IMAGES = 10_000  # mean and deviation are measured on as many training images, evenly spaced
SURVEYED_FILES = 200_000  # of more files than this, the headers of an evenly spaced subset are read


_ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train", "training"),
        "val": ("val", "valid", "validation"),
        "test": ("test", "testing"),
    }
)
"""Names of the folders of each split; case does not matter."""


def load_folder(
    path: Path | str,
    *,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
    val_fraction: float = 0.0,
    seed: int = 0,
    exif: bool = True,
) -> ImageData:
    """Load images that are sorted into one folder a class.

    ``path`` holds ``train/`` and ``val/`` or ``test/`` (also called ``training``, ``valid``, ``validation``
    and ``testing``, in any case). With both, ``val`` becomes the validation split (its indices follow those
    of ``train``) and ``test`` the test split; with one of them, that is the test split. If it holds
    ``train/`` alone, or the class folders themselves, ``val_fraction`` of the images become the test split.

    Each split holds one folder a class, with the images anywhere below it: bmp, jpeg, pgm, png, ppm, tiff or
    webp. Links are followed. Hidden files and folders and those of thumbnails are skipped; a
    `pursuhint.errors.PursuhintWarning` counts what else is left out, and names classes without test images.
    Classes are numbered in the sorted order of their names. Images with one channel in every file are read as
    grey, those of mostly coloured files as RGB; ``channels`` overrides it and decides where a few files among
    grey ones are in colour.

    *Size.* Images of one and the same size keep it, up to 224 pixels on a side. Others become square: each is
    resized to just cover the square and its centre is cut out; the side is the lower median of the images'
    shorter sides, at most 224. ``image_size`` overrides both.

    *Preprocessing.* Mean and standard deviation are computed from the training images (of more than 10,000,
    from an even selection). The standard augmentation is a crop after padding by an eighth of the shorter
    side, and a flip unless the images are grey (grey sets are mostly characters, which a mirror turns into
    something else).

    *Memory.* Data that takes less than ``memory_limit`` is decoded once, into memory. Larger data is decoded
    by the loader's workers, epoch after epoch. This changes the speed, and not the batches.

    Every file's header is read here (of more than 200,000 files, an even selection), so that damaged files
    are mostly found at once; data in memory is decoded completely.

    Args:
        path: the folder.
        image_size: height and width in pixels, or one number for squares.
        channels: 1 (grey) or 3 (RGB), whatever the files have.
        memory_limit: in bytes, for all splits together.
        val_fraction: share of the training images to hold out, in [0, 1): as ``val``, or as ``test`` if there
            is no other test split.
        seed: of the held-out samples.
        exif: turn images as their EXIF orientation says. torchvision's ``ImageFolder`` does not.

    Raises:
        PursuhintError: a folder is missing, empty, unreadable or has other classes than ``train``; an image
            cannot be read; all the images are of one class; fewer than half of the files are in colour and
            ``channels`` is not given.
    """
    folder = Path(path).expanduser()
    roles = _split_folders(folder)
    skipped: Counter[str] = Counter()
    classes = list_classes(roles["train"])
    if len(classes) < 2:
        raise PursuhintError(f"{roles['train']} has one class folder, {classes[0]}; two classes are needed")
    warn_of_number_names(roles["train"], classes)
    files = {
        role: replace(list_images(where, classes, complete=role == "train", skipped=skipped), upright=exif)
        for role, where in roles.items()
    }
    warn_of_skipped(folder, skipped)
    if len(roles) == 1:
        files = _held_out(folder, files["train"], val_fraction, seed)
        val_fraction = 0.0
    elif len(roles) == 2:
        (other,) = files.keys() - {"train"}
        files = {"train": files["train"], "test": files[other]}
    else:  # val continues the numbers of train, so that an index stands for one sample
        val = files["val"]
        files["val"] = replace(val, indices=val.indices + len(files["train"]))

    headers = _survey(folder, list(files.values()), exif)
    channels = _common_channels(folder, headers) if channels is None else channels
    size = height_and_width(image_size) if image_size is not None else _common_size(headers)
    count = sum(len(split) for split in files.values())
    in_memory = count * channels * size[0] * size[1] < memory_limit
    splits: dict[str, MemorySplit | FileSplit] = dict(files)
    if in_memory:
        for role, split in files.items():
            images = decode_all(split, channels, size)
            splits[role] = MemorySplit(images, split.labels, split.indices, split)
    measured = _evenly_spaced(len(files["train"]))
    train = splits["train"]
    mean, std = channel_statistics(
        train.images[measured]
        if isinstance(train, MemorySplit)
        else decode_all(train.select(measured), channels, size)
    )
    data = ImageData(
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
        augmentation=CropFlip(padding=min(size) // 8, flip=channels == 3),
        fitted=any((header.height, header.width) != size for header in headers),
        normalization_source="the training images",
        exif=exif,
    )
    return data.with_validation(val_fraction, seed=seed) if val_fraction else data


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split: train and others, or train alone for class folders without splits.

    Raises:
        PursuhintError: there is no such folder, it cannot be read, there is no training split, or two folders
            for one split.
    """
    if not folder.is_dir():
        raise PursuhintError(f"no folder {folder}; folder:PATH needs one with train/ and val/ (or test/)")
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise PursuhintError(f"cannot read the folder {folder}: {error.strerror}") from error
    roles: dict[str, Path] = {}
    for role, known in _ROLES.items():
        found = [name for name in names if name.lower() in known]
        if len(found) > 1:
            raise PursuhintError(
                f"{folder} holds {' and '.join(found)}; which is the {role} split? rename one"
            )
        if found:
            roles[role] = folder / found[0]
    if "train" in roles:
        return roles
    if roles or len(names) < 2:
        holds = ", ".join(names[:5]) or "no folder"
        raise PursuhintError(
            f"{folder} must hold train/ and val/ (or test/), each with one folder a class; it holds {holds}"
        )
    return {"train": folder}


def _held_out(folder: Path, train: FileSplit, fraction: float, seed: int) -> dict[str, FileSplit]:
    """Divide the only images into training and test split."""
    if not fraction:
        raise PursuhintError(
            f"{folder} must hold train/ and val/ (or test/), each with one folder a class; it has no images "
            "for evaluation, and --val-fraction 0.2 (val_fraction=0.2) would hold some of them out"
        )
    kept, held_out = hold_out(train.labels, round(fraction * len(train)), seed=seed)
    parts = {"train": train.select(kept), "test": train.select(held_out)}
    return {role: replace(part, indices=torch.arange(len(part))) for role, part in parts.items()}


def _survey(folder: Path, splits: list[FileSplit], upright: bool) -> list[ImageHeader]:
    """Headers of all files, or of an evenly spaced subset above `SURVEYED_FILES`.

    Raises:
        PursuhintError: a file cannot be read; or none of the first images of 16 bits uses more than 12.
    """
    step = -(-sum(map(len, splits)) // SURVEYED_FILES)
    paths = [split.path(position) for split in splits for position in range(0, len(split), step)]
    headers = read_headers(paths, upright=upright)
    if deep := [path for path, header in zip(paths, headers) if header.deep]:
        check_16_bits(deep)
        warn_user(
            f"{len(deep)} of {len(paths)} images in {folder} have 16 bits a pixel; they are scaled to 8 "
            "(value / 257)"
        )
    return headers


def _common_channels(folder: Path, headers: list[ImageHeader]) -> int:
    """1 if all files are grey, 3 if at least half are in colour.

    Raises:
        PursuhintError: a few files among grey ones are in colour.
    """
    colored = sum(not header.gray for header in headers)
    if 0 < colored < len(headers) / 2:
        raise PursuhintError(
            f"{colored} of {len(headers)} images in {folder} are in colour, the others grey; say which they "
            "should all be with --image-channels 1 or 3 (data.channels)"
        )
    return 3 if colored else 1


def _common_size(headers: list[ImageHeader]) -> tuple[int, int]:
    sizes = Counter((header.height, header.width) for header in headers)
    if len(sizes) == 1 and max(size := next(iter(sizes))) <= LARGEST_DEFAULT_SIDE:
        return size
    shorter = sorted(min(header.height, header.width) for header in headers)
    side = min(shorter[(len(shorter) - 1) // 2], LARGEST_DEFAULT_SIDE)
    return side, side


def _evenly_spaced(count: int) -> torch.Tensor:
    """Positions of the training images on which mean and deviation are measured."""
    return torch.arange(0, count, -(-count // MEASURED_IMAGES))
