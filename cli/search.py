"""``pursuhint search``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import early_checks
from .command_line import record_command
from .early_checks import early
from .options import WholeNumber, apply, examples
from .recipe_options import build_recipe, recipe_options, rounded_for_recording
from .terminal import echo, say

if TYPE_CHECKING:
    from pursuhint.study import SearchResult


@click.command(
    "search",
    epilog=examples(
        "pursuhint search --recipe cifar100-at --teacher-checkpoint resnet32x4.pth --out runs/search \\",
        "    --vary losses.at=100..10000:log --vary losses.kd.temperature=2..8 --trials 40",
        "pursuhint search --recipe pursuhint-post-resnet110 --teacher-checkpoint resnet110.pth \\",
        "    --hints chosen --vary hints.metric=cka,r2cca --vary losses.at=10..1000:log \\",
        "    --record-teacher recordings/resnet110 --confirm-seeds 5 --out runs/positions",
        "pursuhint train --recipe runs/search/best.yaml --seed 7 --out runs/best",
    ),
)
@recipe_options
@click.option(
    "--vary",
    callback=early(early_checks.varied),
    metavar="KEY=LOW..HIGH[:log]|KEY=A,B",
    multiple=True,
    required=True,
    help="A key of the recipe, as for --set, and the values to search: a range, on a logarithmic scale with "
    ":log, or choices. Repeatable.",
)
@click.option(
    "--trials",
    type=WholeNumber(min=1),
    default=20,
    show_default=True,
    help="Trials in all, over all calls and machines that share OUT.",
)
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "none"]),
    default="median",
    show_default=True,
    help="Which trials end early: those below the median of the others at the same epoch, those that "
    "successive halving drops, or none.",
)
@click.option(
    "--at-once",
    type=WholeNumber(min=1),
    default=1,
    show_default=True,
    help="Trials that train side by side and share batches and the pass of the teacher.",
)
@click.option(
    "--confirm-seeds",
    type=WholeNumber(min=1),
    metavar="N",
    help="Afterwards train the best values and the recipe's own on N new seeds, with all training images, "
    "and compare their test accuracies.  [default: no]",
)
@click.option(
    "--hints",
    callback=early(early_checks.hints),
    metavar="FILE|STRATEGY|LIST",
    help="Where the teacher's hints are taken, as for train.  [default: as in each loss's paper]",
)
@click.option("--seed", type=WholeNumber(min=0), help="Seed of the trials and of their choice.  [default: 0]")
@apply("record_teacher")
@click.option("--no-report", is_flag=True, help="Do not write report.html; `pursuhint report OUT` can later.")
@apply("device", "out", "overwrite", "quiet", "json")
def command(
    vary: tuple[str, ...],
    trials: int,
    pruner: Any,
    at_once: int,
    confirm_seeds: int | None,
    hints: str | None,
    seed: int | None,
    recording: Path | None,
    no_report: bool,
    device: str | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search values of a recipe with Optuna, by validation accuracy and never by the test split.

    Every trial is an ordinary run in OUT/trials; OUT/best.yaml is the recipe with the best values. Without
    --val-fraction a tenth of the training images judges the trials. The same command resumes a search that
    was interrupted, and may run at the same time on several machines that see OUT.
    """
    record_command()
    more: dict[str, Any] = {} if seed is None else {"seed": seed}
    recipe = rounded_for_recording(build_recipe(options, hints=hints, **more), recording, options, out=out)

    from pursuhint._util.devices import choose_device
    from pursuhint.acceleration import set_up_memory
    from pursuhint.study import SearchOptions, search

    where = choose_device(device)
    set_up_memory(recipe.acceleration, where)
    chosen = SearchOptions(
        trials=trials,
        pruner=pruner,
        at_once=at_once,
        confirm_seeds=confirm_seeds or 0,
        record_teacher=recording,
        overwrite=overwrite,
    )
    found = search(recipe, out, vary, options=chosen, device=where, watch=lambda line: say(line, quiet))
    _print(found, as_json=as_json)
    if found.finished and not no_report:
        from pursuhint.report import write_report

        say(f"written: {write_report(out)}", quiet)


def _print(found: SearchResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    counts = {state: len(found.of_state(state)) for state in ("complete", "pruned", "failed", "running")}
    ended = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    echo(f"{len(found.trials)} trials: {ended}")
    if found.best is None:
        return
    best = found.best_trial
    echo(f"best: trial {best.number}, validation top-1 {best.top1:.2f} %")
    for key, value in best.values.items():
        share = "" if found.importances is None else f"  (importance {found.importances[key]:.2f})"
        echo(f"  {key} = {value}{share}")
    if found.confirmation is not None:
        from pursuhint.study import conclusion

        echo(f"on {len(found.confirmation.seeds)} new seeds: {conclusion(found.confirmation.comparison)}")
    echo(f"recipe: {found.path / 'best.yaml'}")
