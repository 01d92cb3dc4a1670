"""Compare every loss with a plain transcription of its formula: value, gradients, time and memory.

Two networks with the taps of the pair resnet32x4 -> resnet8x4 (64, 128 and 256 channels at 32, 16 and 8
pixels, embeddings of 256) make the inputs once; then the loss and its formula run forward and backward in
turns. Losses that differentiate by the images run both networks every time, with either contender.

    python benchmarks/losses.py                       # all, at the papers' shapes: batch 64, 50,000 samples
    python benchmarks/losses.py --only crd at         # some
    python benchmarks/losses.py --quick               # small shapes, in double precision
    python benchmarks/losses.py --write docs/losses.md   # the tables of the documentation; measures nothing

Times are CPU time with one thread, or wall time on a GPU: medians over runs in alternation. Memory is the
highest sum of what a run has allocated and not yet freed; inputs and memory banks are there before.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks

import torch
from loss_formulas import FORMULAS
from torch import Tensor, nn

from pursuhint._util.text_tables import pipe_table
from pursuhint.data import Batch
from pursuhint.distillation import LossSummary, summarize_losses
from pursuhint.distillation.distiller import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import get_loss
from pursuhint.losses.base import Loss
from pursuhint.models import create_model

CLASSES = 100
# What differs from the loss's defaults where shapes are small.
SMALL = {name: {"negatives": 48} for name in ("crd", "crcd", "wcord")} | {"rrd": {"queue_size": 128}}
# Formulas that lose digits in single precision, by subtracting numbers that are nearly equal.
TOLERANCES = {"pkt": 1e-2, "rkd": 1e-2, "kdsvd": 1e-2, "jacobian-attention": 1e-2}


@dataclass(frozen=True)
class Shapes:
    """Sizes of the networks' outputs and of the batch."""

    batch: int = 64
    image: int = 32
    samples: int = 50_000
    network: str = "resnet8x4"
    dtype: torch.dtype = torch.float32


QUICK = Shapes(batch=16, image=16, samples=200, network="resnet8", dtype=torch.float64)


@dataclass(frozen=True)
class Result:
    """The comparison of one loss with its formula.

    Attributes:
        name: of the formula.
        seconds: of one run, ours and the formula's; medians.
        bytes: peak memory, ours and the formula's.
        value_error: relative difference of the values.
        gradient_error: largest relative difference of a gradient, of the student's tensors and of parameters.
        tolerance: for both.
    """

    name: str
    seconds: tuple[float, float]
    bytes: tuple[float, float]
    value_error: float
    gradient_error: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether both values and gradients agree within the tolerance."""
        return self.value_error <= self.tolerance and self.gradient_error <= self.tolerance


class _Taken(Exception):
    """Stops a forward pass once the inputs of the loss are known."""


class Case:
    """A loss between two networks, and its inputs.

    Args:
        name: of a formula: a loss, with ``:STAGE`` for one of its warm-ups.
        shapes: how large everything is.
        device: where to run.
    """

    def __init__(self, name: str, shapes: Shapes, device: torch.device) -> None:
        self.name, stage = name.partition(":")[::2]
        kind = get_loss(self.name)
        torch.manual_seed(0)
        student, teacher = (create_model(shapes.network, num_classes=CLASSES) for _ in range(2))
        _settle(student, teacher, shapes)
        images = torch.randn(shapes.batch, 3, shapes.image, shapes.image)
        labels = torch.arange(shapes.samples) % min(CLASSES, shapes.batch // 4)
        indices = torch.randperm(shapes.samples)[: shapes.batch]
        plan = None
        if kind.needs_hint_plan():
            points = find_hint_points(teacher, images[:1])
            plan = HintPlan.conventional(teacher, points).with_student(
                find_hint_points(student, images[:1]), student
            )
        options = SMALL.get(self.name, {}) if shapes.samples < 50_000 else {}
        self.distiller = Distiller.build(
            student,
            teacher if kind.info.needs_teacher else None,
            losses={self.name: _Asked(options)},
            plan=plan,
            num_classes=CLASSES,
            num_samples=shapes.samples,
            example=images[:1],
            labels=labels,
            batch_size=shapes.batch,
        ).to(device, shapes.dtype)
        self.batch = Batch(images.to(device, shapes.dtype), labels[indices].to(device), indices.to(device))
        warm_ups = {warm_up.name: warm_up for _, warm_up in self.distiller.warm_ups()}
        if stage:
            self.distiller.begin_stage(self.name, warm_ups[stage])
        elif self.distiller.loss(self.name).info.warm_up_only:
            (first,) = warm_ups.values()
            self.distiller.begin_stage(self.name, first)
        self.distiller.train()
        self.loss = self.distiller.loss(self.name)
        self.loss.requires_grad_()
        self._kept = None if self.loss.info.needs_input_gradients else self._detached(self._take())

    def inputs(self) -> list[Any]:
        """Arguments of ``forward``: leaves, or fresh values where the loss differentiates by the images."""
        return self._take() if self._kept is None else self._kept

    def _take(self) -> list[Any]:
        taken: list[Any] = []

        def stop(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            taken.extend(value for value in arguments if value is not None)  # no second view
            raise _Taken

        handle = self.loss.register_forward_pre_hook(stop)
        try:
            self.distiller(self.batch)
        except _Taken:
            return taken
        finally:
            handle.remove()
        raise AssertionError(f"{self.name} was not computed")

    def _detached(self, inputs: list[Any]) -> list[Any]:
        def leaf(name: str, value: Any) -> Any:
            if isinstance(value, list):
                return [leaf(name, entry) for entry in value]
            fresh = value.detach().clone()
            return fresh.requires_grad_() if name.startswith("student") else fresh

        return [leaf(name, value) for name, value in zip(self.loss.info.inputs, inputs)]

    def leaves(self, inputs: Sequence[Any]) -> list[Tensor]:
        """The student's tensors, or its parameters where the inputs are no leaves."""
        if self._kept is None:
            return list(self.distiller.student.parameters())
        flat = [entry for value in inputs for entry in (value if isinstance(value, list) else [value])]
        return [tensor for tensor in flat if tensor.requires_grad]


