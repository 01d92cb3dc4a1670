"""``pursuhint pathways``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .command_line import record_command
from .options import WholeNumber, apply, examples
from .output_files import check_free
from .recipe_options import build_recipe, recipe_options
from .terminal import echo


@click.command(
    "pathways",
    epilog=examples(
        "pursuhint pathways --recipe cifar100-distpro --teacher-checkpoint resnet32x4.pth --out distpro.yaml",
        "pursuhint train --recipe distpro.yaml --out runs/distpro",
        "pursuhint pathways --recipe cifar100-distpro --teacher-checkpoint resnet32x4.pth \\",
        "    --search-epochs 20 --method exact --hints pre/hints.json --out distpro.yaml",
    ),
)
@recipe_options
@click.option(
    "--search-epochs",
    type=WholeNumber(min=1),
    default=40,
    show_default=True,
    help="Epochs of the search; --epochs is the length of the training that the recipe is written for.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the training data that the weights of the pathways are learned on.",
)
@click.option(
    "--method",
    type=click.Choice(["differences", "exact"]),
    default="differences",
    show_default=True,
    help="Gradient of the weights: by differences, or exact (slower, second derivatives).",
)
@click.option("--hints", metavar="FILE", type=click.Path(path_type=Path), help="Hint points: a hints.json.")
@click.option("--seed", type=WholeNumber(min=0), help="Random seed.  [default: 0]")
@apply("device")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="YAML to write: the recipe, with the process that the search has found.",
)
@apply("overwrite_file", "quiet", "json")
def command(
    search_epochs: int,
    held_out: float,
    method: Any,
    hints: Path | None,
    seed: int | None,
    device: str | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search the weight of every pathway from a layer of the teacher to a layer of the student, by epoch.

    A student is trained on one part of the training data, while the weights follow the gradient of its loss
    on the other part. The result is the recipe with the weights written into it, for a training from scratch.
    """
    check_free(out, overwrite=overwrite)
    record_command()
    more: dict[str, Any] = {} if seed is None else {"seed": seed}
    recipe = build_recipe(options, hints=None if hints is None else str(hints), **more)

    # Imports PyTorch: after the recipe is known to be right.
    from pursuhint.study.pathway_search import search_process

    from .progress import CountProgress
    from .terminal import say

    with CountProgress("searching", unit="epochs", quiet=quiet) as progress:
        found = search_process(
            recipe,
            epochs=search_epochs,
            held_out=held_out,
            method=method,
            device=device,
            on_accuracy=lambda accuracy: say(accuracy.line(), quiet),
            on_epoch=lambda epoch, shares: progress(epoch + 1, search_epochs),
        )
    found.recipe.save(out)
    last = found.shares[-1].tolist()
    if as_json:
        rows = [
            {"teacher": teacher, "student": student, "share": share}
            for (teacher, student), share in zip(found.pathways, last)
        ]
        click.echo(json.dumps({"recipe": str(out), "pathways": rows}))
    else:
        for (teacher, student), share in sorted(zip(found.pathways, last), key=lambda row: -row[1]):
            echo(f"{share:6.1%}  {teacher} -> {student}")
    say(f"written: {out}; pursuhint train --recipe {out} --out DIR", quiet)
