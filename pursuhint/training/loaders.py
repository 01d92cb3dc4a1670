"""The data set of a recipe, and its batches for training and evaluation."""

from __future__ import annotations

import torch

from pursuhint.data import DatasetSplit, ImageData, InputData, Loader, load_dataset, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.schema import DataConfig, Recipe

__all__ = ["evaluation_loaders", "load_data", "training_loader"]

_EVALUATION_BATCH = 256


def load_data(config: DataConfig) -> ImageData:
    """The data set of a recipe. Its validation split is the same for every seed of a run.

    Raises:
        PursuhintError: it is not there or damaged, or was passed from Python.
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
