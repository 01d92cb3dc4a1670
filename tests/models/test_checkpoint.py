"""Checkpoints as other programs write them, and as nobody should."""

from __future__ import annotations

import argparse
import os
import pathlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model
from pursuhint.models.checkpoint import count_parameters, load_weights, read_state_dict, save_weights


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _trained(name: str = "resnet8", num_classes: int = 100, **options: Any) -> nn.Module:
    """A network whose norms have seen data, so that every tensor differs from a new network's."""
    network = create_model(name, num_classes=num_classes, **options)
    with torch.no_grad():
        network(torch.randn(4, options.get("in_channels", 3), 16, 16))
    return network


def _assert_loads(path: Path, network: nn.Module, **options: Any) -> None:
    loaded = create_model("resnet8", num_classes=100)
    load_weights(loaded, path, **options)
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_repdistiller_files(tmp_path: Path, zipped: bool) -> None:
    network = _trained()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    best = {"epoch": 240, "model": network.state_dict(), "best_acc": torch.tensor([72.5])}
    options = argparse.Namespace(model="resnet8", lr_decay_epochs=[150, 180, 210], learning_rate=0.05)
    last = {"opt": options, "model": network.state_dict(), "optimizer": optimizer.state_dict()}
    for name, content in (("best", best), ("last", last)):
        path = tmp_path / f"resnet8_{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        _assert_loads(path, network)


def _distiller(student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    """What mdistiller writes to ``latest``: the distiller, wrapped for several GPUs, with all in it."""
    distiller = nn.Module()
    distiller.student, distiller.teacher = student, teacher
    distiller.conv_reg = nn.Conv2d(16, 32, 1)
    state = {f"module.{name}": tensor for name, tensor in distiller.state_dict().items()}
    return {"epoch": 240, "model": OrderedDict(state), "best_acc": 74.1, "optimizer": {"state": {}}}


def test_mdistiller_files(tmp_path: Path) -> None:
    student, teacher = _trained(), _trained("resnet14")
    torch.save(_distiller(student, teacher), tmp_path / "latest")
    torch.save({"model": student.state_dict()}, tmp_path / "student_best")
    _assert_loads(tmp_path / "latest", student)
    _assert_loads(tmp_path / "student_best", student)

    loaded = create_model("resnet14", num_classes=100)
    load_weights(loaded, tmp_path / "latest")
    torch.testing.assert_close(loaded.state_dict(), teacher.state_dict(), rtol=0, atol=0)


def test_of_two_networks_that_fit_the_student_is_meant(tmp_path: Path) -> None:
    student, teacher = _trained(), _trained()
    torch.save(_distiller(student, teacher), tmp_path / "latest")
    with pytest.warns(PursuhintWarning, match=r"model.module.student was taken, not model.module.teacher; "):
        _assert_loads(tmp_path / "latest", student)
    _assert_loads(tmp_path / "latest", teacher, checkpoint_key="model.module.teacher")


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "student.", "teacher.", "_orig_mod.", "module.student.", "module._orig_mod."],
)
@pytest.mark.parametrize("container", [None, "model", "state_dict", "model_state_dict", "student", "net"])
def test_prefixes_and_containers(tmp_path: Path, prefix: str, container: str | None) -> None:
    network = _trained()
    state: Any = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save({container: state, "epoch": 3} if container else state, path)
    _assert_loads(path, network)


def test_nested_containers_and_entries_that_are_no_tensors(tmp_path: Path) -> None:
    network = _trained()
    state = {**network.state_dict(), "_extra_state": None, "epoch": 3}
    torch.save({"model": {"state_dict": state}}, tmp_path / "weights.pth")
    _assert_loads(tmp_path / "weights.pth", network)
    assert read_state_dict(tmp_path / "weights.pth").keys() == network.state_dict().keys()


def test_torchvision_state_dict(tmp_path: Path) -> None:
    network = _trained("torchvision:mobilenet_v2", num_classes=5)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = create_model("torchvision:mobilenet_v2", num_classes=5)
    load_weights(loaded, tmp_path / "weights.pth")
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_inert_values_beside_the_weights_are_read(tmp_path: Path) -> None:
    network = _trained()
    options = argparse.Namespace(
        folder=pathlib.PurePosixPath("runs/1"),
        here=Path("data"),
        drive=pathlib.PureWindowsPath("C:/data"),
        accuracy=np.float64(0.7),
        rate=np.float32(0.1),
        epoch=np.int64(3),
        done=np.bool_(True),
        device=torch.device("cpu"),
        milestones=(150, 180),
    )
    torch.save({"opt": options, "state_dict": network.state_dict()}, tmp_path / "weights.pth")
    _assert_loads(tmp_path / "weights.pth", network)


