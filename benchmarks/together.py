"""Compare students trained together, with one shared teacher, with separate runs: seconds per step.

    python benchmarks/together.py --threads 2
    python benchmarks/together.py --students 8 --device cuda --streams

The two, `pursuhint.training.train_many` and `pursuhint.training.train`, alternate on random images in memory.
Steps are timed from the end of the first to the end of the last one, so that building and evaluating do not
count. On a shared machine CPU time is more reliable than wall time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pursuhint.acceleration import set_up_memory
from pursuhint.data import CropFlip, ImageData
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import GroupStep, Inputs, Recipe, Run, StepDone, train, train_many

CLASSES = 100


@dataclass(frozen=True)
class TogetherTimes:
    """Seconds of one step of all students, one entry per round.

    Attributes:
        students: number of students.
        alone: wall time, one run after the other.
        together: wall time, trained together.
        alone_cpu: CPU time of all threads, one run after the other.
        together_cpu: CPU time of all threads, trained together.
    """

    students: int
    alone: tuple[float, ...]
    together: tuple[float, ...]
    alone_cpu: tuple[float, ...]
    together_cpu: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over rounds of the speed-up in wall time."""
        return statistics.median(a / b for a, b in zip(self.alone, self.together, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """Median over rounds of the speed-up in CPU time."""
        return statistics.median(a / b for a, b in zip(self.alone_cpu, self.together_cpu, strict=True))


class _Steps:
    """Times the steps between events of one kind; forces a GPU sync at the first and the last one."""

    def __init__(self, kind: type, steps: int, device: torch.device) -> None:
        self.kind, self.steps, self.device = kind, steps, device
        self.count = 0
        self.wall = self.cpu = 0.0

    def __call__(self, event: Any) -> None:
        if not isinstance(event, self.kind):
            return
        self.count += 1
        if self.count in (1, self.steps):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            sign = 1 if self.count == self.steps else -1
            self.wall += sign * time.perf_counter()
            self.cpu += sign * time.process_time()

    @property
    def per_step(self) -> tuple[float, float]:
        """Seconds of wall time and of CPU time."""
        return self.wall / (self.steps - 1), self.cpu / (self.steps - 1)


def random_images(samples: int, size: int = 32) -> ImageData:
    """Noise in the shape of CIFAR-100, with its augmentation."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
        return images, torch.randint(CLASSES, (count,), generator=generator)

    return ImageData.from_tensors(
        "noise",
        train=draw(samples),
        test=draw(8),
        num_classes=CLASSES,
        augmentation=CropFlip(padding=4, flip=True),
    )


def measure_together(
    teacher: str = "resnet32x4",
    student: str = "resnet8x4",
    *,
    students: int = 5,
    batch_size: int = 64,
    steps: int = 8,
    rounds: int = 3,
    device: torch.device | str = "cpu",
    streams: bool = False,
    changes: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> TogetherTimes:
    """Time students that learn by attention transfer, one after the other and side by side.

    Args:
        teacher: name of a network.
        student: name of a network.
        students: how many.
        batch_size: images in a step.
        steps: of every run; the first is not timed.
        rounds: how often both ways are timed, in alternation.
        device: where.
        streams: see `pursuhint.training.train_many`.
        changes: other keys of the recipe, for example ``{"precision": "bf16"}``.
        say: gets a line a round.
    """
    where = torch.device(device)
    data = random_images(steps * batch_size)
    measured: dict[str, list[tuple[float, float]]] = {"alone": [], "together": []}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "teacher.safetensors")
        torch.manual_seed(0)
        save_weights(create_model(teacher, num_classes=CLASSES, in_channels=3), weights)
        recipes = [
            Recipe.from_dict(
                {
                    "student": student,
                    "teacher": {"network": teacher, "checkpoint": str(weights)},
                    "losses": {"ce": 1.0, "at": 100.0 * (number + 1)},
                    "epochs": 1,
                    "batch_size": batch_size,
                    **(changes or {}),
                }
            )
            for number in range(students)
        ]
        set_up_memory(recipes[0].acceleration, where)  # as the command line does
        for round_number in range(rounds):
            wall = cpu = 0.0
            for number, recipe in enumerate(recipes):
                watch = _Steps(StepDone, steps, where)
                out = Path(folder, f"alone-{round_number}-{number}")
                train(recipe, out, device=where, data=data, on_event=watch)
                wall, cpu = wall + watch.per_step[0], cpu + watch.per_step[1]
            measured["alone"].append((wall, cpu))
            watch = _Steps(GroupStep, steps, where)
            runs = [
                Run(recipe, Path(folder, f"together-{round_number}-{number}"), Inputs(data=data))
                for number, recipe in enumerate(recipes)
            ]
            train_many(runs, device=where, streams=streams, on_event=watch)
            measured["together"].append(watch.per_step)
            say(
                f"round {round_number + 1}: {1000 * wall:.0f} ms one after the other, "
                f"{1000 * watch.per_step[0]:.0f} ms together: {wall / watch.per_step[0]:.2f} times as fast "
                f"(CPU time {cpu / max(watch.per_step[1], 1e-9):.2f})"
            )
    (alone, alone_cpu), (together, together_cpu) = [zip(*measured[way], strict=True) for way in measured]
    return TogetherTimes(students, alone, together, alone_cpu, together_cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teacher", default="resnet32x4")
    parser.add_argument("--student", default="resnet8x4")
    parser.add_argument("--students", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of torch")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    times = measure_together(
        options.teacher,
        options.student,
        students=options.students,
        batch_size=options.batch_size,
        steps=options.steps,
        rounds=options.rounds,
        device=options.device,
        streams=options.streams,
        say=print,
    )
    print(
        f"{options.teacher} -> {options.student}, {times.students} students: a step of all takes "
        f"{1000 * statistics.median(times.alone):.0f} ms one after the other and "
        f"{1000 * statistics.median(times.together):.0f} ms together, {times.ratio:.2f} times as fast "
        f"(CPU time {times.cpu_ratio:.2f})"
    )


if __name__ == "__main__":
    main()
