"""How large and how fast networks are, and where the time of a training step goes."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pursuhint._util.devices import choose_device
from pursuhint._util.network_input import NetworkInput, call_as_given, map_tensors, shapes_of, tensors_of
from pursuhint.data.text import text_example
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.models.checkpoint import count_parameters

if TYPE_CHECKING:
    from pursuhint.data import ImageData, InputData
    from pursuhint.distillation.distiller import Distiller
    from pursuhint.training.recipe.schema import Recipe

__all__ = ["Profile", "StepProfile", "profile_networks", "profile_steps"]

PARTS = ("data", "teacher", "student", "losses", "backward", "optimiser")
"""What a training step consists of, in order."""

_WARM_UP = 3


@dataclass(frozen=True)
class NetworkProfile:
    """Size and speed of a network.

    Attributes:
        name: of the network.
        parameters: of all kinds, trainable or not.
        flops: of one image or text, a multiplication and an addition counting as two: convolutions and matrix
            products, as `torch.utils.flop_counter` counts them. Papers often give half of it, the
            multiply-adds.
        latency: median seconds for a batch, by batch size.
    """

    name: str
    parameters: int
    flops: int
    latency: Mapping[int, float]


@dataclass(frozen=True)
class Profile:
    """A student beside its teacher: the columns of Table 7 of the PURSUhInT paper, and FLOPs.

    Attributes:
        student: the small network.
        teacher: the large one, or None.
        shape: of an image, (channels, height, width), or of a text, (tokens,).
        device: where latency was measured.
        threads: of the CPU.
    """

    student: NetworkProfile
    teacher: NetworkProfile | None
    shape: tuple[int, ...]
    device: str
    threads: int

    @property
    def compression(self) -> float | None:
        """Percent of the teacher's parameters that the student does without; None without a teacher."""
        if self.teacher is None:
            return None
        return 100 * (1 - self.student.parameters / self.teacher.parameters)

    @property
    def fewer_flops(self) -> float | None:
        """How many times as many operations the teacher needs; None without a teacher."""
        return None if self.teacher is None else self.teacher.flops / self.student.flops

    @property
    def speed_up(self) -> dict[int, float]:
        """How many times as long the teacher takes, by batch size; empty without a teacher."""
        if self.teacher is None:
            return {}
        return {size: self.teacher.latency[size] / seconds for size, seconds in self.student.latency.items()}


@dataclass(frozen=True)
class StepProfile:
    """Where the time of a training step goes.

    Attributes:
        seconds: median by part, see `PARTS`. ``losses`` includes the parts that use the features of both
            networks and, for losses that differentiate the teacher, its pass.
        batch_size: samples in a step.
        steps: how many were measured, after some that were not.
    """

    seconds: Mapping[str, float]
    batch_size: int
    steps: int

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return sum(self.seconds.values())

    @property
    def samples_per_second(self) -> float:
        """How many images or texts a second that is."""
        return self.batch_size / self.total


def count_flops(network: nn.Module, sample: NetworkInput) -> int:
    """Operations of one forward pass, a multiplication and an addition counting as two.

    Args:
        network: run once, in evaluation mode, and otherwise left as it was.
        sample: a batch of one, such as images (1, channels, height, width), where the network is.
    """
    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call_as_given(network, sample)
    return int(counter.get_total_flops())


def profile_networks(
    student: nn.Module,
    teacher: nn.Module | None,
    shape: tuple[int, ...],
    *,
    batch_sizes: Sequence[int] = (1, 64),
    repeats: int = 20,
    device: torch.device | str | None = None,
    names: tuple[str, str] = ("student", "teacher"),
) -> Profile:
    """Measure parameters, FLOPs and latency of a student and its teacher.

    Both run in evaluation mode, in float32 and in alternation, so that what else the machine does slows both.
    The first passes are not counted; on a GPU every pass is waited for.

    Args:
        student: the small network; moved to ``device``.
        teacher: the large one, or None.
        shape: of an image, (channels, height, width); or of a text, (tokens,), for networks that take
            ``input_ids`` and ``attention_mask``.
        batch_sizes: at which latency is measured.
        repeats: passes of each network and batch size that are timed.
        device: where to run; None for the best there is.
        names: of student and teacher.

    Raises:
        PursuhintError: a number is below 1, or a network does not take samples of this shape.
    """
    if repeats < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise PursuhintError(
            f"repeats and batch sizes must be at least 1, got {repeats}, {list(batch_sizes)}"
        )
    device = choose_device(device)
    networks = {names[0]: student} if teacher is None else {names[0]: student, names[1]: teacher}
    if teacher is not None and names[0] == names[1]:
        networks = {f"{names[0]} (student)": student, f"{names[1]} (teacher)": teacher}
    latency: dict[str, dict[int, float]] = {name: {} for name in networks}
    for size in batch_sizes:
        batch = _batch(size, shape, device)
        times: dict[str, list[float]] = {name: [] for name in networks}
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for network in networks.values():
                stack.enter_context(evaluating(network.to(device)))
            for name, network in networks.items():
                _check_fits(name, network, batch)
            for number in range(_WARM_UP + repeats):
                for name, network in networks.items():
                    seconds = _seconds(network, batch)
                    if number >= _WARM_UP:
                        times[name].append(seconds)
        for name in networks:
            latency[name][size] = statistics.median(times[name])
    sample = _batch(1, shape, device)
    profiles = [
        NetworkProfile(name, count_parameters(network), count_flops(network, sample), latency[name])
        for name, network in networks.items()
    ]
    return Profile(
        student=profiles[0],
        teacher=profiles[1] if teacher is not None else None,
        shape=shape,
        device=str(device),
        threads=torch.get_num_threads(),
    )


