"""Data sets at another size than their own."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from pursuhint.data import ImageData, load_dataset, load_folder, make_loader
from pursuhint.data.decode import to_tensor
from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe
from pursuhint.training.inputs import Inputs
from pursuhint.training.prepare_training import prepare
from pursuhint.training.recipe.resolve import resolve_recipe


def test_enlarged_digits_are_torchvisions_resize_of_the_same_samples():
    small, large = load_dataset("digits"), load_dataset("digits", image_size=32, val_fraction=0.1)
    assert large.image_size == (32, 32)
    assert (large.mean, large.std) == (small.mean, small.std)
    assert large.augmentation.padding == 4 * small.augmentation.padding
    assert large.train.images.dtype == torch.uint8
    index = int(large.train.indices[100])
    expected = F.resize(small.train.images[index : index + 1], [32, 32], antialias=True)[0]
    assert torch.equal(large.train.images[100], expected)
    assert large.val is not None
    assert large.val.images.shape[1:] == (1, 32, 32)


def test_own_size_changes_nothing():
    data = load_dataset("digits")
    assert data.resized(8) is data


def test_rectangles_are_covered_and_cut_out_of_the_centre():
    small = load_dataset("digits")
    tall = load_dataset("digits", image_size=(24, 12))
    assert tall.image_size == (24, 12)
    assert tall.preprocessing.size == (24, 12)
    assert tall.preprocessing.resize == "cover"
    whole = F.resize(small.test.images, [24, 24], antialias=True)
    assert torch.equal(tall.test.images, whole[..., 6:18])
    wide = tall.resized((4, 8))
    assert torch.equal(wide.test.images, F.resize(tall.test.images, [16, 8], antialias=True)[..., 6:10, :])


@pytest.mark.parametrize("limit", [2**30, 0])
def test_a_folder_of_rectangles(tmp_path, write_image, limit):
    for part in ("train", "val"):
        for seed, name in enumerate("ab"):
            write_image(tmp_path / part / name / "0.png", 40, 30, seed=seed)
    data = load_folder(tmp_path, image_size=(16, 8), memory_limit=limit)
    (batch,) = make_loader(data, "test", batch_size=2, training=False).epoch()
    image = Image.open(tmp_path / "val" / "b" / "0.png")
    expected = image.resize((12, 16), Image.Resampling.BILINEAR).crop((2, 0, 10, 16))
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    torch.testing.assert_close(
        (batch.images[1] * std + mean) * 255, to_tensor(expected).float(), atol=1e-3, rtol=0
    )


def test_grey_and_rgb(tmp_path, write_image):
    digits = load_dataset("digits")
    colored = load_dataset("digits", channels=3)
    assert torch.equal(colored.test.images, digits.test.images.repeat(1, 3, 1, 1))
    assert (colored.mean, colored.std) == (digits.mean * 3, digits.std * 3)
    for part in ("train", "val"):
        for seed, name in enumerate("ab"):
            write_image(tmp_path / part / name / "0.png", 9, 7, seed=seed)
    rgb = load_folder(tmp_path)
    grey = rgb.with_channels(1)
    for other in (load_folder(tmp_path, channels=1), load_folder(tmp_path, channels=1, memory_limit=0)):
        assert other.mean == grey.mean
        batches = [
            next(make_loader(data, "test", batch_size=2, training=False).epoch()) for data in (grey, other)
        ]
        assert torch.equal(batches[0].images, batches[1].images)
    floats = ImageData.from_tensors(
        "x", train=(rgb.train.images / 255, rgb.train.labels), test=(rgb.test.images / 255, rgb.test.labels)
    ).with_channels(1)
    torch.testing.assert_close(floats.test.images, grey.test.images / 255, atol=0.002, rtol=0)


def test_other_numbers_of_channels_are_refused():
    images, labels = torch.zeros(4, 4, 8, 8), torch.arange(4) % 2
    data = ImageData.from_tensors("x", train=(images, labels), test=(images, labels))
    with pytest.raises(PursuhintError, match="converts between 1 and 3"):
        data.with_channels(3)
    with pytest.raises(PursuhintError, match=r"must be 1 .grey. or 3 .RGB., got 2"):
        load_dataset("digits", channels=2)
    with pytest.raises(PursuhintError, match="has no EXIF orientation"):
        load_dataset("digits", exif=True)


def test_data_of_a_recipe_and_of_python():
    settings = {"student": "resnet8", "losses": {"ce": 1}, "epochs": 1}
    for data in ({"name": "digits"}, {}):
        recipe = Recipe.from_dict({**settings, "data": {**data, "image_size": [12, 10], "channels": 3}})
        inputs = Inputs() if data else Inputs(data=load_dataset("digits"))
        parts = prepare(resolve_recipe(recipe, inputs), inputs)
        assert (parts.data.in_channels, parts.data.image_size) == (3, (12, 10))
        assert tuple(parts.example.shape) == (2, 3, 12, 10)


def test_size_below_one_is_refused():
    with pytest.raises(PursuhintError, match="image_size must be at least 1 pixel, got 0"):
        load_dataset("digits", image_size=0)
