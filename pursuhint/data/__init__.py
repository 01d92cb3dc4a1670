"""Data sets by name, of images and of texts; splits, augmentation and loaders.

Importing this package imports no torch; the names below are resolved when they are first used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pursuhint._util.lazy_exports import lazy_exports
from pursuhint._util.registry import check_name, load, lookup, plugins
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.data.augment import Augmentation, CropFlip, ResizedCropFlip
    from pursuhint.data.batch import Batch
    from pursuhint.data.class_splits import ClassSplit, class_order, class_split
    from pursuhint.data.dataset_split import DatasetSplit
    from pursuhint.data.fingerprint import DataFingerprint, fingerprint_data
    from pursuhint.data.folder import load_folder
    from pursuhint.data.from_python import DataLike, as_data
    from pursuhint.data.image_data import ImageData
    from pursuhint.data.input_data import InputData
    from pursuhint.data.loader import Loader, make_loader, sample_indices
    from pursuhint.data.preprocessing import ImageSize, Preprocessing
    from pursuhint.data.sample_order import SampleOrder, Step
    from pursuhint.data.splits import FileSplit, MemorySplit, Split
    from pursuhint.data.text import TextData, load_text

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, "AUGMENTATIONS", "DATASETS", "Flip", "check_augmentations", "check_dataset_name", "load_dataset"
)

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "digits": "pursuhint.data.digits:load_digits",
        "cifar10": "pursuhint.data.cifar:load_cifar10",
        "cifar100": "pursuhint.data.cifar:load_cifar100",
        "fashion-mnist": "pursuhint.data.fashion_mnist:load_fashion_mnist",
        "stl10": "pursuhint.data.stl10:load_stl10",
        "tiny-imagenet": "pursuhint.data.tiny_imagenet:load_tiny_imagenet",
        "imagenet": "pursuhint.data.imagenet:load_imagenet",
        "cub200": "pursuhint.data.cub200:load_cub200",
        "folder:PATH": "pursuhint.data.folder:load_folder",
        "text:PATH": "pursuhint.data.text:load_text",
    }
)

AUGMENTATIONS: Mapping[str, str] = MappingProxyType(
    {
        "standard": "what the data set is usually trained with: crops, and flips where they make sense",
        "trivial": "TrivialAugment: one of fourteen changes, of random strength",
        "randaugment": "RandAugment: two of fourteen changes, of strength 10 of 30",
        "affine": "rotation, shift and scale, by a little",
        "color": "brightness, contrast and saturation, by a little",
        "cutout": "a square is blanked out",
        "mixup": "two images are blended, and so are their labels",
        "cutmix": "a rectangle comes from another image, and so does part of the label",
    }
)
"""Augmentations of training images by name, in the order in which they are applied."""

Flip = Literal["random", "alternate"]
"""How images are mirrored from epoch to epoch, see :func:`make_loader`."""

_MIXED = ("mixup", "cutmix")
_SIZED_WHEN_LOADED = ("imagenet", "cub200", "folder:PATH")
_WITH_EXIF = ("imagenet", "folder:PATH")


def check_augmentations(names: Sequence[str]) -> None:
    """Check a list of augmentation names.

    Raises:
        PursuhintError: a name is not in :data:`AUGMENTATIONS` (the message suggests the nearest one), or is
            listed twice.
    """
    for name in names:
        lookup("augmentation", AUGMENTATIONS, name)
    if len(set(names)) != len(names):
        raise PursuhintError(f"each augmentation can be named once, got {','.join(names)}")


def check_views(first: Sequence[str], second: Sequence[str]) -> None:
    """Check the augmentations of two views of each image; none for the second means one view.

    Raises:
        PursuhintError: as `check_augmentations`; or one view of two is made of two images.
    """
    check_augmentations(first)
    check_augmentations(second)
    mixed = [name for name in (*first, *second) if name in _MIXED]
    if second and mixed:
        raise PursuhintError(
            f"{mixed[0]} makes one image of two, and a second view shows one image again; leave out one of "
            "them (data.augment, data.second_view)"
        )


def check_dataset_name(name: str) -> str:
    """Make sure that a data set of this name exists, without loading anything.

    Args:
        name: as for `load_dataset`.

    Returns:
        Its entry: ``"folder:PATH"`` for any folder, ``"text:PATH"`` for any texts, else the name.

    Raises:
        PursuhintError: there is none. The message suggests the closest names, or ``folder:`` for a path.
    """
    kind, colon, path = name.partition(":")
    if colon and kind == "folder":
        if path in ("", "PATH"):
            raise PursuhintError(
                "folder: needs the path of a folder with train/ and val/, as in folder:photos/birds"
            )
        return "folder:PATH"
    if colon and kind == "text":
        if path in ("", "PATH"):
            raise PursuhintError(
                "text: needs the path of a file with labels and texts (.csv, .tsv, .jsonl), or of a folder "
                "with train and test, as in text:reviews.csv"
            )
        return "text:PATH"
    registered = {plugin.name for plugin in plugins("data set")}
    if name not in DATASETS and name not in registered:
        looks_like_path = "/" in name or name.startswith((".", "~")) or Path(name).is_dir()
        if looks_like_path:
            raise PursuhintError(f"no data set named {name!r}; did you mean 'folder:{name}'?")
    check_name("data set", DATASETS, name)
    return name


def load_dataset(
    name: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    val_fraction: float = 0.0,
    seed: int = 0,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    exif: bool | None = None,
    classes: Sequence[int] | None = None,
    train_samples: int | None = None,
) -> ImageData:
    """Load a data set of images by name; texts are loaded by `load_text`.

    Args:
        name: a name that another distribution registers in the entry-point group ``pursuhint.datasets``, or
            one of :data:`DATASETS`: ``digits`` (comes with scikit-learn), ``cifar10``, ``cifar100``,
            ``fashion-mnist``, ``stl10``, ``tiny-imagenet``, ``imagenet``, ``cub200``, or ``folder:PATH`` for
            a folder of your own with ``train/`` and ``val/`` (or ``test/``), one folder a class.
        root: the folder that holds the data sets. Default: the environment variable ``PURSUHINT_DATA``, else
            ``~/.cache/pursuhint/datasets``. ``digits`` and ``folder:PATH`` have none.
        download: download the data set if ``root`` does not hold it. Default: nothing is downloaded.
        val_fraction: share of the training samples, in [0, 1), moved from ``data.train`` to ``data.val``:
            stratified by class, identical for equal seeds on every machine and version.
        seed: of the validation split and of the draw of ``train_samples``.
        image_size: height and width in pixels, or one number for squares. Default: the data set's own size;
            224 for ``imagenet`` and ``cub200``; for ``folder:PATH`` see :func:`load_folder`.
        channels: 1 (grey) or 3 (RGB); images are converted, see :meth:`ImageData.with_channels`. Default: the
            data set's own; for ``folder:PATH`` see :func:`load_folder`.
        exif: turn image files as their EXIF orientation says. Default: yes for ``folder:PATH``, no for
            ``imagenet``, as published numbers were measured.
        classes: labels to keep, at least two; they become 0, 1, ... in this order. Default: all.
        train_samples: size of a class-balanced subset of ``data.train``, which ``seed`` draws; samples of
            the validation split are taken out before. Default: all.

    Returns:
        The data; see :class:`ImageData`.

    Raises:
        PursuhintError: unknown name; the data is missing, incomplete, damaged or mislabelled;
            ``val_fraction``, ``image_size`` or ``channels`` is out of range, or ``exif`` says something of
            images that are no files.
    """
    from pursuhint.data.preprocessing import height_and_width
    from pursuhint.data.sources import default_root
    from pursuhint.data.subsets import with_classes, with_train_samples

    entry = check_dataset_name(name)
    path = name.partition(":")[2]
    if entry == "text:PATH":
        raise PursuhintError(f"{name} is text, and images are needed; pursuhint.data.load_text loads it")
    load_split = load("data set", DATASETS, entry)
    if not 0 <= val_fraction < 1:
        raise PursuhintError(f"the validation fraction must be at least 0 and below 1, got {val_fraction}")
    if entry in ("digits", "folder:PATH") and (root is not None or download):
        what = "built in" if entry == "digits" else "the folder that its name says"
        unused = "data.root (--data-root)" if root is not None else "data.download (--download)"
        raise PursuhintError(f"data set {name} is {what}; leave {unused} out")
    options: dict[str, Any] = {}
    if image_size is not None:
        height_and_width(image_size)
    if channels not in (None, 1, 3):
        raise PursuhintError(f"data.channels must be 1 (grey) or 3 (RGB), got {channels}")
    if exif is not None:
        if entry not in _WITH_EXIF:
            raise PursuhintError(f"data set {name} has no EXIF orientation; leave data.exif (--exif) out")
        options["exif"] = exif
    if channels is not None and entry == "folder:PATH":
        options["channels"] = channels
    if image_size is not None and entry in _SIZED_WHEN_LOADED:
        options["image_size"] = image_size
    if entry == "folder:PATH":
        data: ImageData = load_split(path, val_fraction=val_fraction, seed=seed, **options)
        val_fraction = 0.0  # in a folder without a test split, these samples are that split
    else:
        data = load_split(
            Path(root).expanduser() if root is not None else default_root(), download=download, **options
        )
    if entry not in DATASETS:
        from pursuhint.data.image_data import ImageData as Expected  # imports torch

        if not isinstance(data, Expected):
            raise PursuhintError(
                f"data set {name!r} must be a function (root, *, download) that returns a "
                f"pursuhint.data.ImageData, and it returned a {type(data).__name__}"
            )
    if image_size is not None and entry not in _SIZED_WHEN_LOADED:
        data = data.resized(image_size)
    if channels is not None:
        data = data.with_channels(channels)
    if classes is not None:
        data = with_classes(data, classes)
    if val_fraction:
        data = data.with_validation(val_fraction, seed=seed)
    return data if train_samples is None else with_train_samples(data, train_samples, seed=seed)
