"""``pursuhint select``"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from pursuhint.hints.rules import RULES

from .command_line import record_command
from .options import apply, examples, folder_argument, refuse_typed
from .output_files import save_plan


@click.command(
    "select",
    epilog=examples(
        "pursuhint select analysis --k 4 --out hints-4.json",
        "pursuhint select analysis --k auto --algorithm segments --position medoid --out hints.json",
        "pursuhint select analysis --rule influence --out hints.json",
        "pursuhint select analysis --rule probe --k 3 --out hints.json",
    ),
)
@folder_argument("analysis")
@apply("metric_of_analysis", "k_or_auto", "algorithm", "normalize", "position", "json")
@click.option(
    "--rule",
    type=click.Choice([name for name, rule in RULES.items() if not rule.images]),
    help="Choose by a rule instead of by clusters, see 'pursuhint list arms'.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="JSON to write.",
)
@apply("overwrite_file")
def command(
    analysis: Path,
    metrics: tuple[str, ...],
    k: int | Literal["auto"] | None,
    algorithm: str,
    normalize: bool,
    position: str,
    rule: str | None,
    as_json: bool,
    out: Path,
    overwrite: bool,
) -> None:
    """Choose hint positions from the similarities in the folder ANALYSIS and write them to a JSON file."""
    record_command()
    from pursuhint.analysis.storage import StoredAnalysis
    from pursuhint.errors import PursuhintError

    from .results import print_plan, print_selection

    if len(metrics) > 1:
        raise PursuhintError(f"select takes one --metric, got {len(metrics)}: {', '.join(metrics)}")
    found = StoredAnalysis.load(analysis)
    metric = metrics[0] if metrics else found.metrics[0]
    if rule is not None:
        _refuse_ignored(rule)
        if k == "auto":
            raise PursuhintError(f"--k auto looks at clusters, and --rule {rule} has none; give a number")
        plan = found.select_by_rule(rule, k=k, metric=metric, position=position)
        save_plan(plan, out, overwrite=overwrite)
        print_plan(plan, as_json=as_json)
        return
    plan = found.select(
        metric=metric,
        k=k,
        algorithm=algorithm,
        normalize=normalize or None,
        position=position,
    )
    stability = found.selection_stability(plan)
    save_plan(plan, out, overwrite=overwrite)
    print_selection(found, plan, stability, as_json=as_json)


def _refuse_ignored(name: str) -> None:
    """Refuse options that a rule does not use."""
    rule = RULES[name]
    unused = ["algorithm", "normalize"]
    unused += [] if rule.similarity else ["metrics"]
    unused += [] if rule.takes_position else ["position"]
    unused += [] if rule.takes_k else ["k"]
    refuse_typed(*unused, because=f"--rule {name} does not look at it")
