"""The data set of a recipe, and its batches for training and evaluation."""

from __future__ import annotations

import torch

from pursuhint.data import (
    DatasetSplit,
    ImageData,
    InputData,
    Loader,
    TextData,
    load_dataset,
    load_text,
    make_loader,
)
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import DataConfig, Recipe, TextConfig

__all__ = ["evaluation_loaders", "load_data", "training_loader"]

TEXT = "text:"

_EVALUATION_BATCH = 256


def load_data(config: DataConfig) -> ImageData | TextData:
    """The data set of a recipe, images or texts. Its validation split is the same for every seed of a run.

    Raises:
        PursuhintError: it is not there or damaged, was passed from Python, or a key does not apply to it.
    """
    if not config.name.startswith(TEXT):
        return load_images(config)
    for key, asked in _KEYS_OF_IMAGES.items():
        if getattr(config, key) not in (None, False):
            raise PursuhintError(f"{config.name} is text; leave {asked} out")
    options = config.text or TextConfig()
    return load_text(
        config.name.removeprefix(TEXT),
        tokenizer=options.tokenizer,
        vocabulary=options.vocabulary,
        max_tokens=options.max_tokens,
        val_fraction=config.val_fraction,
    )


_KEYS_OF_IMAGES = {
    "root": "data.root (--data-root)",
    "download": "data.download (--download)",
    "image_size": "data.image_size (--image-size)",
    "channels": "data.channels (--image-channels)",
    "exif": "data.exif (--exif)",
    "normalize": "data.normalize (--image-normalize)",
    "classes": "data.classes (--only-classes)",
    "train_samples": "data.train_samples (--train-samples)",
}


def load_images(config: DataConfig) -> ImageData:
    """The data set of a recipe, where it must be images.

    Raises:
        PursuhintError: it is text, or as `load_data`.
    """
    if config.name.startswith("python:"):
        raise PursuhintError(f"the data {config.name} were passed from Python; pass them again")
    return load_dataset(
        config.name,
        root=config.root,
        download=config.download,
        val_fraction=config.val_fraction,
        image_size=config.image_size,
        classes=config.classes,
        train_samples=config.train_samples,
        channels=config.channels,
        exif=config.exif,
    )


def training_loader(
    recipe: Recipe, data: ImageData | InputData, device: torch.device, shard: tuple[int, int]
) -> Loader:
    """Training batches. A last batch of one sample is dropped: batch norms have no variance over it."""
    count = len(data.train)
    if isinstance(data.train, DatasetSplit) and data.train.sampler is not None:
        count = len(data.train.sampled(recipe.seed, 0))
    return make_loader(
        data,
        "train",
        batch_size=recipe.batch_size,
        training=True,
        augment=recipe.data.augment,
        flip=recipe.data.flip,
        second_view=recipe.data.second_view,
        seed=recipe.seed,
        device=device,
        workers=recipe.data.workers,
        drop_last=count > recipe.batch_size > 1 and count % recipe.batch_size == 1,
        shard=shard,
    )


def unchanging_loader(
    recipe: Recipe, data: ImageData | InputData, device: torch.device, shard: tuple[int, int] = (0, 1)
) -> Loader:
    """Every training sample once, in the order of the split and without augmentation.

    By default on every rank, with a shard this rank's share.
    """
    return make_loader(
        data,
        "train",
        batch_size=recipe.batch_size,
        training=False,
        device=device,
        workers=recipe.data.workers,
        shard=shard,
    )


def evaluation_loaders(
    recipe: Recipe, data: ImageData | InputData, device: torch.device, shard: tuple[int, int]
) -> dict[str, Loader]:
    """Batches of the validation split, if there is one, and of the test split."""
    return {
        split: make_loader(
            data,
            split,
            batch_size=max(recipe.batch_size, _EVALUATION_BATCH),
            training=False,
            device=device,
            workers=recipe.data.workers,
            shard=shard,
        )
        for split in ("val", "test")
        if split in data.splits
    }