def test_what_the_caller_has_allowed_stays_allowed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"opt": argparse.Namespace(), "model": _trained().state_dict()}, path)
    read_state_dict(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([argparse.Namespace]):
        read_state_dict(path)
        assert argparse.Namespace in torch.serialization.get_safe_globals()


def test_counters_of_norms_may_be_missing(tmp_path: Path) -> None:
    network = _trained()
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "weights.pth")
    loaded = create_model("resnet8", num_classes=100)
    load_weights(loaded, tmp_path / "weights.pth")
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded.eval()(images), network.eval()(images))


def test_type_of_the_network_is_kept(tmp_path: Path) -> None:
    network = _trained()
    save_weights(network.half(), tmp_path / "weights.safetensors")
    loaded = create_model("resnet8", num_classes=100)
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert loaded.conv1.weight.dtype == torch.float32
    assert torch.equal(loaded.conv1.weight.half(), network.conv1.weight)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    network = _trained()
    path = tmp_path / "new" / "folder" / "student.safetensors"
    save_weights(network, path)
    _assert_loads(path, network)
    assert safetensors.torch.load_file(path).keys() == network.state_dict().keys()
    assert [file.name for file in path.parent.iterdir()] == ["student.safetensors"]


def test_safetensors_whose_length_looks_like_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    first_bytes = set()
    for padding in range(0, 256, 8):  # the file begins with the length of its header, in steps of 8
        metadata = {"note": "x" * padding}
        safetensors.torch.save_file({"weight": torch.ones(2)}, path, metadata=metadata)
        first_bytes.add(path.read_bytes()[:1])
        assert read_state_dict(path).keys() == {"weight"}
    assert b"\x80" in first_bytes


def test_shared_and_strided_tensors_are_saved_whole(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Conv2d(3, 4, 2))
    network[1].weight = network[0].weight
    network.to(memory_format=torch.channels_last)
    network.register_buffer("part", torch.arange(12.0).reshape(3, 4)[:, 1])
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    torch.testing.assert_close(read_state_dict(path), dict(network.state_dict()), rtol=0, atol=0)
    assert count_parameters(network) == 16 + 4 * 3 * 4 + 4


def test_wrapped_networks_have_the_names_of_the_bare_one(tmp_path: Path) -> None:
    network = _trained()
    path = tmp_path / "weights.safetensors"
    for wrapped in (torch.compile(network), nn.DataParallel(network)):
        save_weights(wrapped, path)
        _assert_loads(path, network)
        with torch.no_grad():
            network.fc.weight.zero_()
        load_weights(wrapped, path)
        assert network.fc.weight.abs().sum() > 0


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = _trained()
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)

    def full_disk(*arguments: Any, **keywords: Any) -> None:
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(PursuhintError, match=r"cannot write .*weights.safetensors: No space left"):
        save_weights(_trained(), path)
    _assert_loads(path, network)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


class _Touch:
    """Unpickled freely, this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class _Build:
    """The same, hidden in the state of an object that is allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return argparse.Namespace, (), {"innocent": _Touch(self.path)}


