"""Measure a whole analysis, forward pass included: a fixed number of images, as many as needed, other tools.

A trained network of a run folder looks at the training images of its run. Printed for each way: processor
time, that divided by the time of a plain forward pass over all images, images looked at, hint positions, and
whether they are those of ``analyze`` on all images. ``analyze`` is told the accuracy of the network, which it
would measure on the test images first.

The other tools get the same pooled features of the same network, one pass of the network for each side that
they compare; the hint positions are chosen from their matrices by our k-means. They see fewer images
(``--peer-images``), and their time is scaled to all: they average over minibatches, so it is proportional.

    python benchmarks/whole_analysis.py RUN
    python benchmarks/whole_analysis.py RUN --images 10000 --seeds 5 --peers

Tools that are not installed are named and skipped: pip install torch-cka ckatorch pytorch-cka cka-pytorch
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pursuhint.analysis import AutoSamples, analyze
from pursuhint.clustering import get_algorithm
from pursuhint.data import ImageData, make_loader, sample_indices
from pursuhint.features import FeatureExtractor, HintPoint, find_hint_points
from pursuhint.hints import choose_positions, default_k
from pursuhint.models import TeacherAccuracy
from pursuhint.training import RunRecord
from pursuhint.training.loaders import load_data

BATCH = 128


@dataclass(frozen=True)
class Row:
    """One way to choose hint positions, for one draw of the images.

    Attributes:
        way: what was measured.
        seed: of the draw.
        seconds: processor time.
        forward: that, divided by the time of a plain forward pass over all images.
        images: looked at.
        positions: chosen.
        same: whether they are those of all images.
    """

    way: str
    seed: int
    seconds: float
    forward: float
    images: int
    positions: tuple[int, ...]
    same: bool


class Pooled(nn.Module):
    """For tools that hook layers: a network whose layers give the pooled features of another one's points.

    Args:
        network: the other one.
        points: its points.
        sets: give (1, batch, width), one set of samples, instead of (batch, width).
    """

    def __init__(self, network: nn.Module, points: tuple[HintPoint, ...], *, sets: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in points)
        self._extractor = [FeatureExtractor(network, points, logits=False)]  # in a list: no submodule
        self._sets = sets

    def forward(self, images: Tensor) -> Tensor:
        for layer, maps in zip(self.layers, self._extractor[0](images).maps):
            pooled = maps.flatten(2).mean(2) if maps.ndim == 4 else maps
            layer(pooled[None] if self._sets else pooled)
        return torch.zeros(len(images))


def torch_cka(networks: Callable[..., Pooled], names: list[str], images: Tensor) -> Any:
    from torch_cka import CKA

    cka = CKA(networks(), networks(), "first", "second", names, names, "cpu")
    cka.compare(_batches(images))
    return cka.export()["CKA"]


def ckatorch(networks: Callable[..., Pooled], names: list[str], images: Tensor) -> Any:
    from ckatorch import CKA

    return CKA(networks(sets=True), networks(sets=True), names, device="cpu")(_batches(images), epochs=1)


def pytorch_cka(networks: Callable[..., Pooled], names: list[str], images: Tensor) -> Any:
    from cka import compute_cka

    network = networks()
    return compute_cka(network, network, _batches(images), layers=names, device="cpu", progress=False)[0]


def cka_pytorch(networks: Callable[..., Pooled], names: list[str], images: Tensor) -> Any:
    from cka_pytorch import CKACalculator

    calculator = CKACalculator(
        networks(), networks(), names, names, device=torch.device("cpu"), verbose=False
    )
    return calculator.calculate_cka_matrix([(some, None) for some in images.split(BATCH)], num_epochs=1)


PEERS: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "torch-cka": ("torch_cka", torch_cka),
    "ckatorch": ("ckatorch", ckatorch),
    "pytorch-cka": ("cka", pytorch_cka),
    "cka-pytorch": ("cka_pytorch", cka_pytorch),
}


def _batches(images: Tensor) -> Any:
    return DataLoader(TensorDataset(images), batch_size=BATCH)


def images_of(data: ImageData, count: int, seed: int) -> Tensor:
    """Training images as the network sees them, (N, C, H, W)."""
    chosen = sample_indices(data, count, seed)
    loader = make_loader(data, "train", batch_size=BATCH, training=False, subset=chosen)
    return torch.cat([batch.images for batch in loader.epoch(0)])


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the processor time, in seconds."""
    began = time.process_time()
    found = run()
    return found, time.process_time() - began


