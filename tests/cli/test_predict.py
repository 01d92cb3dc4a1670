"""predict, and the bundle: both classify image files as evaluate does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pursuhint.data import ImageData
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.training import Recipe, export_bundle, load_predictor, train

CLASSES = ("ant", "bee fly", "cat")

# Runs a script with PyTorch and PursuHint out of reach.
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "pursuhint")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def write_photos(root: Path) -> Path:
    """Noise that brightens from class to class, in many sizes, some of it turned by its EXIF entry."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 10)):
        for level, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = rng.integers(8, 20, 2)
                pixels = 30 * level + rng.integers(0, 160, (height, width, 3))
                exif = Image.Exif()
                exif[0x0112] = 6 if index % 3 == 0 else 1
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png", exif=exif)
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    data = {"name": f"folder:{photos}", "image_size": [8, 10]}
    recipe = {"student": "resnet8", "data": data, "epochs": 3, "batch_size": 16}
    out = tmp_path_factory.mktemp("runs") / "photos"
    return train(Recipe.from_dict({**recipe, "optimizer": {"lr": 0.02}}), out, device="cpu")


@pytest.fixture(scope="module")
def bundle(run):
    return export_bundle(run).path


def accuracy(found: dict[str, str]) -> float:
    """Percent of the files whose first class is the name of their folder."""
    return 100 * np.mean([Path(file).parent.name == name for file, name in found.items()])


def files(photos: Path) -> list[Path]:
    return sorted((photos / "val").rglob("*.png"))


def test_a_folder_is_classified_as_evaluate_says(pursuhint, run, photos):
    done = pursuhint("predict", run.path, photos / "val", "--json", "--top", 1, "--batch-size", 7)
    assert done.returncode == 0, done.stderr
    assert "images: 8x10" in done.stderr
    result = json.loads(done.stdout)
    found = {one["file"]: one["classes"][0] for one in result["predictions"]}
    assert set(found) == {str(file) for file in files(photos)}
    assert accuracy(found) == pytest.approx(run.last["test_top1"])
    assert run.last["test_top1"] > 34  # better than any constant answer
    assert result["preprocessing"] == run.environment["data"]["preprocessing"]


def test_probabilities_are_those_of_the_student(run, photos):
    data = run.load_data()
    expected = run.load_student()(
        (data.test.images / 255 - torch.tensor(data.mean)[:, None, None])
        / torch.tensor(data.std)[:, None, None]
    ).softmax(1)
    names = [data.test.files.path(position) for position in range(len(data.test))]
    for one, shares in zip(load_predictor(run.path, device="cpu").predict(names, top=99), expected):
        assert list(one.labels) == shares.argsort(descending=True).tolist()
        assert one.classes == tuple(CLASSES[label] for label in one.labels)
        torch.testing.assert_close(torch.tensor(one.probabilities), shares[list(one.labels)])


def test_the_table_has_a_row_for_each_class(pursuhint, run, photos):
    first, second = files(photos)[:2]
    done = pursuhint("predict", run.path, first, second, "--top", 2, "--quiet", "--weights", "best")
    assert done.returncode == 0
    assert done.stderr == ""
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["image", "class", "probability"]
    assert [row.startswith(str(first)) for row in rows[:2]] == [True, False]
    assert len(rows) == 4
    assert all(row.endswith(" %") for row in rows)


