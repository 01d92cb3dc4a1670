"""Measure a training step of PursuHint and of a plain PyTorch loop.

The plain loop crops, flips and normalizes image by image with PIL in a DataLoader (with the fastest of 0, 1
and 2 workers), runs teacher and student eagerly in float32 and in their default memory layout, and reads loss
and accuracy with ``.item()`` after every step. Ours has equal networks, batches, hint points and losses
(attention transfer beside cross-entropy). Each loop has its own process, because the C library's allocator is
set for a whole process. The loops alternate, a few steps at a time; medians over all steps are printed, and
their ratio.

    python benchmarks/train_step.py DATA               # both pairs of networks; effect of each setting
    python benchmarks/train_step.py DATA --compile     # torch.compile too, which takes minutes
    python benchmarks/train_step.py DATA --arms 5      # students that share one teacher
    python benchmarks/train_step.py DATA --accuracy 3  # float32 against bfloat16, over 3 seeds

DATA is a folder with train/ and val/, one folder a class, of images of 32x32 pixels; or ``digits``, enlarged.
Fails (exit status 1) if the losses of 20 steps differ by more than 1e-4 of their size.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pursuhint._util.devices import choose_device
from pursuhint.acceleration.fuse_batchnorm import fuse_batchnorms
from pursuhint.acceleration.malloc import keep_freed_memory, set_up_memory
from pursuhint.acceleration.options import Acceleration
from pursuhint.data import CropFlip, ImageData, Loader, MemorySplit, load_dataset, make_loader
from pursuhint.distillation import Distiller, Term
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses.at import AttentionTransferLoss
from pursuhint.losses.base import HintSum
from pursuhint.losses.ce import CrossEntropyLoss
from pursuhint.models import create_model
from pursuhint.training.devices import build_accelerator
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.loop import LoopHooks, TrainingLoop
from pursuhint.training.multi_student.train_many import train_many
from pursuhint.training.recipe.schema import OptimizerConfig, Recipe, ScheduleConfig
from pursuhint.training.run_training import train
from pursuhint.training.stages import Stage, build_optimizer

PAIRS = (("resnet32x4", "resnet8x4"), ("resnet110", "resnet20"))
BATCH = 64
WEIGHT = 1000.0
RATE = 0.05
OPTIMIZER = OptimizerConfig(lr=RATE, momentum=0.9, weight_decay=5e-4)
AGREEMENT = 1e-4

Images = Tensor
Step = Callable[[], None]


# ---------------------------------------------------------------------------------------------------------
# The usual loop


class PilImages(Dataset):
    """Images that are augmented one by one."""

    def __init__(self, data: ImageData) -> None:
        split, augmentation = data.train, data.augmentation
        assert isinstance(split, MemorySplit)
        assert isinstance(augmentation, CropFlip)
        pixels = split.images.permute(0, 2, 3, 1).numpy()
        gray = data.in_channels == 1
        self.images = [Image.fromarray(image[..., 0] if gray else image) for image in pixels]
        self.labels = split.labels.tolist()
        flips = [transforms.RandomHorizontalFlip()] if augmentation.flip else []
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(data.image_size, padding=augmentation.padding),
                *flips,
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def usual_batches(data: ImageData, workers: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end."""
    loader = DataLoader(
        PilImages(data),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def device_batches(loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
    """Those of our loader, without end."""
    epoch = 0
    while True:
        for batch in loader.epoch(epoch):
            if len(batch) == BATCH:
                yield batch.images, batch.labels
        epoch += 1


class Features:
    """A network that returns its logits and its features, as networks written for distillation do."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self.network, self.seen = network, []
        for name in names:
            network.get_submodule(name).register_forward_hook(lambda _, __, output: self.seen.append(output))

    def __call__(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.seen.clear()
        logits = self.network(images)
        return logits, list(self.seen)


def attention(features: Tensor) -> Tensor:
    return F.normalize(features.pow(2).mean(1).flatten(1))


class UsualLoop:
    """A step as it is commonly written. Each option is one lever of ours."""

    def __init__(
        self,
        setup: Setup,
        batches: Iterator[tuple[Tensor, Tensor]],
        *,
        teacher: nn.Module | None = None,
        channels_last: bool = False,
        item: bool = True,
        fused: bool = False,
        bf16: bool = False,
        keep_memory: bool = False,
    ) -> None:
        if keep_memory:
            keep_freed_memory()
        self.device, self.batches, self.item = setup.device, batches, item
        self.bf16 = bf16
        student = copy.deepcopy(setup.student).to(self.device).train()
        teacher = copy.deepcopy(teacher or setup.teacher).to(self.device).eval()
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        student.to(memory_format=self.format)
        teacher.to(memory_format=self.format)
        self.student, self.teacher = (
            Features(student, setup.student_names),
            Features(teacher, setup.teacher_names),
        )
        self.optimizer = torch.optim.SGD(
            student.parameters(),
            lr=RATE,
            momentum=0.9,
            weight_decay=5e-4,
            **({"fused": True} if fused else {}),
        )
        self.loss_sum, self.hits, self.count = 0.0, 0.0, 0
        self.history: list[float] = []
        self.sums = torch.zeros(2, device=self.device)

    def step(self) -> None:
        images, labels = next(self.batches)
        images = images.to(self.device, non_blocking=True).contiguous(memory_format=self.format)
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits, own = self.student(images)
            with torch.no_grad():
                _, theirs = self.teacher(images)
        if self.bf16:
            logits, own, theirs = logits.float(), [f.float() for f in own], [f.float() for f in theirs]
        hints = sum((attention(s) - attention(t)).pow(2).mean() for s, t in zip(own, theirs))
        loss = F.cross_entropy(logits, labels) + WEIGHT * hints
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        hits = (logits.argmax(1) == labels).sum()
        if self.item:
            self.history.append(loss.item())
            self.loss_sum += self.history[-1] * len(labels)
            self.hits += hits.item()
            self.count += len(labels)
        else:
            self.sums += torch.stack([loss.detach(), hits.float()])


# ---------------------------------------------------------------------------------------------------------
# Ours


@dataclass(frozen=True)
class Setup:
    """A pair of networks and their data."""

    data: ImageData
    device: torch.device
    teacher: nn.Module
    student: nn.Module
    plan: HintPlan

    @classmethod
    def make(cls, data: ImageData, device: torch.device, teacher: str, student: str) -> Setup:
        torch.manual_seed(0)
        sizes = {"num_classes": data.num_classes, "in_channels": data.in_channels}
        big, small = create_model(teacher, **sizes), create_model(student, **sizes)
        example = torch.zeros(2, data.in_channels, *data.image_size)
        warm_statistics(big, data)
        plan = HintPlan.conventional(big, find_hint_points(big, example)).with_student(
            find_hint_points(small, example), small
        )
        return cls(data, device, big, small, plan)

    @property
    def teacher_names(self) -> list[str]:
        return [pair.teacher.module for pair in self.plan.pairs]

    @property
    def student_names(self) -> list[str]:
        return [pair.student.module for pair in self.plan.pairs if pair.student is not None]

    def loader(self) -> Loader:
        return make_loader(
            self.data, "train", batch_size=BATCH, training=True, device=self.device, drop_last=True
        )


@torch.no_grad()
def warm_statistics(network: nn.Module, data: ImageData) -> None:
    """Let the batch norms of an untrained network see some images: its features then have a sensible size."""
    loader = make_loader(data, "train", batch_size=BATCH, training=True)
    for batch, _ in zip(loader.epoch(), range(10)):
        network.train()(batch.images)
    network.eval()


def build_distiller(setup: Setup, acceleration: Acceleration) -> Distiller:
    students, teachers = zip(*((pair.student, pair.teacher) for pair in setup.plan.pairs))
    terms = {
        "ce": Term(CrossEntropyLoss(), 1.0),
        "at": Term(HintSum([AttentionTransferLoss() for _ in students]), WEIGHT),
    }
    return Distiller(
        copy.deepcopy(setup.student),
        terms,
        teacher=copy.deepcopy(setup.teacher),
        student_points=students,
        teacher_points=teachers,
        acceleration=acceleration,
    )


class OurLoop:
    """The loop of the library, one step at a time."""

    def __init__(self, setup: Setup, acceleration: Acceleration, accelerator: Accelerator) -> None:
        set_up_memory(acceleration, setup.device)  # as the command line does; this process runs one loop only
        stage = Stage("main", 10**6, OPTIMIZER, ScheduleConfig(kind="constant"))
        distiller = build_distiller(setup, acceleration)
        if setup.device.type == "cuda":
            distiller.student.to(memory_format=torch.channels_last)
        hooks = LoopHooks(after_epoch=lambda metrics: None)
        loop = TrainingLoop(accelerator, distiller, setup.loader(), seed=0, hooks=hooks)
        self.steps = loop.steps([stage])
        next(self.steps)

    def step(self) -> None:
        next(self.steps)


# ---------------------------------------------------------------------------------------------------------
# Measuring


@dataclass(frozen=True)
class Kind:
    """A loop's settings, which can be sent to another process.

    Attributes:
        ours: whether it is PursuHint's loop; otherwise the plain one.
        precision: of our loop.
        workers: of the plain loop's DataLoader; None for batches from our loader.
        fused: whether the plain loop's teacher has fused batch norms.
        options: of `Acceleration` or `UsualLoop`.
    """

    ours: bool
    precision: str = "float32"
    workers: int | None = 0
    fused: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, setup: Setup) -> Step:
        device, data = setup.device, setup.data
        if self.ours:
            return OurLoop(
                setup, Acceleration(**self.options), build_accelerator(device, self.precision)
            ).step
        batches = (
            device_batches(setup.loader())
            if self.workers is None
            else usual_batches(data, self.workers, device)
        )
        teacher = None
        if self.fused:
            some = make_loader(data, "train", batch_size=2, training=False).epoch()
            teacher = fuse_batchnorms(setup.teacher, next(iter(some)).images)
        return UsualLoop(setup, batches, teacher=teacher, **self.options).step


class LoopProcess:
    """A loop in a process of its own, which runs steps on request."""

    def __init__(self, kind: Kind, pair: tuple[str, str], arguments: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, kind, pair, arguments), daemon=False)
        self._process.start()
        theirs.close()

    def ask(self, what: str, steps: int) -> Any:
        self._line.send((what, steps))
        return self._line.recv()

    def close(self) -> None:
        self._line.send(("stop", 0))
        self._process.join()


def serve(line: Connection, kind: Kind, pair: tuple[str, str], arguments: argparse.Namespace) -> None:
    """Answer the requests of a `LoopProcess`, in its process."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    step = kind.build(Setup.make(load(arguments.data), device, *pair))
    answers: dict[str, Callable[[int], Any]] = {
        "time": lambda steps: timed(step, device, steps),
        "busy": lambda steps: busy(step, device, steps),
    }
    while True:
        what, steps = line.recv()
        if what == "stop":
            return
        line.send(answers[what](steps))


def timed(step: Step, device: torch.device, steps: int) -> list[tuple[float, float]]:
    """Wall time and CPU time of each of some steps, in seconds."""
    step()  # not counted: the caches still hold the other loop's data
    finish(device)
    if device.type == "cpu":
        times = []
        for _ in range(steps):
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        return times
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):  # a GPU runs asynchronously: only all steps together can be timed
        step()
    finish(device)
    return [((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps)]


@dataclass
class Times:
    """Seconds of every measured step."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.wall)


def alternate(
    kinds: Mapping[str, Kind], pair: tuple[str, str], arguments: argparse.Namespace, *, usage: bool = False
) -> dict[str, Times]:
    """Run some steps of each in turn, and time them."""
    times = {name: Times() for name in kinds}
    loops = {}
    try:
        for name, kind in kinds.items():  # one after the other: they would build in each other's way
            loops[name] = LoopProcess(kind, pair, arguments)
            loops[name].ask("time", 2)
        for _ in range(arguments.rounds):
            for name, loop in loops.items():
                for wall, cpu in loop.ask("time", arguments.steps):
                    times[name].wall.append(wall)
                    times[name].cpu.append(cpu)
        for name, loop in loops.items() if usage else ():
            print(f"  GPU busy, {name}: {100 * loop.ask('busy', 20):.0f} %")
    finally:
        for loop in loops.values():
            loop.close()
    return times


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(times: dict[str, Times], base: str) -> None:
    reference = times[base]
    for name, own in times.items():
        quartiles = statistics.quantiles(own.wall, n=4) if len(own.wall) > 1 else own.wall * 3
        print(
            f"  {name:<44} {1e3 * own.median:8.1f} ms  ({1e3 * quartiles[0]:.1f} to {1e3 * quartiles[2]:.1f})"
            f"  {reference.median / own.median:5.2f}x"
            f"   CPU {1e3 * statistics.median(own.cpu):8.1f} ms",
            flush=True,
        )


def busy(step: Step, device: torch.device, steps: int) -> float:
    """Share of the time in which the GPU works."""
    from torch.profiler import ProfilerActivity, profile

    finish(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        finish(device)
        passed = time.perf_counter() - began
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / passed


def fastest_workers(data: ImageData, device: torch.device) -> int:
    """The number of workers with which the usual loader alone is fastest."""
    seconds = {}
    for workers in (0, 1, 2):
        batches = usual_batches(data, workers, device)
        for _ in range(4):
            next(batches)
        began = time.perf_counter()
        for _ in range(30):
            next(batches)
        seconds[workers] = (time.perf_counter() - began) / 30
    shown = ", ".join(f"{workers}: {1e3 * value:.1f} ms" for workers, value in seconds.items())
    print(f"  loading a batch as usual, by number of workers: {shown}")
    return min(seconds, key=lambda workers: seconds[workers])


def largest_difference(setup: Setup, steps: int, *, exact: bool) -> float:
    """Of the losses of both loops on the same batches, as a share of their size.

    Training from scratch amplifies the last bit of float32 a thousandfold within a few steps: even two runs
    of the usual loop that differ in memory layout alone drift apart by percents. So the two loops are
    compared in float64, each going its own way (``exact``), and in float32, ours beginning every step where
    the usual one is.
    """
    dtype = torch.float64 if exact else torch.float32
    size = BATCH // 8 if exact else BATCH
    loader = make_loader(setup.data, "train", batch_size=size, training=True, drop_last=True)
    own = replace(
        setup, teacher=copy.deepcopy(setup.teacher).to(dtype), student=copy.deepcopy(setup.student).to(dtype)
    )
    batches = [
        replace(
            batch,
            images=batch.images.to(setup.device, dtype),
            labels=batch.labels.to(setup.device),
            indices=batch.indices.to(setup.device),
        )
        for batch, _ in zip(endless(loader), range(steps))
    ]
    usual = UsualLoop(own, ((batch.images, batch.labels) for batch in batches))
    distiller = build_distiller(own, Acceleration()).to(setup.device).train()
    optimizer = build_optimizer(OPTIMIZER, list(distiller.parameters()))
    worst = 0.0
    for batch in batches:
        if not exact:
            distiller.student.load_state_dict(usual.student.network.state_dict())
        usual.step()
        loss = distiller(batch).total
        optimizer.zero_grad()
        loss.backward()
        if exact:
            optimizer.step()
        expected = usual.history[-1]
        worst = max(worst, abs(loss.item() - expected) / abs(expected))
    return worst


def endless(loader: Loader) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


# ---------------------------------------------------------------------------------------------------------
# What is measured


def compare_loops(pair: tuple[str, str], data: ImageData, arguments: argparse.Namespace) -> bool:
    device = choose_device(arguments.device)
    setup = Setup.make(data, device, *pair)
    worst = 0.0
    for exact, words in ((True, "float64, step after step"), (False, "float32, each from the same weights")):
        difference = largest_difference(setup, arguments.compared, exact=exact)
        worst = max(worst, difference)
        print(f"  {arguments.compared} losses in {words}: apart by at most {difference:.1e} of their size")
    workers = fastest_workers(setup.data, device)
    base = f"usual loop, {workers} workers"
    kinds = {
        base: Kind(ours=False, workers=workers),
        "ours, float32": Kind(ours=True),
        "ours, float32, teacher in bfloat16": Kind(ours=True, options={"teacher_precision": "bf16"}),
        "ours, bfloat16": Kind(ours=True, precision="bf16"),
    }
    if arguments.compile:
        compiled = {"compile": arguments.compile, "compile_mode": arguments.compile_mode}
        kinds["ours, float32, compiled"] = Kind(ours=True, options=compiled)
        kinds["ours, bfloat16, compiled"] = Kind(ours=True, precision="bf16", options=compiled)
    report(alternate(kinds, pair, arguments, usage=device.type == "cuda"), base)
    return worst <= AGREEMENT


def compare_levers(pair: tuple[str, str], arguments: argparse.Namespace) -> None:
    """The usual loop with one thing changed at a time, and ours with one thing left out."""

    def usual(*, fused: bool = False, **options: Any) -> Kind:
        return Kind(ours=False, workers=arguments.workers, fused=fused, options=options)

    def ours(**options: Any) -> Kind:
        return Kind(ours=True, options=options)

    base = f"usual loop, {arguments.workers} workers"
    kinds = {
        base: usual(),
        "... data on the device": Kind(ours=False, workers=None),
        "... metrics stay on the device": usual(item=False),
        "... teacher's norms fused": usual(fused=True),
        "... channels last": usual(channels_last=True),
        "... channels last, teacher's norms fused": usual(channels_last=True, fused=True),
        "... fused optimiser": usual(fused=True),
        "... freed memory kept": usual(keep_memory=True),
        "... bfloat16 (autocast)": usual(bf16=True),
        "ours, float32": ours(),
        "... without channels last": ours(channels_last=False),
        "... without fused norms": ours(fuse_batchnorm=False),
        "... with Winograd": ours(winograd=True),
        "... without freed memory kept": ours(keep_memory=False),
    }
    report(alternate(kinds, pair, arguments), base)


def compare_arms(data: ImageData, device: torch.device, arguments: argparse.Namespace) -> None:
    """Students that share one teacher, against as many runs by themselves."""
    teacher, student = PAIRS[0]
    setup = Setup.make(data, device, teacher, student)
    set_up_memory(Acceleration(), device)
    part = replace(data, train=data.train.select(torch.arange(min(len(data.train), BATCH * arguments.steps))))
    part = replace(part, test=data.test.select(torch.arange(min(len(data.test), BATCH))))
    recipes = [
        Recipe.from_dict(
            {
                "student": student,
                "teacher": {"network": teacher},
                "data": {"name": data.name},
                "hints": "conventional",
                "losses": {"at": weight},
                "epochs": 1,
                "batch_size": BATCH,
                "schedule": "constant",
            }
        )
        for weight in range(1, arguments.arms + 1)
    ]
    seconds: dict[str, list[float]] = {"separately": [], "together": []}
    for _ in range(max(1, arguments.rounds // 2)):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            for place, recipe in enumerate(recipes):
                train(recipe, Path(folder, f"alone{place}"), teacher=setup.teacher, data=part, device=device)
            seconds["separately"].append(time.perf_counter() - began)
            began = time.perf_counter()
            train_many(
                [
                    Run(recipe, Path(folder, f"shared{place}"), Inputs(teacher=setup.teacher, data=part))
                    for place, recipe in enumerate(recipes)
                ],
                device=device,
                streams=device.type == "cuda",
            )
            seconds["together"].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["separately"] / medians["together"]
    print(f"{arguments.arms} students {student} of {teacher}, {arguments.steps} steps each, in whole runs")
    print(f"  separately {medians['separately']:.1f} s, together {medians['together']:.1f} s: {ratio:.2f}x")


def compare_accuracy(data: ImageData, device: torch.device, arguments: argparse.Namespace) -> None:
    """Final accuracy in float32 and with either network in bfloat16."""
    teacher, student = arguments.accuracy_pair.split(":")
    common = {
        "data": {"name": data.name},
        "epochs": arguments.epochs,
        "batch_size": BATCH,
        "optimizer": {"lr": 0.1, "nesterov": True},
        "schedule": "one-cycle",
    }
    print(f"accuracy of {student} taught by {teacher} (AT), {arguments.epochs} epochs:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        record = train(
            Recipe.from_dict({"student": teacher, **common}),
            Path(folder, "teacher"),
            data=data,
            device=device,
        )
        taught = create_model(teacher, num_classes=data.num_classes, in_channels=data.in_channels)
        from pursuhint.models.checkpoint import load_weights

        load_weights(taught, record.path / "student.safetensors")
        print(f"  teacher: {record.last['test_top1']:.2f} %")
        kinds: dict[str, dict[str, Any]] = {
            "float32": {},
            "teacher in bfloat16": {"acceleration": {"teacher_precision": "bf16"}},
            "both in bfloat16": {"precision": "bf16"},
        }
        for name, changes in kinds.items():
            values = []
            for seed in range(arguments.accuracy):
                recipe = Recipe.from_dict(
                    {
                        "student": student,
                        "teacher": {"network": teacher},
                        "hints": "conventional",
                        "losses": {"at": None},
                        "seed": seed,
                        **common,
                        **changes,
                    }
                )
                out = Path(folder, f"{name}-{seed}".replace(" ", "-"))
                own = train(recipe, out, teacher=taught, data=data, device=device)
                values.append(own.last["test_top1"])
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            each = ", ".join(f"{value:.2f}" for value in values)
            print(f"  {name:<20} {statistics.mean(values):.2f} ± {spread:.2f} %  ({each})", flush=True)


def load(source: str) -> ImageData:
    if source == "digits":
        return load_dataset("digits", image_size=32)
    return load_dataset(source if source.startswith("folder:") else f"folder:{source}", image_size=32)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    flags = ""
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        flags = ", ".join(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in known)
    except OSError:
        pass
    return f"{torch.get_num_threads()} CPU threads ({flags}), PyTorch {torch.__version__}"


def main(words: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="folder of images, or digits")
    parser.add_argument("--pair", choices=[f"{big}:{small}" for big, small in PAIRS], help="only this one")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loop (5)")
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn (8)")
    parser.add_argument("--workers", type=int, default=0, help="of the usual loop among the levers (0)")
    parser.add_argument("--compared", type=int, default=20, help="steps whose losses are compared (20)")
    parser.add_argument("--no-levers", action="store_true", help="leave out what each lever brings")
    parser.add_argument(
        "--compile", nargs="?", const="all", choices=("teacher", "networks", "all"), help="compile (all)"
    )
    parser.add_argument(
        "--compile-mode", default="default", choices=("default", "reduce-overhead", "max-autotune")
    )
    parser.add_argument("--arms", type=int, help="compare so many students that share a teacher, only")
    parser.add_argument("--accuracy", type=int, help="compare accuracies over so many seeds, only")
    parser.add_argument("--accuracy-pair", default="resnet20:resnet8", help="teacher:student for that")
    parser.add_argument("--epochs", type=int, default=15, help="for that (15)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", help="where to train")
    arguments = parser.parse_args(None if words is None else list(words))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    data = load(arguments.data)
    print(f"{describe(device)}; batch {BATCH}, {len(data.train)} images of {data.image_size[0]} pixels")
    if arguments.arms:
        compare_arms(data, device, arguments)
    if arguments.accuracy:
        compare_accuracy(data, device, arguments)
    if arguments.arms or arguments.accuracy:
        return 0
    agree = True
    for pair in PAIRS:
        if arguments.pair not in (None, ":".join(pair)):
            continue
        print(" -> ".join(pair), flush=True)
        agree = compare_loops(pair, data, arguments) and agree
        if not arguments.no_levers:
            compare_levers(pair, arguments)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
