"""``pursuhint compare``"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from pursuhint.errors import PursuhintError
from pursuhint.study.arms import DEFAULT_ARMS, WITHOUT_HINTS, find_arm

from . import completion, early_checks
from .command_line import record_command
from .early_checks import early
from .options import FIXED_SAMPLES, WholeNumber, apply, examples, refuse_typed, typed
from .recipe_options import build_recipe, recipe_options, rounded_for_recording

if TYPE_CHECKING:
    from pursuhint.training.recipe.schema import LossConfig, Recipe

_MOST_SEEDS = 10_000


class Lengths(click.ParamType):
    """One number of epochs, or several with commas between them."""

    name = "epochs"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a number of epochs, such as 60, or a list of them, such as 8,20,60")
        return tuple(map(int, parts))


@click.command(
    "compare",
    epilog=examples(
        "pursuhint compare --teacher resnet32 --teacher-checkpoint runs/teacher/student.safetensors \\",
        "    --student resnet8 --data cifar100 --loss kd --loss at --metric r2cca --seeds 0-4 --out compare",
        "pursuhint compare --recipe pursuhint-post-resnet110 --teacher-checkpoint resnet110.pth \\",
        "    --out compare",
        "pursuhint compare --recipe pursuhint-post-resnet110 --teacher-checkpoint resnet110.pth \\",
        "    --arm conventional --arm hints:7,29,49 --seeds 0-4 --out published",
        "pursuhint compare --recipe cifar100-at --teacher-checkpoint resnet32x4.pth --arm conventional \\",
        "    --arm even --arm sweep --loss-set attention=at,kd --loss-set fitnet=fitnet,kd --epochs 20,60 \\",
        "    --out crossed",
        "pursuhint compare --recipe cifar100-at --teacher-checkpoint resnet32x4.pth --arm conventional \\",
        "    --arm even --record-teacher recordings/resnet32x4 --out even",
        "pursuhint compare --method kd --method at --method crd+kd --teacher resnet32 \\",
        "    --teacher-checkpoint runs/teacher/student.safetensors --student resnet8 --data cifar100 \\",
        "    --seeds 0-4 --out methods",
        "torchrun --standalone --nproc_per_node 2 -m pursuhint compare --recipe cifar100-at --method all \\",
        "    --teacher-checkpoint resnet32x4.pth --at-once 8 --out methods",
    ),
)
@functools.partial(recipe_options, without=("epochs",))
@click.option(
    "--epochs",
    type=Lengths(),
    metavar="LIST",
    help="Passes over the training data, or several lengths to cross with the arms: 8,20,60.  [default: 240]",
)
@click.option(
    "--arm",
    "arms",
    callback=early(early_checks.arm),
    shell_complete=completion.arm,
    metavar="NAME",
    multiple=True,
    help="Which hint positions to compare, as 'pursuhint list arms' has them: a name such as even, "
    "METRIC:ALGORITHM:POSITION, hints:7,29,49 or hints:FILE for given ones, sweep for every layer alone; "
    f"repeatable.  [default: {', '.join(DEFAULT_ARMS)}]",
)
@click.option(
    "--loss-set",
    "loss_sets",
    callback=early(early_checks.loss_set),
    metavar="NAME=LOSS,LOSS",
    multiple=True,
    help="Compare the arms with these losses, as --loss takes them, under a name of your choice; repeatable: "
    "the arms are crossed with all sets, and with all lengths of --epochs 8,20,60.",
)
@click.option(
    "--method",
    "methods",
    callback=early(early_checks.method),
    shell_complete=completion.method,
    metavar="NAME[+NAME...]",
    multiple=True,
    help="Compare methods instead of hint positions: losses as --loss takes them, joined by + where several "
    "go together, or recipe:NAME for the losses and hints of a recipe; repeatable. 'all' is every loss by "
    "itself. The student alone is always there. Of --recipe, only the rest applies.",
)
@click.option(
    "--hints",
    callback=early(early_checks.hints),
    metavar="FILE|STRATEGY|LIST",
    help="With --method: the hint points of all methods, as in 'pursuhint train'.  [default: as in each "
    "method's paper]",
)
@click.option(
    "--at-once",
    type=WholeNumber(min=1),
    metavar="N",
    help="Students in training at the same time: fewer take less memory, and more passes of the teacher.  "
    "[default: all of a seed]",
)
@click.option("--streams", is_flag=True, help="On a GPU, give every student in training a stream of its own.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="The smallest difference that matters: two ways of training are equal if they are shown to differ "
    "by less.",
)
@click.option(
    "--until-decided",
    is_flag=True,
    help="Begin with --seeds and add seeds until every arm is better, worse or equal to the control (every "
    "method to KD); the chance of a wrong answer is bounded over all looks. With several sets of losses or "
    "lengths, each of them by itself, see --error-over.",
)
@click.option(
    "--error-over",
    type=click.Choice(["cell", "all"]),
    default="cell",
    show_default=True,
    help="With --until-decided and several sets of losses or lengths: bound the chance of a wrong answer in "
    "each of them, or over all together, for which it takes more seeds.",
)
@click.option(
    "--max-seeds",
    type=WholeNumber(min=3),
    metavar="N",
    help="With --until-decided: the most seeds.  [default: 20]",
)
@apply("record_teacher")
@click.option("--seeds", default="0-4", show_default=True, metavar="LIST", help="For example 0-4 or 1,3,5.")
@apply(
    "metric",
    "k",
    "position",
    "activation_of_hints",
    "samples",
    "max_samples",
    "stable_at",
    "device",
    "out",
    "overwrite",
    "quiet",
    "json",
)
def command(
    arms: tuple[str, ...],
    loss_sets: tuple[str, ...],
    methods: tuple[str, ...],
    hints: str | None,
    seeds: str,
    at_once: int | None,
    streams: bool,
    margin: float,
    until_decided: bool,
    error_over: Literal["cell", "all"],
    max_seeds: int | None,
    recording: Path | None,
    metrics: tuple[str, ...],
    k: int | None,
    position: str,
    activation: str | None,
    samples: int | Literal["auto"],
    max_samples: int | None,
    stable_at: float | None,
    device: str | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the same student in several ways, over several seeds, and compare.

    By default the ways differ in where the hints are; with --method, in the loss. All students of a seed
    train side by side: they start from the same weights, see the same batches and share one pass of the
    teacher, so that differences are paired. OUT receives every run, compare.json (methods.json) and
    report.html. The same command continues where it was stopped; with more arms, methods or seeds it adds
    them.
    """
    record_command()
    lengths = options["epochs"] or ()
    options["epochs"] = lengths[0] if lengths else None
    if len(metrics) > 1:
        raise PursuhintError(f"compare takes one --metric, got {len(metrics)}: {', '.join(metrics)}")
    if arms and methods:
        raise PursuhintError("--arm compares hint positions and --method losses; give one or the other")
    _refuse_ignored(arms, methods)
    numbers = parse_seeds(seeds)
    max_seeds = _most_seeds(len(numbers), max_seeds, until_decided=until_decided)
    crossed = bool(loss_sets) or len(lengths) > 1
    _refuse_contradictions(methods, loss_sets, lengths, losses=options["losses"], hints=hints)
    recipe = build_recipe(
        options,
        hints=hints,
        protocol_only=bool(methods),
        decided_hints=() if methods else ("strategy", "algorithm", "points", "file"),
    )
    recipe = rounded_for_recording(recipe, recording, options, out=out)
    choice = {
        "k": k, "position": position, "activation": activation,
        "samples": samples, "max_samples": max_samples, "stable_at": stable_at,
    }  # fmt: skip
    recipe = _with_hints(recipe, choice, metrics, methods)

    # Imports PyTorch: after the recipe is known to be right.
    from pursuhint._util.devices import choose_device
    from pursuhint._util.distributed import is_main_process
    from pursuhint.acceleration import set_up_memory
    from pursuhint.report import write_report
    from pursuhint.study import (
        ComparisonRequest,
        Crossing,
        StudyOptions,
        compare,
        compare_crossed,
        compare_methods,
    )

    from .results import print_comparison, print_crossed, print_methods
    from .study_progress import StudyProgress
    from .terminal import say

    where = choose_device(device)
    if streams and where.type != "cuda":
        refuse_typed("streams", because=f"only a GPU has streams, and the students train on {where}")
    set_up_memory(recipe.acceleration, where)
    result: Any
    show: Callable[..., None]
    with StudyProgress(quiet=quiet or not is_main_process()) as progress:
        if crossed:
            show = print_crossed
            result = compare_crossed(
                recipe,
                out,
                Crossing(parse_loss_sets(loss_sets), lengths, error_over),
                request=ComparisonRequest(arms or DEFAULT_ARMS, numbers, margin, max_seeds),
                options=StudyOptions(where, at_once, streams, progress, overwrite, recording),
            )
        else:
            shared: dict[str, Any] = {
                "seeds": numbers, "device": where, "at_once": at_once, "streams": streams, "margin": margin,
                "max_seeds": max_seeds, "on_event": progress, "overwrite": overwrite,
                "record_teacher": recording,
            }  # fmt: skip
            if methods:
                show = print_methods
                asked = None if methods == ("all",) else methods
                result = compare_methods(recipe, out, methods=asked, **shared)
            else:
                show = print_comparison
                result = compare(recipe, out, arms=arms or DEFAULT_ARMS, **shared)
    if not is_main_process():
        return
    page = write_report(out)
    show(result, as_json=as_json)
    say(f"written: {out / result.FILE}, {page}", quiet)