def test_the_bundle_needs_no_torch_and_gives_the_accuracy_of_evaluate(run, bundle, photos, tmp_path):
    pytest.importorskip("onnxruntime")
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    assert {path.name for path in moved.iterdir()} == {
        "README.md",
        "labels.txt",
        "model.onnx",
        "predict.py",
        "preprocess.json",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, moved / "predict.py", *files(photos)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    found = {file: best.rsplit(" ", 2)[0] for file, best, *_ in lines}
    assert accuracy(found) == pytest.approx(run.last["test_top1"])
    assert f"{run.last['test_top1']:.2f} %" in (moved / "README.md").read_text()


def test_bundles_and_onnx_files_predict_as_their_run_does(pursuhint, run, bundle, photos):
    pytest.importorskip("onnxruntime")
    expected = load_predictor(run.path, device="cpu").predict(files(photos))
    for source in (bundle, bundle / "model.onnx"):
        found = load_predictor(source).predict(files(photos))
        assert [one.labels for one in found] == [one.labels for one in expected]
        for one, other in zip(found, expected):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    for option in (("--weights", "best"), ("--device", "cpu"), ("--trust-code",)):
        refused = pursuhint("predict", bundle, files(photos)[0], *option)
        assert refused.returncode == 1
        assert option[0] in refused.stderr


def test_export_bundle_writes_where_it_is_told_and_nowhere_else(pursuhint, run, bundle, tmp_path):
    earlier = shutil.copytree(bundle, tmp_path / "b")
    (earlier / "labels.txt").write_text("old")
    words = ("export", run.path, "--bundle", "--out", earlier, "--weights", "best", "--json")
    assert "is there already" in pursuhint(*words).stderr
    assert (earlier / "labels.txt").read_text() == "old"
    done = pursuhint(*words, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == str(earlier)
    assert (earlier / "labels.txt").read_text().split("\n")[:-1] == list(CLASSES)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    refused = pursuhint("export", run.path, "--bundle", "--out", mine)
    assert refused.returncode == 1
    assert "holds something else" in refused.stderr
    assert [path.name for path in mine.iterdir()] == ["README.md"]
    assert (mine / "README.md").read_text() == "mine"
    for words in (("--bundle", "--format", "onnx"), ("--bundle", "--include-normalization"), ("--out", mine)):
        refused = pursuhint("export", run.path, *words)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1


def test_images_that_cannot_be_read_are_found_before_the_network_runs(run, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(files(photos)[0].read_bytes()[:20])
    predictor = load_predictor(run.path, device="cpu")
    object.__setattr__(predictor, "logits", lambda _: pytest.fail("the network ran"))
    with pytest.raises(PursuhintError, match=r"broken\.png"):
        predictor.predict([files(photos)[0], broken])


def test_images_of_another_size_than_those_of_one_size_are_resized_and_that_is_said(run, tmp_path):
    Image.new("RGB", (40, 30), (99, 0, 9)).save(tmp_path / "large.png")
    Image.new("RGB", (10, 8), (99, 0, 9)).save(tmp_path / "right.png")
    fitted = load_predictor(run.path, device="cpu")
    assert fitted.preprocessing.resize == "cover"
    unfitted = replace(fitted, preprocessing=replace(fitted.preprocessing, resize="none"))
    names = [tmp_path / "large.png", tmp_path / "right.png"]
    with pytest.warns(PursuhintWarning, match="1 of 2 images .* 8x10"):
        large, right = unfitted.predict(names)
    assert large.probabilities == pytest.approx(right.probabilities)
    assert [one.labels for one in fitted.predict(names)] == [large.labels, right.labels]  # and no warning


def test_tensors_in_units_of_their_own_are_refused(tmp_path):
    images = torch.randn(24, 3, 8, 8)
    labels = torch.arange(24) % 3
    data = ImageData.from_tensors("noise", train=(images, labels), test=(images, labels))
    recipe = Recipe.from_dict({"student": "resnet8", "epochs": 1, "batch_size": 8})
    run = train(recipe, tmp_path / "noise", data=data, device="cpu")
    for refused in (lambda: load_predictor(run.path), lambda: export_bundle(run, tmp_path / "bundle")):
        with pytest.raises(PursuhintError, match="units of their own"):
            refused()
    assert not (tmp_path / "bundle").exists()


def test_a_run_on_samples_that_are_no_images_is_refused(run, tmp_path):
    other = shutil.copytree(run.path, tmp_path / "texts")
    described = json.loads((other / "environment.json").read_text())
    described["data"] |= {"preprocessing": None, "in_channels": None, "image_size": None}
    (other / "environment.json").write_text(json.dumps(described))
    with pytest.raises(PursuhintError, match="samples that are no images"):
        load_predictor(other)


def test_an_onnx_file_without_texts_says_what_it_lacks(bundle, tmp_path):
    onnx = pytest.importorskip("onnx")
    program = onnx.load(bundle / "model.onnx")
    del program.metadata_props[:]
    onnx.save(program, tmp_path / "x.onnx")
    with pytest.raises(PursuhintError, match="does not say preprocessing"):
        load_predictor(tmp_path / "x.onnx")
    (tmp_path / "y.onnx").write_bytes(b"no program")
    with pytest.raises(PursuhintError, match="cannot read the exported network"):
        load_predictor(tmp_path / "y.onnx")
