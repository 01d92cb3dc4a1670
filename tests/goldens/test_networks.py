"""Our networks against the measured reference networks: names, shapes, sizes and numbers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import find_hint_points
from pursuhint.models import create_model
from pursuhint.models.checkpoint import count_parameters
from tests.goldens.golden_cases import (
    VARIABLE,
    assert_agree,
    filled,
    golden_folder,
    images,
    network_files,
    symmetric,
    uniform,
)

TOLERANCE = 1e-9  # relative, in float64


def _cases() -> list[Any]:
    return [
        pytest.param(name, case, content["num_classes"], id=f"network-{name}")
        for _, content in network_files(golden_folder())
        for name, case in content["models"].items()
    ]


def _measure(features: Tensor) -> dict[str, Any]:
    return {"shape": list(features.shape), "mean": float(features.mean()), "l2": float(features.norm())}


def _tapped(network: nn.Module, activation: str) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the features that the reference hands out: stem, stage ends, pooled embedding.

    The reference has no pre-activation of the stem: it hands out the stem's features as they are.
    """
    stem = find_hint_points(network, images(), include=network.stage_taps[:1])
    ends = find_hint_points(network, images(), activation=activation, include=network.stage_taps[1:])
    assert [point.module for point in (*stem, *ends)] == list(network.stage_taps)
    with torch.no_grad():
        trace = FeatureExtractor(network, (*stem, *ends), embedding=True)(images())
    return trace.logits, [*trace.maps, trace.embedding]


def _check_numbers(logits: Tensor, features: dict[str, list[Tensor]], case: dict[str, Any]) -> None:
    assert_agree(logits[:, :10], case["logits10"], tolerance=TOLERANCE, what="first ten logits")
    assert_agree(logits.sum(1), case["logits_sum"], tolerance=TOLERANCE, what="sum of the logits")
    assert_agree(logits.norm(dim=1), case["logits_l2"], tolerance=TOLERANCE, what="norm of the logits")
    for key, tensors in features.items():
        measured = [_measure(tensor) for tensor in tensors]
        assert [tap["shape"] for tap in measured] == [tap["shape"] for tap in case[key]]
        for index, (found, expected) in enumerate(zip(measured, case[key], strict=True)):
            for number in ("mean", "l2"):
                what = f"{number} of {key}[{index}]"
                assert_agree(found[number], expected[number], tolerance=TOLERANCE, what=what)


@pytest.mark.parametrize(("name", "case", "num_classes"), _cases())
def test_equals_the_reference_network(name: str, case: dict[str, Any], num_classes: int) -> None:
    network = create_model(name, num_classes=num_classes)

    assert count_parameters(network) == case["params"]
    shapes = sorted([key, list(tensor.shape)] for key, tensor in network.state_dict().items())
    assert shapes == case["state_dict"]
    assert len(shapes) == case["n_keys"]

    filled(network)
    logits, post = _tapped(network, "post")
    _, pre = _tapped(network, "pre")
    _check_numbers(logits, {"taps": post, "taps_preact": pre}, case)


@pytest.mark.parametrize("changed", ["logits10", "logits_sum", "logits_l2"])
def test_a_changed_logit_fails(changed: str) -> None:
    name = "resnet20"
    _, content = next(network_files(Path(__file__).parent / "data"))
    case = copy.deepcopy(content["models"][name])
    network = filled(create_model(name, num_classes=content["num_classes"]))
    with torch.no_grad():
        logits = network(images())
    _check_numbers(logits, {}, case)

    values = case[changed][0] if changed == "logits10" else case[changed]
    values[1] *= 1 + 1e-6
    with pytest.raises(AssertionError, match="logits"):
        _check_numbers(logits, {}, case)


def test_a_changed_tap_fails() -> None:
    features = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    logits = torch.ones(2, 10, dtype=torch.float64)
    case = {"logits10": [[1.0] * 10] * 2, "logits_sum": [10.0] * 2, "logits_l2": [10**0.5] * 2}
    _check_numbers(logits, {"taps": [features]}, case | {"taps": [_measure(features)]})
    with pytest.raises(AssertionError, match=r"mean of taps\[0\]"):
        _check_numbers(logits, {"taps": [features * (1 + 1e-6)]}, case | {"taps": [_measure(features)]})


def test_fill_formula_gives_the_published_values() -> None:
    for path, content in network_files(golden_folder()):
        checks = content.get("check_values", {})
        if "input_first5" in checks:
            assert images().flatten()[:5].tolist() == pytest.approx(checks["input_first5"], rel=1e-12), path
        if "u(conv1.weight,(2,3))" in checks:
            expected = checks["u(conv1.weight,(2,3))"]
            assert uniform("conv1.weight", (2, 3)).flatten().tolist() == pytest.approx(expected, rel=1e-12), (
                path
            )
    assert symmetric("x", ()).shape == ()


def test_a_folder_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(pytest.fail.Exception, match="not a folder"):
        golden_folder()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert golden_folder() == tmp_path
