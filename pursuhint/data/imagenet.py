"""ImageNet (ILSVRC 2012), from folders of JPEG files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pursuhint.data.augment import ResizedCropFlip
from pursuhint.data.image_data import ImageData
from pursuhint.data.image_files import list_classes, list_images
from pursuhint.data.preprocessing import IMAGENET, ImageSize, height_and_width
from pursuhint.data.sources import missing
from pursuhint.errors import PursuhintError

__all__ = ["load_imagenet"]


def load_imagenet(
    root: Path, *, download: bool = False, image_size: ImageSize = 224, exif: bool = False
) -> ImageData:
    """Load ImageNet: 1,281,167 training and 50,000 test images, RGB, 1,000 classes, decoded by workers.

    Reads ``root/imagenet/train/<wnid>/`` and ``root/imagenet/val/<wnid>/``; a link will do. A subset of the
    classes is accepted. The official validation images are the test split, since the test labels are not
    public. Classes are numbered in the sorted order of their WordNet ids, as in torchvision's checkpoints.
    Augmentation: :class:`ResizedCropFlip`; for evaluation, the shorter side is resized to 256/224 of
    ``image_size`` and the centre cut out.

    Reference: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015,
    https://arxiv.org/abs/1409.0575.

    Args:
        root: the folder that holds ``imagenet``.
        download: not supported; raises if the data is missing.
        image_size: height and width in pixels of the network's input, or one number for squares.
        exif: turn images as their EXIF orientation says. torchvision's ``ImageFolder`` does not.

    Raises:
        PursuhintError: missing or incomplete folders.
    """
    folder = root / "imagenet"
    if not (folder / "train").is_dir() or not (folder / "val").is_dir():
        prefix = "it cannot be downloaded freely: " if download else ""
        raise missing(
            "imagenet",
            folder,
            "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG",
            remedy=prefix + "get it from https://image-net.org, unpack it there",
        )
    if any((folder / "val").glob("ILSVRC2012_val_*.JPEG")):
        raise PursuhintError(
            f"{folder / 'val'} holds images outside of class folders; expected val/<wnid>/*.JPEG"
        )
    classes = list_classes(folder / "train")
    return ImageData(
        name="imagenet",
        num_classes=len(classes),
        in_channels=3,
        image_size=height_and_width(image_size),
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        class_names=classes,
        train=replace(list_images(folder / "train", classes), upright=exif),
        test=replace(list_images(folder / "val", classes), upright=exif),
        augmentation=ResizedCropFlip(),
        fitted=True,
        normalization_source=IMAGENET.source,
        exif=exif,
    )