def _most_seeds(seeds: int, most: int | None, *, until_decided: bool) -> int | None:
    """The most seeds of a comparison that adds them; None for fixed seeds.

    Raises:
        PursuhintError: an option of such comparisons is given without ``--until-decided``, or there are too
            few seeds to begin with.
    """
    if not until_decided:
        if most is not None:
            raise PursuhintError("--max-seeds would be ignored: it goes with --until-decided")
        refuse_typed("error_over", because="it goes with --until-decided")
        return None
    from pursuhint.study.sequential import MOST_SEEDS, SequentialPlan

    most = most or MOST_SEEDS
    SequentialPlan(seeds, most)  # fails before PyTorch is imported
    return most


def _refuse_contradictions(
    methods: tuple[str, ...],
    loss_sets: tuple[str, ...],
    lengths: tuple[int, ...],
    *,
    losses: tuple[str, ...],
    hints: str | None,
) -> None:
    """Refuse options that belong to different kinds of comparison."""
    crossed = bool(loss_sets) or len(lengths) > 1
    if not crossed:
        refuse_typed("error_over", because="there is one set of losses and one length; add --loss-set")
    if crossed and methods:
        what = "--loss-set" if loss_sets else f"--epochs {','.join(map(str, lengths))}"
        raise PursuhintError(f"{what} is crossed with arms, not with --method; give one or the other")
    if loss_sets and losses:
        raise PursuhintError("--loss-set names all losses of its students; leave out --loss")
    if methods and losses:
        raise PursuhintError("--method brings its own losses; leave out --loss, or join it to a method by +")
    if hints is not None and not methods:
        raise PursuhintError(f"--hints goes with --method; to compare positions, give --arm hints:{hints}")


