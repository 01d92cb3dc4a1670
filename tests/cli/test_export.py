"""export: what it writes computes what the trained student computes."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from pursuhint.cli.export import FORMATS as OFFERED
from safetensors import safe_open
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import read_state_dict
from pursuhint.models.export import FORMATS, export_network
from pursuhint.models.shufflev1 import ShuffleUnit
from pursuhint.training import Recipe, RunRecord, train
from pursuhint.training.run_folder.export_student import export_run

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the packages of the extra 'onnx' are not installed",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of students that training leaves alone, folds, rebuilds, and extends for a while."""
    folder = tmp_path_factory.mktemp("runs")
    teacher = create_model("wrn_16_1", num_classes=10, in_channels=1)
    settings = {"student": "resnet8", "data": {"name": "digits", "val_fraction": 0.9}, "epochs": 1}
    for loss in ("kd", "norm", "simkd", "ipwd"):
        recipe = Recipe.from_dict({**settings, "losses": {loss: None}})
        train(recipe, folder / loss, device="cpu", teacher=teacher)
    return folder


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@needs_onnx
@pytest.mark.parametrize("loss", ["kd", "norm", "simkd", "ipwd"])
def test_onnxruntime_gives_the_logits_of_the_student(pursuhint, runs, tmp_path, loss):
    import onnx
    import onnxruntime

    file = tmp_path / "student.onnx"
    done = pursuhint("export", runs / loss, "--out", file, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["file"] == str(file)
    assert result["deviation"] < 1e-4
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    student = RunRecord.load(runs / loss).load_student()
    for count in (1, 3, 64):
        (logits,) = session.run(None, {"images": images(count).numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), student(images(count)), atol=1e-4, rtol=1e-4)
    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert metadata["network"] == "resnet8"
    assert metadata["images"] == "normalised as in training"
    run = RunRecord.load(runs / loss)
    assert json.loads(metadata["preprocessing"]) == run.environment["data"]["preprocessing"]
    assert json.loads(metadata["class_names"]) == list(run.load_data().class_names)


def shuffle_network() -> nn.Sequential:
    """The first two units of ShuffleV1, whose channels are exchanged between groups."""
    units = ShuffleUnit(24, 240, stride=2), ShuffleUnit(240, 240, stride=1)
    return nn.Sequential(
        nn.Conv2d(3, 24, 1), *units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(240, 7)
    )


@needs_onnx
@pytest.mark.parametrize("name", ["vgg8", "shuffle"])
def test_other_networks_take_any_batch_as_onnx(name, tmp_path):
    network = create_model("vgg8", num_classes=7) if name == "vgg8" else shuffle_network()
    exported = export_network(network, tmp_path / "x.onnx", format="onnx", example=torch.zeros(1, 3, 32, 32))
    assert exported.deviation is not None
    assert exported.deviation < 1e-4 * max(exported.scale, 1)
    assert network.training  # as it was


def test_pt2_with_normalisation_takes_images_in_0_to_1(pursuhint, runs):
    done = pursuhint(
        "export", runs / "simkd", "--format", "pt2", "--weights", "best", "--include-normalization"
    )
    assert done.returncode == 0, done.stderr
    assert "compared with the network" in done.stdout
    program = torch.export.load(runs / "simkd" / "best.pt2").module()
    record = RunRecord.load(runs / "simkd")
    data = record.load_data()
    scaled = images(4).sigmoid()
    expected = record.load_student("best")((scaled - data.mean[0]) / data.std[0])
    torch.testing.assert_close(program(scaled), expected, atol=1e-5, rtol=1e-5)


def test_every_file_says_which_images_it_takes_and_which_classes_it_gives(runs, tmp_path):
    record = RunRecord.load(runs / "kd")
    data = record.load_data()
    export_run(record, "safetensors", tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        weights = file.metadata()
    found = {"plain": weights}
    for name, part in (("own", "student"), ("best", "best")):  # those that the run itself wrote
        file = record.path / f"{part}.safetensors"
        with safe_open(file, framework="pt") as opened:
            found[name] = opened.metadata()
        header = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
        assert list(header["__metadata__"]) == sorted(found[name])  # equal runs write equal files
    assert found["own"] == weights
    assert found["best"] == weights | {"weights": "best epoch"}
    for name, included in (("program", False), ("scaled", True)):
        export_run(record, "pt2", tmp_path / "x.pt2", include_normalization=included)
        found[name] = dict.fromkeys(weights, "") | {"included_normalization": ""}
        torch.export.load(tmp_path / "x.pt2", extra_files=found[name])
    assert all(json.loads(metadata["class_names"]) == list(data.class_names) for metadata in found.values())
    for name in ("plain", "program"):
        assert json.loads(found[name]["preprocessing"]) == data.preprocessing.to_dict()
    # A reader that subtracts mean and divides by std is right where the program does so by itself, too.
    scaled = json.loads(found["scaled"]["preprocessing"])
    assert (scaled["mean"], scaled["std"]) == ([0.0], [1.0])
    assert scaled["value_range"] == [0.0, 1.0]
    included = json.loads(found["scaled"]["included_normalization"])
    assert included == {"mean": list(data.mean), "std": list(data.std)}


def test_normalisation_is_included_without_the_data(runs, tmp_path, monkeypatch):
    record = RunRecord.load(runs / "kd")
    monkeypatch.setattr(RunRecord, "load_data", lambda *_: pytest.fail("the data were read"))
    export_run(record, "pt2", tmp_path / "x.pt2", include_normalization=True)


def test_safetensors_copies_the_weights(pursuhint, runs, tmp_path):
    done = pursuhint("export", runs / "norm", "--format", "safetensors", "--out", tmp_path / "x.safetensors")
    assert done.returncode == 0, done.stderr
    copied, own = (
        read_state_dict(path) for path in (tmp_path / "x.safetensors", runs / "norm" / "student.safetensors")
    )
    assert set(copied) == set(own)
    assert all(torch.equal(copied[name], own[name]) for name in own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "safetensors"), "say where to copy them"),
        (("--format", "safetensors", "--include-normalization", "--out", "x"), "no program"),
        (("--format", "pt2", "--out", "file-in-the-way/x.pt2"), "cannot write"),
    ],
)
def test_mistakes_are_one_line(pursuhint, runs, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file-in-the-way").write_text("")
    done = pursuhint("export", runs / "kd", *options)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_no_run_folder_and_no_packages(pursuhint, runs, tmp_path, monkeypatch):
    assert "is not a run folder" in pursuhint("export", tmp_path).stderr
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    done = pursuhint("export", runs / "kd", "--out", tmp_path / "x.onnx")
    assert "pip install 'pursuhint[onnx]'" in done.stderr
    assert not (tmp_path / "x.onnx").exists()


class DataDependent(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) if images.sum() > 0 else images.flatten(1)[:, :2]


def test_networks_that_cannot_be_exported_say_so(tmp_path):
    with pytest.raises(PursuhintError, match="DataDependent cannot be exported as a PT2 program"):
        export_network(DataDependent(), tmp_path / "x", format="pt2", example=images(1))
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_all_formats():
    assert set(OFFERED) == set(FORMATS)


def test_an_old_run_whose_data_are_missing_names_a_command_that_fetches_them(pursuhint, runs, tmp_path):
    import shutil

    old = tmp_path / "old"
    shutil.copytree(runs / "kd", old)
    described = json.loads((old / "environment.json").read_text())
    del described["data"]["preprocessing"]
    (old / "environment.json").write_text(json.dumps(described))
    out = tmp_path / "student.pt2"
    command = ("export", old, "--format", "pt2", "--out", out)
    assert pursuhint(*command).returncode == 0  # digits are built in
    out.unlink()
    recipe = (old / "recipe.yaml").read_text().replace("name: digits", "name: cifar10", 1)
    (old / "recipe.yaml").write_text(recipe.replace("root: null", f"root: {tmp_path}", 1))
    failed = pursuhint(*command)
    assert failed.returncode == 1
    assert f"pursuhint evaluate {old} --download" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert not out.exists()
