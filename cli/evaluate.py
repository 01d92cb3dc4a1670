"""``pursuhint evaluate``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from pursuhint.errors import PursuhintError

from . import early_checks
from .early_checks import early
from .network_settings import network_settings
from .options import apply, examples, folder_argument, refuse_typed
from .terminal import echo


@click.command(
    "evaluate",
    epilog=examples(
        "pursuhint evaluate runs/at",
        "pursuhint evaluate runs/at --data folder:photos --split val",
        "pursuhint evaluate --teacher resnet110 --teacher-checkpoint resnet110.pth --data cifar100",
    ),
)
@folder_argument("run", required=False, callback=early(early_checks.run_folder))
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Which weights of the run: of its last or of its best epoch.",
)
@click.option(
    "--split",
    type=click.Choice(["test", "val", "train"]),
    default="test",
    show_default=True,
    help="Which part of the data: test images, the validation part of --val-fraction, or training images.",
)
@apply(
    "teacher", "teacher_checkpoint", "pretrained", "checkpoint_key", "data", "data_root", "tokenizer",
    "download", "image_size", "image_channels", "image_normalize", "exif", "val_fraction",
    "batch_size_of_pass", "workers", "network_settings", "trust_code", "device", "json",
)  # fmt: skip
def command(
    run: Path | None,
    weights: str,
    split: str,
    teacher: str | None,
    teacher_checkpoint: Path | None,
    pretrained: bool,
    checkpoint_key: str | None,
    data: str | None,
    data_root: Path | None,
    tokenizer: str | None,
    download: bool,
    image_size: int | tuple[int, int] | None,
    image_channels: int | None,
    image_normalize: str | dict[str, list[float]] | None,
    exif: bool | None,
    val_fraction: float | None,
    batch_size: int | None,
    workers: int | None,
    assignments: tuple[str, ...],
    trust_code: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure top-1 and top-5 accuracy: of the run folder RUN, or of a network and its checkpoint.

    A run is evaluated on its own data unless --data names others of the same classes, or some of them, which
    are matched by name; their images are then normalised as those that the student was trained on.
    """
    settings = None
    if run is not None:
        if teacher is not None or teacher_checkpoint is not None or checkpoint_key is not None or pretrained:
            raise PursuhintError("give either a run folder or --teacher with --teacher-checkpoint, not both")
        _refuse_settings_of_run(data)
    else:
        _check_network(teacher, teacher_checkpoint, pretrained=pretrained, trust_code=trust_code)
        settings = network_settings(str(teacher), assignments, data=data, tokenizer=tokenizer)

    from dataclasses import asdict

    from pursuhint._util.devices import choose_device
    from pursuhint.data import make_loader
    from pursuhint.training import RunRecord, evaluate
    from pursuhint.training.loaders import load_data
    from pursuhint.training.normalization import images_line, normalized_for

    from .networks import (
        Weights,
        data_config,
        data_of_run,
        load_network,
        refuse_held_out,
        teacher_file,
        warn_of_changed_data,
    )
    from .terminal import say

    where = choose_device(device)
    if run is not None:
        record = RunRecord.load(run)
        network = record.load_student(weights, trust_code=trust_code)
        given = {
            "name": data, "root": data_root, "image_size": image_size, "channels": image_channels,
            "exif": exif, "val_fraction": val_fraction,
        }  # fmt: skip
        changes = {key: value for key, value in given.items() if value is not None}
        images = data_of_run(record, changes, download=download)
        line = images_line(images, record.recipe.data)
        name = f"{record.recipe.student.network}, {weights} epoch of {run}"
    else:
        assert teacher is not None
        assert settings is not None
        file = teacher_file(teacher, teacher_checkpoint, pretrained=pretrained)
        assert file is not None
        config = data_config(
            name=data, root=data_root, download=download, image_size=image_size, channels=image_channels,
            normalize=image_normalize, exif=exif, val_fraction=val_fraction, text=settings.text,
        )  # fmt: skip
        images = load_data(config)
        network = load_network(teacher, Weights(file, checkpoint_key), images, options=settings.options)
        images = normalized_for(images, config, network, teacher)
        name, line = f"{teacher}, {'published weights' if pretrained else file}", images_line(images, config)
    if split == "val" and images.val is None:
        own = run is not None and data is None
        why = "the run was made without --val-fraction" if own else "hold a part out with --val-fraction"
        raise PursuhintError(f"there is no validation split; {why}")
    if val_fraction and split == "test":
        refuse_held_out(images)
    if run is not None and not changes:
        warn_of_changed_data(record, images, split)
    loader = make_loader(
        images, split, batch_size=batch_size or 256, training=False, device=where, workers=workers or 0
    )
    result = evaluate(network.to(where), loader)
    if as_json:
        about = {"network": name, "data": images.name, "split": split}
        more = {} if images.preprocessing is None else {"preprocessing": images.preprocessing.to_dict()}
        figures = {name: value for name, value in asdict(result).items() if name not in ("indices", "hits")}
        click.echo(json.dumps({**about, **figures, **more}))
        return
    say(line)
    kind = "images" if images.preprocessing is not None else "texts"
    echo(f"{name} on {images.name} ({split}, {result.count:,} {kind})")
    echo(f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   cross-entropy {result.loss:.4f}")


def _refuse_settings_of_run(data: str | None) -> None:
    """Refuse options that a run decides: normalisation, tokens, options of its network, its splits."""
    refuse_typed("image_normalize", because="a run's images are normalised as in its training")
    refuse_typed("tokenizer", "assignments", because="a run has its own")
    if data is None:
        refuse_typed("val_fraction", because="a run has its own; add --data for others")


def _check_network(
    teacher: str | None, checkpoint: Path | None, *, pretrained: bool, trust_code: bool
) -> None:
    """Check that a network has weights, and no option of a run.

    Raises:
        PursuhintError: it has none, or one is typed.
    """
    if trust_code:
        raise PursuhintError(
            "--trust-code needs a run folder, whose code it trusts; names typed here are run"
        )
    if teacher is None or (checkpoint is None and not pretrained):
        raise PursuhintError(
            "what is to be evaluated? give a run folder, or --teacher with --teacher-checkpoint or "
            "--pretrained"
        )
    refuse_typed("weights", because="a checkpoint holds one set of weights; give a run folder instead")