def _with_hints(
    recipe: Recipe, choice: Mapping[str, Any], metrics: tuple[str, ...], methods: tuple[str, ...]
) -> Recipe:
    """The recipe with the options about hint points that were typed.

    Args:
        recipe: of all students.
        choice: values of the options, by key of the recipe's ``hints``.
        metrics: at most one.
        methods: of a comparison of methods, whose hint points may not look at the keys.
    """
    from pursuhint.training.recipe.hints_syntax import check_effect

    changed = [f"hints.{option.name}={choice[str(option.name)]}" for option in typed(*choice)]
    changed += [f"hints.metric={metric}" for metric in metrics]
    recipe = recipe.override(changed)
    if recipe.hints is None or recipe.hints.samples != "auto":
        refuse_typed("max_samples", "stable_at", because=FIXED_SAMPLES)
    if methods:
        check_effect(recipe.hints, changed)
    return recipe


def _refuse_ignored(arms: tuple[str, ...], methods: tuple[str, ...]) -> None:
    """Refuse options about hint positions that no arm uses."""
    if methods or not arms:
        return
    chosen = [find_arm(arm) for arm in arms]
    used = {option for arm in chosen for option in arm.uses}
    of_analysis = ("metrics", "position", "samples", "max_samples", "stable_at")
    unused = [option for option in of_analysis if option not in used]
    refuse_typed(
        *unused,
        because=f"no arm of {', '.join(arms)} looks at it; add --arm kmeans or --arm segments",
    )
    if not any(arm.takes_k for arm in chosen):
        refuse_typed("k", because=f"the arms {', '.join(arms)} have one hint for every resolution stage")
    if set(arms) <= set(WITHOUT_HINTS):
        refuse_typed("activation", because=f"the students of {' and '.join(arms)} have no hints")


def parse_loss_sets(texts: Sequence[str]) -> dict[str, dict[str, LossConfig]]:
    """``["attention=at,kd"]`` as losses by the name of the set.

    Raises:
        PursuhintError: one has another form, or a name is given twice.
    """
    from pursuhint.training.recipe.loss_syntax import parse_loss_set
    from pursuhint.training.recipe.schema import LossConfig

    sets: dict[str, dict[str, LossConfig]] = {}
    for text in texts:
        name, losses = parse_loss_set(text)
        if name in sets:
            raise PursuhintError(f"the set of losses {name!r} is given twice")
        sets[name] = {loss: LossConfig.model_validate(values) for loss, values in losses.items()}
    return sets


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"0-2,7"`` as ``(0, 1, 2, 7)``.

    Raises:
        PursuhintError: it has another form, a range ends before it begins, or there are too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", part.strip())
        if found is None:
            raise PursuhintError(f"cannot read the seeds {text[:40]!r}; write for example 0-4 or 1,3,5")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise PursuhintError(f"the seeds {found[0]} end before they begin; write {last}-{first}")
        if last - first >= _MOST_SEEDS:
            raise PursuhintError(f"the seeds {found[0]} are more than {_MOST_SEEDS:,}; ask for fewer")
        seeds += range(first, last + 1)
    return tuple(seeds)
