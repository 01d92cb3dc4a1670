"""Measure the cost of the similarity of all pairs of layers, with PursuHint and with other tools.

The features of a network's sub-blocks are collected once, averaged over space, and every contender compares
all pairs of layers on them, each in a process of its own. Printed for each: its time, the time divided by the
time of the forward pass, its memory beyond the features, and two errors:

- from its own formula in NumPy and float64 (for the tools that average over minibatches: the average over
  all of them): the error of rounding, or of a mistake;
- from the value over all samples: the error of the estimator.

Tools that are not installed are named and skipped: pip install torch-cka ckatorch pytorch-cka cka-pytorch

    python benchmarks/analysis.py
    python benchmarks/analysis.py --samples 1024 4096 9984 --threads 1 --only pursuhint

On a shared machine, ``--clock cpu`` measures CPU time, summed over threads, instead of wall time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Matrices = dict[str, Array]


@dataclass(frozen=True)
class Features:
    """Pooled features of all layers side by side, float32, (samples, sum of widths)."""

    values: NDArray[np.float32]
    widths: tuple[int, ...]
    batch: int

    @property
    def layers(self) -> list[NDArray[np.float32]]:
        return np.split(self.values, np.cumsum(self.widths)[:-1], axis=1)

    @property
    def batches(self) -> list[NDArray[np.float32]]:
        return np.split(self.values, range(self.batch, len(self.values), self.batch))

    def save(self, path: Path) -> None:
        np.savez(path, values=self.values, widths=self.widths, batch=self.batch)

    @classmethod
    def load(cls, path: Path) -> Features:
        with np.load(path) as file:
            return cls(file["values"], tuple(map(int, file["widths"])), int(file["batch"]))


# ---------------------------------------------------------------------------------------------------------
# Contenders: from features to one matrix a metric


def pursuhint_moments(features: Features) -> Matrices:
    """Linear CKA, biased and debiased, and R2CCA from one stream of batches."""
    return _pursuhint(features, "moments", ("cka", "debiased-cka", "r2cca"))


def pursuhint_rbf(features: Features) -> Matrices:
    """CKA with an RBF kernel, from all features."""
    return _pursuhint(features, "rows", ("rbf-cka",))


def _pursuhint(features: Features, kind: Any, names: Sequence[str]) -> Matrices:
    import torch

    from pursuhint.similarity import get_metric, similarity_matrices
    from pursuhint.similarity.accumulators.choose import StatisticsLayout

    statistics = StatisticsLayout(kind, samples=len(features.values)).start(features.widths)
    for batch in features.batches:
        statistics.update(torch.from_numpy(batch).split(features.widths, dim=1))
    found = similarity_matrices(statistics, [get_metric(name) for name in names])
    return {name: matrix.numpy() for name, matrix in found.items()}


def torch_cka(features: Features) -> Matrices:
    """Minibatch CKA of torch-cka."""
    from torch_cka import CKA

    first, second = _network_of(features), _network_of(features)
    names = [f"layers.{i}" for i in range(len(features.widths))]
    cka = CKA(first, second, "first", "second", names, names, "cpu")
    cka.compare(_loader(features))
    return {"minibatch": cka.export()["CKA"].double().numpy()}


def ckatorch(features: Features) -> Matrices:
    """Minibatch CKA of ckatorch."""
    from ckatorch import CKA

    names = [f"layers.{i}" for i in range(len(features.widths))]
    cka = CKA(_network_of(features, sets=True), _network_of(features, sets=True), names, device="cpu")
    return {"minibatch": cka(_loader(features), epochs=1).double().numpy()}


def pytorch_cka(features: Features) -> Matrices:
    """Minibatch CKA of pytorch-cka."""
    from cka import compute_cka

    network = _network_of(features)
    names = [f"layers.{i}" for i in range(len(features.widths))]
    found = compute_cka(network, network, _loader(features), layers=names, device="cpu", progress=False)
    return {"minibatch": found[0].double().numpy()}


def cka_pytorch(features: Features) -> Matrices:
    """Minibatch CKA of cka-pytorch."""
    import torch
    from cka_pytorch import CKACalculator

    names = [f"layers.{i}" for i in range(len(features.widths))]
    calculator = CKACalculator(
        _network_of(features), _network_of(features), names, names,
        device=torch.device("cpu"), verbose=False,
    )  # fmt: skip
    batches = [(torch.from_numpy(batch), None) for batch in features.batches]
    return {"minibatch": calculator.calculate_cka_matrix(batches, num_epochs=1).double().numpy()}


def naive_features(features: Features) -> Matrices:
    """Linear CKA pair by pair in NumPy, float32, from the features."""

    def cka(x: NDArray[Any], y: NDArray[Any]) -> float:
        x, y = x - x.mean(0), y - y.mean(0)
        return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))

    return {"cka": _pair_by_pair(features, cka)}


def naive_grams(features: Features) -> Matrices:
    """Linear CKA pair by pair in NumPy, float32, from centred Gram matrices."""

    def centered(gram: NDArray[Any]) -> NDArray[Any]:
        return gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()

    def cka(x: NDArray[Any], y: NDArray[Any]) -> float:
        k, l = centered(x @ x.T), centered(y @ y.T)  # noqa: E741
        return float((k * l).sum() / (np.linalg.norm(k) * np.linalg.norm(l)))

    return {"cka": _pair_by_pair(features, cka)}


def _pair_by_pair(features: Features, cka: Callable[[NDArray[Any], NDArray[Any]], float]) -> Array:
    layers = features.layers
    values = np.empty((len(layers), len(layers)))
    for i, x in enumerate(layers):
        for j, y in enumerate(layers[: i + 1]):
            values[i, j] = values[j, i] = cka(x, y)
    return values


def _network_of(features: Features, *, sets: bool = False) -> Any:
    """A network whose layers return given features: it splits rows of the features into the layers' columns.

    Args:
        features: whose widths to use.
        sets: give (1, batch, width), one set of samples, instead of (batch, width).
    """
    import torch
    from torch import Tensor, nn

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Identity() for _ in features.widths)

        def forward(self, rows: Tensor) -> Tensor:
            for layer, columns in zip(self.layers, rows.split(features.widths, dim=1)):
                layer(columns[None] if sets else columns)
            return torch.zeros(len(rows))

    return Given()


def _loader(features: Features) -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(torch.from_numpy(features.values)), batch_size=features.batch)


@dataclass(frozen=True)
class Contender:
    """A way to compare all pairs of layers.

    Attributes:
        run: the function.
        needs: package that must be importable.
        largest: number of samples beyond which it is skipped, for it would take hours.
    """

    run: Callable[[Features], Matrices]
    needs: str = "numpy"
    largest: int | None = None


CONTENDERS: Mapping[str, Contender] = {
    "pursuhint": Contender(pursuhint_moments, "pursuhint"),
    "pursuhint, RBF": Contender(pursuhint_rbf, "pursuhint"),
    "torch-cka": Contender(torch_cka, "torch_cka"),
    "ckatorch": Contender(ckatorch, "ckatorch"),
    "pytorch-cka": Contender(pytorch_cka, "cka"),
    "cka-pytorch": Contender(cka_pytorch, "cka_pytorch"),
    "naive NumPy": Contender(naive_features),
    "naive NumPy, Gram": Contender(naive_grams, largest=1024),
}


# ---------------------------------------------------------------------------------------------------------
# The same in float64


def references(features: Features) -> Matrices:
    """Linear CKA over all samples in both forms, its minibatch form, and R2CCA, in plain float64."""
    layers = [layer.astype(np.float64) for layer in features.layers]
    centered = [layer - layer.mean(0) for layer in layers]
    minibatch = sum(
        _unbiased_hsic([layer[start : start + features.batch] for layer in layers])
        for start in range(0, len(features.values), features.batch)
    )
    biased = np.array([[np.square(x.T @ y).sum() for y in centered] for x in centered])
    bases = [_basis(layer) for layer in centered]
    shared = np.array([[np.square(x.T @ y).sum() for y in bases] for x in bases])
    return {
        "cka": _normalized(biased),
        "debiased-cka": _normalized(_unbiased_hsic(layers)),
        "minibatch": _normalized(np.asarray(minibatch)),
        "r2cca": shared / np.minimum.outer(features.widths, features.widths),
    }


def _basis(centered: Array) -> Array:
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    return left[:, singular > 1e-5 * singular[0]]


def _unbiased_hsic(layers: Sequence[Array]) -> Array:
    """HSIC_1 of Song et al. (2012) of all pairs of layers with linear kernels."""
    count = len(layers[0])
    centered = [layer - layer.mean(0) for layer in layers]  # changes nothing but rounding
    trace = np.zeros((len(layers), len(layers)))
    rows = np.empty((len(layers), count))
    for start in range(0, count, 64):
        some = np.arange(start, min(start + 64, count))
        kernels = np.stack([x[some] @ x.T for x in centered])
        kernels[:, some - start, some] = 0
        rows[:, some] = kernels.sum(2)
        flat = kernels.reshape(len(layers), -1)
        trace += flat @ flat.T
    sums = rows.sum(1)
    middle = np.outer(sums, sums) / ((count - 1) * (count - 2))
    return (trace + middle - 2 / (count - 2) * (rows @ rows.T)) / (count * (count - 3))


def _normalized(hsic: Array) -> Array:
    own = np.sqrt(np.diagonal(hsic))
    return hsic / np.outer(own, own)


def rbf_references(layers: Sequence[NDArray[np.float32]]) -> tuple[Array, Array]:
    """RBF CKA of some layers in plain float64.

    Returns:
        With the bandwidth that the library takes from some of the samples, and with the exact one.
    """
    import torch

    from pursuhint.similarity import PooledFeatures
    from pursuhint.similarity.bandwidth import bandwidths

    rows = PooledFeatures([layer.shape[1] for layer in layers])
    rows.update([torch.from_numpy(np.ascontiguousarray(layer)) for layer in layers])
    distances = []
    for layer in layers:
        centered = layer.astype(np.float64) - layer.astype(np.float64).mean(0)
        norms = np.square(centered).sum(1)
        squared = np.maximum(norms[:, None] + norms - 2 * centered @ centered.T, 0)
        np.fill_diagonal(squared, 0)
        distances.append(squared)
    ours = bandwidths(rows).tolist()
    exact = [float(np.median(squared)) for squared in distances]
    first, second = (
        _normalized(_inner_products([_gaussian(*pair) for pair in zip(distances, medians)]))
        for medians in (ours, exact)
    )
    return first, second


def _gaussian(squared: Array, median: float) -> Array:
    kernel = np.exp(squared / (-2 * 0.8**2 * median))
    kernel -= kernel.mean(0)
    kernel -= kernel.mean(1)[:, None]
    return kernel


def _inner_products(kernels: Sequence[Array]) -> Array:
    return np.array([[np.vdot(k, l) for l in kernels] for k in kernels])  # noqa: E741


# ---------------------------------------------------------------------------------------------------------
# Measuring


CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def gather(
    network_name: str, samples: int, batch: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[Features, float]:
    """Features of a network on digits enlarged to 32 x 32, and the seconds of the forward pass."""
    import torch
    from torch.nn import functional as F

    from pursuhint.data import MemorySplit, load_dataset
    from pursuhint.features.call_trace import evaluating
    from pursuhint.features.extractor import FeatureExtractor
    from pursuhint.features.hint_points import find_hint_points
    from pursuhint.features.pooling import MeanPooling
    from pursuhint.models import create_model

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    train = load_dataset("digits").train
    assert isinstance(train, MemorySplit)
    digits = train.images.float() / 255
    chosen = digits[torch.randint(len(digits), (samples,), generator=generator)]
    chosen = F.interpolate(chosen, size=32, mode="bilinear").expand(-1, 3, -1, -1)
    images = chosen + 0.1 * torch.randn(chosen.shape, generator=generator)
    network = create_model(network_name, num_classes=10).train()
    with torch.no_grad():
        for some in images[: 4 * batch].split(batch):
            network(some)  # gives the norms the statistics of these images
    points = find_hint_points(network, images[:1])
    extractor = FeatureExtractor(network, points, logits=False)
    with evaluating(network), torch.no_grad():
        extractor(images[:batch])
        pooled = []
        began = clock()
        for some in images.split(batch):
            pooled.append(torch.cat([MeanPooling()(layer) for layer in extractor(some).maps], dim=1))
        seconds = clock() - began
    values = torch.cat(pooled).numpy()
    return Features(values, tuple(point.channels for point in points), batch), seconds


def peak_memory() -> int:
    """Peak memory of this process since `reset_peak_memory`, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak_memory() -> int:
    """Reset the peak, where the system allows it; returns the memory held now, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def run_one(name: str, path: Path, out: Path, clock: Callable[[], float]) -> None:
    """Run a contender on saved features in this process; write its matrices, time and memory."""
    warnings.simplefilter("ignore")
    features = Features.load(path)
    contender = CONTENDERS[name]
    # Once on a few rows: libraries load parts of themselves when first used.
    contender.run(Features(features.values[: 2 * features.batch].copy(), features.widths, features.batch))
    before = reset_peak_memory()
    began = clock()
    matrices = contender.run(features)
    seconds = clock() - began
    np.savez(out, seconds=seconds, memory=peak_memory() - before, **matrices)  # type: ignore[arg-type]


def in_process(arguments: Sequence[str], threads: int) -> str:
    """Run this script in a process with a number of threads; returns its standard error if it failed."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **{name: str(threads) for name in names}}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


