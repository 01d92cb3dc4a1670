"""Kill a training run at random moments, go on with it, and compare it with one that was never stopped.

Every run is a process of its own that is really killed (SIGKILL), once, at a moment drawn uniformly from
the time that the run takes: while it prepares, in an epoch, while it evaluates or saves. The same call then
goes on with it. Metrics (wall times aside) and weights must be those of the uninterrupted run, to the last
bit. A run that was faster than its moment does not count.

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
    """What became of a run that was killed.

    Attributes:
        after: seconds between its start and its end.
        state: where the state was from which it went on, in words.
        same: whether it ended like the run that was never stopped.
    """

    after: float
    state: str
    same: bool


def recipe(folder: Path) -> Recipe:
    """A student with a memory bank and layers that learn, on the digits; a state every four steps."""
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
    """Train, in a process that is about to be killed or not."""
    torch.set_num_threads(1)
    train(settings, folder, device="cpu")
    os._exit(0)


def started(settings: Recipe, folder: Path) -> Any:
    """The process of a run. It is forked, so that nothing has to be imported again."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(settings, folder))
    process.start()
    return process


def result(folder: Path) -> tuple[Any, ...]:
    """What must be alike."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in WALL_TIMES} for line in lines]
    return metrics, [(folder / name).read_bytes() for name in WEIGHTS]


def killed(settings: Recipe, folder: Path, seconds: float, whole: Path) -> Outcome | None:
    """Kill a run after some seconds, go on with it, and compare it; None if it had ended before."""
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
    """Run the benchmark; 1 if a run ended otherwise than the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many runs to kill (default: 20)")
    parser.add_argument("--seed", type=int, help="of the moments (default: others every time)")
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
                f"{len(outcomes):3} killed after {one.after:5.2f} s; went on from: {one.state}; "
                f"{'the same' if one.same else 'NOT the same'}",
                flush=True,
            )
    same = sum(one.same for one in outcomes)
    print(f"{same} of {len(outcomes)} runs ended like the one that was never stopped")
    return int(same < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
