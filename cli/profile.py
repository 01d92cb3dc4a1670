"""``pursuhint profile``"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pursuhint._util.size_bounds import LARGEST_CHANNELS, LARGEST_CLASSES, LARGEST_SIDE
from pursuhint.errors import PursuhintError

from . import completion, early_checks
from .early_checks import early
from .options import WholeNumber, apply, examples, refuse_typed, typed
from .recipe_options import build_recipe, recipe_options
from .terminal import echo

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.study.profile import NetworkProfile, Profile, StepProfile
    from pursuhint.training import Recipe


class SampleShape(click.ParamType):
    """Channels, height and width of an image, 3x32x32, or tokens of a text, 64."""

    name = "CxHxW|TOKENS"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*x[1-9]\d*)?", str(value)):
            self.fail(
                f"{value!r} is not a shape such as 3x32x32, nor a number of tokens such as 64", param, context
            )
        shape = tuple(int(size) for size in value.split("x"))
        if shape[0] > LARGEST_CHANNELS or max(shape[1:], default=0) > LARGEST_SIDE:
            self.fail(f"{value!r} is larger than any image or text of a network", param, context)
        return shape


@click.command(
    "profile",
    epilog=examples(
        "pursuhint profile --teacher resnet110 --student resnet20 --input 3x32x32 --classes 100",
        "pursuhint profile --teacher resnet110 --student resnet20 --student resnet8 --input 3x32x32 \\",
        "    --classes 100",
        "pursuhint profile --teacher resnet32x4 --teacher-checkpoint resnet32x4.pth --student resnet8x4 \\",
        "    --data cifar100 --loss at --steps 20",
        "pursuhint profile --teacher hf:bert --student hf:bert --input 64 --classes 16 \\",
        "    --set student.options.num_hidden_layers=2",
        "pursuhint profile --recipe cifar100-crd --device cuda --at-batch 256 --steps 50 --json",
    ),
)
@functools.partial(recipe_options, without=("student",))
@click.option(
    "--student",
    "students",
    callback=early(early_checks.network),
    shell_complete=completion.network,
    metavar="NAME",
    multiple=True,
    help="Student, named as --teacher; see 'pursuhint list models'. Repeat to measure several.",
)
@click.option(
    "--input",
    "shape",
    type=SampleShape(),
    help="Shape of an image, or number of tokens of a text, so that no data are needed (with --classes).  "
    "[default: from the data]",
)
@click.option(
    "--classes", type=click.IntRange(1, LARGEST_CLASSES), help="Number of classes.  [default: from the data]"
)
@click.option(
    "--at-batch",
    "batch_sizes",
    metavar="N",
    type=WholeNumber(min=1),
    multiple=True,
    help="Batch size at which latency is measured; repeatable.  [default: 1 and 64]",
)
@click.option(
    "--repeats",
    type=WholeNumber(min=1),
    default=20,
    show_default=True,
    help="Timed passes of each network; the median counts.",
)
@click.option(
    "--steps",
    metavar="N",
    type=WholeNumber(min=1),
    help="Take N training steps too, and show where their time goes: data, teacher, student, losses, "
    "backward, optimiser. Nothing is written.",
)
@apply("device", "json")
def command(
    students: tuple[str, ...],
    shape: tuple[int, ...] | None,
    classes: int | None,
    batch_sizes: tuple[int, ...],
    repeats: int,
    steps: int | None,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure parameters, FLOPs and latency of a student beside its teacher.

    Compression is the share of the teacher's parameters that the student does without, speed-up how many
    times as long the teacher takes. A FLOP is a multiplication or an addition; papers often count the two as
    one. Weights do not matter, so no checkpoint is needed. Time on an otherwise idle machine. Options of the
    training (losses, checkpoint, optimiser) count with --steps only and are refused without.
    """
    _refuse_ignored(steps, students, shape, classes)
    if steps is None:
        _refuse_ignored_keys(options["assignments"])
    recipe = build_recipe({**options, "student": students[0] if students else None})

    # Imports PyTorch: after the recipe is known to be right.
    from pursuhint._util.devices import choose_device
    from pursuhint.acceleration import set_up_memory
    from pursuhint.study.profile import profile_networks, profile_steps

    where = choose_device(device)
    sizes = _sizes(recipe, shape, classes)
    teacher = None if recipe.teacher is None else _network(recipe.teacher, sizes)
    others = [recipe.student.model_copy(update={"network": name, "options": {}}) for name in students[1:]]
    profiles = [
        profile_networks(
            _network(student, sizes),
            teacher,
            sizes.shape,
            batch_sizes=batch_sizes or (1, 64),
            repeats=repeats,
            device=where,
            names=(student.network, recipe.teacher.network if recipe.teacher is not None else ""),
        )
        for student in (recipe.student, *others)
    ]
    taken = None
    if steps is not None:
        set_up_memory(recipe.acceleration, where)
        taken = profile_steps(recipe, steps=steps, device=where, teacher=teacher)
    if as_json:
        one, *more = [_as_dict(profile, taken) for profile in profiles]
        click.echo(json.dumps([one, *more] if more else one))
    else:
        _print(profiles, taken)