@dataclass(frozen=True)
class _Asked:
    options: dict[str, Any]
    weight: float | None = None


@torch.no_grad()
def _settle(student: nn.Module, teacher: nn.Module, shapes: Shapes) -> None:
    """Run the teacher in training mode a few times, so that its batch norms have statistics."""
    teacher.train()
    for _ in range(3):
        teacher(torch.randn(32, 3, shapes.image, shapes.image))
    teacher.eval()


Contender = Callable[[Loss, list[Any]], Tensor]


def ours(loss: Loss, inputs: list[Any]) -> Tensor:
    """The loss itself."""
    value: Tensor = loss(*inputs)
    return value


def formula_of(name: str) -> Contender:
    """Its formula."""
    return lambda loss, inputs: FORMULAS[name](loss, *inputs)


def compared(name: str, shapes: Shapes, device: torch.device, repeats: int) -> Result:
    """Run a loss and its formula, each on a copy of the loss in the same state.

    Args:
        name: of the formula.
        shapes: how large everything is.
        device: where to run.
        repeats: runs to time; with 0 time and memory are not measured.
    """
    case = Case(name, shapes, device)
    contenders = [(ours, copy.deepcopy(case.loss)), (formula_of(name), copy.deepcopy(case.loss))]
    values, gradients = [], []
    for contender, loss in contenders:
        value, found = _run(case, contender, loss)
        values.append(value.item())
        gradients.append(found)
    pairs = [(a, b) for a, b in zip(*gradients) if a is not None and b is not None]
    largest = max(b.abs().max().item() for _, b in pairs)
    # Some gradients are zero but for rounding: those are held against the others.
    least = largest * (1e-3 if shapes.dtype == torch.float64 else 5e-2)
    errors = [_relative((a - b).abs().max().item(), max(b.abs().max().item(), least)) for a, b in pairs]
    del value, found, gradients
    peaks = [math.nan, math.nan]
    if repeats:
        peaks = [peak_bytes(lambda c=c, loss=loss: _run(case, c, loss), device) for c, loss in contenders]
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats):
        for index, (contender, loss) in enumerate(contenders):
            begun = clock(device)
            _run(case, contender, loss)
            seconds[index].append(clock(device) - begun)
    medians = [statistics.median(each) for each in seconds] if repeats else [math.nan, math.nan]
    tolerance = 1e-8 if shapes.dtype == torch.float64 else TOLERANCES.get(name, 1e-3)
    return Result(
        name,
        (medians[0], medians[1]),
        (peaks[0], peaks[1]),
        _relative(abs(values[0] - values[1]), abs(values[1])),
        max(errors) if all(error == error for error in errors) else math.nan,
        tolerance,
    )


def _relative(difference: float, size: float) -> float:
    return difference / size if size else (0.0 if difference == 0 else math.inf)


def _run(case: Case, contender: Contender, loss: Loss) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Forward and backward, to the student's tensors and the loss's own parameters."""
    inputs = case.inputs()
    value = contender(loss, inputs)
    wanted = [*case.leaves(inputs), *(p for p in loss.parameters() if p.requires_grad)]
    return value.detach(), torch.autograd.grad(value, wanted, allow_unused=True)


def clock(device: torch.device) -> float:
    """CPU time; on a GPU wall time, after a sync."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def peak_bytes(run: Callable[[], None], device: torch.device) -> float:
    """Peak of the memory that a run has allocated and not yet freed, in bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


# ---------------------------------------------------------------------------------------------------------
# The tables of the documentation


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the document."""
    summaries = summarize_losses(network="resnet8x4", image_size=32, num_classes=CLASSES)
    return {"losses": _overview(summaries), "banks": _banks(summaries), "options": _options(summaries)}


