"""``pursuhint select``"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from .command_line import record_command
from .options import apply, examples, folder_argument


@click.command(
    "select",
    short_help="Choose hint positions again from an analysis, without running the network.",
    epilog=examples(
        "pursuhint select analysis --k 4 --out hints-4.json",
        "pursuhint select analysis --k auto --algorithm segments --position medoid --out hints.json",
    ),
)
@folder_argument("analysis")
@apply("metric", "k_or_auto", "algorithm", "normalize", "position", "json")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="JSON to write.",
)
def command(
    analysis: Path,
    metrics: tuple[str, ...],
    k: int | Literal["auto"] | None,
    algorithm: str,
    normalize: bool,
    position: str,
    as_json: bool,
    out: Path,
) -> None:
    """Choose hint positions from the similarities in the folder ANALYSIS and write them to a JSON file."""
    record_command()
    from pursuhint.analysis.storage import StoredAnalysis
    from pursuhint.errors import PursuhintError

    from .results import print_selection

    if len(metrics) > 1:
        raise PursuhintError(f"select takes one --metric, got {len(metrics)}: {', '.join(metrics)}")
    found = StoredAnalysis.load(analysis)
    metric = metrics[0] if metrics else found.metrics[0]
    plan = found.select(
        metric=metric,
        k=k,
        algorithm=algorithm,
        normalize=normalize or None,
        position=position,
    )
    stability = found.selection_stability(plan)
    plan.save(out)
    print_selection(found, plan, stability, as_json=as_json)