LARGEST_KERNEL = 4096
"""Largest number of samples for which the reference holds matrices of all pairs of samples."""


def errors(found: Matrices, exact: Matrices, features: Features) -> tuple[float, float]:
    """Largest errors, from the same formula in float64 and from the value over all samples."""
    own, whole = 0.0, 0.0
    for name, matrix in found.items():
        if name == "rbf-cka":
            few = list(range(0, len(features.widths), max(1, len(features.widths) // 6)))
            if len(features.values) > LARGEST_KERNEL:
                return float("nan"), float("nan")
            formula, value = rbf_references([features.layers[i] for i in few])
            matrix = matrix[np.ix_(few, few)]
        else:
            formula = exact[name]
            value = exact["debiased-cka"] if name == "minibatch" else formula
        if matrix.shape != formula.shape:
            return float("nan"), float("nan")
        own = max(own, largest(matrix - formula))
        whole = max(whole, largest(matrix - value))
    return own, whole


def largest(difference: Array) -> float:
    return float("nan") if np.isnan(difference).any() else float(np.abs(difference).max())


def compare(
    network: str, samples: int, batch: int, threads: int, names: Sequence[str], clock: str = "wall"
) -> list[dict[str, Any]]:
    """Measure contenders with one number of threads, and print a line for each."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "features.npz", Path(folder) / "found.npz"
        failure = in_process(
            ["--gather", network, str(samples), str(batch), str(path), "--clock", clock], threads
        )
        if failure:
            raise SystemExit(failure)
        features = Features.load(path)
        forward = float(path.with_suffix(".seconds").read_text())
        exact = references(features)
        print(
            f"\n{network}, {len(features.widths)} layers, {sum(features.widths):,} features, {samples:,} "
            f"samples in batches of {batch}, {threads} thread{'s' if threads > 1 else ''}: "
            f"forward pass {forward:.2f} s ({clock} clock)\n"
            f"{'':18} {'time':>9} {'/ forward':>10} {'memory':>9} {'own float64':>12} {'all samples':>12}"
        )
        for name in names:
            contender = CONTENDERS[name]
            if importlib.util.find_spec(contender.needs) is None:
                print(f"{name:18} skipped: not installed")
                continue
            if contender.largest is not None and samples > contender.largest:
                print(f"{name:18} skipped: more than {contender.largest:,} samples")
                continue
            failure = in_process(["--one", name, str(path), str(out), "--clock", clock], threads)
            if failure:
                print(f"{name:18} failed: {failure.strip().splitlines()[-1]}")
                results.append({"contender": name, "threads": threads, "failed": failure.strip()})
                continue
            with np.load(out) as file:
                cost = {"seconds": float(file["seconds"]), "bytes": int(file["memory"])}
                found = {key: file[key] for key in file.files if key not in ("seconds", "memory")}
            own, whole = errors(found, exact, features)
            print(
                f"{name:18} {cost['seconds']:7.3f} s {cost['seconds'] / forward:10.3f} "
                f"{cost['bytes'] / 1e6:6.0f} MB {own:12.1e} {whole:12.1e}",
                flush=True,
            )
            results.append(
                {
                    "contender": name, "threads": threads, "samples": samples, "forward_seconds": forward,
                    **cost, "error_own_formula": own, "error_all_samples": whole,
                }
            )  # fmt: skip
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet110")
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[1024, 2048], help="multiples of the batch (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", default=[""], help="contenders whose names contain a word")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="which time (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--gather", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one[0], Path(options.one[1]), Path(options.one[2]), CLOCKS[options.clock])
        return 0
    if options.gather:
        network, samples, batch, file = options.gather
        features, seconds = gather(network, int(samples), int(batch), CLOCKS[options.clock])
        features.save(Path(file))
        Path(file).with_suffix(".seconds").write_text(str(seconds))
        return 0
    if any(samples % options.batch for samples in options.samples) or options.batch < 4:
        parser.error("--samples must be a multiple of --batch, and --batch at least 4")
    names = [name for name in CONTENDERS if any(word in name for word in options.only)]
    results = [
        result
        for threads in options.threads
        for samples in options.samples
        for result in compare(options.network, samples, options.batch, threads, names, options.clock)
    ]
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
