"""Options shared by several commands, defined once so that each means one thing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pursuhint._util.size_bounds import LARGEST_COUNT
from pursuhint.clustering import ALGORITHMS
from pursuhint.errors import PursuhintError
from pursuhint.features.pooling import POOLINGS
from pursuhint.hints import POSITIONS
from pursuhint.similarity import METRICS

from . import completion, early_checks
from .early_checks import early

if TYPE_CHECKING:
    from pursuhint.analysis import AutoSamples

Command = TypeVar("Command", bound=Callable[..., Any])


class WholeNumber(click.IntRange):
    """A count or seed: from a minimum to the largest that NumPy and PyTorch take everywhere."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        number = super().convert(value, param, context)
        if number > LARGEST_COUNT:
            self.fail(f"{number} is more than {LARGEST_COUNT:,}", param, context)
        return number


class NumberOrAuto(click.ParamType):
    """A number from 2 up, or the word auto."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, int):
            return value
        try:
            return click.IntRange(min=2).convert(value, param, context)
        except click.BadParameter:
            self.fail(f"{value!r} is neither a number from 2 up nor 'auto'", param, context)


class Size(click.ParamType):
    """A number of bytes: 2000000, 500MB, 1.5GB, 4GiB."""

    name = "size"
    UNITS: Mapping[str, int] = MappingProxyType(
        {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
    )

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(value).lower())
        if found is None or found[2] not in self.UNITS or not float(found[1]):
            self.fail(f"{value!r} is not a size such as 500MB or 4GB", param, context)
        return int(float(found[1]) * self.UNITS[found[2]])


class ImageSides(click.ParamType):
    """A number of pixels, or HEIGHTxWIDTH."""

    name = "PIXELS|HEIGHTxWIDTH"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, int | tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", value)
        sides = [] if found is None else [int(side) for side in found.groups() if side is not None]
        if not sides or min(sides) < 1:
            self.fail(f"{value!r} is no size such as 224 or 256x128 (height x width)", param, context)
        return sides[0] if len(sides) == 1 else tuple(sides)


class ImageNormalize(click.ParamType):
    """data, imagenet, model, or MEAN/STD: one number for all channels, or one a channel with commas."""

    name = "data|imagenet|model|MEAN/STD"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if not isinstance(value, str) or value in ("data", "imagenet", "model"):
            return value
        try:
            mean, std = ([float(number) for number in part.split(",")] for part in value.split("/"))
        except ValueError:
            mean, std = [], []
        good = mean and len(mean) == len(std) and all(map(math.isfinite, mean + std)) and min(std) > 0
        if not good:
            self.fail(
                f"{value!r} is neither data, imagenet nor model, nor MEAN/STD such as 0.5/0.5 or "
                "0.49,0.48,0.45/0.25,0.24,0.26",
                param,
                context,
            )
        return {"mean": mean, "std": std}


class _GivenPath(click.Path):
    """A path that is not empty: the empty one would be the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; the working folder is .", param, ctx)
        return super().convert(value, param, ctx)


def _path(**checks: Any) -> click.Path:
    return _GivenPath(path_type=Path, **checks)


def _network_settings(more: str) -> Callable[..., Any]:
    """``--set`` of a command that looks at one network; ``more`` are the further keys that it takes."""
    return click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="An option of the network, teacher.options.NAME=VALUE as in 'pursuhint train', e.g. "
        f"teacher.options.hidden_size=96; {more}. Repeatable.",
    )


_METRIC_NAMES = f"Similarity of layers: {', '.join(METRICS)}"


def _metric(help_text: str) -> Callable[..., Any]:
    """``--metric``; a command that uses one alone refuses several."""
    return click.option(
        "--metric",
        "metrics",
        callback=early(early_checks.metric),
        shell_complete=completion.metric,
        metavar="NAME",
        multiple=True,
        help=help_text,
    )


def _batch_size(default: int) -> Callable[..., Any]:
    return click.option(
        "--batch-size", type=WholeNumber(min=1), help=f"Images a batch.  [default: {default}]"
    )


