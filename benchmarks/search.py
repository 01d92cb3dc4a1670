"""What a recorded teacher brings to a search of 20 trials.

    python benchmarks/search.py OUT [--threads 1]

The same search runs three times on each data set: as it is (plain), with the teacher recorded in the first
trial and replayed in the others as it was computed (recorded), and the same with a recording in float16
(float16). Seconds are those of the processor, so that other work on the machine does not count. Searches that
are in OUT already are taken from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch

from pursuhint.data import ImageData, load_dataset
from pursuhint.study import SearchOptions, search
from pursuhint.training import Inputs, Recipe, train

IMAGES = {"digits": (600, 300), "fashion-mnist": (400, 100)}
"""Images for training and validation, and for the test, of each data set."""

SIDE = 16  # pixels of larger images
HELD_OUT = 0.36  # of the first number, for validation
TEACHER, STUDENT, EPOCHS, TRIALS = "resnet56", "resnet20", 4, 20
VARY = ("losses.at=1..1000:log", "losses.kd.temperature=1..8")
COMMON = {"batch_size": 16, "schedule": "one-cycle", "optimizer": {"lr": 0.05}}


def seconds(call: Any) -> tuple[Any, float, float]:
    """The result of a call, its seconds of processor time, and those that passed."""
    processor, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, time.process_time() - processor, time.perf_counter() - wall


def few_images(name: str) -> ImageData:
    """Some images of a data set, so that evaluation after every epoch does not take most of the time."""
    data = load_dataset(name)
    if data.image_size[0] > SIDE:
        data = data.resized(SIDE)
    parts = [split.select(torch.arange(size)) for split, size in zip((data.train, data.test), IMAGES[name])]
    train_images, test_images = [(part.images, part.labels) for part in parts]
    return ImageData.from_tensors(
        f"few-{name}",
        train=train_images,
        test=test_images,
        num_classes=data.num_classes,
        augmentation=data.augmentation,
        val_fraction=HELD_OUT,
    )


def measure(out: Path, name: str, way: str, trials: int) -> dict[str, Any]:
    """One of the searches on a data set."""
    file = out / name / f"{way}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    data = few_images(name)
    teacher = train(
        Recipe.from_dict({"student": TEACHER, "epochs": 8, "seed": 100, **COMMON}),
        out / name / "teacher",
        device="cpu",
        data=data,
    )
    recipe = Recipe.from_dict(
        {
            "student": STUDENT,
            "teacher": {"network": TEACHER, "checkpoint": str(teacher.path / "student.safetensors")},
            "losses": {"at": 100.0, "kd": 0.9},
            "acceleration": {"teacher_rounding": "float16" if way == "float16" else "none"},
            "epochs": EPOCHS,
            **COMMON,
        }
    )
    recording = None if way == "plain" else out / name / f"recording-{way}"
    options = SearchOptions(trials=trials, pruner="none", record_teacher=recording)
    result, processor, wall = seconds(
        lambda: search(
            recipe,
            out / name / way,
            VARY,
            options=options,
            device="cpu",
            inputs=Inputs(data=data),
            watch=print,
        )
    )
    size = sum(path.stat().st_size for path in recording.rglob("*.safetensors")) if recording else 0
    line = {
        "processor": processor,
        "wall": wall,
        "bytes": size,
        "best": result.best,
        "values": result.best_trial.values,
        "top1": [trial.top1 for trial in result.trials],
    }
    file.write_text(json.dumps(line) + "\n")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trials", type=int, default=TRIALS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plain: dict[str, list[float]] = {}
    for way, name in itertools.product(("plain", "recorded", "float16"), IMAGES):
        line = measure(arguments.out, name, way, arguments.trials)
        same = sum(a == b for a, b in zip(line["top1"], plain.setdefault(name, line["top1"])))
        print(
            f"| {name} | {way} | {line['processor']:.0f} s | {line['bytes'] / 1e6:.0f} MB "
            f"| {line['best']} | {max(line['top1']):.2f} % | {same} of {len(line['top1'])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
