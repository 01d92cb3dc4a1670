"""Build data and networks from the options of a command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pursuhint.data import ImageData, TextData
    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.training import DataConfig, RunRecord


NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Processes:
    """The processes that a launcher (``accelerate launch``, ``torchrun``) started together; usually one.

    Args:
        device: where to run; under a launcher every process gets its own device of this type.

    Attributes:
        device: the device of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._state: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=device.type == "cpu")
            self.device = self._state.device

    @property
    def main(self) -> bool:
        """Whether this process prints and writes files."""
        from pursuhint._util.distributed import is_main_process

        return is_main_process()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._state is not None:
            self._state.destroy_process_group()

    def main_first(self) -> contextlib.AbstractContextManager[None]:
        """Run a block, such as a download, on the main process before the others."""
        first: contextlib.AbstractContextManager[None] = (
            contextlib.nullcontext() if self._state is None else self._state.main_process_first()
        )
        return first

    def share(self, network: nn.Module) -> nn.Module:
        """The network on this process's device, with the main process's weights: they may be random."""
        network = network.to(self.device)
        if self._state is not None:
            from torch import distributed

            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)
        return network


def data_config(**options: Any) -> DataConfig:
    """The data section of a recipe, of the options that choose data and images.

    Args:
        **options: keys of `pursuhint.training.DataConfig`; those that are None are left at their defaults.
    """
    from pursuhint.training import DataConfig

    given = {key: value for key, value in options.items() if value is not None}
    return DataConfig.model_validate(
        {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    )


def text_of(tokenizer: str | None) -> dict[str, str] | None:
    """The recipe's section on texts, of ``--tokenizer``."""
    return None if tokenizer is None else {"tokenizer": tokenizer}


def refuse_held_out(data: ImageData | TextData) -> None:
    """Refuse ``--val-fraction`` of data that have something for evaluation without it.

    Raises:
        PursuhintError: a part of the training samples was held out, which nothing looks at.
    """
    if data.val is not None:
        raise PursuhintError(
            f"--val-fraction would be ignored: {data.name} has a test split, and training samples are not "
            "looked at; leave it out"
        )


def data_of_run(run: RunRecord, changes: dict[str, Any], *, download: bool) -> ImageData | TextData:
    """The data to evaluate a run's student on: its own, or others of the same classes.

    Args:
        run: the run.
        changes: keys of `pursuhint.training.DataConfig` that the command line gives; none for its own data.
        download: download missing data, even if the run's recipe does not.

    Returns:
        The data; images of another data set are normalised as those that the student was trained on, and
        its classes are numbered as the run's where it has the same names or some of them.

    Raises:
        PursuhintError: the data are not there, their channels differ from the run's, or a class is none of
            the run's.
    """
    from dataclasses import replace

    from pursuhint.data import ImageData
    from pursuhint.data.classes import class_difference, matched_by_name
    from pursuhint.training.loaders import load_images as load_config

    own = run.load_data(download=download and not changes)
    if not changes:
        return own
    if not isinstance(own, ImageData):
        raise PursuhintError(f"the run {run.path} was trained on {own.name}; it is evaluated on that alone")
    config = run.recipe.data
    if changes.get("name", config.name) != config.name:
        # Another data set: the place of the run's data says nothing of it, the size of its images does.
        update = {"root": None, "image_size": own.image_size, "exif": None, "val_fraction": 0.0}
        config = config.model_copy(update=update)
    if "root" in changes:
        changes = {**changes, "root": str(changes["root"])}
    other = load_config(config.model_copy(update={**changes, "download": download}))
    if other.in_channels != own.in_channels:
        raise PursuhintError(
            f"{other.name} has images of {other.in_channels} channels, the data of the run {own.in_channels}"
            + (f"; --image-channels {own.in_channels} converts them" if own.in_channels in (1, 3) else "")
        )
    if class_difference(own.class_names, other.class_names) is not None:
        present = len(other.class_names)
        other = matched_by_name(other, own.class_names)
        warn_user(
            f"the classes of {other.name} were matched with those of the run by name: {present} of "
            f"{own.num_classes}"
        )
    return replace(other, mean=own.mean, std=own.std, normalization_source=own.normalization_source)


def warn_of_changed_data(run: RunRecord, data: ImageData | TextData, split: str) -> None:
    """Say that a split of the run's own data is not the one that the run has seen, if so."""
    from pursuhint.training.run_folder.fingerprint import data_difference

    change = data_difference(run.environment["data"], data, split)
    if change is not None:
        warn_user(f"since the training of {run.path}, {change}")


class Weights(NamedTuple):
    """The options ``--teacher-checkpoint``, ``--checkpoint-key``, ``--new-head`` and ``--random-weights``."""

    file: Path | None
    key: str | None = None
    new_head: bool = False
    random: bool = False

    def check(self, network: str) -> None:
        """Refuse a network without weights, unless it was asked for.

        Raises:
            PursuhintError: there is no file of weights, or an option has no effect without or with one.
        """
        if self.file is not None and self.random:
            raise PursuhintError(
                "give either weights (--teacher-checkpoint FILE, --pretrained) or --random-weights, not both"
            )
        if self.file is None and (self.key is not None or self.new_head):
            raise PursuhintError("--checkpoint-key and --new-head need --teacher-checkpoint FILE")
        if self.file is None and not self.random:
            raise PursuhintError(
                f"the teacher {network} has no weights; give --teacher-checkpoint FILE, --pretrained for "
                "those of torchvision or timm, or --random-weights to analyze an untrained network"
            )

    def known_accuracy(self, network: str, data: ImageData | TextData) -> TeacherAccuracy | None:
        """The accuracy of a network that need not be measured; None if it must be."""
        from pursuhint.models.teacher_accuracy import NEW_HEAD, TeacherAccuracy

        if self.random:
            return TeacherAccuracy(
                network, data.name, reason="it has random weights (--random-weights)", random_weights=True
            )
        return TeacherAccuracy(network, data.name, reason=NEW_HEAD) if self.new_head else None


def published_file(network: str, *, classifier: bool | None = None) -> Path:
    """The checkpoint that is published for a network; fetching it over the network is said on stderr.

    Args:
        network: the name.
        classifier: as for `pursuhint.models.fetch_weights`.
    """
    from pursuhint._util.distributed import is_main_process
    from pursuhint.models.published_weights import fetch_weights, weights_file

    from .terminal import say

    file = weights_file(network, classifier=classifier)
    local = Path(network.partition(":")[2]).expanduser().is_dir()
    if not file.is_file() and not local:
        say(f"fetching the published weights of {network} over the network", quiet=not is_main_process())
    return fetch_weights(network, classifier=classifier)


def teacher_file(network: str, file: Path | None, *, pretrained: bool) -> Path | None:
    """The checkpoint of ``--teacher-checkpoint`` or ``--pretrained``.

    Raises:
        PursuhintError: both are given, or nobody publishes weights of this network; or as `published_file`.
    """
    if not pretrained:
        return file
    if file is not None:
        raise PursuhintError("give either --teacher-checkpoint FILE or --pretrained, not both")
    return published_file(network)


def create_for(
    name: str,
    data: ImageData | TextData,
    *,
    num_classes: int | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> nn.Module:
    """A network with random weights for a data set; ``options`` are its own."""
    from pursuhint.data import ImageData
    from pursuhint.models import create_model

    sizes = (
        {"in_channels": data.in_channels} if isinstance(data, ImageData) else {"vocab_size": data.vocab_size}
    )
    return create_model(name, num_classes=num_classes or data.num_classes, **{**sizes, **options})


def load_network(
    name: str,
    weights: Weights,
    data: ImageData | TextData,
    *,
    num_classes: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> nn.Module:
    """A network for a data set, with weights from a file or, without one, drawn with a seed.

    Its images have to be normalised by `normalized_for` as it expects. ``options`` are those of the network.
    """
    import torch

    from pursuhint.models.checkpoint import load_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_for(name, data, num_classes=num_classes, options=options)
    weights.check(name)
    if weights.file is not None:
        loaded = load_weights(network, weights.file, checkpoint_key=weights.key, new_head=weights.new_head)
        loaded.warn(f"the checkpoint {weights.file}")
    return network
