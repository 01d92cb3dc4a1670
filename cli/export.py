"""``pursuhint export``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import early_checks
from .early_checks import early
from .options import apply, examples, folder_argument
from .terminal import echo

# Written out, so that help needs no torch; a test compares them with pursuhint.models.export.FORMATS.
FORMATS = ("onnx", "pt2", "safetensors")


@click.command(
    "export",
    short_help="Write the trained student of a run for other programs.",
    epilog=examples(
        "pursuhint export runs/at --format onnx",
        "pursuhint export runs/at --format onnx --weights best --include-normalization --out student.onnx",
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
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.  [default: student.onnx or student.pt2 in the run folder, best.onnx for the best "
    "epoch]",
)
@apply("trust_code", "json")
def command(
    run: Path,
    format: str,
    weights: str,
    include_normalization: bool,
    out: Path | None,
    trust_code: bool,
    as_json: bool,
) -> None:
    """Write the trained student of the run folder RUN as a file that needs no pursuhint.

    ONNX and PT2 programs take batches of any size and are compared with the network once they are written.
    Every file says in its metadata which images it takes (preprocessing) and names the classes (class_names).
    """
    from pursuhint.training import RunRecord
    from pursuhint.training.run_folder.export_student import export_run

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
    echo(f"{exported.path}: {exported.parameters:,} parameters, {exported.path.stat().st_size:,} bytes")
    if exported.deviation is not None:
        echo(
            f"compared with the network on random images: logits up to {exported.scale:.3g} differ by "
            f"{exported.deviation:.1g} at most"
        )
    elif format == "onnx":
        echo("not compared with the network: onnxruntime is not installed")
