"""Stronger augmentation: torchvision's transforms on batches, and images made of two."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CutMix, MixUp, TrivialAugmentWide
from torchvision.transforms.v2 import RandAugment as TorchvisionRandAugment
from torchvision.transforms.v2 import functional as TF

from pursuhint.data import AUGMENTATIONS, Batch, CropFlip, ImageData, make_loader
from pursuhint.data.mixing import MIXERS, cutmix, mix, mixup
from pursuhint.data.policies import (
    CHANGES,
    POLICIES,
    Affine,
    ColorJitter,
    Cutout,
    RandAugment,
    TrivialAugment,
)
from pursuhint.errors import PursuhintError


@pytest.fixture
def images() -> Tensor:
    """Smooth pictures, in which a pixel more or less shows."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (31, 3, 8, 10), generator=generator, dtype=torch.uint8)
    return TF.resize(coarse, [30, 36], antialias=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def almost_equal(first: Tensor, second: Tensor, share: float = 0.002) -> None:
    """Equal but for single grey levels, and for pixels on the border between two."""
    difference = (first.int() - second.int()).abs()
    assert (difference > 1).float().mean() <= share


# -- each image by itself ---------------------------------------------------------------------------------


def test_affine_maps_are_those_of_torchvision(images: Tensor) -> None:
    policy = Affine(degrees=40, shift=0.2, scale=(0.7, 1.4))
    draws = policy.draw(len(images), generator())
    found = policy.apply(images, draws)
    for image, (angle, right, down, scale), own in zip(images, draws.tolist(), found):
        expected = TF.affine(
            image,
            angle=angle,
            translate=[round(right * 36), round(down * 30)],
            scale=scale,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        almost_equal(own, expected, 0)


def test_no_move_changes_nothing_and_floats_stay_floats(images: Tensor) -> None:
    still = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(len(images), 4)
    assert torch.equal(Affine().apply(images, still), images)
    floats = images.float() / 7
    torch.testing.assert_close(Affine().apply(floats, still), floats, rtol=1e-4, atol=1e-4)


def test_colour_is_changed_as_torchvision_does_it(images: Tensor) -> None:
    draws = ColorJitter().draw(len(images), generator())
    found = ColorJitter().apply(images, draws)
    for image, (brightness, contrast, saturation), own in zip(images, draws.tolist(), found):
        expected = TF.adjust_brightness(image, brightness)
        expected = TF.adjust_saturation(TF.adjust_contrast(expected, contrast), saturation)
        almost_equal(own, expected, 0.01)
    gray = images[:, :1]
    expected = TF.adjust_contrast(TF.adjust_brightness(gray[0], draws[0, 0].item()), draws[0, 1].item())
    almost_equal(ColorJitter().apply(gray, draws)[0], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", range(14))
def test_trivial_augment_is_that_of_torchvision(images: Tensor, change: int, channels: int) -> None:
    every_third = torch.arange(0, 31, 3)
    images = images[: len(every_third), :channels]
    reference: Any = TrivialAugmentWide()
    # Ours names the changes in the order of torchvision's table.
    name, (strengths, signed) = list(reference._AUGMENTATION_SPACE.items())[change]
    assert name.lower() == CHANGES[change].replace("-", "")
    for sign in (-1, 1):
        fixed = [torch.full_like(every_third, value) for value in (change, sign)]
        draws = torch.stack([fixed[0], every_third, fixed[1]], dim=1).float()
        found = TrivialAugment().apply(images, draws)
        table = strengths(31, 30, 36)
        for image, strength, own in zip(images, every_third.tolist(), found):
            if change in (3, 4) and strength == 15:
                continue  # a shift of 16 pixels, which torchvision's table rounds to 15.999999 and cuts to 15
            amount = 0.0 if table is None else float(table[strength]) * (sign if signed else 1)
            expected = reference._apply_image_or_video_transform(
                image, name, amount, interpolation=InterpolationMode.NEAREST, fill=reference._fill
            )
            almost_equal(own, expected, 0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_is_that_of_torchvision(images: Tensor, channels: int) -> None:
    """Every change occurs, in the first and in the second place, with both signs."""
    images = images[:28, :channels]
    changes = torch.stack([torch.arange(28) % 14, (5 * torch.arange(28) + 2) % 14], dim=1)
    signs = torch.stack([2 * (torch.arange(28) // 14) - 1, 1 - 2 * (torch.arange(28) % 2)], dim=1)
    found = RandAugment().apply(images, torch.cat([changes, signs], dim=1).float())
    reference: Any = TorchvisionRandAugment(2, 10)
    space = list(reference._AUGMENTATION_SPACE.items())
    for image, own, drawn, directions in zip(images, found, changes.tolist(), signs.tolist()):
        for change, sign in zip(drawn, directions):
            name, (strengths, signed) = space[change]
            table = strengths(31, 30, 36)
            amount = 0.0 if table is None else float(table[10]) * (sign if signed else 1)
            image = reference._apply_image_or_video_transform(
                image, name, amount, interpolation=InterpolationMode.NEAREST, fill=reference._fill
            )
        almost_equal(own, image, 0.02)


def test_cutout_blanks_a_square_around_the_centre_that_was_drawn(images: Tensor) -> None:
    policy = Cutout(share=0.5)
    draws = policy.draw(len(images), generator())
    found = policy.apply(images.float() + 1, draws)
    for own, image, (down, right) in zip(found, images.float() + 1, draws.tolist()):
        top, left = math.floor(down * 30) - 7, math.floor(right * 36) - 7
        expected = image.clone()
        expected[:, max(top, 0) : top + 15, max(left, 0) : left + 15] = 0
        assert torch.equal(own, expected)


def test_draws_have_the_distributions_they_should() -> None:
    count = 20_000
    change, strength, sign = TrivialAugment().draw(count, generator()).unbind(1)
    assert (torch.bincount(change.int(), minlength=14) / count).sub(1 / 14).abs().max() < 0.01
    assert (torch.bincount(strength.int(), minlength=31) / count).sub(1 / 31).abs().max() < 0.01
    assert sign.mean().abs() < 0.03
    *changes, first, second = RandAugment().draw(count, generator()).unbind(1)
    for change in changes:
        assert (torch.bincount(change.int(), minlength=14) / count).sub(1 / 14).abs().max() < 0.01
    assert torch.corrcoef(torch.stack([*changes, first, second])).fill_diagonal_(0).abs().max() < 0.03
    assert (first.mean() + second.mean()).abs() < 0.06
    for policy, low, high in (
        (Affine(), [-15, -0.1, -0.1, 0.9], [15, 0.1, 0.1, 1.1]),
        (ColorJitter(), [0.6] * 3, [1.4] * 3),
        (Cutout(), [0.0] * 2, [1.0] * 2),
    ):
        draws = policy.draw(count, generator())
        low, high = torch.tensor(low), torch.tensor(high)
        uniform = (draws - low) / (high - low)
        quantiles = uniform.quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), dim=0)
        assert (quantiles - torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])[:, None]).abs().max() < 0.02
        assert torch.corrcoef(uniform.T).fill_diagonal_(0).abs().max() < 0.03


# -- two images -------------------------------------------------------------------------------------------


def batch_of(images: Tensor) -> Batch:
    return Batch(images.float(), torch.arange(len(images)) % 5, torch.arange(len(images)))


@pytest.mark.parametrize(("ours", "theirs"), [("mixup", MixUp), ("cutmix", CutMix)])
def test_mixing_is_that_of_torchvision(images: Tensor, ours: str, theirs: type) -> None:
    """Both mix with the sample before by one share; the labels of the mixture say which."""
    batch = batch_of(images)
    for seed in range(10):
        mixed = mix(batch, (ours,), generator(seed))
        assert mixed.other_labels is not None
        assert 0.5 <= mixed.share <= 1
        soft = mixed.share * torch.eye(5)[mixed.labels] + (1 - mixed.share) * torch.eye(5)[mixed.other_labels]
        own = (soft - torch.eye(5)[batch.labels.roll(1)]) / (
            torch.eye(5)[batch.labels] - torch.eye(5)[batch.labels.roll(1)]
        )
        share = float(own[~own.isnan() & own.isfinite()][0])
        reference: Any = theirs(num_classes=5)
        if ours == "mixup":
            params = {"lam": share}
        else:
            changed = (mixed.images != batch.images).any(1).any(0).nonzero()
            (top, left), (bottom, right) = changed.min(0).values.tolist(), changed.max(0).values.tolist()
            box = (left, top, right + 1, bottom + 1) if len(changed) else (0, 0, 0, 0)
            params = {"box": box, "lam_adjusted": share}
        params |= {"labels": batch.labels, "batch_size": len(batch)}
        torch.testing.assert_close(reference.transform(batch.images, params), mixed.images)


def test_the_share_is_uniform_and_the_larger_label_comes_first() -> None:
    batch = batch_of(torch.zeros(2, 1, 4, 4))
    shares = torch.tensor([mix(batch, ("mixup",), generator(seed)).share for seed in range(2000)])
    assert ((shares - 0.5) * 2).quantile(torch.tensor([0.25, 0.5, 0.75])).sub(
        torch.tensor([0.25, 0.5, 0.75])
    ).abs().max() < 0.05
    first = torch.arange(2.0)[:, None, None, None].expand(2, 1, 4, 4)
    assert torch.equal(mixup(first, 1.0, generator())[0], first)
    assert torch.equal(mixup(first, 0.0, generator())[0], first.roll(1, 0))
    assert cutmix(first, 1.0, generator())[1] == 1


# -- in loaders -------------------------------------------------------------------------------------------


@pytest.fixture
def data(images: Tensor) -> ImageData:
    labels = torch.arange(31) % 5
    return ImageData.from_tensors(
        "pictures", train=(images, labels), test=(images, labels), augmentation=CropFlip(2, True)
    )


EVERYTHING = tuple(AUGMENTATIONS)


def epoch_of(data: ImageData, names: tuple[str, ...], **options: Any) -> list[Batch]:
    start = options.pop("start", 0)
    loader = make_loader(data, "train", **{"batch_size": 8, "training": True, "augment": names} | options)
    return list(loader.epoch(options.get("number", 3), start))


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.images, second.images)
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.indices, second.indices)
        and first.share == second.share
    )


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_augmentation_changes_images_and_only_in_training(data: ImageData, name: str) -> None:
    with_, without = epoch_of(data, (name,)), epoch_of(data, ())
    assert not torch.equal(with_[0].images, without[0].images)
    assert torch.equal(with_[0].indices, without[0].indices)
    assert (with_[0].other_labels is not None) == (name in MIXERS)
    assert name == "standard" or name in {*POLICIES, *MIXERS}


