"""Memory and time of what grows with layers, classes and samples, one part at a time.

    OMP_NUM_THREADS=1 python benchmarks/scale.py            # all three, a minute or two
    OMP_NUM_THREADS=1 python benchmarks/scale.py layers     # or one of layers, classes, samples

Every part runs in a process of its own. Times are those of the processor; memory is what the process needed
beyond what it had before. docs/scale.md says what follows from the numbers.
"""

from __future__ import annotations

import io
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import torch
from PIL import Image
from torch import nn

from pursuhint.clustering import get_algorithm
from pursuhint.data.decode import fit, to_tensor
from pursuhint.features.hint_points import find_hint_points
from pursuhint.losses import get_loss
from pursuhint.losses._parts.negatives import NegativeSampler
from pursuhint.similarity import LayerMoments, PooledFeatures, get_metric

Part = Callable[[], str]


class Residual(nn.Module):
    """A block that keeps its size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(x + self.norm(self.conv(x)))


def deep_network(blocks: int) -> str:
    """Find the hint points of a deep network."""
    network = nn.Sequential(*(Residual(8) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(8, 10))
    return f"{len(find_hint_points(network, torch.zeros(1, 8, 8, 8)))} hint points"


def layer_statistics(kind: str, layers: int, width: int, samples: int, metric: str) -> str:
    """Statistics of all layers, and the similarity of all pairs."""
    torch.manual_seed(0)
    widths = [width] * layers
    statistics = LayerMoments(widths) if kind == "moments" else PooledFeatures(widths, capacity=samples)
    mixing = torch.randn(width, width) / width**0.5
    for _ in range(samples // 100):
        features, value = [], torch.randn(100, width)
        for _ in range(layers):
            value = (0.95 * value + 0.3 * (value @ mixing).tanh()).clamp(-9, 9)
            features.append(value)
        statistics.update(features)
    began = time.process_time()
    matrix = get_metric(metric).matrix(statistics)
    return f"the pairs alone {time.process_time() - began:.1f} s, {matrix.numel():,} numbers"


def clusters(layers: int, algorithm: str) -> str:
    """Group the layers by a similarity matrix."""
    places = torch.linspace(0, 1, layers, dtype=torch.float64)
    matrix = torch.exp(-((places[:, None] - places) ** 2) * 20)
    return f"{len(set(get_algorithm(algorithm)(matrix, 5).labels))} groups"


def logit_loss(name: str, classes: int) -> str:
    """Forward and backward pass of one loss of logits, batch 64; the second of two."""
    torch.manual_seed(0)
    loss = get_loss(name)()
    student = torch.randn(64, classes, requires_grad=True)
    inputs = {
        "student_logits": student,
        "teacher_logits": torch.randn(64, classes),
        "labels": torch.arange(64) * (classes // 64),
    }
    seconds = 0.0
    for _ in range(2):
        began = time.process_time()
        sum(loss.terms(*(inputs.get(entry) for entry in loss.info.inputs)).values()).backward()
        seconds = time.process_time() - began
    return f"a step {1000 * seconds:.0f} ms"


def negatives(samples: int, number: int) -> str:
    """Draw negatives of other classes for one batch."""
    sampler = NegativeSampler(samples, torch.arange(samples) % 1000)
    began = time.process_time()
    sampler(torch.arange(64), number)
    return f"a batch {1000 * (time.process_time() - began):.0f} ms"


def epoch_order(samples: int) -> str:
    """The order of an epoch, and the numbers that crop and mirror its images."""
    generator = torch.Generator().manual_seed(0)
    torch.randperm(samples, generator=generator)
    for _ in range(2):
        torch.randint(9, (samples,), generator=generator)
    return f"{(torch.rand(samples, generator=generator) < 0.5).sum():,} mirrored"


def moments(samples: int, width: int) -> str:
    """Add samples to moments that do not grow."""
    statistics = LayerMoments([width] * 16)
    features = [torch.randn(500, width) for _ in range(16)]
    for _ in range(samples // 500):
        statistics.update(features)
    return f"{samples:,} samples of 16 layers"


def decoding(images: int) -> str:
    """Decode JPEG files of 500 x 375 pixels and resize them to 224."""
    file = io.BytesIO()
    noise = torch.rand(24, 32, 3).mul(255).byte().numpy()
    Image.fromarray(noise).resize((500, 375)).save(file, "JPEG", quality=90)
    began = time.process_time()
    for _ in range(images):
        to_tensor(fit(Image.open(io.BytesIO(file.getvalue())).convert("RGB"), (224, 224)))
    return f"{images / (time.process_time() - began):.0f} images a second"


PARTS: dict[str, dict[str, Part]] = {
    "layers": {
        "hint points of 250 blocks": partial(deep_network, 250),
        "hint points of 1,000 blocks": partial(deep_network, 1000),
        **{
            f"cka, {kind}, {layers:,} layers of 8, 500 samples": partial(
                layer_statistics, kind, layers, 8, 500, "cka"
            )
            for kind in ("rows", "moments")
            for layers in (250, 500, 1000)
        },
        "k-means of 1,000 layers": partial(clusters, 1000, "kmeans"),
        "segments of 1,000 layers": partial(clusters, 1000, "segments"),
    },
    "classes": {
        f"{name}, {classes:,} classes": partial(logit_loss, name, classes)
        for name in ("ce", "kd", "skd", "dkd", "nkd", "dist", "rld", "ttm", "wttm", "wsld")
        for classes in (1000, 100_000)
    },
    "samples": {
        "negatives of 50,000 samples, 16,384 each": partial(negatives, 50_000, 16_384),
        "negatives of 1,281,167 samples, 16,384 each": partial(negatives, 1_281_167, 16_384),
        "order and augmentation of 1,281,167 samples": partial(epoch_order, 1_281_167),
        "moments of 10,000 samples, 16 layers of 128": partial(moments, 10_000, 128),
        "JPEG files": partial(decoding, 200),
    },
}


def measure(line: Connection, part: Part) -> None:
    """Run a part; sends what it says, its seconds and its megabytes, or the fault."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    try:
        said = part()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    line.send((said, time.process_time() - began, more))


def main() -> None:
    context = multiprocessing.get_context("fork")
    for group in sys.argv[1:] or PARTS:
        for name, part in PARTS[group].items():
            ours, theirs = context.Pipe()
            process = context.Process(target=measure, args=(theirs, part))
            process.start()
            said, seconds, megabytes = ours.recv()
            process.join()
            print(f"{name:50} {seconds:8.2f} s {megabytes:8.0f} MB  {said}", flush=True)


if __name__ == "__main__":
    main()
