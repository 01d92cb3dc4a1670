"""Layers whose weights are computed, masked, packed or adapted are the layers that they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from pursuhint._util.wrappers import copy_network
from pursuhint.data import Batch
from pursuhint.distillation import Distiller
from pursuhint.features import FeatureExtractor, find_classifier, find_hint_points
from pursuhint.features.layers import adapted_layer
from pursuhint.hints import HintPlan
from pursuhint.models import create_model
from tests.helpers.analysis_networks import TokenNetwork, plain_network

EXAMPLE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class LoraLayer(nn.Module):
    """A frozen layer and an adapter of rank 1, as most libraries build it."""

    def __init__(self, base_layer: Any) -> None:
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        outputs, inputs = base_layer.weight.shape[:2]
        if isinstance(base_layer, nn.Linear):
            down, up = nn.Linear(inputs, 1, bias=False), nn.Linear(1, outputs, bias=False)
        else:
            sizes = (base_layer.kernel_size, base_layer.stride, base_layer.padding)
            down = nn.Conv2d(inputs, 1, *sizes, bias=False)  # type: ignore[assignment]
            up = nn.Conv2d(1, outputs, 1, bias=False)  # type: ignore[assignment]
        self.lora_A, self.lora_B = nn.ModuleDict({"default": down}), nn.ModuleDict({"default": up})
        self.dropout = nn.Dropout(0.1)

    def forward(self, features: Tensor) -> Tensor:
        return self.base_layer(features) + self.lora_B["default"](
            self.lora_A["default"](self.dropout(features))
        )


def _each_layer(network: nn.Module, change: Callable[[Any], Any]) -> nn.Module:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            network.set_submodule(name, change(module))
    return network


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return nn.utils.weight_norm(layer)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight norm": _old_weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "pruned": lambda layer: prune.random_unstructured(layer, "weight", amount=0.3),
    "LoRA": LoraLayer,
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: create_model("resnet8", num_classes=4),
    "separable": lambda: create_model("MobileNetV2", num_classes=4),
    "plain": lambda: plain_network(((2, 4), (2, 6))),
    "tokens": TokenNetwork,
}


def _changed(network: str, change: str) -> nn.Module:
    torch.manual_seed(0)
    return _each_layer(NETWORKS[network](), CHANGES[change]).eval()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("network", ["residual", "plain", "tokens"])
def test_candidates_and_classifier_are_those_of_the_plain_network(network: str, change: str) -> None:
    plain, changed = NETWORKS[network](), _changed(network, change)
    expected = [(p.module, p.channels, p.spatial, p.stage, p.tap) for p in find_hint_points(plain, EXAMPLE)]
    found = find_hint_points(changed, EXAMPLE)
    assert [(p.module, p.channels, p.spatial, p.stage, p.tap) for p in found] == expected
    assert find_classifier(changed, EXAMPLE)[0] == find_classifier(plain, EXAMPLE)[0]


@pytest.mark.parametrize("change", ["weight norm", "LoRA"])
def test_candidates_of_separable_convolutions(change: str) -> None:
    plain, changed = NETWORKS["separable"](), NETWORKS["separable"]()
    for name, module in list(changed.named_modules()):
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            changed.set_submodule(name, CHANGES[change](module))
    names = [point.module for point in find_hint_points(changed, EXAMPLE)]
    assert names == [point.module for point in find_hint_points(plain, EXAMPLE)]


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_copied_trained_and_teaches(change: str) -> None:
    student, teacher = _changed("plain", change), _changed("plain", change)
    teacher(EXAMPLE)  # leaves computed weights behind
    copied = copy_network(teacher)
    assert torch.allclose(copied(EXAMPLE), teacher(EXAMPLE), atol=1e-6)
    plan = HintPlan.conventional(teacher, find_hint_points(teacher, EXAMPLE))
    plan = plan.with_student(find_hint_points(student, EXAMPLE), student)
    task: dict[str, Any] = {"num_classes": 2, "num_samples": 2, "example": EXAMPLE}
    distiller = Distiller.build(student, teacher, losses={"at": None, "kd": None}, plan=plan, **task)
    batch = Batch(EXAMPLE, torch.tensor([0, 1]), torch.arange(2))
    before = distiller(batch).total
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.01)
    before.backward()
    optimizer.step()
    assert distiller(batch).total != before
    assert find_classifier(distiller.export(), EXAMPLE)[0] == "6"


def test_a_quantized_network_teaches() -> None:
    network = TokenNetwork().eval()
    with warnings.catch_warnings(action="ignore"):
        quantized = torch.ao.quantization.quantize_dynamic(network, {nn.Linear})
        expected, found = find_hint_points(network, EXAMPLE), find_hint_points(quantized, EXAMPLE)
        assert [str(point) for point in found] == [str(point) for point in expected]
        assert find_classifier(quantized, EXAMPLE)[0] == "head"
        maps = FeatureExtractor(quantized, found, embedding=True)(EXAMPLE).maps
    for one, other in zip(maps, FeatureExtractor(network, expected)(EXAMPLE).maps, strict=True):
        assert torch.allclose(one, other, atol=0.1)


def test_a_block_with_a_projection_is_no_adapter() -> None:
    class Bottleneck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shortcut, self.down, self.up = nn.Linear(8, 6), nn.Linear(8, 2), nn.Linear(2, 6)

        def forward(self, features: Tensor) -> Tensor:
            return self.shortcut(features) + self.up(self.down(features).relu())

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.keys, self.values = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    for block in (
        Bottleneck(),
        Attention(),
        nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2), nn.Linear(2, 8)),
    ):
        assert adapted_layer(block) is block
    lora = LoraLayer(nn.Linear(8, 6))
    assert adapted_layer(lora) is lora.base_layer
