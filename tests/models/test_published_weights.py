"""Weights that torchvision and timm publish: fetched once, kept, loaded whole or as far as they fit."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision import models

from pursuhint.errors import PursuhintError
from pursuhint.models import create_model, fetch_weights, load_weights, save_weights

NAME = "shufflenet_v2_x0_5"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Empty caches, and a machine without a network."""

    def refuse(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("PURSUHINT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return tmp_path


def publish(folder: Path) -> torch.nn.Module:
    """A network whose weights stand where torchvision keeps what it has downloaded."""
    torch.manual_seed(3)
    network = models.get_model(NAME, weights=None)
    place = folder / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    file = models.get_model_weights(NAME).DEFAULT.url.rpartition("/")[2]
    torch.save(network.state_dict(), place / file)
    return network


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(network.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == known and torch.equal(ours, theirs) for (name, ours), (known, theirs) in pairs)


def test_weights_of_torchvision_are_fetched_once(no_network):
    published = publish(no_network)
    file = fetch_weights(f"torchvision:{NAME}")
    (no_network / "torch" / "hub" / "checkpoints").rename(no_network / "gone")
    assert fetch_weights(f"torchvision:{NAME}") == file
    network = create_model(f"torchvision:{NAME}", num_classes=1000)
    assert load_weights(network, file) == ((), ())
    assert same(network, published)


def test_without_a_network_one_line_says_what_to_do(no_network):
    with pytest.raises(PursuhintError, match=r"no route to host.*--teacher-checkpoint") as caught:
        fetch_weights(f"torchvision:{NAME}")
    assert str(caught.value).startswith(f"cannot fetch the weights of torchvision:{NAME}")
    assert "\n" not in str(caught.value)
    assert not list(no_network.rglob("*.safetensors"))


def test_weights_of_timm_by_its_own_names(no_network, monkeypatch):
    timm = pytest.importorskip("timm")
    from huggingface_hub import constants

    torch.manual_seed(4)
    published = timm.create_model("test_resnet")
    answers = [published.state_dict(), None]

    def from_hub(*_, **__):
        assert constants.HF_HUB_OFFLINE  # or it would try again and again
        if answers[0] is None:
            raise ConnectionError("the hub\ncannot be reached")
        return answers.pop(0)

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", from_hub)
    network = create_model("timm:test_resnet", num_classes=1000)
    load_weights(network, fetch_weights("timm:test_resnet"))
    assert same(network, published)
    with pytest.raises(PursuhintError, match=r"timm:test_vit \(the hub cannot be reached"):
        fetch_weights("timm:test_vit")
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet8", "nobody publishes weights for 'resnet8'"),
        ("my.package:build", "nobody publishes weights for"),
        ("torchvision:shufflenet_v2_x0_6", "did you mean 'shufflenet_v2_x0_5'"),
        ("timm:test_resnett", "did you mean 'test_resnet'"),
        ("timm:hf-hub:someone/something", "timm has no network"),
    ],
)
def test_names_of_others_are_refused_without_asking_the_network(name, message, no_network):
    with pytest.raises(PursuhintError, match=message):
        fetch_weights(name)


def test_partial_weights_fill_what_fits_and_name_the_rest(tmp_path):
    torch.manual_seed(0)
    given = create_model("resnet14", num_classes=7)
    save_weights(given, tmp_path / "a.safetensors")
    network = create_model("resnet8", num_classes=5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loaded = load_weights(network, tmp_path / "a.safetensors", partial=True)
    assert loaded.new == ("fc.weight", "fc.bias")
    assert {name.rpartition(".")[0] for name in loaded.unused} > {"fc", "layer1.1.conv1"}
    source = given.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, (before if name in loaded.new else source)[name])
    with pytest.raises(PursuhintError, match="does not fit"):  # nothing to fill
        load_weights(torch.nn.Linear(3, 4), tmp_path / "a.safetensors", partial=True)
    assert load_weights(
        create_model("resnet14", num_classes=7), tmp_path / "a.safetensors", partial=True
    ) == (
        (),
        (),
    )
