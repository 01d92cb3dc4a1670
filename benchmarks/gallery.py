"""A gallery of trained networks with the similarity of their layers: docs/gallery.md and its pictures.

Every network is a run folder of ``pursuhint train``. Its layers are compared by linear CKA on the training
images, clustered by k-means, and drawn with the hint positions beside the conventional ones.

    python benchmarks/gallery.py RUN... --write docs/gallery.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from marked_text import write_between
from PIL import Image

from pursuhint import Analysis, RunRecord, analyze, load_dataset
from pursuhint.features.hint_points import stage_ends
from pursuhint.report import similarity_heatmap
from pursuhint.report.figures import save_figure

SAMPLES = 2_000
BEGIN, END = "<!-- begin of the gallery -->", "<!-- end of the gallery -->"


def main(words: Sequence[str] | None = None) -> None:
    """Analyze the networks, draw them, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--write", type=Path, required=True, metavar="PAGE", help="page with the two marks")
    given = parser.parse_args(words)
    pictures = given.write.parent / "pictures" / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [entry(RunRecord.load_finished(run), pictures) for run in given.runs]
    write_between(given.write, BEGIN, END, "\n".join(parts))


def entry(run: RunRecord, pictures: Path) -> str:
    """A heading, the picture, and what there is to see, for one network."""
    trained = run.environment["data"]
    data = load_dataset(run.recipe.data.name, image_size=tuple(trained["image_size"]))  # perhaps from Python
    data = replace(data, normalization_source="the data, as asked for")
    analysis = analyze(
        run.load_student(),
        data,
        samples=SAMPLES,
        stability=False,
        network_name=run.recipe.student.network,
        progress=False,
    )
    name = run.recipe.student.network
    alias = f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{data_name(run)}"
    draw(analysis, pictures / f"{alias}.png")
    hints = ", ".join(str(point.position) for point in analysis.plan.teacher_points)
    usual = ", ".join(map(str, conventional_positions(analysis)))
    values = analysis.similarities["cka"].values
    near = float(values.diagonal(1).mean())
    far = float(values[0, -1])
    options = ", ".join(f"{key} {value}" for key, value in run.recipe.student.options.items())
    built = f" ({options})" if options else ""
    pixels = "x".join(map(str, data.image_size))
    text = (
        f"{len(values)} layers{built}, trained for {run.recipe.epochs} epochs on "
        f"{trained['samples']['train']:,} images of {data_name(run)} ({pixels} pixels), test accuracy "
        f"{run.last['test_top1']:.1f} %. Neighbors have a CKA of {near:.2f} on average, the first and the "
        f"last layer {far:.2f}. Hints at {hints} (conventional: {usual})."
    )
    title = name.removeprefix("timm:").removeprefix("torchvision:")
    described = f"Similarity of the {len(values)} layers of {title}, clusters and hint positions {hints}"
    return f"## {title}, {data_name(run)}\n\n{text}\n\n![{described}](pictures/gallery/{alias}.png)\n"


def conventional_positions(analysis: Analysis) -> list[int]:
    """Of the last layer of every stage."""
    return [point.position for point in stage_ends(analysis.candidates)]


def data_name(run: RunRecord) -> str:
    """The data set's name; of a folder of images its own name alone."""
    return Path(run.recipe.data.name.removeprefix("folder:")).name


def draw(analysis: Analysis, path: Path) -> None:
    """The heat map with clusters and hints, as a small PNG with few colors."""
    layers = analysis.similarities["cka"]
    figure = similarity_heatmap(
        layers.values,
        metric="CKA",
        clusters=analysis.clusters.clusterings["cka"]["kmeans"].labels,
        hints=[point.position for point in analysis.plan.teacher_points],
        conventional=conventional_positions(analysis),
        stages=[point.stage for point in layers.points],
        positions=[point.position for point in layers.points],
    )
    save_figure(figure, path)
    with Image.open(path) as drawn:
        picture = drawn.convert("RGB")
    width = min(picture.width, 640)
    smaller = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    smaller.quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
