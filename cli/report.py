"""``pursuhint report``"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pursuhint.errors import PursuhintError

from . import completion, early_checks
from .early_checks import early
from .options import WholeNumber, apply, examples, folder_argument, refuse_typed, typed
from .terminal import echo, say

_SHARED = ("samples", "device", "trust_code")  # of --teacher-student and of some figures
_OF_FIGURES = ("images", "seed")


@click.command(
    "report",
    epilog=examples(
        "pursuhint report runs/at",
        "pursuhint report runs/at --teacher-student --metric cka",
        "pursuhint report runs/at runs/kd --figure logit-correlation --out figures",
        "pursuhint report compare --figure grouped-bars",
    ),
)
@folder_argument("folders", metavar="FOLDER...", nargs=-1, required=True)
@click.option(
    "--teacher-student",
    is_flag=True,
    help="First compare every layer of a run's teacher with every layer of its student, before and after "
    "training. Runs both networks.",
)
@apply("metric")
@click.option(
    "--figure",
    "figures",
    callback=early(early_checks.figure),
    shell_complete=completion.figure,
    metavar="NAME",
    multiple=True,
    help="Draw this figure of the papers from the folders, instead of a page; see 'pursuhint list figures'. "
    "Repeatable.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the figures, with --figure.  [default: figures/ in the one folder that is given]",
)
@click.option(
    "--samples",
    type=WholeNumber(min=2),
    default=1000,
    show_default=True,
    help="Images to look at: training images with --teacher-student, test images in figures.",
)
@click.option(
    "--images",
    type=click.IntRange(1, 20),
    default=4,
    show_default=True,
    help="Test images that a figure shows.",
)
@apply("seed", "trust_code", "device", "quiet", "json")
def command(
    folders: tuple[Path, ...],
    teacher_student: bool,
    metrics: tuple[str, ...],
    figures: tuple[str, ...],
    out: Path | None,
    samples: int,
    images: int,
    seed: int,
    trust_code: bool,
    device: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write one self-contained HTML page about what FOLDER holds, and its figures as PNG files.

    With --figure, draw figures as in the papers from one or more folders, as PNG and SVG, and write all
    numbers behind them as JSON.
    """
    if figures:
        settings = {
            "samples": samples, "images": images, "seed": seed, "device": device, "trust_code": trust_code,
        }  # fmt: skip
        written = _draw(folders, figures, out, settings, quiet=quiet, teacher_student=teacher_student)
        for line in (
            [json.dumps({"figures": written})] if as_json else [one["png"] for one in written.values()]
        ):
            echo(line)
        return
    refuse_typed("out", *_OF_FIGURES, because="it is about figures of papers; add --figure NAME")
    if not teacher_student:
        refuse_typed(
            "metrics", *_SHARED, "quiet",
            because="it says how --teacher-student compares; add --teacher-student",
        )  # fmt: skip
    if len(folders) > 1:
        raise PursuhintError(
            f"a page is about one folder, got {len(folders)}; several can be in one figure (--figure NAME)"
        )
    if len(metrics) > 1:
        raise PursuhintError(f"report takes one --metric, got {len(metrics)}: {', '.join(metrics)}")
    (folder,) = folders

    from pursuhint.report import write_report

    if teacher_student:
        from pursuhint.study.teacher_student import teacher_student_similarity
        from pursuhint.training import RunRecord

        from .progress import CountProgress

        run = RunRecord.load(folder)
        with CountProgress("comparing teacher and student", unit="images", quiet=quiet) as progress:
            found = teacher_student_similarity(
                run,
                metric=metrics[0] if metrics else "cka",
                samples=samples,
                device=device,
                on_progress=progress,
                trust_code=trust_code,
            )
        found.save(folder / "teacher_student")
    page = write_report(folder)
    click.echo(json.dumps({"report": str(page)}) if as_json else str(page))


def _draw(
    folders: Sequence[Path],
    names: Sequence[str],
    out: Path | None,
    settings: dict[str, Any],
    *,
    quiet: bool,
    teacher_student: bool,
) -> dict[str, dict[str, str]]:
    """Draw figures and say on stderr how to read them.

    Returns:
        Paths and caption by the name of the figure.

    Raises:
        PursuhintError: an option would be ignored, there is no place for the figures, or a figure cannot be
            drawn.
    """
    from pursuhint.report import FIGURES

    if teacher_student:
        raise PursuhintError("--teacher-student and --figure exclude each other; a page shows the former")
    refuse_typed("metrics", because="it says how --teacher-student compares; figures have their own measures")
    for parameter in typed(*_SHARED, *_OF_FIGURES):
        if not any(parameter.name in FIGURES[name].settings for name in names):
            raise PursuhintError(
                f"{parameter.opts[0]} would be ignored: it changes nothing in the figure {', '.join(names)}"
            )
    if len(set(names)) < len(names):
        raise PursuhintError(f"each figure can be named once, got {', '.join(names)}")
    if out is None and len(folders) > 1:
        raise PursuhintError("where do figures of several folders go? give --out DIR")
    place = folders[0] / "figures" if out is None else out

    from pursuhint.report import FigureSettings, write_figure

    chosen = FigureSettings(**settings, watch=lambda line: say(line, quiet))
    written = {}
    for name in names:
        caption = write_figure(name, folders, place, settings=chosen).caption
        say(f"{name}: {caption}", quiet)
        files = {kind: str(place / f"{name}.{kind}") for kind in ("png", "svg", "json")}
        written[name] = {**files, "caption": caption}
    return written