OPTIONS: dict[str, Callable[..., Any]] = {
    "teacher": click.option(
        "--teacher",
        callback=early(early_checks.network),
        shell_complete=completion.teacher,
        metavar="NAME",
        help="Teacher: a name from 'pursuhint list models', torchvision:NAME, timm:NAME, hf:NAME or "
        "hf:FOLDER (transformers), or package.module:factory (which imports and runs that code); or the "
        "folder of a run, whose student then teaches: network, options, weights, data and image settings "
        "are the run's where nothing else is typed.",
    ),
    "teacher_checkpoint": click.option(
        "--teacher-checkpoint",
        callback=early(early_checks.checkpoint),
        metavar="FILE",
        type=_path(),
        help="Weights of the teacher: safetensors, or a .pth of RepDistiller, mdistiller or torchvision.",
    ),
    "pretrained": click.option(
        "--pretrained",
        is_flag=True,
        help="Take the teacher's weights as torchvision, timm or the hub of transformers publish them, or "
        "those in hf:FOLDER. Needs the network the first time; they are kept in PURSUHINT_WEIGHTS or the "
        "user's cache.",
    ),
    "student_checkpoint": click.option(
        "--student-checkpoint",
        callback=early(early_checks.checkpoint),
        metavar="FILE",
        type=_path(),
        help="Weights to start the student from, as far as names and shapes fit; what does not is said.",
    ),
    "student_pretrained": click.option(
        "--student-pretrained",
        is_flag=True,
        help="Start the student from the weights that are published, as --pretrained; a "
        "classifier for other classes starts anew.",
    ),
    "checkpoint_key": click.option(
        "--checkpoint-key",
        metavar="NAME",
        help="Which of several state dicts in the teacher's file, such as state_dict_ema.",
    ),
    "new_head": click.option(
        "--new-head",
        is_flag=True,
        help="Accept weights without a classifier, or with one for other classes, and leave it untrained.",
    ),
    "student": click.option(
        "--student",
        callback=early(early_checks.network),
        shell_complete=completion.network,
        metavar="NAME",
        help="Network to train, named as --teacher; see 'pursuhint list models'.",
    ),
    "data": click.option(
        "--data",
        callback=early(early_checks.data_set),
        shell_complete=completion.data_set,
        metavar="NAME",
        help="Data set: digits (built in), cifar10, cifar100, fashion-mnist, stl10, tiny-imagenet, imagenet, "
        "cub200, folder:PATH with train/ and val/ in it, one folder a class, or text:PATH of labels and "
        "texts (.csv, .tsv, .jsonl).  [default: digits]",
    ),
    "tokenizer": click.option(
        "--tokenizer",
        callback=early(early_checks.tokenizer),
        metavar="FILE|DIR",
        help="Of text:PATH: a tokenizer.json, a folder with one (a run, hf:FOLDER), or OWNER/NAME.  "
        "[default: pairs of bytes of the training texts]",
    ),
    "data_root": click.option(
        "--data-root",
        metavar="DIR",
        type=_path(),
        help="Folder that holds the data.  [default: PURSUHINT_DATA or the user's cache]",
    ),
    "val_fraction": click.option(
        "--val-fraction",
        type=click.FloatRange(0, 1, max_open=True),
        help="Share of the training data set aside: to choose the best epoch, or for evaluation where "
        "folder:PATH or text:PATH has nothing else for it.  [default: 0]",
    ),
    "image_size": click.option(
        "--image-size",
        metavar="PIXELS|HEIGHTxWIDTH",
        type=ImageSides(),
        help="Size of the network's input in pixels, such as 224 or 256x128 (height first). Images are "
        "resized to cover it and their centre is cut out.  [default: the data's own]",
    ),
    "image_channels": click.option(
        "--image-channels",
        type=click.Choice(["1", "3"]),
        callback=lambda context, parameter, value: None if value is None else int(value),
        help="Convert the images to grey (1) or RGB (3).  [default: as the data are]",
    ),
    "exif": click.option(
        "--exif/--no-exif",
        default=None,
        help="Turn image files as their EXIF orientation says, or take them as they are stored.  [default: "
        "turn those of folder:PATH]",
    ),
    "image_normalize": click.option(
        "--image-normalize",
        metavar="data|imagenet|model|MEAN/STD",
        type=ImageNormalize(),
        help="Mean and deviation of images in 0..1: the data's own, ImageNet's, those that the network says "
        "it expects, or numbers such as 0.5/0.5.  [default: the network's if it says some, else the data's]",
    ),
    "network_settings": _network_settings("or of texts, data.text.NAME=VALUE"),
    "analysis_settings": _network_settings(
        "of texts, data.text.NAME=VALUE; or of the pass, acceleration.fuse_batchnorm=false and "
        "acceleration.channels_last=false"
    ),
    "trust_code": click.option(
        "--trust-code",
        is_flag=True,
        help="Run the code that the recipe or run names as package.module:factory; without this option it is "
        "shown and refused.",
    ),
    "download": click.option("--download", is_flag=True, help="Download missing data."),
    "metric": _metric(f"{_METRIC_NAMES}.  [default: cka]"),
    "several_metrics": _metric(
        f"{_METRIC_NAMES}. Repeat for several; the first one chooses.  [default: cka]"
    ),
    "metric_of_analysis": _metric(
        f"{_METRIC_NAMES}; one that the analysis has.  [default: the first one of the analysis]"
    ),
    "k": click.option(
        "--k", type=WholeNumber(min=2), help="Number of hints.  [default: number of resolution stages]"
    ),
    "k_or_auto": click.option(
        "--k",
        type=NumberOrAuto(),
        help="Number of hints; auto takes the highest silhouette.  [default: number of resolution stages]",
    ),
    "algorithm": click.option(
        "--algorithm",
        type=click.Choice(list(ALGORITHMS)),
        default="kmeans",
        show_default=True,
        help="Clustering: kmeans is the paper's; segments is the optimal contiguous partition.",
    ),
    "normalize": click.option(
        "--normalize",
        is_flag=True,
        help="Cluster r2cca by rank, so that every layer has similarity 1 with itself (Table 2, *).",
    ),
    "position": click.option(
        "--position",
        type=click.Choice(POSITIONS),
        default="center",
        show_default=True,
        help="Which member of a cluster becomes its hint position.",
    ),
    "activation": click.option(
        "--activation",
        type=click.Choice(["post", "pre"]),
        default="post",
        show_default=True,
        help="Features after or before the last activation of a sub-block.",
    ),
    "activation_of_hints": click.option(
        "--activation",
        type=click.Choice(["post", "pre"]),
        help="Features after or before the last activation of a sub-block.  [default: as in the recipe, else "
        "as in the losses' papers]",
    ),
    "activations": click.option(
        "--activation",
        type=click.Choice(["post", "pre", "both"]),
        default="post",
        show_default=True,
        help="Features after or before the last activation of a sub-block, or both and how far they agree.",
    ),
    "pooling": click.option(
        "--pooling",
        callback=early(early_checks.pooling),
        shell_complete=completion.pooling,
        metavar="NAME",
        default="mean",
        show_default=True,
        help=f"From maps and tokens to one vector an image: {', '.join(POOLINGS)}. none keeps a grid of "
        "2 x 2 places, none:4 one of 4 x 4.",
    ),
    "stability": click.option(
        "--stability/--no-stability",
        default=True,
        show_default=True,
        help="Repeat the choice on parts of the images, to estimate its stability.",
    ),
    "memory_limit": click.option(
        "--memory-limit",
        metavar="SIZE",
        type=Size(),
        help="Memory for the statistics of the layers, e.g. 500MB or 4GB.  [default: half of what there is]",
    ),
    "exact_median": click.option(
        "--exact-median",
        is_flag=True,
        help="Take the bandwidth of RBF kernels from all images, not from 2,000 of them.",
    ),
    "samples": click.option(
        "--samples",
        type=NumberOrAuto(),
        default=10_000,
        show_default=True,
        help="Training images to look at (all, if there are fewer). auto: until the hint positions are those "
        "of --max-samples images, at the level --stable-at.",
    ),
    "max_samples": click.option(
        "--max-samples",
        type=WholeNumber(min=2),
        metavar="N",
        help="With --samples auto: the most images.  [default: 10000]",
    ),
    "stable_at": click.option(
        "--stable-at",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="LEVEL",
        help="With --samples auto: how sure it should be that all images would choose the same positions.  "
        "[default: 0.95]",
    ),
    "include": click.option(
        "--points",
        "include",
        metavar="PATTERN",
        multiple=True,
        help="Modules to use in place of the automatic candidates, e.g. 'layer3.*'. Repeatable.",
    ),
    "batch_size": _batch_size(64),
    "batch_size_of_pass": _batch_size(256),
    "workers": click.option(
        "--workers",
        type=WholeNumber(min=0),
        help="Processes that decode files, for data not held in memory; 0 decodes in the process that trains "
        "or looks.  [default: 0]",
    ),
    "seed": click.option(
        "--seed", type=WholeNumber(min=0), default=0, show_default=True, help="Random seed."
    ),
    "device": click.option(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps.  [default: a GPU if there is one]"
    ),
    "autocast": click.option(
        "--precision",
        "--autocast",
        "autocast",
        type=click.Choice(["float32", "bf16", "fp16"]),
        help="Run the network by automatic mixed precision: faster, and less exact; fp16 on a GPU only.  "
        "[default: float32]",
    ),
    "record_teacher": click.option(
        "--record-teacher",
        "recording",
        metavar="DIR",
        type=_path(file_okay=False),
        help="Record the teacher's outputs in DIR, in float16 (or --set acceleration.teacher_rounding=bf16), "
        "and replay what is there: the teacher then runs once for all students, losses and weights with its "
        "data, augmentation, batch size and seed.",
    ),
    "out": click.option("--out", metavar="DIR", type=_path(), required=True, help="Folder to write to."),
    "overwrite": click.option(
        "--overwrite",
        is_flag=True,
        help="Replace a result of other settings, networks or data in the folder. The same one resumes, and "
        "files of others are never removed.",
    ),
    "overwrite_file": click.option(
        "--overwrite", is_flag=True, help="Replace the file of --out if it is there already."
    ),
    "quiet": click.option("--quiet", "-q", is_flag=True, help="No progress on stderr."),
    "json": click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines."),
}