@torch.no_grad()
def forward_seconds(network: nn.Module, images: Tensor, rounds: int) -> float:
    """Least processor time of a plain forward pass over 1,024 of the images, scaled to all."""
    few = images[:1024]
    network(few[:BATCH])
    least = min(timed(lambda: [network(some) for some in few.split(BATCH)])[1] for _ in range(rounds))
    return least * len(images) / len(few)


def measure(network: nn.Module, data: ImageData, options: argparse.Namespace) -> list[Row]:
    """All rows, printed as they come."""
    known = TeacherAccuracy("network", data.name, reason="this is a benchmark")
    images = images_of(data, options.images, 0)
    forward = forward_seconds(network, images, options.rounds)
    print(f"a plain forward pass over {len(images):,} images: {forward:.1f} s of processor time", flush=True)
    rows: list[Row] = []

    def add(way: str, seed: int, seconds: float, taken: int, positions: tuple[int, ...]) -> None:
        full = next((row.positions for row in rows if row.seed == seed), positions)
        row = Row(way, seed, seconds, seconds / forward, taken, positions, positions == full)
        rows.append(row)
        print(
            f"{way:28} seed {seed}: {seconds:7.1f} s = {row.forward:5.2f} forward passes, {taken:6,} images, "
            f"positions {', '.join(map(str, positions))}{'' if row.same else ' (not those of all images)'}",
            flush=True,
        )

    auto = AutoSamples(max_samples=options.images)
    ways: dict[str, dict[str, Any]] = {
        f"analyze, {len(images):,}": {"samples": options.images},
        "analyze, auto": {"samples": auto},
        "analyze, auto, bfloat16": {"samples": auto, "autocast": "bf16"},
    }
    for seed in range(options.seeds):
        for way, settings in ways.items():
            found, seconds = timed(
                lambda settings=settings, seed=seed: analyze(
                    network, data, seed=seed, device="cpu", batch_size=BATCH, accuracy=known, **settings
                )
            )
            positions = tuple(point.position for point in found.plan.teacher_points)
            add(way, seed, seconds, found.provenance.num_samples, positions)
    if options.peers:
        few = images[: options.peer_images]
        points = find_hint_points(network, few[:1])
        names = [f"layers.{i}" for i in range(len(points))]

        def networks(**more: bool) -> Pooled:
            return Pooled(network, points, **more).eval()

        for peer, (package, run) in PEERS.items():
            if importlib.util.find_spec(package) is None:
                print(f"{peer}: not installed", flush=True)
                continue
            with torch.no_grad():
                values, seconds = timed(lambda run=run: run(networks, names, few))
            matrix = np.asarray(torch.as_tensor(values).double())
            clusters = get_algorithm("kmeans")(matrix, default_k(points))
            positions = tuple(points[i].position for i in choose_positions(clusters, "center", matrix))
            add(f"{peer}, scaled", 0, seconds * len(images) / len(few), len(few), positions)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished training run on images")
    parser.add_argument("--images", type=int, default=10_000, help="all of them (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of the plain forward pass (%(default)s)")
    parser.add_argument("--peers", action="store_true", help="measure the other tools, too")
    parser.add_argument("--peer-images", type=int, default=1024, help="that they see (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    record = RunRecord.load(options.run)
    data = load_data(record.recipe.data)
    assert isinstance(data, ImageData)
    rows = measure(record.load_student().eval(), data, options)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
