"""Folders as people have them: layouts, links, thumbnails, names, orientation, other files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pursuhint.data import load_dataset, load_folder, make_loader
from pursuhint.data.decode import read_header, read_image, to_tensor
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError, PursuhintWarning

WriteImage = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    ("train", "other"),
    [
        ("Train", "valid"),
        ("training", "testing"),
        ("train", "validation"),
        ("TRAIN", "Test"),
        ("train", "val"),
    ],
)
def test_names_of_splits(image_folder: Path, train: str, other: str) -> None:
    (image_folder / "train").rename(image_folder / "t")
    (image_folder / "val").rename(image_folder / "v")
    (image_folder / "t").rename(image_folder / train)
    (image_folder / "v").rename(image_folder / other)
    data = load_folder(image_folder)
    assert (len(data.train), len(data.test), data.val) == (12, 6, None)


def test_two_folders_for_one_split_are_refused(image_folder: Path) -> None:
    (image_folder / "valid").mkdir()
    with pytest.raises(PursuhintError, match="holds val and valid; which is the val split"):
        load_folder(image_folder)


@pytest.mark.parametrize("root", ["pets", "pets/train"], ids=["train only", "classes at the root"])
def test_images_without_an_evaluation_split_are_divided(image_folder: Path, root: str) -> None:
    for path in sorted((image_folder / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (image_folder / "val").rmdir()
    folder = image_folder.parent / root
    data = load_dataset(f"folder:{folder}", val_fraction=0.25)
    assert (len(data.train), len(data.test), data.val, data.num_samples) == (9, 3, None, 9)
    assert data.train.indices.tolist() == list(range(9))
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert isinstance(data.train, MemorySplit)
    assert isinstance(data.test, MemorySplit)
    both = {image.numpy().tobytes() for image in [*data.train.images, *data.test.images]}
    assert len(both) == 12  # no image is in both
    again = load_folder(folder, val_fraction=0.25)
    assert isinstance(again.test, MemorySplit)
    assert torch.equal(again.test.images, data.test.images)


def test_thumbnails_and_hidden_folders_are_no_samples(image_folder: Path, write_image: WriteImage) -> None:
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        write_image(image_folder / "train" / "ant" / name / "0.png")
        write_image(image_folder / "train" / name / "0.png")
    (image_folder / "train" / "ant" / "Thumbs.db").write_bytes(b"")
    data = load_folder(image_folder)
    assert (len(data.train), data.class_names) == (12, ("ant", "bee", "cat"))


def test_images_of_other_kinds_are_counted(image_folder: Path) -> None:
    for name in ("a.gif", "b.GIF", "c.avif", "d"):
        (image_folder / "train" / "ant" / name).write_bytes(b"")
    (image_folder / "val" / "bee" / "e.gif").write_bytes(b"")
    with pytest.warns(PursuhintWarning) as caught:
        data = load_folder(image_folder)
    assert len(caught) == 1
    assert str(caught[0].message).endswith(
        "5 files in "
        f"{image_folder} were left out, as their kind is not read: .gif (3), .avif (1), without suffix (1)"
    )
    assert len(data.train) == 12


def test_links_are_followed_and_loops_are_not(image_folder: Path, write_image: WriteImage) -> None:
    elsewhere = image_folder.parent / "elsewhere"
    write_image(elsewhere / "x.png")
    (elsewhere / "back").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(image_folder / "train" / "ant")
    (image_folder / "train" / "ant" / "linked").symlink_to(elsewhere)
    assert len(load_folder(image_folder).train) == 13


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can read every folder")
def test_folders_that_cannot_be_read(image_folder: Path, write_image: WriteImage) -> None:
    write_image(image_folder / "train" / "ant" / "more" / "0.png")
    (image_folder / "train" / "ant" / "more").chmod(0)
    try:
        with pytest.raises(PursuhintError, match=r"cannot read the folder .*more: Permission denied"):
            load_folder(image_folder)
    finally:
        (image_folder / "train" / "ant" / "more").chmod(0o755)


def test_a_subfolder_that_fails_is_not_left_out(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def failing(path: str | Path) -> object:
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(PursuhintError, match=r"cannot read the folder .*cat: Permission denied"):
        load_folder(image_folder)


def test_classes_without_validation_images_are_said(image_folder: Path) -> None:
    for path in (image_folder / "val" / "bee").iterdir():
        path.unlink()
    with pytest.warns(PursuhintWarning, match=r"val holds no images of 1 of 3 classes \(bee\)"):
        data = load_folder(image_folder)
    assert data.test.labels.tolist() == [0, 0, 2, 2]
    (image_folder / "val" / "bee").rmdir()
    with pytest.warns(PursuhintWarning, match=r"val holds no images of 1 of 3 classes \(bee\)"):
        load_folder(image_folder)


def test_numbers_as_class_names_are_in_the_order_of_image_folder(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for part in ("train", "val"):
        for name in ("0", "1", "2", "10"):
            write_image(tmp_path / part / name / "0.png")
    with pytest.warns(PursuhintWarning, match=r"in the order of text \(0, 1, 10, 2, \.\.\.\)"):
        data = load_folder(tmp_path)
    assert data.class_names == ("0", "1", "10", "2")
    for part in ("train", "val"):
        (tmp_path / part / "10").rename(tmp_path / part / "3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_folder(tmp_path).class_names == ("0", "1", "2", "3")


def test_names_that_are_not_utf_8(image_folder: Path) -> None:
    folder = os.fsencode(image_folder / "train" / "ant")
    os.rename(folder + b"/0.png", folder + b"/\xff.png")
    data = load_folder(image_folder, memory_limit=0)
    assert sum(len(batch) for batch in make_loader(data, "train", batch_size=4, training=True).epoch()) == 12
    with open(folder + b"/\xff.png", "wb") as file:
        file.write(b"no image")
    with pytest.raises(PursuhintError) as caught:
        load_folder(image_folder)
    str(caught.value).encode()  # can be printed
    os.remove(folder + b"/\xff.png")
    os.rename(folder, folder + b"\xff")
    with pytest.raises(
        PursuhintError, match=r"a name that is not UTF-8, ant\N{REPLACEMENT CHARACTER}; rename it"
    ):
        load_folder(image_folder)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_pictures_taken_upright(tmp_path: Path, write_image: WriteImage, memory_limit: int) -> None:
    for part in ("train", "val"):
        for name in "ab":
            write_image(tmp_path / part / name / "0.png", 8, 12)
    upright = Image.fromarray(write_image(tmp_path / "x.png", 8, 12))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be turned by 270 degrees for display
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "val" / "b" / "0.png", exif=exif)
    assert read_header(tmp_path / "val" / "b" / "0.png")[:2] == (8, 12)
    assert read_header(tmp_path / "val" / "b" / "0.png", upright=False)[:2] == (12, 8)
    data = load_folder(tmp_path, memory_limit=memory_limit)
    assert data.image_size == (8, 12)
    (batch,) = make_loader(data, "test", batch_size=2, training=False).epoch()
    mean, std = torch.tensor(data.mean)[:, None, None], torch.tensor(data.std)[:, None, None]
    torch.testing.assert_close(
        (batch.images[1] * std + mean) * 255, to_tensor(upright).float(), atol=1e-2, rtol=0
    )
    assert load_folder(tmp_path, memory_limit=memory_limit, exif=False).image_size == (8, 8)


def test_an_image_that_would_start_a_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    path = tmp_path / "picture.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    Image.open(path).close()  # Pillow knows it by its content
    for name in ("Popen", "check_call", "call", "run"):
        monkeypatch.setattr(
            subprocess, name, lambda *arguments, **options: pytest.fail("a program was started")
        )
    for read in (read_header, lambda file: read_image(file, 3)):
        with pytest.raises(PursuhintError, match=r"picture\.png: it is not an image of a known kind"):
            read(path)


@pytest.mark.parametrize("kind", ["BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_documented_kinds_are_read_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (6, 4), (200, 10, 10)).save(tmp_path / "x.png", kind)
    assert read_header(tmp_path / "x.png")[:2] == (4, 6)
    assert abs(read_image(tmp_path / "x.png", 3).getpixel((0, 0))[0] - 200) < 5


def test_pipes_and_devices_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(PursuhintError, match=f"cannot read the image .*{name}: it is a pipe or a device"):
            read_header(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_images_without_a_known_range_are_refused_in_one_line(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(np.full((8, 8), 40_000, dtype)).save(path)
    for read in (read_header, lambda file: read_image(file, 1), lambda file: read_image(file, 3)):
        with pytest.raises(PursuhintError, match=r"has more than 16 bits a pixel \(mode [IF]\); convert it"):
            read(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_images_of_16_bits_are_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    values = np.array([[0, 128, 129, 257], [32_767, 40_000, 65_406, 65_535]], np.uint16)
    Image.fromarray(values).save(path)
    assert read_header(path) == (2, 4, True, True)
    expected = [[0, 0, 1, 1], [127, 156, 254, 255]]  # value / 257
    assert np.asarray(read_image(path, 1)).tolist() == expected
    assert np.asarray(read_image(path, 3))[..., 2].tolist() == expected


def test_a_folder_says_once_that_it_has_16_bits_and_refuses_12(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write(most: int) -> None:
        for number in range(8):
            folder = tmp_path / ("train", "val")[number % 2] / ("a", "b")[number // 4]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, most, (6, 6)).astype(np.uint16)).save(folder / f"{number}.png")

    write(65_536)
    with pytest.warns(
        PursuhintWarning, match="8 of 8 images in .* have 16 bits a pixel; they are scaled to 8"
    ):
        data = load_folder(tmp_path)
    assert isinstance(data.train, MemorySplit)
    assert data.train.images.dtype == torch.uint8
    assert 100 < data.train.images.float().mean() < 155
    write(4_096)
    with pytest.raises(PursuhintError, match="have 16 bits a pixel, but no value above 4"):
        load_folder(tmp_path)