def _refuse_ignored(
    steps: int | None, students: tuple[str, ...], shape: tuple[int, ...] | None, classes: int | None
) -> None:
    """Refuse options that this measurement does not use."""
    if steps is None:
        refuse_typed(
            "losses", "teacher_checkpoint", "pretrained", "student_checkpoint", "student_pretrained",
            "checkpoint_key", "new_head", "epochs", "lr", "train_samples", "only_classes", "precision",
            "batch_size", "workers", "image_normalize", "exif", "tokenizer",
            because="sizes and latency do not depend on it; add --steps N to measure training steps",
        )  # fmt: skip
        if shape is not None and classes is not None:
            refuse_typed(
                "data", "data_root", "download", "image_size", "image_channels", "val_fraction",
                because="--input and --classes say what the data would; leave either out",
            )  # fmt: skip
        return
    refuse_typed("shape", "classes", because="with --steps shape and classes are those of the data")
    refuse_typed("epochs", because="steps of the first epoch are measured")
    if len(students) > 1:
        raise PursuhintError(f"--steps measures one student, got {len(students)}: {', '.join(students)}")


def _refuse_ignored_keys(assignments: Sequence[str]) -> None:
    """Refuse keys of ``--set`` that say nothing of the networks or of the length of texts."""
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        if not key.startswith(("teacher.options.", "student.options.", "data.text.")):
            refuse_typed(
                "assignments",
                because=f"sizes and latency do not depend on {key}; add --steps N to measure training steps",
            )


class Sizes(NamedTuple):
    """What networks and their samples have to fit.

    Attributes:
        shape: of an image, (channels, height, width), or of a text, (tokens,).
        classes: number of logits.
        options: keywords of the networks, such as ``in_channels``.
    """

    shape: tuple[int, ...]
    classes: int
    options: dict[str, int]


def _sizes(recipe: Recipe, shape: tuple[int, ...] | None, classes: int | None) -> Sizes:
    """Sizes from the options; those that were not typed come from the data, a vocabulary from the recipe."""
    from pursuhint.training.recipe.schema import TextConfig

    vocabulary: dict[str, int] = {}
    if shape is None or classes is None:
        from pursuhint.data import ImageData
        from pursuhint.training.loaders import load_data

        from .networks import refuse_held_out

        data = load_data(recipe.data)
        if typed("val_fraction"):
            refuse_held_out(data)
        images = isinstance(data, ImageData)
        own = (data.in_channels, *data.image_size) if isinstance(data, ImageData) else (data.tokens,)
        if shape is not None and (len(shape) == 3) != images:
            raise PursuhintError(
                f"--input {'x'.join(map(str, shape))} is no shape of {data.name}, whose samples are "
                f"{'images' if images else 'texts'}; leave --input out, or give --classes, too"
            )
        shape, classes = shape or own, classes or data.num_classes
        vocabulary = {} if isinstance(data, ImageData) else {"vocab_size": data.vocab_size}
    elif len(shape) == 1:
        vocabulary = {"vocab_size": (recipe.data.text or TextConfig()).vocabulary}
    return Sizes(shape, classes, {"in_channels": shape[0]} if len(shape) == 3 else vocabulary)


def _network(config: Any, sizes: Sizes) -> nn.Module:
    from pursuhint.models import create_model

    options = {**sizes.options, **config.options}
    return create_model(config.network, num_classes=config.num_classes or sizes.classes, **options)


def _as_dict(profile: Profile, taken: StepProfile | None) -> dict[str, Any]:
    from dataclasses import asdict

    networks = {
        role: asdict(network)
        for role, network in (("student", profile.student), ("teacher", profile.teacher))
        if network is not None
    }
    step = None if taken is None else {**asdict(taken), "total": taken.total}
    return {
        **networks,
        "compression": profile.compression,
        "fewer_flops": profile.fewer_flops,
        "speed_up": profile.speed_up,
        "shape": profile.shape,
        "device": profile.device,
        "threads": profile.threads,
        "step": step,
    }


def _print(profiles: Sequence[Profile], taken: StepProfile | None) -> None:
    from .results import table

    profile = profiles[0]
    sizes = list(profile.student.latency)
    header = ("network", "parameters", "compression", "FLOPs", *(f"ms, batch {size}" for size in sizes))
    rows = [] if profile.teacher is None else [_row(profile.teacher, None)]
    rows += [_row(each.student, each if each.teacher is not None else None) for each in profiles]
    for line in table(header, rows):
        echo(line)
    where = "one thread" if profile.threads == 1 else f"{profile.threads} threads"
    size = "x".join(map(str, profile.shape))
    kind, sample = (
        ("images", f"images {size}") if len(profile.shape) == 3 else ("texts", f"texts of {size} tokens")
    )
    echo(f"{sample}, {profile.device}" + (f", {where}" if profile.device == "cpu" else ""))
    if taken is not None:
        echo(
            f"a training step of {taken.batch_size} {kind}: {1000 * taken.total:.1f} ms "
            f"({taken.samples_per_second:,.0f} {kind}/s), medians of {taken.steps} steps"
        )
        for part, seconds in taken.seconds.items():
            echo(f"  {part:10} {1000 * seconds:8.2f} ms  {100 * seconds / taken.total:5.1f} %")


def _row(network: NetworkProfile, beside: Profile | None) -> tuple[str, ...]:
    """A network's line of the table; ``beside`` compares a student with its teacher."""
    compression, flops = "-", ""
    speed_up: dict[int, str] = {}
    if beside is not None and beside.compression is not None and beside.fewer_flops is not None:
        compression, flops = f"{beside.compression:.1f} %", f" (/{beside.fewer_flops:.2f})"
        speed_up = {size: f" (x{times:.2f})" for size, times in beside.speed_up.items()}
    return (
        network.name,
        f"{network.parameters:,}",
        compression,
        f"{network.flops / 1e6:,.1f} M{flops}",
        *(f"{1000 * time:.2f}{speed_up.get(size, '')}" for size, time in network.latency.items()),
    )