def profile_steps(
    recipe: Recipe,
    *,
    steps: int = 20,
    device: torch.device | str | None = None,
    teacher: nn.Module | None = None,
    data: ImageData | InputData | None = None,
    student: nn.Module | None = None,
) -> StepProfile:
    """Take some training steps of a recipe's main stage and see where the time goes. Nothing is written.

    On a GPU every part is waited for, so that parts which overlap in a real run add up to more than it takes.

    Args:
        recipe: what would be trained. Hints that an analysis would choose are taken where they usually are.
        steps: to be measured.
        device: where; None for the best there is.
        teacher: used instead of the recipe's, whose weights must exist otherwise.
        data: used instead of the recipe's.
        student: used instead of the recipe's.

    Raises:
        PursuhintError: something is wrong with the recipe, or ``steps`` is below 1.
    """
    from pursuhint._util.random_state import keep_random_state
    from pursuhint.distillation.teacher import TeacherRunner
    from pursuhint.training.devices import build_accelerator
    from pursuhint.training.inputs import Inputs
    from pursuhint.training.loaders import training_loader
    from pursuhint.training.prepare_training import build_distiller, prepare
    from pursuhint.training.recipe.resolve import resolve_recipe
    from pursuhint.training.stages import build_optimizer, plan_stages

    if steps < 1:
        raise PursuhintError(f"at least 1 step must be measured, got {steps}")
    if recipe.hints is not None and looks_at_teacher(recipe.hints.strategy):
        recipe = recipe.model_copy(
            update={"hints": recipe.hints.model_copy(update={"strategy": "conventional"})}
        )
    where = choose_device(device)
    inputs = Inputs(student, teacher, data)
    with keep_random_state(where):
        recipe = resolve_recipe(recipe, inputs)
        parts = prepare(recipe, inputs)
        distiller = build_distiller(recipe, parts, parts.plan)
        accelerator = build_accelerator(where, recipe.precision)
        stage = plan_stages(recipe, distiller)[-1]
        optimizer = build_optimizer(stage.optimizer, stage.begin_stage(distiller))
        model, optimizer = accelerator.prepare(distiller, optimizer)
        distiller.train()
        distiller.begin_epoch(0, stage.epochs)
        loader = training_loader(recipe, parts.data, accelerator.device, (0, 1))
        outputs, run_teacher = distiller.teacher_outputs, None
        if distiller.teacher is not None and outputs is not None and not outputs.input_gradients:
            run_teacher = TeacherRunner(distiller.teacher, outputs, distiller.acceleration)
        watch = _StepWatch(accelerator.device)
        taken: list[dict[str, float]] = []
        with watch.student(distiller):
            batches = itertools.chain.from_iterable(map(loader.epoch, itertools.count()))
            for _ in range(_WARM_UP + steps):
                watch.begin()
                with watch.part("data"):
                    batch, features = next(batches), None
                if run_teacher is not None:
                    with watch.part("teacher"), accelerator.autocast():
                        features = run_teacher.of_batch(batch)
                with watch.part("losses"):
                    losses = model(batch, features)
                with watch.part("backward"):
                    accelerator.backward(losses.total)
                with watch.part("optimiser"):
                    optimizer.step()
                    model.zero_grad(set_to_none=True)
                taken.append(watch.end())
        accelerator.free_memory()
    measured = taken[_WARM_UP:]
    return StepProfile(
        {part: statistics.median(seconds[part] for seconds in measured) for part in PARTS},
        recipe.batch_size,
        steps,
    )


class _StepWatch:
    """Times of the parts of one step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begin()

    def begin(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._started = 0.0

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        _wait(self.device)
        started = time.perf_counter()
        yield
        _wait(self.device)
        self.seconds[name] += time.perf_counter() - started

    def end(self) -> dict[str, float]:
        """The times of this step; the student ran while the losses were timed."""
        self.seconds["losses"] -= self.seconds["student"]
        return self.seconds

    @contextlib.contextmanager
    def student(self, distiller: Distiller) -> Iterator[None]:
        """Count the student's forward passes, wherever they are called from."""

        def before(module: nn.Module, arguments: Any) -> None:
            _wait(self.device)
            self._started = time.perf_counter()

        def after(module: nn.Module, arguments: Any, output: Any) -> None:
            _wait(self.device)
            self.seconds["student"] += time.perf_counter() - self._started

        hooks = [
            distiller.student.register_forward_pre_hook(before),
            distiller.student.register_forward_hook(after, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _batch(size: int, shape: tuple[int, ...], device: torch.device) -> NetworkInput:
    """Zeros: images, or texts of a number of tokens without padding."""
    if len(shape) == 1:
        return map_tensors(text_example(shape[0], size), lambda values: values.to(device))
    return torch.zeros(size, *shape, device=device)


def _check_fits(name: str, network: nn.Module, batch: NetworkInput) -> None:
    """Run a network once.

    Raises:
        PursuhintError: it fails.
    """
    try:
        call_as_given(network, batch)
    except Exception as error:  # networks raise errors of all kinds
        reason = " ".join(str(error).split())[:160]
        raise PursuhintError(f"{name} does not take {shapes_of(batch)}: {reason}") from error


def _seconds(network: nn.Module, batch: NetworkInput) -> float:
    """How long a forward pass takes, until the device is done."""
    device = tensors_of(batch)[0].device
    _wait(device)
    started = time.perf_counter()
    call_as_given(network, batch)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
