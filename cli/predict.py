"""``pursuhint predict``"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from . import early_checks
from .early_checks import early
from .options import apply, examples, refuse_typed
from .terminal import echo, say


@click.command(
    "predict",
    short_help="Print the likeliest classes of images.",
    epilog=examples(
        "pursuhint predict runs/at photo.jpg",
        "pursuhint predict runs/at photos --top 1",
        "pursuhint predict runs/at/bundle photo.jpg --json",
        "pursuhint predict runs/at/student.onnx photo.jpg",
    ),
)
@click.argument(
    "model",
    metavar="RUN",
    type=click.Path(exists=True, path_type=Path),
    callback=early(early_checks.predictor),
)
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes printed for each image."
)
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Which weights of a run folder: of its last or of its best epoch.",
)
@apply("batch_size", "trust_code", "device", "quiet", "json")
def command(
    model: Path,
    images: tuple[Path, ...],
    top: int,
    weights: str,
    batch_size: int | None,
    trust_code: bool,
    device: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Classify image files, and those of folders, with the trained student of RUN.

    RUN is a run folder, a bundle or an .onnx file of 'pursuhint export'. Images are resized and normalised as
    in training, which one line on stderr describes. Probabilities are the softmax of the logits.
    """
    if not (model / "recipe.yaml").is_file():
        refuse_typed("weights", "trust_code", "device", because=f"{model} is no run folder")

    from pursuhint._util.devices import choose_device
    from pursuhint.data.image_files import find_images
    from pursuhint.training import load_predictor

    where = choose_device(device)
    files = find_images(images)
    predictor = load_predictor(model, weights=weights, device=where, trust_code=trust_code)
    say(predictor.preprocessing.line(), quiet)
    found = predictor.predict(files, top=top, batch_size=batch_size or 64)
    if as_json:
        values = {
            "network": predictor.name,
            "preprocessing": predictor.preprocessing.to_dict(),
            "predictions": [asdict(one) for one in found],
        }
        click.echo(json.dumps(values))
        return

    from .results import table

    rows = [
        (one.file if rank == 0 else "", name, f"{100 * share:.1f} %")
        for one in found
        for rank, (name, share) in enumerate(zip(one.classes, one.probabilities))
    ]
    for line in table(("image", "class", "probability"), rows):
        echo(line)
