"""``pursuhint train``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import early_checks
from .command_line import record_command
from .early_checks import early
from .options import WholeNumber, apply, examples
from .recipe_options import build_recipe, recipe_options, rounded_for_recording


@click.command(
    "train",
    epilog=examples(
        "pursuhint train --student resnet32 --data cifar100 --recipe cifar100-vanilla --out runs/teacher",
        "pursuhint train --recipe finetune --student torchvision:resnet50 --student-pretrained \\",
        "    --data folder:photos --out runs/tuned",
        "pursuhint train --teacher resnet32 --teacher-checkpoint runs/teacher/student.safetensors \\",
        "    --student resnet8 --data cifar100 --hints analysis/hints.json --loss kd --loss at --out runs/at",
        "pursuhint train --recipe cifar100-crd --teacher-checkpoint resnet32x4.pth --save-every-steps 500 \\",
        "    --tracker tensorboard --out runs/crd",
        "pursuhint train --recipe cifar100-at --teacher-checkpoint resnet32x4.pth --precision bf16 \\",
        "    --set data.augment=standard,trivial --set acceleration.compile=all --out runs/at-fast",
        "pursuhint train --recipe pursuhint-post-resnet110 --teacher-checkpoint resnet110.pth \\",
        "    --hints 7,29,49 --out runs/published",
        "pursuhint train --recipe runs/at-fast/recipe.yaml --out runs/again",
        "torchrun --standalone --nproc_per_node 4 -m pursuhint train --recipe imagenet-pursuhint \\",
        "    --sync-batchnorm --out runs/imagenet",
    ),
)
@recipe_options
@click.option(
    "--hints",
    callback=early(early_checks.hints),
    metavar="FILE|STRATEGY|LIST",
    help="Where the teacher's hints are taken: a hints.json; positions or module names, as 7,29,49; or "
    "conventional (stage ends), centers (stage centres), last-map, second-stage, stem-and-stages, all, "
    "chosen (analyse and cluster first), random, or a rule such as even ('pursuhint list arms'); curriculum "
    "and random-each-epoch change them in training. The recipe's other hint settings stay.  "
    "[default: as in each loss's paper]",
)
@click.option("--seed", type=WholeNumber(min=0), help="Random seed.  [default: 0]")
@click.option(
    "--save-every-steps",
    metavar="N",
    type=WholeNumber(min=0),
    help="Save the state every N steps too, not only after every epoch: what a power cut may cost in long "
    "epochs.  [default: 0, never]",
)
@click.option(
    "--tracker",
    "trackers",
    metavar="NAME",
    multiple=True,
    help="Send the metrics of every epoch to tensorboard (OUT/tensorboard) or wandb as well as to "
    "metrics.jsonl. Repeatable.",
)
@click.option(
    "--sync-batchnorm",
    is_flag=True,
    help="With several processes, let batch norms see the whole batch, not each process's part of it.",
)
@apply("record_teacher")
@click.option("--no-report", is_flag=True, help="Do not write report.html; `pursuhint report OUT` can later.")
@apply("device", "out", "overwrite", "quiet", "json")
def command(
    hints: str | None,
    seed: int | None,
    save_every_steps: int | None,
    trackers: tuple[str, ...],
    sync_batchnorm: bool,
    recording: Path | None,
    no_report: bool,
    device: str | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a student: alone, or distilled from a teacher with any sum of losses.

    OUT becomes a run folder: recipe.yaml (which alone repeats the run), metrics.jsonl, the weights of the
    last and the best epoch, and report.html. The same command continues a run that was interrupted: its
    state is saved after every epoch, and when Ctrl-C, SIGTERM or SIGHUP stops it. Under torchrun or
    accelerate launch several processes share every batch.
    """
    record_command()
    given = {
        "seed": seed,
        "save_every_steps": save_every_steps,
        "trackers": trackers or None,
        "sync_batchnorm": sync_batchnorm or None,
    }
    more: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    recipe = rounded_for_recording(build_recipe(options, hints=hints, **more), recording, options, out=out)

    # Imports PyTorch: after the recipe is known to be right.
    from pursuhint._util.devices import choose_device
    from pursuhint._util.distributed import is_main_process
    from pursuhint.acceleration import set_up_memory
    from pursuhint.training import train

    from .progress import TrainingProgress
    from .results import print_run
    from .terminal import say

    where = choose_device(device)
    set_up_memory(recipe.acceleration, where)
    with TrainingProgress(quiet=quiet or not is_main_process()) as progress:
        record = train(
            recipe, out, device=where, on_event=progress, record_teacher=recording, overwrite=overwrite
        )
    if is_main_process():
        written = [out / "student.safetensors"]
        if not no_report:
            from pursuhint.report import write_report

            written.append(write_report(out))
        print_run(record, as_json=as_json)
        say(f"written: {', '.join(map(str, written))}", quiet)