def _overview(summaries: Sequence[LossSummary]) -> str:
    rows = [["loss", "paper", "looks at", "learns (parameters)", "weight", "ce", "stages", "batch coupled"]]
    for loss in summaries:
        learns = f"{loss.info.learns} ({loss.parameters:,})" if loss.parameters else loss.info.learns or "-"
        rows.append(
            [
                f"`{loss.name}`",
                loss.info.paper,
                loss.info.taps,
                learns,
                f"{loss.info.default_weight:g}",
                "inside" if loss.ce_weight is None else f"{loss.ce_weight:g}",
                _stages(loss),
                "yes" if loss.info.batch_coupled else "no",
            ]
        )
    return _markdown(rows)


def _stages(loss: LossSummary) -> str:
    """The stages of a training in order, as ``"30 epochs hints -> main"``."""
    before = [f"{stage.epochs} epochs {stage.name}" for stage in loss.stages]
    return " -> ".join([*before, "main without it" if loss.info.warm_up_only else "main"])


def _banks(summaries: Sequence[LossSummary]) -> str:
    rows = [
        ["loss", "a sample", "besides", "CIFAR-100 (50,000)", "ImageNet (1,281,167)", "in half precision"]
    ]
    for loss in summaries:
        if loss.fixed_bytes < 1e6 and not loss.bytes_per_sample:
            continue
        sizes = [loss.fixed_bytes + loss.bytes_per_sample * count for count in (50_000, 1_281_167)]
        half = "-"
        if "bank_precision" in loss.options:
            (halved,) = summarize_losses(
                [loss.name],
                network="resnet8x4",
                image_size=32,
                num_classes=CLASSES,
                options={"bank_precision": "half"},
            )
            half = _megabytes(halved.fixed_bytes + halved.bytes_per_sample * 1_281_167)
        rows.append(
            [
                f"`{loss.name}`",
                f"{loss.bytes_per_sample:,.0f} bytes" if loss.bytes_per_sample else "-",
                _megabytes(loss.fixed_bytes),
                *map(_megabytes, sizes),
                half,
            ]
        )
    return _markdown(rows)


def _options(summaries: Sequence[LossSummary]) -> str:
    rows = [["loss", "options and their defaults"]]
    for loss in summaries:
        typed = [f"`{key}={_typed(value)}`" for key, value in loss.options.items()]
        rows.append([f"`{loss.name}`", " ".join(typed) or "-"])
    return _markdown(rows)


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_typed, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 5e4 else "-"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return pipe_table(rows[0], rows[1:], ())


def filled(text: str, parts: dict[str, str]) -> str:
    """A document with its tables replaced, each between ``<!-- table: NAME -->`` and ``<!-- end -->``."""
    for name, table in parts.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"the document has no place for the table {name!r}: {begin.strip()}")
        text = before + begin + table + end + rest.partition(end)[2]
    return text


# ---------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=list(FORMULAS), help="some of the losses"
    )
    parser.add_argument("--quick", action="store_true", help="small shapes, in double precision, one run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each contender (default: 5)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", type=Path, help="document whose tables to write anew; measures nothing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.write:
        arguments.write.write_text(filled(arguments.write.read_text(), tables()))
        return 0
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    shapes = QUICK if arguments.quick else Shapes()
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU time, one thread"
    print(f"{what}; batch {shapes.batch}, {shapes.samples:,} samples, {str(shapes.dtype)[6:]}")
    print(f"{'':20}{'ms: ours':>10}{'formula':>10}{'ratio':>7}", end="")
    print(f"{'MiB: ours':>11}{'formula':>10}{'ratio':>7}  differ by")
    results = []
    for name in arguments.only or FORMULAS:
        result = compared(name, shapes, device, 1 if arguments.quick else arguments.repeats)
        results.append(result)
        (a, b), (c, d) = result.seconds, (size / 2**20 for size in result.bytes)
        print(
            f"{name:20}{a * 1e3:10.2f}{b * 1e3:10.2f}{a / b:7.2f}{c:11.1f}{d:10.1f}{_share(c, d):7.2f}  "
            f"{result.value_error:.0e} value, {result.gradient_error:.0e} gradient"
            f"{'' if result.agrees else f', MORE THAN {result.tolerance:.0e}'}",
            flush=True,
        )
    for title, ratios in (
        ("time", [result.seconds[0] / result.seconds[1] for result in results]),
        ("memory", [_share(*result.bytes) for result in results]),
    ):
        mean = statistics.geometric_mean(ratios)
        print(f"{title}: ours / formula, geometric mean {mean:.2f}, worst {max(ratios):.2f}")
    return 0 if all(result.agrees for result in results) else 1


def _share(first: float, second: float) -> float:
    return first / second if second else 1.0


if __name__ == "__main__":
    sys.exit(main())