def apply(*names: str) -> Callable[[Command], Command]:
    """Add options by name, in the order in which help should show them."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = OPTIONS[name](command)
        return command

    return decorate


def typed(*names: str) -> list[click.Parameter]:
    """Options of the running command that stand on its command line.

    Args:
        *names: parameter names of the options that count.
    """
    context = click.get_current_context()
    return [
        parameter
        for parameter in context.command.params
        if parameter.name in names
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]


def refuse_typed(*names: str, because: str) -> None:
    """Refuse options that would be ignored.

    Args:
        *names: parameter names of the options.
        because: why they would have no effect, and what to do.

    Raises:
        PursuhintError: one of them was typed.
    """
    if ignored := [parameter.opts[0] for parameter in typed(*names)]:
        raise PursuhintError(f"{', '.join(ignored)} would be ignored: {because}")


FIXED_SAMPLES = "the number of images is fixed; add --samples auto"
"""Why ``--max-samples`` and ``--stable-at`` have no effect."""


def auto_samples(samples: int | str) -> int | AutoSamples:
    """What ``--samples`` asks for, with ``--max-samples`` and ``--stable-at`` of the running command.

    Raises:
        PursuhintError: one of these was typed with a fixed number of samples.
    """
    from pursuhint.analysis.auto_samples import AutoSamples

    if isinstance(samples, int):
        refuse_typed("max_samples", "stable_at", because=FIXED_SAMPLES)
        return samples
    return AutoSamples(
        **{
            str(option.name): click.get_current_context().params[str(option.name)]
            for option in typed("max_samples", "stable_at")
        }
    )


def folder_argument(name: str, **options: Any) -> Callable[[Command], Command]:
    """A folder that must exist; ``callback`` may check more."""
    return click.argument(name, type=_path(exists=True, file_okay=False), **options)


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be pasted into a terminal."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
