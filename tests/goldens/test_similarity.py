"""Our similarity metrics against matrices computed with NumPy and SciPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pursuhint.similarity import METRICS, LayerMoments, PooledFeatures, get_metric
from tests.goldens.golden_cases import golden_folder

SCHEMA = "similarity-goldens-1"

METRIC_OF_ARRAY = {
    "linear_cka": "cka",
    "debiased_linear_cka": "debiased-cka",
    "rbf_cka": "rbf-cka",
    "rbf_cka_pairs": "rbf-cka-pairs",
    "r2cca": "r2cca",
    "r2cca_rank": "r2cca-rank",
    "yanai_gcd": "gcd",
    "svcca99": "svcca",
    "pwcca": "pwcca",
    "procrustes": "procrustes",
}


def tolerance(array: str, dtype: torch.dtype = torch.float64) -> float:
    if dtype == torch.float32:
        return 1e-4
    return 1e-8 if array.startswith("rbf") else 1e-9


def sets(folder: Path) -> Iterator[Path]:
    """The file of every set of every manifest."""
    for path in sorted(folder.glob("*.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(manifest, dict) and manifest.get("schema") == SCHEMA:
            for entry in manifest["sets"]:
                yield path.parent / entry["file"]


def metric_arrays(arrays: dict[str, np.ndarray]) -> list[str]:
    """Names of the expected matrices: layers by layers, and not themselves features."""
    layers = len(layers_of(arrays))
    return [name for name, array in arrays.items() if array.shape == (layers, layers) and not is_layer(name)]


def is_layer(name: str) -> bool:
    return name[0] == "x" and name[1:].isdigit()


def layers_of(arrays: dict[str, np.ndarray], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    names = sorted(filter(is_layer, arrays), key=lambda name: int(name[1:]))
    return [torch.from_numpy(arrays[name].astype(np.float64)).to(dtype) for name in names]


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def cases() -> list[Any]:
    return [
        pytest.param(path, array, id=f"similarity-{path.stem.removeprefix('similarity-')}-{array}")
        for path in sets(golden_folder())
        for array in metric_arrays(load(path))
    ]


CASES = cases()


def in_pairs(metric: str, layers: list[Tensor]) -> np.ndarray:
    pair = get_metric(metric).pair
    return np.array([[float(pair(x, y)) for y in layers] for x in layers])


def batches(layers: list[Tensor]) -> Iterator[list[Tensor]]:
    """Batches of 1, 2, 4, ... samples and a rest."""
    start, size = 0, 1
    while start < len(layers[0]):
        yield [layer[start : start + size] for layer in layers]
        start, size = start + size, 2 * size


def streamed(metric: str, layers: list[Tensor]) -> np.ndarray:
    moments = LayerMoments([layer.shape[1] for layer in layers])
    for batch in batches(layers):
        moments.update(batch)
    return get_metric(metric).matrix(moments).numpy()


def from_rows(metric: str, layers: list[Tensor]) -> np.ndarray:
    rows = PooledFeatures([layer.shape[1] for layer in layers])
    for batch in batches(layers):
        rows.update(batch)
    return get_metric(metric).matrix(rows).numpy()


def ways(metric: str) -> list[Callable[[str, list[Tensor]], np.ndarray]]:
    """All ways to compute a metric."""
    from_features = [in_pairs, from_rows]
    return from_features if get_metric(metric).needs == "rows" else [*from_features, streamed]


def defined(expected: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The entries to compare: not 0/0, and of layers that vary."""
    varies = np.array([bool((layer != layer[0]).any()) for layer in layers_of(arrays)])
    return np.isfinite(expected) & varies[:, None] & varies


def discrepancy(actual: np.ndarray, array: str, arrays: dict[str, np.ndarray]) -> float:
    """The largest difference from the expected matrix, infinite if NaN stands where a number should."""
    compared = defined(arrays[array], arrays)
    difference = np.abs(actual - arrays[array])[compared]
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))


def test_every_array_has_a_metric():
    assert {case.values[1] for case in CASES} <= METRIC_OF_ARRAY.keys()
    assert set(METRIC_OF_ARRAY.values()) <= METRICS.keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["", "float32"])
@pytest.mark.parametrize(("path", "array"), CASES)
def test_case(path, array, dtype):
    arrays = load(path)
    metric = METRIC_OF_ARRAY[array]
    for compute in ways(metric):
        found = discrepancy(compute(metric, layers_of(arrays, dtype)), array, arrays)
        assert found <= tolerance(array, dtype), f"{compute.__name__}: off by {found:g}"


def with_numbers(case: Any) -> bool:
    """Whether there is an entry to compare: a metric may be 0/0 for all pairs of a set."""
    path, array = case.values
    arrays = load(path)
    return bool(defined(arrays[array], arrays).any())


@pytest.mark.parametrize(("path", "array"), list(filter(with_numbers, CASES)))
def test_altered_case_fails(path, array):
    arrays = load(path)
    compared = np.argwhere(defined(arrays[array], arrays))
    row, column = compared[len(compared) // 2]
    arrays[array] = arrays[array].copy()
    arrays[array][row, column] += 1e-6
    metric = METRIC_OF_ARRAY[array]
    for compute in ways(metric):
        actual = compute(metric, layers_of(arrays))
        assert discrepancy(actual, array, arrays) > tolerance(array)


def test_ids_are_unique():
    assert len({case.id for case in CASES}) == len(CASES)


def test_layers_without_variance_are_nan_in_every_metric():
    generator = torch.Generator().manual_seed(0)
    layers = [torch.full((20, 3), 0.1).double(), torch.randn(20, 4, generator=generator).double()]
    for metric in METRICS:
        for compute in ways(metric):
            actual = compute(metric, layers)
            assert np.isnan(actual[0]).all()
            assert np.isnan(actual[:, 0]).all()
            assert actual[1, 1] == pytest.approx(1)


def test_nan_instead_of_a_number_is_a_discrepancy():
    arrays = {"x0": np.eye(3), "linear_cka": np.ones((1, 1))}
    assert discrepancy(np.full((1, 1), np.nan), "linear_cka", arrays) == np.inf
