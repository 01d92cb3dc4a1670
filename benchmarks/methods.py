"""Every method of the table on colour images: a teacher, then students by all methods, and the table.

    python benchmarks/methods.py IMAGES                 # a folder with train/ and val/, one folder a class
    python benchmarks/methods.py IMAGES --seeds 0       # a piece; the same command adds seeds later
    python benchmarks/methods.py IMAGES --write docs/methods.md
    python benchmarks/methods.py IMAGES --try-steps 5   # how long will it take?

All students of a seed train side by side and share the teacher. An interrupted
command resumes when it is given again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from marked_text import write_between

from pursuhint.acceleration import Acceleration, set_up_memory
from pursuhint.data import ImageData, load_dataset
from pursuhint.losses import get_loss
from pursuhint.report import write_report
from pursuhint.report.method_table import markdown_table
from pursuhint.report.sections.methods import findings
from pursuhint.report.text import duration
from pursuhint.study import MethodComparison, compare_methods
from pursuhint.study.method import all_methods
from pursuhint.training import EpochFinished, GroupStep, Recipe, RunRecord, train

PAPER_EPOCHS = 240
"""Length of the runs for which the methods' own numbers of epochs were chosen."""

PAPER_SAMPLES = 50_000
"""Size of the training set for which their numbers of negatives were."""

VARIANTS = (
    "kd:temperature=learned",
    "recipe:cifar100-mlkd",
    "recipe:cifar100-kd-standardized",
    "recipe:cifar100-mlkd-standardized",
)
"""Methods that a loss by itself is not: CTKD, MLKD with two views, standardized logits with their weights."""

_BEGIN, _END = "<!-- table: written by benchmarks/methods.py -->", "<!-- end of table -->"


def method_names(epochs: int, samples: int) -> list[str]:
    """Every loss alone, with its options scaled to the run, and `VARIANTS`.

    Numbers of epochs (warm-ups, ramps) are scaled to the length of the run; a number of negatives above the
    number of samples is scaled to the size of the training set.
    """
    names = []
    for name in all_methods():
        counts = {}
        for key, value in get_loss(name).hyperparameters().items():
            if key.endswith("_epochs") and isinstance(value, int):
                counts[key] = max(1, round(value * epochs / PAPER_EPOCHS))
            elif key == "negatives" and isinstance(value, int) and value > samples:
                counts[key] = max(1, round(value * samples / PAPER_SAMPLES))
        options = ",".join(f"{key}={value}" for key, value in counts.items())
        names.append(f"{name}:{options}" if options else name)
    return [*names, *VARIANTS]


def teacher_recipe(options: argparse.Namespace, data: ImageData) -> Recipe:
    """Recipe of the teacher: long, with strong augmentation."""
    return Recipe.from_dict(
        {
            "student": options.teacher,
            "data": {"name": data.name, "augment": options.teacher_augment},
            "optimizer": {"lr": 0.1, "nesterov": True},
            "schedule": "one-cycle",
            "epochs": options.teacher_epochs,
            "batch_size": 64,
            "precision": options.precision,
        }
    )


def student_recipe(options: argparse.Namespace, data: ImageData, weights: Path) -> Recipe:
    """Recipe that all students share."""
    return Recipe.from_dict(
        {
            "student": options.student,
            "teacher": {"network": options.teacher, "checkpoint": str(weights)},
            "data": {"name": data.name, "augment": options.augment},
            "optimizer": {"lr": options.lr, "nesterov": True},
            "schedule": "one-cycle",
            "epochs": options.epochs,
            "batch_size": 64,
            "precision": options.precision,
        }
    )


def part_of(data: ImageData, samples: int) -> ImageData:
    """The first training images and some test images, for a trial."""
    splits = {
        name: (split.images[:count], split.labels[:count])  # type: ignore[attr-defined]
        for name, split, count in (("train", data.train, samples), ("test", data.test, 64))
    }
    return ImageData.from_tensors(
        data.name, num_classes=data.num_classes, augmentation=data.augmentation, **splits
    )


class _Watch:
    """Prints progress, at most once a minute."""

    def __init__(self) -> None:
        self.said = 0.0

    def __call__(self, event: Any) -> None:
        kind, now = type(event).__name__, time.monotonic()
        if kind == "ArmFinished" and event.source != "found":
            result = "failed" if event.top1 is None else f"{event.top1:.2f} %"
            print(f"[{event.number} of {event.total}] {event.arm}, seed {event.seed}: {result}", flush=True)
        elif isinstance(event, GroupStep) and event.step == event.steps and now - self.said > 60:
            self.said = now
            print(f"epoch {event.epoch} of {event.epochs}", flush=True)
        elif isinstance(event, EpochFinished) and now - self.said > 60:
            self.said = now
            print(f"teacher: epoch {event.metrics['epoch']}, {event.metrics['test_top1']:.2f} %", flush=True)


