"""``pursuhint report``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import apply, examples, folder_argument, refuse_typed


@click.command(
    "report",
    short_help="Write the HTML report of an analysis, run, comparison or demo.",
    epilog=examples("pursuhint report runs/at", "pursuhint report runs/at --teacher-student --metric cka"),
)
@folder_argument("folder")
@click.option(
    "--teacher-student",
    is_flag=True,
    help="First compare every layer of a run's teacher with every layer of its student, before and after "
    "training. Runs both networks.",
)
@apply("metric")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Training images to compare on, with --teacher-student.",
)
@apply("trust_code", "device", "quiet", "json")
def command(
    folder: Path,
    teacher_student: bool,
    metrics: tuple[str, ...],
    samples: int,
    trust_code: bool,
    device: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write one self-contained HTML page about what FOLDER holds, and its figures as PNG files."""
    from pursuhint.errors import PursuhintError
    from pursuhint.report import write_report

    if not teacher_student:
        refuse_typed(
            "metrics", "samples", "device", "quiet", "trust_code",
            because="it says how --teacher-student compares; add --teacher-student",
        )  # fmt: skip
    if len(metrics) > 1:
        raise PursuhintError(f"report takes one --metric, got {len(metrics)}: {', '.join(metrics)}")
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
