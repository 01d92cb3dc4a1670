"""``pursuhint analyze``"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from pursuhint._util.size_bounds import LARGEST_CLASSES
from pursuhint.errors import PursuhintError

from .command_line import record_command
from .network_settings import network_settings
from .options import apply, auto_samples, examples, refuse_typed


@click.command(
    "analyze",
    epilog=examples(
        "pursuhint analyze --teacher resnet110 --teacher-checkpoint resnet110.pth --data cifar100 \\",
        "    --metric cka --metric r2cca --out analysis",
        "pursuhint analyze --teacher torchvision:resnet34 --teacher-checkpoint resnet34.pth \\",
        "    --data folder:photos --k auto --samples auto --out analysis",
        "pursuhint analyze --teacher runs/teacher --out analysis",
        "pursuhint analyze --teacher hf:bert --set teacher.options.hidden_size=96 \\",
        "    --teacher-checkpoint bert.safetensors --data text:reviews --tokenizer bert --out analysis",
        "accelerate launch -m pursuhint analyze --teacher torchvision:vit_b_16 \\",
        "    --teacher-checkpoint vit.pth --data imagenet --out vit",
    ),
)
@apply(
    "teacher", "teacher_checkpoint", "pretrained", "checkpoint_key", "new_head", "data", "data_root",
    "tokenizer", "download", "image_size", "image_channels", "image_normalize", "exif",
    "val_fraction", "several_metrics",
    "k_or_auto", "algorithm",
    "normalize", "position", "activations", "pooling", "include", "samples", "max_samples",
    "stable_at", "batch_size_of_pass", "stability", "memory_limit", "exact_median", "analysis_settings",
    "seed", "device", "autocast", "workers", "out", "overwrite", "quiet", "json",
)  # fmt: skip
@click.option(
    "--class-quality",
    is_flag=True,
    help="Compute the knowledge quality of every layer too, for 'pursuhint select --rule quality'; keeps the "
    "pooled features of 2,000 images.",
)
@click.option(
    "--random-weights",
    is_flag=True,
    help="Analyze the teacher without a checkpoint, with weights drawn by --seed; its report says so at the "
    "top.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(2, LARGEST_CLASSES),
    help="Of the teacher.  [default: the data set's]",
)
def command(
    teacher: str | None,
    teacher_checkpoint: Path | None,
    pretrained: bool,
    checkpoint_key: str | None,
    new_head: bool,
    data: str | None,
    data_root: Path | None,
    tokenizer: str | None,
    download: bool,
    image_size: int | tuple[int, int] | None,
    image_channels: int | None,
    image_normalize: str | dict[str, list[float]] | None,
    exif: bool | None,
    val_fraction: float | None,
    metrics: tuple[str, ...],
    k: int | Literal["auto"] | None,
    algorithm: str,
    normalize: bool,
    position: str,
    activation: str,
    pooling: str,
    include: tuple[str, ...],
    samples: int | Literal["auto"],
    max_samples: int | None,
    stable_at: float | None,
    batch_size: int | None,
    stability: bool,
    memory_limit: int | None,
    exact_median: bool,
    assignments: tuple[str, ...],
    seed: int,
    device: str | None,
    autocast: str | None,
    workers: int | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    num_classes: int | None,
    random_weights: bool,
    class_quality: bool,
) -> None:
    """Compute the similarity of the teacher's layers, cluster them, and choose hint positions.

    Training images stream through the network once; every pair of layers is compared exactly. The folder
    OUT receives analysis.json and analysis.npz (for 'pursuhint select'), hints.json (for 'pursuhint train
    --hints'), figures, and report.html. A long pass saves its state there: the same command resumes it.
    Under 'accelerate launch' the processes shard the images.
    """
    record_command()
    if teacher is None:
        raise PursuhintError("which network? give --teacher NAME; 'pursuhint list models' shows the names")
    settings = network_settings(teacher, assignments, data=data, tokenizer=tokenizer, reads_features=True)
    if not any(name.startswith("rbf-cka") for name in metrics):
        refuse_typed("exact_median", because="only RBF kernels have a bandwidth; add --metric rbf-cka")

    asked = auto_samples(samples)
    if samples == "auto" and not stability:
        raise PursuhintError("--samples auto ends when the choice is stable; leave out --no-stability")

    # Imports PyTorch: after the checks that need none.
    from pursuhint._util.devices import choose_device
    from pursuhint._util.fingerprint import fingerprint_network
    from pursuhint._util.output_folder import claim_folder, new_folder
    from pursuhint.analysis.run_analysis import analyze
    from pursuhint.analysis.storage import check_analysis_folder
    from pursuhint.features.pooling import get_pooling
    from pursuhint.report import write_report
    from pursuhint.similarity import get_metric
    from pursuhint.training.loaders import load_data
    from pursuhint.training.normalization import images_line, normalized_for

    from .networks import Processes, Weights, data_config, load_network, teacher_file
    from .progress import CountProgress
    from .results import print_analysis
    from .terminal import say

    chosen = metrics or ("cka",)
    for name in chosen:
        get_metric(name)
    get_pooling(pooling)
    claim_folder(out, "analysis")
    teacher_checkpoint = teacher_file(teacher, teacher_checkpoint, pretrained=pretrained)
    weights = Weights(teacher_checkpoint, checkpoint_key, new_head, random_weights)
    config = data_config(
        name=data, root=data_root, download=download, image_size=image_size, channels=image_channels,
        normalize=image_normalize, exif=exif, val_fraction=val_fraction, text=settings.text,
    )  # fmt: skip
    with Processes(choose_device(device)) as processes:
        quiet = quiet or not processes.main
        with processes.main_first():
            images = load_data(config)
        network = load_network(
            teacher, weights, images, num_classes=num_classes, seed=seed, options=settings.options
        )
        images = normalized_for(images, config, network, teacher)
        say(images_line(images, config), quiet)
        fingerprint = fingerprint_network(network)
        check_analysis_folder(
            out, network=teacher, fingerprint=fingerprint, data=images.name, overwrite=overwrite
        )
        known = weights.known_accuracy(teacher, images)
        if known is not None:
            known.warn()
        progress = CountProgress(f"looking at {teacher}", unit="images", quiet=quiet)
        with new_folder(out), progress:
            analysis = analyze(
                processes.share(network),
                images,
                metrics=chosen,
                k=k,
                samples=asked,
                seed=seed,
                activation=activation,  # type: ignore[arg-type]
                pooling=pooling,
                batch_size=batch_size or 256,
                device=processes.device,
                autocast=None if autocast == "float32" else autocast,
                fuse_batchnorm=settings.fuse_batchnorm,
                channels_last=settings.channels_last,
                workers=workers or 0,
                include=include,
                position=position,
                algorithm=algorithm,
                normalize=normalize,
                memory_limit=memory_limit,
                exact_median=exact_median,
                stability=stability,
                class_quality=class_quality,
                state=out / "state",
                network_name=teacher,
                checkpoint=teacher_checkpoint,
                accuracy=known,
                on_accuracy=lambda accuracy: say(accuracy.line(), quiet),
                on_progress=progress,
            )
        if not processes.main:
            return
    analysis.save(out, overwrite=overwrite)
    page = write_report(out)
    print_analysis(analysis, as_json=as_json)
    say(f"written: {out / 'analysis.json'}, {out / 'hints.json'}, {page}", quiet)
