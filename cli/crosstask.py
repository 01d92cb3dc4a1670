"""``pursuhint crosstask``"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from pursuhint.data.class_splits import ORDERS
from pursuhint.errors import PursuhintError

from . import early_checks
from .command_line import record_command
from .compare import parse_seeds
from .early_checks import early
from .options import WholeNumber, apply, examples, refuse_typed
from .recipe_options import build_recipe, recipe_options


class Overlaps(click.ParamType):
    """Percentages with commas between them."""

    name = "overlaps"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            shares = tuple(float(part) / 100 for part in str(value).split(","))
        except ValueError:
            shares = (-1.0,)
        if not all(0 <= share <= 1 for share in shares):
            self.fail(f"{value!r} is no list of percentages such as 0,50,100")
        return shares


@click.command(
    "crosstask",
    epilog=examples(
        "pursuhint crosstask --recipe cifar100-refilled-supplement --overlap 0,20,40,60,80,100 \\",
        "    --seeds 0-2 --out gkd",
        "pursuhint crosstask --data cub200 --teacher MobileNetV1 --student MobileNetV1 \\",
        "    --overlap 0,25,50,75,100 --method rkd --method refilled --epochs 200 --out birds",
        "pursuhint crosstask --data digits --teacher resnet14 --student resnet8 --overlap 0,60 --epochs 5 \\",
        "    --method refilled --method at@conventional --method at@even --out digits",
    ),
)
@functools.partial(recipe_options, without=("losses", "only_classes"))
@click.option(
    "--overlap",
    "overlaps",
    type=Overlaps(),
    default="0,50,100",
    show_default=True,
    metavar="LIST",
    help="Percent of the student's classes that the teacher knows.",
)
@click.option(
    "--method",
    "methods",
    callback=early(early_checks.cross_task_method),
    metavar="NAME",
    multiple=True,
    help="refilled, refilled-minus (equal weights), refilled-emb (first stage, then labels), refilled-kN "
    "(at most N negatives, or all), refilled-lambdaX (strength); a loss as --loss takes it that looks at "
    "no classes of the teacher: rkd, aml, at=500; METHOD@HINTS with other hint points, at@chosen by an "
    "analysis of the teacher on the student's images. Repeatable; the student alone is always there.  "
    "[default: rkd, aml and the first three]",
)
@click.option(
    "--settings",
    type=click.Choice(["supplement", "conference"]),
    default="supplement",
    show_default=True,
    help="Hyperparameters of refilled: those of the extended paper or of the conference paper.",
)
@click.option(
    "--matching-epochs",
    type=WholeNumber(min=1),
    help="Epochs of refilled's first stage.  [default: as --epochs]",
)
@click.option(
    "--keep-matching",
    type=click.Choice(["best", "last", "best-of-test"]),
    help="Student of that stage with which the second begins. best: the one with the most accurate nearest "
    "class means, on the validation split (--val-fraction) or else on training images, each left out of its "
    "class's mean; best-of-test: on the test split, as the authors do, which is optimistic.  [default: best]",
)
@click.option(
    "--score-every",
    type=WholeNumber(min=1),
    metavar="N",
    help="Epochs between two measurements for --keep-matching; its last epoch is always measured.  "
    "[default: 10]",
)
@click.option(
    "--order",
    type=click.Choice(list(ORDERS)),
    default="published",
    show_default=True,
    help="Order of the classes from which both tasks are cut; the teacher has the first ones. published: "
    "CIFAR-FS for cifar100, else as labels.",
)
@click.option("--order-seed", type=int, default=0, show_default=True, help="Draws --order seed.")
@click.option(
    "--task-classes",
    type=WholeNumber(min=2),
    metavar="N",
    help="Classes of the teacher, and of the student.  [default: half of all]",
)
@click.option(
    "--at-once",
    type=WholeNumber(min=1),
    metavar="N",
    help="Students in training at the same time.  [default: all of a seed]",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="The smallest difference that matters.",
)
@click.option("--seeds", default="0-2", show_default=True, metavar="LIST", help="For example 0-4 or 1,3,5.")
@apply("device", "out", "overwrite", "quiet", "json")
def command(
    overlaps: tuple[float, ...],
    methods: tuple[str, ...],
    settings: str,
    matching_epochs: int | None,
    keep_matching: Any,
    score_every: int | None,
    order: str,
    order_seed: int,
    task_classes: int | None,
    at_once: int | None,
    margin: float,
    seeds: str,
    device: str | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a teacher on some classes and students on others, by several methods, and compare.

    The teacher learns the first half of the classes, alone and once for all overlaps, unless
    --teacher-checkpoint gives it. Students learn as many classes, some or none of which the teacher knows.
    All students of a seed train side by side and share one pass of the teacher. OUT receives the teacher, a
    study of methods for every overlap, the accuracies (table.md), all measures (crosstask.json) and
    report.html. The same command continues where it was stopped, and adds overlaps, methods and seeds.
    """
    record_command()
    if order != "seed":
        refuse_typed("order_seed", because="it draws the order of --order seed only")
    recipe = build_recipe({**options, "losses": (), "only_classes": None}, protocol_only=True)
    numbers = parse_seeds(seeds)
    if recipe.teacher is None:
        raise PursuhintError("a cross-task study needs a teacher; give --teacher NAME")

    # Imports PyTorch: after the recipe is known to be right.
    from pursuhint._util.devices import choose_device
    from pursuhint._util.distributed import is_main_process
    from pursuhint.acceleration import set_up_memory
    from pursuhint.report import write_report
    from pursuhint.study import CrossTaskRequest, StudyOptions, crosstask

    from .results import print_cross_task
    from .study_progress import StudyProgress
    from .terminal import say

    request = CrossTaskRequest(
        overlaps=overlaps,
        methods=methods or CrossTaskRequest.methods,
        seeds=numbers,
        order=order,
        order_seed=order_seed,
        task_classes=task_classes,
        settings=settings,
        matching_epochs=matching_epochs,
        keep_matching=keep_matching,
        score_every=score_every,
        margin=margin,
    )
    where = choose_device(device)
    set_up_memory(recipe.acceleration, where)
    with StudyProgress(quiet=quiet or not is_main_process()) as progress:
        result = crosstask(
            recipe, out, request, options=StudyOptions(where, at_once, False, progress, overwrite)
        )
    if not is_main_process():
        return
    page = write_report(out)
    print_cross_task(result, as_json=as_json)
    say(f"written: {out / result.FILE}, {page}", quiet)
