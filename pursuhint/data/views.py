"""What a loader makes of raw images in an epoch: one view of each, or two that are drawn independently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pursuhint._util.seeds import derived_generator
from pursuhint.data import check_views
from pursuhint.data.augment import CropFlip, CropFlipDraws, normalize
from pursuhint.data.batch import Batch
from pursuhint.data.image_data import ImageData
from pursuhint.data.mixing import MIXERS, mix
from pursuhint.data.policies import POLICIES
from pursuhint.data.splits import FileSplit, Split
from pursuhint.errors import PursuhintError


@dataclass(frozen=True)
class Drawing:
    """How the random numbers of a view are drawn.

    Attributes:
        seed: of all of them.
        device: where they are used; they are drawn on the CPU, so that all devices get identical numbers.
        alternate: mirror an image in every other epoch, not at random.
        second: of the second view, whose numbers are independent of the first one's.
    """

    seed: int
    device: torch.device
    alternate: bool = False
    second: bool = False

    def generator(self, what: str, *place: int) -> torch.Generator:
        """The generator for one purpose in an epoch, and perhaps for one step or sample of it."""
        return derived_generator(f"second view {what}" if self.second else what, self.seed, *place)


Make = Callable[[int, Tensor, Tensor, Tensor, Tensor], Batch]
"""A function of step, positions in the split, raw images, labels and indices that makes the batch."""


class View:
    """Crops, policies, normalisation and mixing of one view, applied on the device.

    The draws of a sample depend on seed, epoch and position in the split alone; the mixing of a batch depends
    on seed, epoch and step.

    Args:
        data: the data set.
        split: of it.
        names: of the augmentations.
        drawing: how random numbers are drawn.

    Raises:
        PursuhintError: an augmentation is not defined for these images.
    """

    def __init__(self, data: ImageData, split: Split, names: Sequence[str], drawing: Drawing) -> None:
        self.standard = "standard" in names
        self.drawing, self.count = drawing, len(split)
        # Images of the final size are cropped on the device, whether they come from memory or from files.
        self._crops = data.augmentation if isinstance(data.augmentation, CropFlip) else None
        self._policies = {name: make() for name, make in POLICIES.items() if name in names}
        self._mixers = tuple(name for name in MIXERS if name in names)
        mean, std = data.remaining_normalization
        self._mean = torch.tensor(mean, dtype=torch.float32, device=drawing.device)
        self._std = torch.tensor(std, dtype=torch.float32, device=drawing.device)
        if not isinstance(split, FileSplit) and split.dtype != torch.uint8:
            for name, policy in self._policies.items():
                if policy.needs_uint8:
                    raise PursuhintError(
                        f"augmentation {name!r} is defined for images in 0..255 (uint8), "
                        f"but {data.name} has {split.dtype}; leave it out"
                    )

    def of_epoch(self, number: int) -> Make:
        """Draw the random numbers of an epoch."""
        generator, device = self.drawing.generator, self.drawing.device
        crops = self._crops if self.standard else None
        cropped = None if crops is None else self._draw_crops(crops, number)
        draws = {
            name: policy.draw(self.count, generator(name, number)).to(device)
            for name, policy in self._policies.items()
        }

        def changed(images: Tensor, positions: Tensor, *, after: bool) -> Tensor:
            for name, policy in self._policies.items():
                if policy.after_normalizing == after:
                    images = policy.apply(images, draws[name][positions])
            return images

        def make(step: int, positions: Tensor, images: Tensor, labels: Tensor, indices: Tensor) -> Batch:
            if crops is not None and cropped is not None:
                images = crops.apply(images, cropped[positions])
            images = changed(images, positions, after=False)
            images = normalize(images, self._mean, self._std)
            batch = Batch(changed(images, positions, after=True), labels, indices)
            return mix(batch, self._mixers, generator("mixing", number, step)) if self._mixers else batch

        return make

    def _draw_crops(self, augmentation: CropFlip, epoch: int) -> CropFlipDraws:
        """Crops of an epoch for every sample of the split, so that batch and subset do not count."""

        def drawn(epoch: int) -> CropFlipDraws:
            return augmentation.draw(self.count, self.drawing.generator("augmentation", epoch))

        draws = drawn(epoch)
        if self.drawing.alternate:
            draws = replace(draws, flip=drawn(0).flip ^ (epoch % 2 == 1))
        return draws.to(self.drawing.device)


class Views:
    """The view that every loader makes of its images, and a second one where it is asked for.

    Args:
        data: the data set.
        split: of it.
        first: augmentations of the images.
        second: those of a second view; none for one view.
        drawing: how the random numbers of the first view are drawn.

    Raises:
        PursuhintError: as `View`; an augmentation is unknown; or there is a second view, and one of both is
            made of two images.
    """

    def __init__(
        self,
        data: ImageData,
        split: Split,
        first: Sequence[str],
        second: Sequence[str] = (),
        *,
        drawing: Drawing,
    ) -> None:
        check_views(first, second)
        self.device, self.seed = drawing.device, drawing.seed
        self.normalization = (data.mean, data.std)
        self.first = View(data, split, first, drawing)
        self.second = View(data, split, second, replace(drawing, second=True)) if second else None

    def of_epoch(self, number: int) -> Make:
        """Draw the random numbers of an epoch.

        The function gets the raw images, or, if they differ for the two views, both in the second axis:
        (batch, 2, channels, height, width).
        """
        first = self.first.of_epoch(number)
        if self.second is None:
            return first
        second = self.second.of_epoch(number)

        def make(step: int, positions: Tensor, images: Tensor, labels: Tensor, indices: Tensor) -> Batch:
            own, other = images.unbind(1) if images.ndim == 5 else (images, images)
            batch = first(step, positions, own, labels, indices)
            return replace(batch, second_view=second(step, positions, other, labels, indices).images)

        return make
