"""Kill training runs at random times, resume them, and compare them with an uninterrupted run.

Every run is a process that is killed once (SIGKILL), at a time drawn uniformly from the duration of the run:
while it prepares, in an epoch, while it evaluates or saves. The same call then resumes it. Metrics (wall
times aside) and weights must equal those of the uninterrupted run, to the last bit. Runs that end before
their kill do not count.

    python benchmarks/faults.py                        # twenty kills
    python benchmarks/faults.py --kills 100 --seed 1
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import Recipe, train
from pursuhint.training.run_folder.checkpoints import StateStore

WALL_TIMES = ("seconds", "samples_per_second")
WEIGHTS = ("student.safetensors", "best.safetensors")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a killed run.

    Attributes:
        after: seconds between its start and the kill.
        state: the saved state from which it resumed, as text.
        same: whether it equals the uninterrupted run.
    """

    after: float
    state: str
    same: bool


def recipe(folder: Path) -> Recipe:
    """A student on the digits, whose losses have a memory bank and learned layers; saves every four steps."""
    weights = folder / "teacher.safetensors"
    torch.manual_seed(0)
    save_weights(create_model("resnet8", num_classes=10, in_channels=1), weights)
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(weights)},
            "data": "digits",
            "losses": {"kd": 0.9, "vid": 1, "crd": 0.8},
            "optimizer": {"lr": 0.02},
            "epochs": 2,
            "batch_size": 128,
            "save_every_steps": 4,
        }
    )


def run(settings: Recipe, folder: Path) -> None:
    """Train in a child process."""
    torch.set_num_threads(1)
    train(settings, folder, device="cpu")
    os._exit(0)


def started(settings: Recipe, folder: Path) -> Any:
    """Start a run in a process; forked, so that nothing is imported again."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(settings, folder))
    process.start()
    return process


def result(folder: Path) -> tuple[Any, ...]:
    """Metrics and weights of a run, which must not depend on interruptions."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in WALL_TIMES} for line in lines]
    return metrics, [(folder / name).read_bytes() for name in WEIGHTS]


def killed(settings: Recipe, folder: Path, seconds: float, whole: Path) -> Outcome | None:
    """Kill a run after some seconds, resume it and compare it with ``whole``; None if it had ended before."""
    began = time.monotonic()
    process = started(settings, folder)
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return None
    after = time.monotonic() - began
    saved = StateStore(folder / "state").load()
    state = "nothing had been saved" if saved is None else f"epoch {saved.progress['epoch']}"
    if saved is not None and saved.progress["step"]:
        state += f" and {saved.progress['step']} steps"
    again = started(settings, folder)
    again.join()
    return Outcome(after, state, again.exitcode == 0 and result(folder) == result(whole))


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 if a run differs from the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="number of runs to kill (default: 20)")
    parser.add_argument("--seed", type=int, help="seed of the times (default: a new one each time)")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings, whole = recipe(folder), folder / "whole"
        began = time.monotonic()
        process = started(settings, whole)
        process.join()
        inputs = time.monotonic() - began
        if process.exitcode:
            return 1
        print(f"uninterrupted: {inputs:.1f} s, {settings.epochs} epochs")
        outcomes: list[Outcome] = []
        runs = 0
        while len(outcomes) < options.kills:
            runs += 1
            one = killed(settings, folder / f"run-{runs}", draw.uniform(0, inputs), whole)
            if one is None:
                continue
            outcomes.append(one)
            print(
                f"{len(outcomes):3} killed after {one.after:5.2f} s; resumed from: {one.state}; "
                f"{'the same' if one.same else 'NOT the same'}",
                flush=True,
            )
    same = sum(one.same for one in outcomes)
    print(f"{same} of {len(outcomes)} resumed runs equal the uninterrupted one")
    return int(same < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