def test_a_batch_depends_on_seed_epoch_and_step_alone(data: ImageData) -> None:
    whole = epoch_of(data, EVERYTHING)
    assert all(map(same, whole, epoch_of(data, EVERYTHING)))
    assert all(map(same, whole[2:], epoch_of(data, EVERYTHING, start=2)))
    assert not same(whole[0], epoch_of(data, EVERYTHING, seed=1)[0])
    state = torch.get_rng_state()
    epoch_of(data, EVERYTHING)
    assert torch.equal(state, torch.get_rng_state())


def test_a_sample_is_changed_alike_in_every_part_of_a_batch(data: ImageData) -> None:
    names = ("standard", "trivial", "affine", "color", "cutout")
    whole = epoch_of(data, names)
    parts = [epoch_of(data, names, shard=(which, 2)) for which in range(2)]
    for batch, first, second in zip(whole, *parts):
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))


def test_names_are_checked(data: ImageData) -> None:
    with pytest.raises(PursuhintError, match="no augmentation named 'mixpu'; did you mean 'mixup'"):
        epoch_of(data, ("mixpu",))
    with pytest.raises(PursuhintError, match="can be named once, got color,color"):
        epoch_of(data, ("color", "color"))


def test_colours_of_images_in_other_units_are_refused() -> None:
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 2
    floats = ImageData.from_tensors("floats", train=(images, labels), test=(images, labels))
    assert epoch_of(floats, ("affine", "cutout", "mixup"))
    with pytest.raises(PursuhintError, match=r"'color' is defined for images in 0\.\.255 .*torch\.float32"):
        epoch_of(floats, ("color",))
