"""Whether a quarter of the epochs is enough: the recipe ``cifar100-fast`` against that of the benchmark.

Both schedules, and two steps between them, are run on a part of Fashion-MNIST at half its size, at a fraction
of their length and with a small network alone; seeds in turn, so that it can be stopped early.

    python benchmarks/short_recipe.py ROOT --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pursuhint.data import ImageData, load_dataset
from pursuhint.data.splits import MemorySplit
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_training import train

PLAIN = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
FASTER = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}


def arms(epochs: int) -> dict[str, dict[str, Any]]:
    """Settings by name; the benchmark's schedule of 240 epochs has ``epochs``, which 4 divides."""

    def steps(epochs: int) -> dict[str, Any]:
        milestones = sorted({round(epochs * share / 240) for share in (150, 180, 210)})
        schedule = {"kind": "step", "gamma": 0.1, "milestones": milestones}
        return {"epochs": epochs, "optimizer": PLAIN, "schedule": schedule}

    cycle = {"epochs": epochs // 4, "optimizer": FASTER, "schedule": "one-cycle"}
    return {
        "benchmark": steps(epochs),
        "benchmark, a quarter": steps(epochs // 4),
        "one cycle": cycle,
        "one cycle, alternate flips": {**cycle, "flip": "alternate"},
    }


def load(root: Path, train_samples: int, test_samples: int) -> ImageData:
    """A class-balanced part of the training images, and the first test images."""
    data = load_dataset("fashion-mnist", root=root, train_samples=train_samples, image_size=(14, 14))
    assert isinstance(data.test, MemorySplit)
    return replace(data, test=data.test.select(torch.arange(test_samples)))


def accuracy(data: ImageData, student: str, arm: dict[str, Any], seed: int) -> tuple[float, float]:
    """Test accuracy after the last epoch, in percent, and seconds of the processor."""
    settings = {key: value for key, value in arm.items() if key != "flip"}
    sections = {"data": {"name": data.name, "flip": arm.get("flip", "random")}}
    common = {"student": student, "batch_size": 64, "losses": {"ce": 1}, "seed": seed}
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        record = train(
            Recipe.from_dict({**common, **sections, **settings}), Path(folder, "run"), data=data, device="cpu"
        )
        return record.last["test_top1"], time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder that holds fashion-mnist/")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="of the long schedule")
    parser.add_argument("--train-samples", type=int, default=600)
    parser.add_argument("--test-samples", type=int, default=1000)
    arguments = parser.parse_args()
    data = load(arguments.root, arguments.train_samples, arguments.test_samples)
    compared = arms(arguments.epochs)
    found: dict[str, list[float]] = {name: [] for name in compared}
    for seed in range(arguments.seeds):
        for name, arm in compared.items():
            top1, seconds = accuracy(data, arguments.student, arm, seed)
            found[name].append(top1)
            print(f"seed {seed}  {name:28} {top1:6.2f} %  {seconds:6.1f} s of the processor", flush=True)
    for name, values in found.items():
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        print(f"{name:28} {statistics.mean(values):6.2f}{spread} %")


if __name__ == "__main__":
    main()
