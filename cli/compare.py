"""``pursuhint compare``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pursuhint.study.arms import ARMS

from .options import apply, examples
from .recipe_options import build_recipe, recipe_options

__all__ = ["command", "parse_seeds"]


@click.command(
    "compare",
    short_help="Compare chosen, conventional and random hint positions over seeds.",
    epilog=examples(
        "pursuhint compare --teacher resnet32 --teacher-checkpoint runs/teacher/student.safetensors \\",
        "    --student resnet8 --data cifar100 --loss kd --loss at --metric r2cca --seeds 0-4 --out compare",
        "pursuhint compare --recipe pursuhint-post-resnet110 --teacher-checkpoint resnet110.pth \\",
        "    --out compare",
    ),
)
@recipe_options
@click.option(
    "--arm",
    "arms",
    type=click.Choice(list(ARMS)),
    multiple=True,
    help="What to compare; repeatable.  [default: all]",
)
@click.option("--seeds", default="0-2", show_default=True, metavar="LIST", help="For example 0-4 or 1,3,5.")
@apply("metric", "k", "position", "activation", "samples", "device", "out", "quiet", "json")
def command(
    arms: tuple[str, ...],
    seeds: str,
    metrics: tuple[str, ...],
    k: int | None,
    position: str,
    activation: str,
    samples: int,
    device: str | None,
    out: Path,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the same student with hints at different places, over several seeds, and compare.

    All arms of a seed start from the same weights and see the same batches, so that differences are paired.
    OUT receives every run, compare.json and report.html. The same command continues where it was stopped;
    with more arms or seeds it adds them.
    """
    from pursuhint.errors import PursuhintError
    from pursuhint.report import write_report
    from pursuhint.study import compare

    from .networks import default_device
    from .progress import StudyProgress, say
    from .results import print_comparison

    if len(metrics) > 1:
        raise PursuhintError(f"compare takes one --metric, got {len(metrics)}: {', '.join(metrics)}")
    recipe = build_recipe(options)
    typed = click.core.ParameterSource.COMMANDLINE
    source = click.get_current_context().get_parameter_source
    hints = {"k": k, "position": position, "activation": activation, "samples": samples}
    changed = [f"hints.{key}={value}" for key, value in hints.items() if source(key) is typed]
    recipe = recipe.override([*changed, *(f"hints.metric={metric}" for metric in metrics)])
    with StudyProgress(quiet=quiet) as progress:
        comparison = compare(
            recipe,
            out,
            arms=arms or tuple(ARMS),
            seeds=parse_seeds(seeds),
            device=default_device(device),
            on_event=progress,
        )
    page = write_report(out)
    print_comparison(comparison, as_json=as_json)
    say(f"written: {out / 'compare.json'}, {page}", quiet)


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"0-2,7"`` as ``(0, 1, 2, 7)``.

    Raises:
        PursuhintError: it has another form.
    """
    from pursuhint.errors import PursuhintError

    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise PursuhintError(f"cannot read the seeds {text!r}; write for example 0-4 or 1,3,5")
        seeds += range(int(first), int(last if dash else first) + 1)
    return tuple(seeds)