class _Evaluate:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("attack", [_Touch, _Build, _Evaluate])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, zipped: bool, attack: type) -> None:
    network, proof = _trained(), tmp_path / "proof"
    path = tmp_path / "attack.pth"
    content = {"model": network.state_dict(), "opt": attack(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(PursuhintError, match=r"refused .*attack.pth: .*nothing was run") as caught:
        load_weights(network, path)
    assert "\n" not in str(caught.value)
    assert not proof.exists()
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, proof = tmp_path / "attack.pkl", tmp_path / "proof"
    path.write_bytes(pickle.dumps(_Touch(proof), protocol=protocol))
    with pytest.raises(PursuhintError, match=r"refused .*nothing was run|is not a checkpoint"):
        read_state_dict(path)
    assert not proof.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(_trained(), tmp_path / "network.pth")
    with pytest.raises(
        PursuhintError, match=r"call pursuhint.models.resnet.CifarResNet.* save its state_dict"
    ):
        read_state_dict(tmp_path / "network.pth")


def _written(path: Path, kind: str) -> bytes:
    if kind == "safetensors":
        save_weights(_trained(), path)
    else:
        torch.save(_trained().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "before-1.6", "safetensors"])
@pytest.mark.parametrize("kept", [0.0001, 0.01, 0.5, 0.999])
def test_truncated_files(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / "weights"
    content = _written(path, kind)
    path.write_bytes(content[: max(1, int(kept * len(content)))])
    network = create_model("resnet8", num_classes=100)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(
        PursuhintError, match=r"truncated or damaged|is not a checkpoint|damaged or unsafe"
    ) as e:
        load_weights(network, path)
    assert "\n" not in str(e.value)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["zip", "before-1.6", "safetensors"])
def test_a_damaged_head_gives_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights"
    content = bytearray(_written(path, kind))
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(30):
        damaged = content.copy()
        for position in rng.integers(0, 400, size=5):
            damaged[position] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            read_state_dict(path)  # a byte of a name or of padding may change and the file still be whole
        except PursuhintError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is not a checkpoint"),
        (b"epoch,accuracy\n1,0.5\n", "is not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer; fetch the file itself"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(PursuhintError, match=message):
        read_state_dict(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(PursuhintError, match=r"no checkpoint at .*nowhere\.pth; the file does not exist"):
        read_state_dict(tmp_path / "nowhere.pth")
    with pytest.raises(PursuhintError, match="is a folder; give the checkpoint file in it"):
        read_state_dict(tmp_path)


def test_files_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    endless: dict[str, Any] = {}
    endless["model"] = endless
    for content in ([1, 2], {}, {"model": {}}, {"epoch": 3}, torch.zeros(3), endless):
        torch.save(content, path)
        with pytest.raises(PursuhintError, match="holds no weights"):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("saved", "network", "message"),
    [
        (
            ("resnet8", 100, {}),
            ("resnet8", 10, {}),
            r"does not fit CifarResNet: the checkpoint has 100 classes, the network 10; tensors of another "
            r"shape: 2 \(fc.weight \(100, 64\) for \(10, 64\), fc.bias \(100,\) for \(10,\)\)$",
        ),
        (
            ("resnet8", 10, {"in_channels": 1}),
            ("resnet8", 10, {}),
            r"is for images of 1 channels, the network for 3 \(.*\); tensors of another shape: 1 ",
        ),
        (
            ("resnet8", 100, {"in_channels": 1}),
            ("resnet8", 10, {}),
            "100 classes, the network 10 and the checkpoint is for images of 1 channels",
        ),
        (
            ("resnet14", 100, {"in_channels": 1}),
            ("resnet8", 10, {}),
            r"weights of resnet14; tensors unexpected: 30 \(layer1.1.*, layer1.1.*, \.\.\.\), of another",
        ),
        (("resnet8", 10, {}), ("resnet14", 10, {}), "weights of resnet8; tensors missing: 30"),
        (("resnet8x4", 10, {}), ("resnet8", 10, {}), "weights of resnet8x4; tensors unexpected: 5"),
        (("vgg8", 10, {}), ("vgg11", 10, {}), "does not fit VGG: these look like the weights of vgg8"),
        (("wrn_22_3", 10, {}), ("resnet8", 10, {}), "these look like the weights of wrn_22_3"),
        (("ShuffleV2", 10, {}), ("ShuffleV1", 10, {}), "these look like the weights of ShuffleV2"),
        (
            ("MobileNetV2", 10, {"width": 0.25}),
            ("MobileNetV2", 10, {}),
            "the layers are the same but their widths differ, as if made with other options",
        ),
        (("torchvision:resnet18", 10, {}), ("resnet8", 10, {}), "it seems to belong to another network"),
    ],
)
def test_weights_of_another_network(tmp_path: Path, saved: Any, network: Any, message: str) -> None:
    path = tmp_path / "weights.safetensors"
    name, num_classes, options = saved
    save_weights(create_model(name, num_classes=num_classes, **options), path)
    name, num_classes, options = network
    built = create_model(name, num_classes=num_classes, **options)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    with pytest.raises(PursuhintError, match=message) as caught:
        load_weights(built, path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    torch.testing.assert_close(dict(built.state_dict()), before, rtol=0, atol=0)


def test_a_whole_distiller_of_other_networks_is_recognised(tmp_path: Path) -> None:
    torch.save(_distiller(_trained(), _trained("resnet14")), tmp_path / "latest")
    with pytest.raises(PursuhintError, match="these look like the weights of resnet8"):
        load_weights(create_model("vgg8", num_classes=100), tmp_path / "latest")


def test_tensors_with_other_axes(tmp_path: Path) -> None:
    network = _trained()
    torch.save({**network.state_dict(), "fc.weight": torch.tensor(1.0)}, tmp_path / "weights.pth")
    with pytest.raises(PursuhintError, match=r"fc.weight \(\) for \(100, 64\)"):
        load_weights(network, tmp_path / "weights.pth")


def test_a_network_without_convolutions(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(nn.BatchNorm1d(3), path)
    with pytest.raises(PursuhintError, match="widths differ"):
        load_weights(nn.BatchNorm1d(4), path)
    save_weights(nn.Sequential(nn.Linear(8, 3)), path)
    with pytest.raises(PursuhintError, match="the checkpoint has 3 classes, the network 2;"):
        load_weights(nn.Sequential(nn.Linear(8, 2)), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    network = _trained()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["layer2.0.bn1.running_var"][3] = value
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(PursuhintError, match=r"layer2\.0\.bn1\.running_var in .* holds NaN or infinity"):
        load_weights(network, tmp_path / "weights.pth")
