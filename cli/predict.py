"""``pursuhint predict``"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from pursuhint._util.input_files import read_text, shown
from pursuhint.errors import PursuhintError

from . import early_checks
from .early_checks import early
from .options import WholeNumber, apply, examples, refuse_typed
from .terminal import echo, say

_LONGEST = 60  # characters of a text in the table
_LARGEST_FILE = 1 << 28  # bytes


@click.command(
    "predict",
    epilog=examples(
        "pursuhint predict runs/at photo.jpg",
        "pursuhint predict runs/at photos --top 1",
        "pursuhint predict runs/at/bundle photo.jpg --json",
        "pursuhint predict runs/at/student.onnx photo.jpg",
        'pursuhint predict runs/bert "a packet filter for servers" --top 3',
        "pursuhint predict runs/bert --file lines.txt --json",
    ),
)
@click.argument(
    "model",
    metavar="RUN",
    type=click.Path(exists=True, path_type=Path),
    callback=early(early_checks.predictor),
)
@click.argument("samples", metavar="IMAGE...|TEXT...", nargs=-1)
@click.option(
    "--file",
    "lines",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=early(early_checks.lines),
    help="Texts to classify, one a line; empty lines are left out.",
)
@click.option(
    "--top", type=WholeNumber(min=1), default=5, show_default=True, help="Classes printed for each sample."
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
    samples: tuple[str, ...],
    lines: Path | None,
    top: int,
    weights: str,
    batch_size: int | None,
    trust_code: bool,
    device: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Classify images or texts with the trained student of RUN.

    RUN is a run folder, a bundle or an .onnx file of 'pursuhint export'. Of a run on images, give image files
    or folders with them; of a run on texts, the texts themselves, in quotes, or --file. Samples become the
    network's input as in training, which one line on stderr describes. Probabilities are the softmax of the
    logits.
    """
    if not (model / "recipe.yaml").is_file():
        refuse_typed("weights", "trust_code", "device", because=f"{model} is no run folder")
    if not samples and lines is None:
        raise PursuhintError("what is to be classified? give image files, or texts (or --file FILE)")
    if model.is_dir() and not (model / "tokenizer.json").is_file():
        _check_images(samples, lines)

    from pursuhint._util.devices import choose_device
    from pursuhint.data.image_files import find_images
    from pursuhint.models import Predictor
    from pursuhint.training import load_predictor

    where = choose_device(device)
    predictor = load_predictor(model, weights=weights, device=where, trust_code=trust_code)
    if isinstance(predictor, Predictor):
        _check_images(samples, lines)
        files = find_images([Path(sample) for sample in samples])
        about = {"preprocessing": predictor.preprocessing.to_dict()}
        say(predictor.preprocessing.line(), quiet)
        images = predictor.predict(files, top=top, batch_size=batch_size or 64)
        rows = [(one.file, one.classes, one.probabilities) for one in images]
        values = [asdict(one) for one in images]
    else:
        texts = [*map(_text, samples), *(() if lines is None else _lines(lines, quiet))]
        about = {"tokens": predictor.to_dict()}
        say(predictor.line(), quiet)
        found = predictor.predict(texts, top=top, batch_size=batch_size or 64)
        rows = [
            (textwrap.shorten(one.text, _LONGEST, placeholder="..."), one.classes, one.probabilities)
            for one in found
        ]
        values = [asdict(one) for one in found]
    if as_json:
        click.echo(json.dumps({"network": predictor.name, **about, "predictions": values}))
        return

    from .results import table

    kind = "image" if isinstance(predictor, Predictor) else "text"
    cells = [
        (name if rank == 0 else "", label, f"{100 * share:.1f} %")
        for name, classes, shares in rows
        for rank, (label, share) in enumerate(zip(classes, shares))
    ]
    for row in table((kind, "class", "probability"), cells):
        echo(row)


def _check_images(samples: Sequence[str], lines: Path | None) -> None:
    """Refuse what is no image for a run on images, before the network is loaded.

    Raises:
        PursuhintError: texts, or a file that does not exist.
    """
    if lines is not None:
        raise PursuhintError(
            "--file would be ignored: it is of texts, and this network classifies images; name image files"
        )
    missing = next((sample for sample in samples if not Path(sample).exists()), None)
    if missing is not None:
        raise PursuhintError(
            f"the image {shown(missing)} does not exist; this network classifies image files, no texts"
        )


def _text(sample: str) -> str:
    """A text of the command line.

    Raises:
        PursuhintError: it is the name of a file.
    """
    if len(sample) < 256 and Path(sample).is_file():
        raise PursuhintError(
            f"{shown(sample)} is a file, and this network classifies texts; its lines are --file "
            f"{shown(sample)}"
        )
    return sample


def _lines(file: Path, quiet: bool) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        PursuhintError: there are none, or the file cannot be read.
    """
    every = read_text(file, "file of texts", largest=_LARGEST_FILE).splitlines()
    texts = [line for line in every if line.strip()]
    if not texts:
        raise PursuhintError(f"the file of texts {shown(file)} has no lines")
    if len(texts) < len(every):
        say(f"left out {len(every) - len(texts)} empty lines of {shown(file)}", quiet)
    return texts
