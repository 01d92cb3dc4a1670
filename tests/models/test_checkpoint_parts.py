"""Which part of a checkpoint is loaded, and what can stand beside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights, read_state_dict


def _network(seed: int = 0, num_classes: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("resnet8", num_classes=num_classes)


def _state(seed: int = 0, prefix: str = "") -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in _network(seed).state_dict().items()}


def _saved(path: Path, content: Any) -> Path:
    torch.save(content, path / "weights.pth")
    return path / "weights.pth"


def _loaded(path: Path, **options: Any) -> nn.Module:
    network = _network(99)
    load_weights(network, path, **options)
    return network


def _is(network: nn.Module, seed: int) -> bool:
    expected = _network(seed).state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def test_of_weights_and_their_average_the_other_is_named(tmp_path: Path) -> None:
    path = _saved(tmp_path, {"state_dict": _state(1), "state_dict_ema": _state(2), "epoch": 3})
    with pytest.warns(PursuhintWarning, match=r"state_dict was taken, not state_dict_ema; .*checkpoint_key"):
        assert _is(_loaded(path), 1)
    assert _is(_loaded(path, checkpoint_key="state_dict_ema"), 2)
    assert torch.equal(
        read_state_dict(path, checkpoint_key="state_dict_ema")["fc.bias"], _state(2)["fc.bias"]
    )
    with pytest.raises(
        PursuhintError, match=r"no weights under 'state_dict_em'; did you mean 'state_dict_ema'"
    ):
        _loaded(path, checkpoint_key="state_dict_em")


def test_an_average_of_another_network_needs_no_choice(tmp_path: Path) -> None:
    other = create_model("resnet14", num_classes=5).state_dict()
    assert _is(_loaded(_saved(tmp_path, {"state_dict": _state(1), "state_dict_ema": other})), 1)


@pytest.mark.parametrize("container", ["network", "weights", "ema", "module", "trainer", "a.b"])
def test_any_single_container_is_read_and_named(tmp_path: Path, container: str) -> None:
    path = _saved(tmp_path, {"epoch": 3, container: _state(1)})
    with pytest.warns(PursuhintWarning, match=f"the weights of .* were taken from {container}$"):
        assert _is(_loaded(path), 1)
    assert read_state_dict(path).keys() == _state().keys()
    assert read_state_dict(path, checkpoint_key=container).keys() == _state().keys()


@pytest.mark.parametrize("prefix", ["network.", "backbone.", "net.", "model.net.", "x.module.y.", "0."])
def test_any_prefix_that_fits_exactly_is_removed_and_named(tmp_path: Path, prefix: str) -> None:
    path = _saved(tmp_path, {"state_dict": _state(1, prefix)})
    with pytest.warns(PursuhintWarning, match=f"were taken from state_dict.{prefix[:-1]}$"):
        assert _is(_loaded(path), 1)


def test_what_stands_beside_a_prefix_does_not_matter(tmp_path: Path) -> None:
    path = _saved(tmp_path, {**_state(1, "net."), "criterion.weight": torch.ones(5)})
    with pytest.warns(PursuhintWarning, match="were taken from net$"):
        assert _is(_loaded(path), 1)


def test_compiled_blocks_inside_a_network(tmp_path: Path) -> None:
    state = {name.replace("layer2.", "layer2._orig_mod."): value for name, value in _state(1).items()}
    assert any("layer2._orig_mod.0" in name for name in state)
    assert _is(_loaded(_saved(tmp_path, state)), 1)


def test_counters_of_profilers_are_ignored(tmp_path: Path) -> None:
    extra = {"total_ops": torch.zeros(1), "layer1.0.conv1.total_params": torch.zeros(1)}
    assert _is(_loaded(_saved(tmp_path, {**_state(1), **extra})), 1)
    with pytest.raises(PursuhintError, match=r"tensors unexpected: 1 \(total_loss\)"):
        _loaded(_saved(tmp_path, {**_state(1), "total_loss": torch.zeros(1)}))


def test_a_file_without_the_classifier(tmp_path: Path) -> None:
    state = {name: value for name, value in _state(1).items() if not name.startswith("fc.")}
    path = _saved(tmp_path, state)
    with pytest.raises(PursuhintError, match=r"it has no classifier; --new-head \(new_head=True\)"):
        _loaded(path)
    network = _network(2)
    load_weights(network, path, new_head=True)
    assert torch.equal(network.fc.weight, _network(2).fc.weight)
    assert torch.equal(network.conv1.weight, _network(1).conv1.weight)


def test_a_classifier_of_other_classes_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    path = _saved(tmp_path, _network(1, num_classes=7).state_dict())
    with pytest.raises(PursuhintError, match="the checkpoint has 7 classes, the network 5"):
        _loaded(path)
    network = _network(2)
    load_weights(network, path, new_head=True)
    assert torch.equal(network.fc.weight, _network(2).fc.weight)
    with pytest.raises(PursuhintError, match="these look like the weights of resnet8"):
        load_weights(create_model("resnet14", num_classes=5), path, new_head=True)


def test_arrays_and_numbers_beside_the_weights(tmp_path: Path) -> None:
    content = {
        "model": _state(1),
        "mean": np.array([0.5, 0.4], dtype=">f4"),
        "history": [np.float64(0.3), np.int32(3)],
        "classes": np.arange(5),
        "random": np.random.RandomState(0).get_state(),
        "options": argparse.Namespace(rates=np.ones(3, dtype=np.float16)),
    }
    assert _is(_loaded(_saved(tmp_path, content)), 1)


def test_weights_that_are_arrays(tmp_path: Path) -> None:
    state = {name: np.array(value.numpy(), order="F") for name, value in _state(1).items()}
    state["conv1.weight"] = state["conv1.weight"].astype(">f4")
    assert _is(_loaded(_saved(tmp_path, {"model": state})), 1)


_UNUSUAL = {
    "float8_e5m2": lambda weight: weight.to(torch.float8_e5m2),
    "float8_e4m3fn": lambda weight: weight.to(torch.float8_e4m3fn),
    "complex64": lambda weight: weight.to(torch.complex64),
    "int8": lambda weight: (weight * 100).to(torch.int8),
    "bool": lambda weight: weight > 0,
    "a quantized tensor": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    "a sparse tensor": lambda weight: weight.to_sparse(),
    "a tensor of the meta device": lambda weight: weight.to("meta"),
    "a nested tensor": lambda weight: torch.nested.nested_tensor([weight[0], weight[1]]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", _UNUSUAL)
def test_tensors_of_unusual_kinds_are_named(tmp_path: Path, kind: str) -> None:
    state = _state(1)
    state["fc.weight"] = _UNUSUAL[kind](state["fc.weight"])
    path = _saved(tmp_path, state)
    network = _network(2)
    with pytest.raises(PursuhintError, match=rf"^fc\.weight in .* is {kind}.*; (expected|.*save)") as caught:
        load_weights(network, path)
    assert "\n" not in str(caught.value)
    assert _is(network, 2)


@pytest.mark.filterwarnings("ignore")
def test_the_other_layout_of_nested_tensors_is_named(tmp_path: Path) -> None:
    state = _state(1)
    state["fc.weight"] = torch.nested.nested_tensor([*state["fc.weight"]], layout=torch.jagged)
    with pytest.raises(PursuhintError, match=r"^fc\.weight in .* is a nested tensor"):
        load_weights(_network(2), _saved(tmp_path, state))


@pytest.mark.filterwarnings("ignore")
def test_unusual_tensors_beside_the_weights_do_not_matter(tmp_path: Path) -> None:
    others = {str(i): make(torch.randn(4, 4)) for i, make in enumerate(_UNUSUAL.values())}
    assert _is(_loaded(_saved(tmp_path, {"model": _state(1), "others": others})), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in _state(1).items()
    }
    loaded = _loaded(_saved(tmp_path, state))
    assert torch.equal(loaded.fc.weight, _network(1).fc.weight.to(dtype).float())


def test_views_and_shared_storages(tmp_path: Path) -> None:
    network, large = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4)), torch.randn(10, 6)
    state = {
        "0.weight": large[2:6, ::2], "0.bias": large[:4, 1], "1.weight": large.t()[:3, :4].t(),
        "1.bias": torch.tensor(0.5).expand(4),
    }  # fmt: skip
    for zipped in (True, False):
        torch.save(state, tmp_path / "views.pth", _use_new_zipfile_serialization=zipped)
        load_weights(network, tmp_path / "views.pth")
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, state[name])
