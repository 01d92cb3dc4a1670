"""``pursuhint export``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from pursuhint._util.output_folder import kind_of
from pursuhint.errors import PursuhintError

from . import early_checks
from .early_checks import early
from .options import apply, examples, folder_argument, refuse_typed
from .output_files import check_free
from .terminal import echo

# Written out, so that help needs no torch; a test compares them with pursuhint.models.export.FORMATS.
FORMATS = ("onnx", "pt2", "safetensors")


@click.command(
    "export",
    epilog=examples(
        "pursuhint export runs/at --format onnx",
        "pursuhint export runs/at --format onnx --weights best --include-normalization --out student.onnx",
        "pursuhint export runs/at --bundle --out flowers",
    ),
)
@folder_argument("run", callback=early(early_checks.run_folder))
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="onnx",
    show_default=True,
    help="onnx (pip install 'pursuhint[onnx]'); pt2, a program for torch.export.load; safetensors, weights "
    "only.",
)
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Which weights of the run: of its last or of its best epoch.",
)
@click.option(
    "--include-normalization",
    is_flag=True,
    help="Let the program take images scaled to [0, 1]; otherwise they must be normalised as in training.",
)
@click.option(
    "--bundle",
    is_flag=True,
    help="Write a folder that classifies images with onnxruntime and Pillow alone: model.onnx, "
    "preprocess.json, labels.txt, predict.py, README.md. Of a run on texts it has tokenizer.json, too, and "
    "needs onnxruntime and tokenizers.",
)
@click.option(
    "--out",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="File to write, or folder of a bundle.  [default: student.onnx, student.pt2 or bundle in the run "
    "folder, best.onnx for the best epoch]",
)
@apply("overwrite_file", "trust_code", "json")
def command(
    run: Path,
    format: str,
    weights: str,
    include_normalization: bool,
    bundle: bool,
    out: Path | None,
    overwrite: bool,
    trust_code: bool,
    as_json: bool,
) -> None:
    """Write the trained student of the run folder RUN as a file that needs no pursuhint.

    ONNX and PT2 programs take batches of any size and are compared with the network once they are written.
    Every file says in its metadata which images it takes (preprocessing), or has the tokenizer of texts, and
    names the classes (class_names).
    """
    if bundle:
        refuse_typed("format", "include_normalization", because="a bundle holds ONNX and normalises itself")
    if out is not None and out.exists() and out.is_dir() != bundle:
        raise PursuhintError(f"{out} is a {'file' if bundle else 'folder'}; choose another name (--out)")
    place = out or run / ("bundle" if bundle else f"{'student' if weights == 'last' else 'best'}.{format}")
    own = out is None and format == "safetensors"  # the run's weights, which are not written
    if not own and (place.is_file() or kind_of(place) == "bundle"):
        check_free(place, overwrite=overwrite)

    from pursuhint.training import RunRecord, export_bundle, export_run

    if bundle:
        exported = export_bundle(RunRecord.load(run), out, weights=weights, trust_code=trust_code)
    else:
        exported = export_run(
            RunRecord.load(run),
            format,
            out,
            weights=weights,
            include_normalization=include_normalization,
            trust_code=trust_code,
        )
    if as_json:
        result = {
            "file": str(exported.path),
            "format": exported.format,
            "parameters": exported.parameters,
            "deviation": exported.deviation,
        }
        click.echo(json.dumps(result))
        return
    program = exported.path / "model.onnx" if bundle else exported.path
    echo(f"{exported.path}: {exported.parameters:,} parameters, {program.stat().st_size:,} bytes")
    of_texts = (run / "tokenizer.json").is_file()
    samples = "texts" if of_texts else "images"
    if exported.deviation is not None:
        echo(
            f"compared with the network on random {samples}: logits up to {exported.scale:.3g} differ by "
            f"{exported.deviation:.1g} at most"
        )
    elif format == "onnx":
        echo("not compared with the network: onnxruntime is not installed")
    if bundle:
        what, package = ('"a text"', "tokenizers") if of_texts else ("IMAGE", "pillow")
        echo(f"try it: python {exported.path / 'predict.py'} {what}   (pip install onnxruntime {package})")