def try_out(options: argparse.Namespace, data: ImageData) -> None:
    """Time a few steps of every method, with an untrained teacher, and say how long everything takes."""
    from pursuhint.models import create_model

    torch.manual_seed(0)
    teacher = create_model(options.teacher, num_classes=data.num_classes, in_channels=data.in_channels)
    recipe = student_recipe(options, data, Path("none")).model_copy(update={"epochs": 1})
    few = part_of(data, 64 * options.try_steps)
    names = options.methods or method_names(1, len(data.train))
    with tempfile.TemporaryDirectory() as folder:
        study = compare_methods(
            recipe, folder, methods=names, seeds=(0,), data=few, teacher=teacher, device=options.device
        )
        seconds = {}
        for method in study.methods:
            last = RunRecord.load(Path(folder, method.runs[0].folder)).last
            seconds[method.name] = last["seconds"] / options.try_steps
    steps = -(-len(data.train) // 64) * options.epochs * len(parse_seeds(options.seeds))
    for name, value in sorted(seconds.items(), key=lambda entry: entry[1]):
        print(f"{name:40} {1000 * value:8.0f} ms a step")
    for name, why in study.failed.items():
        print(f"{name}: {why}")
    print(f"all steps of all students: {duration(steps * sum(seconds.values()))}, without warm-ups")


def document(study: MethodComparison, teacher: RunRecord, command: str) -> str:
    """The table with what is needed to read it."""
    recipe, data = Recipe.from_dict(study.recipe), study.data
    environment = study.environment
    lines = [
        f"{study.student.name} ({study.student.parameters:,} parameters) taught by {study.teacher.name} "
        f"({study.teacher.parameters:,} parameters, {study.teacher.top1:.2f} % after "
        f"{len(teacher.metrics)} epochs with {', '.join(teacher.recipe.data.augment)} augmentation) on "
        f"{data.train:,} training and {data.test:,} test images of {data.image_size[0]} x "
        f"{data.image_size[1]} pixels, {data.num_classes} classes; {recipe.epochs} epochs, batches of "
        f"{recipe.batch_size}, SGD with learning rate {recipe.optimizer.lr:g} ({recipe.schedule.kind}), "
        f"{', '.join(recipe.data.augment)} augmentation; seeds {', '.join(map(str, study.seeds))}. Made by",
        "",
        f"    {command}",
        "",
        f"on {environment.get('device_name', 'unknown')}, {environment.get('threads', '?')} threads.",
        "",
        *findings(study),
        "",
        markdown_table(study).rstrip(),
    ]
    if study.failed:
        lines += ["", *(f"- {name} was not trained: {why}" for name, why in study.failed.items())]
    return "\n".join(lines) + "\n"


def command_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The command that gives the same numbers: what differs from the defaults, apart from places."""
    words = ["python benchmarks/methods.py IMAGES"]
    for name, value in vars(options).items():
        if name not in ("images", "out", "write", "methods") and value != parser.get_default(name):
            option = f"--{name.replace('_', '-')}"
            words.append(option if value is True else f"{option} {value}")
    words += [f"--method {method}" for method in options.methods or ()]
    return " ".join(words)


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"0,1,2"``."""
    return tuple(int(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", help="folder with train/ and val/ or test/, one folder a class")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--teacher", default="resnet32")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--teacher-epochs", type=int, default=100)
    parser.add_argument("--teacher-augment", default="standard,affine,color,cutout,mixup")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--augment", default="standard,affine,color")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--method", dest="methods", action="append", help="only these; repeatable")
    parser.add_argument("--at-once", type=int, default=None, help="students in training at the same time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of torch")
    parser.add_argument("--write", type=Path, default=None, help="document to put the table into")
    parser.add_argument("--try-steps", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    set_up_memory(Acceleration(), options.device)  # as the command line does
    data = load_dataset(f"folder:{options.images}")
    if options.try_steps:
        try_out(options, data)
        return
    watch = _Watch()
    teacher = train(
        teacher_recipe(options, data), options.out / "teacher", device=options.device, on_event=watch
    )
    print(f"teacher: {teacher.last['test_top1']:.2f} %", flush=True)
    recipe = student_recipe(options, data, teacher.path / "student.safetensors")
    study = compare_methods(
        recipe,
        options.out / "students",
        methods=options.methods or method_names(options.epochs, len(data.train)),
        seeds=parse_seeds(options.seeds),
        device=options.device,
        at_once=options.at_once,
        streams=options.streams,
        on_event=watch,
    )
    write_report(study.path)
    text = document(study, teacher, command_of(parser, options))
    print(text)
    if options.write is not None:
        write_between(options.write, _BEGIN, _END, text)


if __name__ == "__main__":
    main()
