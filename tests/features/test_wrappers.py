"""Networks in wrappers, with compiled parts, and as programs."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from pursuhint._util.fingerprint import fingerprint_network
from pursuhint._util.wrappers import copy_network, original_modules, unwrapped
from pursuhint.errors import PursuhintError
from pursuhint.features import FeatureExtractor, find_classifier, find_hint_points
from pursuhint.features.head import find_head
from pursuhint.hints import HintPlan
from pursuhint.models import create_model
from tests.helpers.analysis_networks import plain_network

EXAMPLE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Compiled modules whose backend does nothing: what is tested is who is called, not what is generated."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _compiled(network: nn.Module) -> nn.Module:
    module = torch.compile(network, backend="eager")
    assert isinstance(module, nn.Module)
    return module


def _with_compiled_blocks(network: nn.Module) -> nn.Module:
    network.layer2 = _compiled(network.get_submodule("layer2"))
    first = network.get_submodule("layer1.0")
    network.get_submodule("layer1")._modules["0"] = _compiled(first)
    return network


def _compiled_in_place(network: nn.Module) -> nn.Module:
    network.get_submodule("layer1").compile(backend="eager")
    network.compile(backend="eager")
    return network


WRAPPINGS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "compiled": _compiled,
    "compiled in DataParallel": lambda network: nn.DataParallel(_compiled(network)),
    "compiled blocks": _with_compiled_blocks,
    "compiled in place": _compiled_in_place,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_points_of_a_wrapped_network_are_those_of_the_one_inside(wrapping: str) -> None:
    plain = create_model("resnet8", num_classes=4).eval()
    wrapped = WRAPPINGS[wrapping](copy_network(plain)).eval()
    points, others = find_hint_points(plain, EXAMPLE), find_hint_points(wrapped, EXAMPLE)
    assert [str(point) for point in others] == [str(point) for point in points]
    assert HintPlan.conventional(wrapped, others).pairs == HintPlan.conventional(plain, points).pairs
    expected = FeatureExtractor(plain, others, embedding=True)(EXAMPLE)
    found = FeatureExtractor(wrapped, points, embedding=True)(EXAMPLE)
    for one, other in zip(found.maps, expected.maps, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert found.logits is not None
    assert expected.logits is not None
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    assert find_classifier(wrapped, EXAMPLE)[0] == "fc"
    assert find_head(wrapped, EXAMPLE) == find_head(plain, EXAMPLE)
    assert fingerprint_network(wrapped) == fingerprint_network(plain)
    plan = HintPlan.stage_centers(points).with_student(points, plain)
    assert plan.bind(wrapped, EXAMPLE, student_network=wrapped).pairs == plan.pairs


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_wrapped_network_is_as_before_afterwards(wrapping: str) -> None:
    wrapped = WRAPPINGS[wrapping](create_model("resnet8", num_classes=4)).eval()
    before = [(name, id(module)) for name, module in wrapped.named_modules()]
    compiled = [module._compiled_call_impl for module in wrapped.modules()]
    with original_modules(wrapped) as inner:
        assert "OptimizedModule" not in {type(module).__name__ for module in inner.modules()}
        assert "layer2.0.conv1" in dict(inner.named_modules())
    assert [(name, id(module)) for name, module in wrapped.named_modules()] == before
    assert [module._compiled_call_impl for module in wrapped.modules()] == compiled


def test_one_process_of_distributed_training_keeps_its_wrapper(tmp_path: Any) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        plain = create_model("resnet8", num_classes=4)
        wrapped = nn.parallel.DistributedDataParallel(plain)
        points = find_hint_points(wrapped, EXAMPLE)
        assert points == find_hint_points(plain, EXAMPLE)
        calls: list[Any] = []
        wrapped.register_forward_hook(lambda *call: calls.append(call))
        features = FeatureExtractor(wrapped, points)(EXAMPLE)
        assert len(calls) == 1  # it adds up gradients, so it is not looked through
        assert features.logits is not None
        features.logits.sum().backward()
        assert all(parameter.grad is not None for parameter in plain.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_only_wrappers_of_torch_are_looked_through() -> None:
    class DataParallel(nn.Module):
        """A stranger's module of that name."""

        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    network = DataParallel()
    assert unwrapped(network) is network


def test_programs_and_unfinished_networks_are_named_in_one_line() -> None:
    network = plain_network(((2, 4),))
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        scripted = torch.jit.script(network)
    with pytest.raises(PursuhintError, match="TorchScript"):
        find_hint_points(scripted, EXAMPLE)
    with pytest.raises(PursuhintError, match="ExportedProgram"):
        find_hint_points(torch.export.export(network, (EXAMPLE,)), EXAMPLE)  # type: ignore[arg-type]
    with pytest.raises(PursuhintError, match=r"'1'.*lazy"):
        find_hint_points(nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), EXAMPLE)


def test_a_symbolically_traced_network_is_a_network() -> None:
    network = plain_network(((2, 4), (2, 6)))
    traced = torch.fx.symbolic_trace(network)
    points, others = find_hint_points(network, EXAMPLE), find_hint_points(traced, EXAMPLE)
    assert [(point.channels, point.spatial) for point in others] == [
        (point.channels, point.spatial) for point in points
    ]


def test_a_copy_shares_nothing() -> None:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        network = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(768, 4)))
    network(EXAMPLE)  # leaves a computed weight behind
    copied = copy_network(network)
    assert torch.equal(copied(EXAMPLE), network(EXAMPLE))
    own = itertools.chain(network.parameters(), network.buffers())
    assert not {id(values) for values in own} & {id(values) for values in copied.parameters()}
    with torch.no_grad():
        next(copied.parameters()).mul_(2)
    assert not torch.equal(copied(EXAMPLE), network(EXAMPLE))


def test_a_network_that_cannot_be_copied_names_the_cause() -> None:
    network = nn.Linear(2, 2)
    network.generator = (value for value in ())  # type: ignore[assignment]
    with pytest.raises(PursuhintError, match=r"Linear cannot be copied.*generator"):
        copy_network(network)
