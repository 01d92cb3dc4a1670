"""``pursuhint points``"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pursuhint._util.text import printable
from pursuhint.hints.rules import RULES

from . import completion, early_checks
from .early_checks import early
from .network_settings import network_settings
from .options import WholeNumber, apply, examples, refuse_typed
from .output_files import save_plan
from .terminal import echo

if TYPE_CHECKING:
    from pursuhint._util.network_input import NetworkInput
    from pursuhint.features.hint_points import HintPoint


@click.command(
    "points",
    epilog=examples(
        "pursuhint points resnet110 --data cifar100",
        "pursuhint points torchvision:mobilenet_v2 --size 224 --channels 3 --activation pre",
        "pursuhint points hf:vit --size 224 --set teacher.options.num_hidden_layers=6",
        "pursuhint points resnet110 --size 32 --rule published --out hints.json",
    ),
)
@click.argument("network", callback=early(early_checks.network), shell_complete=completion.teacher)
@apply(
    "data", "data_root", "download", "image_size", "val_fraction", "tokenizer", "activation",
    "include", "network_settings", "json",
)  # fmt: skip
@click.option("--size", type=WholeNumber(min=1), help="Side of the images, so that no data are needed.")
@click.option("--channels", type=WholeNumber(min=1), default=3, show_default=True, help="With --size.")
@click.option(
    "--rule",
    type=click.Choice([name for name, rule in RULES.items() if not rule.images and not rule.analysis]),
    help="Mark the points that a rule chooses with +; those of --rule that need no trained network.",
)
@click.option(
    "--k",
    type=WholeNumber(min=1),
    help="With --rule: number of hints.  [default: number of resolution stages]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --rule: JSON to write, for 'pursuhint train --hints'.",
)
@apply("overwrite_file")
def command(
    network: str,
    data: str | None,
    data_root: Path | None,
    download: bool,
    image_size: int | tuple[int, int] | None,
    val_fraction: float | None,
    activation: str,
    tokenizer: str | None,
    include: tuple[str, ...],
    assignments: tuple[str, ...],
    as_json: bool,
    size: int | None,
    channels: int,
    rule: str | None,
    k: int | None,
    out: Path | None,
    overwrite: bool,
) -> None:
    """List the sub-blocks of NETWORK in depth order: its candidate hint points.

    Positions count from 1, as in the PURSUhInT paper. A star marks the conventional hint points, the last
    sub-block of every stage.
    """
    if rule is None:
        refuse_typed("k", "out", "overwrite", because="it says what --rule chooses; add --rule")
    elif not RULES[rule].takes_k:
        refuse_typed("k", because=f"--rule {rule} has a number of its own")
    if out is None:
        refuse_typed("overwrite", because="it goes with --out")
    if size is None:
        refuse_typed("channels", because="it says what images of --size have; add --size")
    else:
        refuse_typed(
            "data", "data_root", "download", "image_size", "val_fraction", "tokenizer",
            because="--size describes the images; leave one out",
        )  # fmt: skip
    settings = network_settings(network, assignments, data=data, tokenizer=tokenizer)

    import torch

    from pursuhint.features.hint_points import conventional_points, find_hint_points
    from pursuhint.hints.options import default_k
    from pursuhint.hints.rules import choose_by_rule
    from pursuhint.hints.rules.source import RuleSource
    from pursuhint.models import create_model
    from pursuhint.training.loaders import load_data

    from .networks import create_for, data_config, refuse_held_out

    example: NetworkInput
    if size is not None:
        example = torch.zeros(1, channels, size, size)
        model = create_model(network, num_classes=10, **{"in_channels": channels, **settings.options})
    else:
        config = data_config(
            name=data, root=data_root, download=download, image_size=image_size, val_fraction=val_fraction,
            text=settings.text,
        )  # fmt: skip
        samples = load_data(config)
        if val_fraction:
            refuse_held_out(samples)
        example = samples.example()
        model = create_for(network, samples, options=settings.options)
    points = find_hint_points(model, example, activation=activation, include=include)  # type: ignore[arg-type]
    conventional = conventional_points(model, points)
    plan = None
    if rule is not None:
        plan = choose_by_rule(rule, RuleSource(points, k or default_k(points), teacher_name=network))
        if out is not None:
            save_plan(plan, out, overwrite=overwrite)
    chosen = () if plan is None else plan.teacher_points
    if as_json:
        more = [{"chosen": point in chosen} if rule is not None else {} for point in points]
        rows = [point.to_dict() | {"conventional": point in conventional} for point in points]
        click.echo(json.dumps([row | own for row, own in zip(rows, more)]))
        return
    echo(f"{len(points)} sub-blocks of {network} ({activation}-activation); * marks conventional hints")
    if rule is not None:
        echo(f"+ marks the points of the rule {rule}: {RULES[rule].description}")
    for line in _table(points, conventional, chosen):
        echo(line)


def _table(
    points: Sequence[HintPoint], conventional: Sequence[HintPoint], chosen: Sequence[HintPoint]
) -> list[str]:
    rows = [("position", "stage", "module", "channels", "size")]
    for point in points:
        size = " x ".join(str(side) for side in point.spatial) or "-"
        mark = ("*" if point in conventional else "") + ("+" if point in chosen else "")
        mark = mark.ljust(2 if chosen else 1)
        module = printable(point.module, longest=120)
        rows.append(
            (
                f"{point.position}{mark}",
                str(point.stage),
                module,
                str(point.channels),
                size,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    align = (str.rjust, str.rjust, str.ljust, str.rjust, str.rjust)
    return ["  ".join(fit(cell, width) for fit, cell, width in zip(align, row, widths)) for row in rows]
