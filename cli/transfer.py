"""``pursuhint transfer``"""

from __future__ import annotations

from pathlib import Path

import click

from pursuhint.study.transfer_settings import CLASSIFIERS, TransferSettings

from . import completion, early_checks
from .command_line import record_command
from .early_checks import early
from .options import WholeNumber, apply, examples, folder_argument, refuse_typed
from .table_output import check_table_options, table_options, write_table
from .terminal import say


@click.command(
    "transfer",
    epilog=examples(
        "pursuhint transfer runs/kd runs/icd --to stl10 --to tiny-imagenet",
        "pursuhint transfer runs/kd --to folder:photos --classifier logistic",
        "pursuhint transfer runs/kd runs/icd --to stl10 --save transfer",
        "pursuhint transfer runs/kd --to stl10 --augment --drift --format latex --out transfer.tex",
    ),
)
@folder_argument("runs", metavar="RUN...", nargs=-1, required=True, callback=early(early_checks.run_folder))
@click.option(
    "--to",
    "targets",
    callback=early(early_checks.data_set),
    shell_complete=completion.data_set,
    metavar="NAME",
    multiple=True,
    required=True,
    help="Data set to classify, named as --data of 'pursuhint train'. Repeatable.",
)
@click.option(
    "--classifier",
    "classifiers",
    type=click.Choice(list(CLASSIFIERS)),
    multiple=True,
    help="sgd: a linear layer trained as for ICD's table 3; logistic: scikit-learn's logistic regression. "
    "Repeatable.  [default: both]",
)
@click.option(
    "--epochs",
    type=WholeNumber(min=1),
    default=TransferSettings.epochs,
    show_default=True,
    help="Epochs of the classifier sgd.",
)
@click.option(
    "--lr",
    type=float,
    help="Its learning rate.  [default: 0.05; 0.01 on MobileNetV2 and ShuffleNets]",
)
@click.option(
    "--augment", is_flag=True, help="Crops and flips for sgd, as the authors'; the network runs every epoch."
)
@click.option(
    "--drift",
    is_flag=True,
    help="Batch norms in training mode for sgd, as in the authors' code; the network runs every epoch.",
)
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Which weights of the runs: of their last or of their best epoch.",
)
@click.option(
    "--save",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also keep the result in this folder: transfer.json, table.md and a page, report.html.",
)
@table_options
@apply(
    "data_root", "download", "val_fraction", "workers", "trust_code", "seed", "device", "overwrite", "quiet",
    "json",
)  # fmt: skip
def command(
    runs: tuple[Path, ...],
    targets: tuple[str, ...],
    classifiers: tuple[str, ...],
    epochs: int,
    lr: float | None,
    augment: bool,
    drift: bool,
    weights: str,
    save: Path | None,
    kind: str,
    out: Path | None,
    data_root: Path | None,
    download: bool,
    val_fraction: float | None,
    workers: int | None,
    trust_code: bool,
    seed: int,
    device: str | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train linear classifiers for other data sets on the frozen students of runs.

    The students take the images at their own size, normalised with the other data's mean and deviation. Every
    accuracy has a 95 % interval for other test images (Wilson); runs that differ by their seed alone are
    averaged as well, from three seeds on with a 95 % interval for other seeds.
    """
    if classifiers == ("logistic",):
        because = "only the classifier sgd has them (--classifier)"
        refuse_typed("epochs", "lr", "augment", "drift", "seed", because=because)
    check_table_options(kind, as_json, out, overwrite=overwrite)
    if save is not None:
        from pursuhint.study.transfer_result import check_transfer_folder

        check_transfer_folder(save, [str(run) for run in runs], targets, overwrite=overwrite)
    elif out is None:
        refuse_typed("overwrite", because="it goes with --save and --out")
    record_command()
    settings = TransferSettings(
        classifiers=classifiers or tuple(CLASSIFIERS),
        epochs=epochs,
        lr=lr,
        augment=augment,
        drift=drift,
        seed=seed,
        weights=weights,
        trust_code=trust_code,
        data_root=data_root,
        download=download,
        val_fraction=val_fraction or 0.0,
        workers=workers or 0,
    )

    from pursuhint.study import transfer

    result = transfer(runs, targets, settings=settings, device=device, watch=lambda line: say(line, quiet))
    if save is not None:
        from pursuhint.report import write_report

        result.save(save, overwrite=overwrite)
        say(f"report: {write_report(save)}", quiet)
    plain = result.to_dict() if as_json else None
    write_table(result.table(), plain, kind=kind, out=out, quiet=quiet)
