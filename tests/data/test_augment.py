"""Augmentation and normalisation against torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from pursuhint.data.augment import (
    CropFlip,
    ResizedCropFlip,
    channel_statistics,
    crop,
    flip,
    normalize,
)
from pursuhint.data.decode import fit, resized_crop, to_tensor


def random_images(count: int = 12, channels: int = 3, height: int = 9, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def random_photo(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * 1000 + width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [1, 3, 4])
def test_crop_equals_torchvision_at_every_offset(padding: int, dtype: torch.dtype) -> None:
    offsets = torch.cartesian_prod(torch.arange(2 * padding + 1), torch.arange(2 * padding + 1))
    images = random_images(len(offsets)).to(dtype)
    ours = crop(images, offsets[:, 0], offsets[:, 1], padding)
    for image, (top, left), result in zip(images, offsets.tolist(), ours, strict=True):
        padded = functional.pad(image, [padding])
        assert torch.equal(result, functional.crop(padded, top, left, 9, 7))


def test_a_crop_at_the_padding_leaves_the_image_as_it_is() -> None:
    images = random_images()
    middle = torch.full((len(images),), 4)
    assert torch.equal(crop(images, middle, middle, 4), images)


def test_flip_equals_torchvision_for_the_chosen_images_only() -> None:
    images = random_images()
    chosen = torch.arange(len(images)) % 3 == 0
    for image, is_chosen, result in zip(images, chosen, flip(images, chosen), strict=True):
        assert torch.equal(result, functional.hflip(image) if is_chosen else image)


def test_normalise_equals_torchvision_bit_for_bit() -> None:
    images = random_images(50)
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    expected = torch.stack([theirs(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    assert torch.equal(normalize(images, mean, std), expected)


def test_normalise_leaves_its_input_alone_and_does_not_scale_floats() -> None:
    images = torch.linspace(-3, 3, 2 * 4 * 4).reshape(1, 2, 4, 4)
    before = images.clone()
    expected = functional.normalize(images, [0.5, -0.5], [2.0, 0.25])
    assert torch.equal(normalize(images, (0.5, -0.5), (2.0, 0.25)), expected)
    assert torch.equal(images, before)


def test_a_whole_augmented_batch_equals_torchvision_image_by_image() -> None:
    images = random_images(40, height=8, width=8)
    augmentation = CropFlip(padding=2, flip=True)
    draws = augmentation.draw(len(images), torch.Generator().manual_seed(3))
    ours = normalize(augmentation.apply(images, draws), (0.5,) * 3, (0.2,) * 3)
    for i, image in enumerate(images):
        one = functional.crop(functional.pad(image, [2]), int(draws.top[i]), int(draws.left[i]), 8, 8)
        one = functional.hflip(one) if draws.flip[i] else one
        one = functional.normalize(functional.convert_image_dtype(one), [0.5] * 3, [0.2] * 3)
        assert torch.equal(ours[i], one)


def test_offsets_are_uniform_independent_and_half_of_the_images_are_flipped() -> None:
    count, padding = 50_000, 4
    draws = CropFlip(padding, flip=True).draw(count, torch.Generator().manual_seed(0))
    cells = torch.bincount(draws.top * 9 + draws.left, minlength=81).double()
    expected = count / 81
    chi_square = float(((cells - expected).square() / expected).sum())
    assert len(cells) == 81
    assert chi_square < 80 + 4 * math.sqrt(2 * 80)  # mean and standard deviation with 80 degrees of freedom
    assert abs(float(draws.flip.double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(count)


def test_no_augmentation_changes_nothing() -> None:
    images, augmentation = random_images(), CropFlip()
    draws = augmentation.draw(len(images), torch.Generator().manual_seed(0))
    assert torch.equal(augmentation.apply(images, draws), images)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (64, 64), (30, 400), (400, 30)])
def test_resized_crops_are_those_of_torchvision_for_the_same_random_numbers(size: tuple[int, int]) -> None:
    photo = random_photo(*size)
    ours = ResizedCropFlip()
    theirs = transforms.RandomResizedCrop(32, antialias=True)
    for seed in range(60):
        box, mirrored = ours.draw(*size, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = theirs(photo)
            expected = functional.hflip(expected) if torch.rand(1) < 0.5 else expected
        result = resized_crop(photo, box, (32, 32), mirrored=mirrored)
        assert torch.equal(to_tensor(result), functional.pil_to_tensor(expected))


def test_a_resized_crop_can_be_kept_from_flipping() -> None:
    draws = [ResizedCropFlip(flip=False).draw(50, 60, torch.Generator().manual_seed(i)) for i in range(20)]
    assert not any(mirrored for _, mirrored in draws)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (256, 256), (225, 224), (60, 50), (101, 100)])
@pytest.mark.parametrize("side", [224, 37])
def test_fit_equals_the_evaluation_transform_of_imagenet(size: tuple[int, int], side: int) -> None:
    photo = random_photo(*size)
    theirs = transforms.Compose([transforms.Resize(round(side * 256 / 224)), transforms.CenterCrop(side)])
    ours = fit(photo, (side, side), margin=256 / 224)
    assert torch.equal(to_tensor(ours), functional.pil_to_tensor(theirs(photo)))


def test_fit_gives_any_shape_and_leaves_images_of_the_wanted_size_alone() -> None:
    assert fit(random_photo(40, 90), (32, 20)).size == (20, 32)
    assert fit(random_photo(40, 90), (7, 64)).size == (64, 7)
    photo = random_photo(20, 30)
    assert fit(photo, (20, 30), margin=2.0) is photo


def test_channel_statistics_equal_the_plain_formula() -> None:
    images = random_images(100)
    scaled = images.double() / 255
    mean, std = channel_statistics(images)
    torch.testing.assert_close(torch.tensor(mean).double(), scaled.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(std).double(), scaled.std((0, 2, 3), correction=0))
    float_mean, float_std = channel_statistics(scaled)
    assert float_mean == pytest.approx(mean, abs=1e-12)
    assert float_std == pytest.approx(std, abs=1e-12)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_is_not_divided_by_zero(value: int) -> None:
    images = torch.full((7, 1, 5, 5), value, dtype=torch.uint8)
    assert channel_statistics(images)[1] == (1.0,)
    assert channel_statistics(images / 7)[1] == (1.0,)
