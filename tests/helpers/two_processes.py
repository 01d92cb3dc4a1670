"""What two processes do together, and one does alone."""

from __future__ import annotations

import itertools
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from pursuhint.acceleration.options import Acceleration
from pursuhint.data import ImageData, load_dataset
from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
from pursuhint.distillation.teacher_fsdp import is_sharded, shard_teacher
from pursuhint.features.hint_points import find_hint_points
from pursuhint.models import create_model
from pursuhint.training import Recipe, train
from pursuhint.training.signals import RunStopped

COMMON: dict[str, Any] = {
    "student": "resnet8",
    "teacher": "resnet8",
    "optimizer": {"lr": 0.02},
    "schedule": "constant",
    "epochs": 2,
    "batch_size": 63,
}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"losses": {"kd": 0.9, "at": 10, "rkd": 1}},
    "two views": {"losses": {"mlkd": 0.5}, "data": {"second_view": "standard,cutout"}, "epochs": 1},
    "bank": {"losses": {"crd": 0.8}},
    "warm-ups": {
        "losses": {"fitnet": {"weight": 1, "norm": False, "two_stages": True, "warm_up_epochs": 1}, "kd": 1}
    },
    "chosen": {"losses": {"at": 10}, "hints": {"strategy": "chosen", "k": 2, "samples": 60}, "epochs": 1},
    "drawn": {"losses": {"vid": 1}, "hints": {"strategy": "random-each-epoch", "k": 2, "seed": 1}},
    "curriculum": {
        "losses": {"at": 10},
        "hints": {"strategy": "curriculum", "k": 2, "curriculum": {"threshold": 1.0}},
    },
    "sharded": {
        "losses": {"kd": 0.9, "at": 10, "crd": 0.8},
        "acceleration": {"shard_teacher": True},
        "epochs": 1,
    },
    "best kept": {  # the student after the first epoch of matching, not after the second
        "losses": {"refilled": {"matching_epochs": 2, "keep_matching": "best", "score_every": 1}},
        "optimizer": {"lr": 0.2},
        "epochs": 1,
    },
    "synchronised": {"losses": {"kd": 0.9}, "sync_batchnorm": True},
    "apart": {"losses": {"ce": 0, "at": 10}},  # nothing reaches the classifier
}
STOPPED: dict[str, Any] = {"losses": {"kd": 1}, "epochs": 1, "batch_size": 16}
WITHOUT_NORMS = tuple(name for name in RUNS if name not in ("synchronised", "apart"))


def odd_digits() -> ImageData:
    """Some digits, of numbers that two processes cannot share evenly."""
    digits = load_dataset("digits")
    splits = digits.train.select(torch.arange(201)), digits.test.select(torch.arange(101))
    train_part, test_part = [(split.images, split.labels) for split in splits]
    return ImageData.from_tensors("odd digits", train=train_part, test=test_part)


def plain_student() -> nn.Module:
    """A network without batch norms."""
    torch.manual_seed(1)
    widths = [1, 8, 12, 16]
    units = [
        nn.Sequential(nn.Conv2d(one, two, 3, stride=1 + (one > 1), padding=1), nn.ReLU())
        for one, two in itertools.pairwise(widths)
    ]
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def teacher() -> nn.Module:
    torch.manual_seed(2)
    return create_model("resnet8", num_classes=10, in_channels=1)


def run(name: str, folder: Path, *, alone: bool = False, **options: Any) -> Any:
    """Train one of the runs; alone, without what takes several processes."""
    settings = {**COMMON, **RUNS.get(name, STOPPED)}
    if alone:
        settings.pop("acceleration", None)
    recipe = Recipe.from_dict(settings)
    student = None if name in ("synchronised", "apart") else plain_student()
    return train(
        recipe, folder / name, device="cpu", data=odd_digits(), student=student, teacher=teacher(), **options
    )


def work(rank: int, folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    own = str(rank)
    os.environ |= {"RANK": own, "LOCAL_RANK": own, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=100),
    )
    found = {}
    for name in RUNS:
        record = run(name, folder)
        found[name] = record.is_main_process, record.metrics
    found["stopped"] = stop_and_go_on(rank, folder)
    found["shares"] = shares_of_a_teacher(rank)
    torch.save(found, folder / f"found-{rank}")
    dist.destroy_process_group()


def shares_of_a_teacher(rank: int) -> dict[str, tuple[int, int, float]]:
    """For precisions of the teacher: its parameters, those held here, and how far off its features are."""
    found = {}
    for precision in ("float32", "bf16"):
        network = teacher().requires_grad_(False).eval()
        images = torch.randn(5 + rank, 1, 8, 8, generator=torch.Generator().manual_seed(rank))
        outputs = TeacherOutputs(find_hint_points(network, images))
        acceleration = Acceleration(teacher_precision=precision)
        whole = TeacherRunner(network, outputs, acceleration)(images)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        for _ in range(2):  # the second time nothing happens
            weights = torch.bfloat16 if precision == "bf16" else None
            shard_teacher(network, images, torch.device("cpu"), weights)
        assert is_sharded(network)
        run_teacher = TeacherRunner(network, outputs, acceleration)
        for _ in range(2):
            features = run_teacher(images)
        assert features.logits is None
        pairs = zip(features.maps, whole.maps, strict=True)
        apart = max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)
        held = sum(parameter.to_local().numel() for parameter in network.parameters())
        found[precision] = parameters, held, apart
    return found


def stop_and_go_on(rank: int, folder: Path) -> tuple[int, str, list[tuple[int, int]]]:
    """A signal that reaches one of the processes only, and the same run again."""

    def watch(event: Any) -> None:
        if type(event).__name__ == "StepDone" and event.step == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    run("whole", folder)
    try:
        run("stopped", folder, on_event=watch)
    except RunStopped as error:
        status, message = error.code, str(error)
    events: list[Any] = []
    run("stopped", folder, on_event=events.append)
    resumed = [(event.epoch, event.step) for event in events if type(event).__name__ == "Resumed"]
    return status, message, resumed
