"""A user's own folder of images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pursuhint.data import CropFlip, load_dataset, load_folder, make_loader
from pursuhint.data.augment import channel_statistics
from pursuhint.data.decode import fit, read_image, to_tensor
from pursuhint.data.splits import FileSplit, MemorySplit
from pursuhint.errors import PursuhintError, PursuhintWarning

WriteImage = Callable[..., np.ndarray]


def memory(split: object) -> MemorySplit:
    assert isinstance(split, MemorySplit)
    return split


def test_a_small_folder_is_decoded_into_memory(image_folder: Path) -> None:
    data = load_dataset(f"folder:{image_folder}")
    assert data.name == f"folder:{image_folder}"
    assert data.class_names == ("ant", "bee", "cat")
    assert data.train.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 5
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.val is None
    assert (data.in_channels, data.image_size) == (3, (8, 8))
    paths = sorted((image_folder / "train").glob("*/*.png"))
    expected = torch.stack([to_tensor(read_image(path, 3)) for path in paths])
    assert torch.equal(memory(data.train).images, expected)
    assert (data.mean, data.std) == channel_statistics(expected)
    assert data.augmentation == CropFlip(padding=1, flip=True)


def test_pixels_are_those_that_were_written(tmp_path: Path, write_image: WriteImage) -> None:
    written = [
        write_image(tmp_path / part / name / "0.png", 5, 9) for part in ("train", "val") for name in "ab"
    ]
    data = load_folder(tmp_path)
    assert data.image_size == (5, 9)
    assert torch.equal(memory(data.test).images[1], torch.from_numpy(written[3]).permute(2, 0, 1))


def test_grey_images_have_one_channel_and_are_not_mirrored(tmp_path: Path, write_image: WriteImage) -> None:
    for part in ("train", "test"):
        for seed, name in enumerate("xy"):
            pixels = write_image(tmp_path / part / name / "0.png", 28, 28, mode="L", seed=seed)
    data = load_folder(tmp_path)
    assert data.in_channels == 1
    assert torch.equal(memory(data.test).images[1, 0], torch.from_numpy(pixels))
    assert data.augmentation == CropFlip(padding=3, flip=False)
    write_image(tmp_path / "train" / "x" / "colour.png", 28, 28)
    with pytest.raises(PursuhintError, match=r"1 of 5 images in .* are in colour"):
        load_folder(tmp_path)
    for channels in (1, 3):
        assert load_folder(tmp_path, channels=channels).in_channels == channels


def test_a_few_grey_photographs_among_coloured_ones_are_rgb(tmp_path: Path, write_image: WriteImage) -> None:
    for part in ("train", "test"):
        for name in "xy":
            write_image(tmp_path / part / name / "0.png", 8, 8)
    write_image(tmp_path / "train" / "x" / "grey.png", 8, 8, mode="L")
    assert load_folder(tmp_path).in_channels == 3


def test_a_large_grey_folder_streams_with_one_channel(tmp_path: Path, write_image: WriteImage) -> None:
    for part in ("train", "test"):
        for name in "xy":
            write_image(tmp_path / part / name / "0.png", 28, 28, mode="L")
    data = load_folder(tmp_path, memory_limit=0)
    assert (len(data.mean), len(data.std), data.image_size) == (1, 1, (28, 28))
    (batch,) = make_loader(data, "train", batch_size=2, training=True).epoch()
    assert batch.images.shape == (2, 1, 28, 28)


def test_transparency_palettes_and_bilevel_images_are_read_without_a_warning(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for part in ("train", "val"):
        for name in "ab":
            write_image(tmp_path / part / name / "0.png")
    write_image(tmp_path / "train" / "a" / "alpha.png", mode="RGBA")
    picture = Image.new("RGBA", (8, 8), (250, 0, 0, 128))
    palette = picture.convert("RGB").quantize(4)
    palette.save(tmp_path / "train" / "a" / "palette.png", transparency=b"\x80" * 4)
    Image.new("1", (8, 8), 1).save(tmp_path / "train" / "b" / "bilevel.png")
    images = memory(load_folder(tmp_path).train).images
    assert images[2, :, 0, 0].tolist() == pytest.approx([250, 0, 0], abs=2)
    assert images[4].unique().tolist() == [255]


def test_with_val_and_test_there_is_a_validation_split(image_folder: Path, write_image: WriteImage) -> None:
    for name in ("ant", "bee", "cat"):
        write_image(image_folder / "test" / name / "t.png")
    data = load_folder(image_folder)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 6, 3)
    assert data.num_samples == 18
    both = torch.cat([data.train.indices, data.val.indices])
    assert torch.equal(both, torch.arange(18))  # no index stands for two samples
    with pytest.raises(PursuhintError, match="already has a validation split of 6 samples"):
        load_dataset(f"folder:{image_folder}", val_fraction=0.1)


def test_other_files_and_hidden_ones_are_ignored_and_subfolders_are_not(
    image_folder: Path, write_image: WriteImage
) -> None:
    (image_folder / "train" / "ant" / "notes.txt").write_text("not an image")
    (image_folder / "train" / "ant" / ".hidden.png").write_text("not an image")
    (image_folder / "train" / ".cache").mkdir()
    write_image(image_folder / "train" / "ant" / "more" / "A.PNG")
    with pytest.warns(PursuhintWarning, match=r"^1 files in .*pets were left out, .*: \.txt \(1\)$"):
        data = load_folder(image_folder)
    assert (len(data.train), data.num_classes) == (13, 3)


def test_mixed_sizes_become_squares_of_the_median_shorter_side(
    tmp_path: Path, write_image: WriteImage
) -> None:
    sizes = [(10, 30), (20, 12), (16, 16), (40, 14)]  # shorter sides 10, 12, 14, 16
    for part in ("train", "val"):
        for i, (height, width) in enumerate(sizes):
            write_image(tmp_path / part / "ab"[i % 2] / f"{i}.png", height, width, seed=i)
    data = load_folder(tmp_path)
    assert data.image_size == (12, 12)
    path = tmp_path / "train" / "b" / "3.png"
    assert torch.equal(memory(data.train).images[3], to_tensor(fit(read_image(path, 3), (12, 12))))
    assert load_dataset(f"folder:{tmp_path}", image_size=9).image_size == (9, 9)


def test_large_photographs_are_reduced_to_224(tmp_path: Path, write_image: WriteImage) -> None:
    for part in ("train", "val"):
        for i, name in enumerate("ab"):
            write_image(tmp_path / part / name / "0.jpg", 300, 320 + i)
    assert load_folder(tmp_path).image_size == (224, 224)
    for part in ("train", "val"):
        write_image(tmp_path / part / "b" / "0.jpg", 300, 320)
    assert load_folder(tmp_path).image_size == (224, 224)
    assert load_folder(tmp_path, memory_limit=0).image_size == (224, 224)


def test_a_folder_above_the_memory_limit_streams(image_folder: Path) -> None:
    need = 18 * 3 * 8 * 8
    assert isinstance(load_folder(image_folder, memory_limit=need + 1).train, MemorySplit)
    data = load_folder(image_folder, memory_limit=need)
    assert isinstance(data.train, FileSplit)
    held = load_folder(image_folder, memory_limit=need).with_validation(0.25)
    assert held.val is not None
    assert len(held.val) == 3


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("image_size", [None, 6])
def test_memory_changes_speed_and_no_batch(image_folder: Path, split: str, image_size: int | None) -> None:
    held, streamed = (
        load_folder(image_folder, image_size=image_size, memory_limit=limit) for limit in (2**30, 0)
    )
    assert isinstance(held.train, MemorySplit)
    assert isinstance(streamed.train, FileSplit)
    assert held.preprocessing == streamed.preprocessing
    assert held.augmentation == streamed.augmentation
    for training in (True, False):
        first, second = (
            list(make_loader(data, split, batch_size=4, training=training, seed=3).epoch(2))
            for data in (held, streamed)
        )
        for one, other in zip(first, second, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.indices, other.indices)


def test_images_of_the_wanted_size_are_evaluated_as_they_are(image_folder: Path) -> None:
    in_memory, streamed = load_folder(image_folder), load_folder(image_folder, memory_limit=0)
    (batch,) = make_loader(streamed, "test", batch_size=6, training=False).epoch()
    pixels = (
        batch.images * torch.tensor(streamed.std)[:, None, None] + torch.tensor(streamed.mean)[:, None, None]
    )
    torch.testing.assert_close(pixels * 255, memory(in_memory.test).images.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_a_file_that_is_no_image_is_named(image_folder: Path, memory_limit: int) -> None:
    path = image_folder / "val" / "bee" / "0.png"
    for content in (b"", b"this is text"):
        path.write_bytes(content)
        with pytest.raises(PursuhintError, match=rf"cannot read the image {path}: it is not an image"):
            load_folder(image_folder, memory_limit=memory_limit)


def test_a_truncated_image_is_named(image_folder: Path) -> None:
    path = image_folder / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(
        PursuhintError, match=rf"^cannot read the image {path}: .*; replace or remove the file\Z"
    ):
        load_folder(image_folder)


def test_an_empty_class_folder_is_named(image_folder: Path) -> None:
    for path in (image_folder / "train" / "bee").iterdir():
        path.unlink()
    (image_folder / "train" / "bee" / "readme.txt").write_text("")
    with pytest.raises(PursuhintError, match=r"the class folder .*train/bee holds no images \(\.bmp, "):
        load_folder(image_folder)


def test_other_classes_in_train_and_val_are_named(image_folder: Path) -> None:
    (image_folder / "val" / "ant").rename(image_folder / "val" / "Ant")
    with pytest.raises(
        PursuhintError, match=r"val does not have the expected classes: missing ant; unexpected Ant$"
    ):
        load_folder(image_folder)


def test_long_lists_of_classes_are_cut(image_folder: Path) -> None:
    for i in range(9):
        (image_folder / "val" / f"extra{i}").mkdir()
    with pytest.raises(PursuhintError, match=r"unexpected extra0, extra1, extra2, extra3, extra4 \.\.\.$"):
        load_folder(image_folder)


def test_a_folder_of_another_shape_says_what_is_expected(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PursuhintError, match=r"no folder .*/nowhere; folder:PATH needs one with train/ and val/"
    ):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(PursuhintError, match=r"no images for evaluation, and --val-fraction 0\.2 .* hold"):
        load_folder(image_folder / "train")
    shutil.rmtree(image_folder / "val")
    with pytest.raises(PursuhintError, match=r"no images for evaluation, and --val-fraction 0\.2 .* hold"):
        load_folder(image_folder)
    (image_folder / "train").rename(image_folder / "val")
    with pytest.raises(PursuhintError, match=r"must hold train/ and val/ .*; it holds val"):
        load_folder(image_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PursuhintError, match="it holds no folder"):
        load_folder(tmp_path / "empty")


def test_no_or_one_class_is_refused(tmp_path: Path, write_image: WriteImage) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(PursuhintError, match="train holds no class folders; expected one folder a class"):
        load_folder(tmp_path)
    for part in ("train", "val"):
        write_image(tmp_path / part / "only" / "0.png")
    with pytest.raises(PursuhintError, match="has one class folder, only; two classes are needed"):
        load_folder(tmp_path)
