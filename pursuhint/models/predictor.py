"""The likeliest classes of image files, by a network or an exported program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pursuhint._util.warn_user import warn_user
from pursuhint.data.augment import normalize
from pursuhint.data.decode import fit, read_headers, read_image, to_tensor
from pursuhint.data.preprocessing import Preprocessing
from pursuhint.errors import PursuhintError

__all__ = ["Prediction", "Predictor"]


class Likeliest(NamedTuple):
    """The likeliest classes of a sample, the likeliest first: numbers, names and shares."""

    labels: tuple[int, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def likeliest_classes(logits: Tensor, class_names: Sequence[str], top: int, name: str) -> Iterator[Likeliest]:
    """The likeliest classes of every sample of a batch.

    Args:
        logits: (N, classes).
        class_names: in their order.
        top: classes a sample; all if there are fewer.
        name: of what returned the logits, for messages.

    Raises:
        PursuhintError: there are more or fewer logits than classes.
    """
    if logits.ndim != 2 or logits.shape[1] != len(class_names):
        raise PursuhintError(
            f"{name} returns {logits[0].numel()} numbers a sample, and there are {len(class_names)} classes"
        )
    best = logits.double().softmax(1).topk(min(top, len(class_names)), dim=1)
    for labels, shares in zip(best.indices.tolist(), best.values.tolist()):
        yield Likeliest(tuple(labels), tuple(class_names[label] for label in labels), tuple(shares))


def check_top(top: int) -> None:
    """Refuse a number of classes below 1."""
    if top < 1:
        raise PursuhintError(f"top must be at least 1, got {top}")


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image, the likeliest first.

    Attributes:
        file: the image.
        labels: numbers of the classes, from 0.
        classes: their names.
        probabilities: softmax of the logits, over all classes; in [0, 1].
    """

    file: str
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Predictor:
    """A classifier of image files.

    Attributes:
        name: what it is, for messages.
        logits: normalised images (N, C, H, W), float32, on the CPU -> logits (N, classes), on the CPU.
        preprocessing: how an image becomes its input.
        class_names: in the order of the logits.
    """

    name: str
    logits: Callable[[Tensor], Tensor]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def predict(
        self, files: Sequence[Path | str], *, top: int = 5, batch_size: int = 64
    ) -> tuple[Prediction, ...]:
        """Classify image files.

        An image of another size than the network's input is resized, its aspect ratio kept, until it covers
        the size (times ``preprocessing.crop``), and its centre is cut out; a `PursuhintWarning` says so where
        the training images were not treated in that way.

        Args:
            files: bmp, jpeg, pgm, png, ppm, tiff or webp, 8 bits a channel.
            top: classes an image, at least 1; all if there are fewer.
            batch_size: images a batch.

        Raises:
            PursuhintError: a file is missing or no image, before the network runs; or the network returns
                another number of logits than there are classes.
        """
        check_top(top)
        paths = [Path(file) for file in files]
        self._check(paths)
        found: list[Prediction] = []
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            likeliest = likeliest_classes(self.logits(self._input(part)), self.class_names, top, self.name)
            found += [Prediction(str(path), *classes) for path, classes in zip(part, likeliest)]
        return tuple(found)

    def _check(self, paths: Sequence[Path]) -> None:
        """Read the header of every file, so that a damaged one is found before the network runs."""
        how = self.preprocessing
        sizes = [(one.height, one.width) for one in read_headers(paths, upright=how.exif)]
        others = sum(size != tuple(how.size) for size in sizes)
        if others and how.resize == "none":
            height, width = how.size
            warn_user(
                f"{others} of {len(paths)} images are not of the training images' size, "
                f"{height}x{width}: resized to cover it, and the centre cut out"
            )

    def _input(self, paths: Sequence[Path]) -> Tensor:
        how = self.preprocessing
        height, width = how.size
        images = [
            fit(read_image(path, how.channels, upright=how.exif), (height, width), margin=how.crop)
            for path in paths
        ]
        return normalize(torch.stack([to_tensor(image) for image in images]), how.mean, how.std)
