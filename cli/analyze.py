"""``pursuhint analyze``"""

from __future__ import annotations

from pathlib import Path

import click

from .options import apply, examples

__all__ = ["command"]


@click.command(
    "analyze",
    short_help="Measure how alike a network's layers are and choose hint positions.",
    epilog=examples(
        "pursuhint analyze --teacher resnet110 --teacher-checkpoint resnet110.pth --data cifar100 \\",
        "    --metric cka --metric r2cca --out analysis",
        "pursuhint analyze --teacher torchvision:resnet34 --data folder:photos --k 4 --out analysis",
    ),
)
@apply(
    "teacher", "teacher_checkpoint", "data", "data_root", "download", "image_size", "metric", "k",
    "algorithm", "normalise", "position", "activation", "include", "samples", "batch_size", "seed", "device",
    "out", "quiet", "json",
)  # fmt: skip
@click.option("--num-classes", type=click.IntRange(min=2), help="Of the teacher.  [default: the data set's]")
def command(
    teacher: str | None,
    teacher_checkpoint: Path | None,
    data: str | None,
    data_root: Path | None,
    download: bool,
    image_size: int | None,
    metrics: tuple[str, ...],
    k: int | None,
    algorithm: str,
    normalise: bool,
    position: str,
    activation: str,
    include: tuple[str, ...],
    samples: int,
    batch_size: int | None,
    seed: int,
    device: str | None,
    out: Path,
    quiet: bool,
    as_json: bool,
    num_classes: int | None,
) -> None:
    """Measure how alike the teacher's layers are, cluster them, and choose hint positions.

    Training images stream through the network once; every pair of layers is compared exactly. The folder
    OUT receives analysis.json, the similarity matrices, hints.json for 'pursuhint train --hints', figures,
    and report.html.
    """
    from pursuhint.analysis import analyze
    from pursuhint.errors import PursuhintError
    from pursuhint.files import make_folder
    from pursuhint.report import write_report
    from pursuhint.similarity import get_metric

    from .networks import default_device, load_data, load_network
    from .progress import CountProgress, say
    from .results import print_analysis

    if teacher is None:
        raise PursuhintError("which network? give --teacher NAME; 'pursuhint list models' shows the names")
    chosen = metrics or ("cka",)
    for name in chosen:
        get_metric(name)
    device = default_device(device)
    images = load_data(data, data_root, download, image_size)
    network = load_network(teacher, teacher_checkpoint, images, num_classes=num_classes, quiet=quiet)
    make_folder(out)
    with CountProgress(f"looking at {teacher}", unit="images", quiet=quiet) as progress:
        analysis = analyze(
            network,
            images,
            metrics=chosen,
            k=k,
            samples=samples,
            seed=seed,
            activation=activation,  # type: ignore[arg-type]
            batch_size=batch_size or 256,
            device=device,
            include=include,
            position=position,
            algorithm=algorithm,
            normalise=normalise,
            network_name=teacher,
            on_progress=progress,
        )
    analysis.save(out)
    page = write_report(out)
    print_analysis(analysis, as_json=as_json)
    say(f"written: {out / 'analysis.json'}, {out / 'hints.json'}, {page}", quiet)
