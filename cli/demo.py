"""``pursuhint demo``"""

from __future__ import annotations

from pathlib import Path

import click

from .command_line import record_command
from .options import apply, examples


@click.command(
    "demo",
    epilog=examples("pursuhint demo", "pursuhint demo --out /tmp/demo --device cpu"),
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("pursuhint-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder to write to; finished parts in it are reused.",
)
@apply("device", "overwrite", "quiet", "json")
def command(out: Path, device: str | None, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """The whole story on scikit-learn's handwritten digits, which need no download.

    Trains a teacher, compares its layers, chooses hint positions, trains students with hints at
    chosen, conventional and random positions over several seeds, and writes a report.
    """
    record_command()
    from pursuhint._util.devices import choose_device
    from pursuhint.acceleration import Acceleration, set_up_memory
    from pursuhint.demo import demo

    from .results import print_demo
    from .study_progress import StudyProgress

    where = choose_device(device)
    set_up_memory(Acceleration(), where)
    with StudyProgress(quiet=quiet) as progress:
        result = demo(out, device=where, on_event=progress, overwrite=overwrite)
    print_demo(result, as_json=as_json)
