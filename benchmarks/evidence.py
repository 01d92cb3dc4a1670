"""Does it matter which layers teach? All arms, three losses and two lengths, by pair and data set.

    python benchmarks/evidence.py IMAGES                       # everything: days on a processor
    python benchmarks/evidence.py IMAGES --data fashion-mnist --pair residual --seeds 1-8
    python benchmarks/evidence.py IMAGES --landscape --seeds 1-3   # a single hint at every layer, in turn

IMAGES is a folder with train/ and val/ in it, one folder a class. A block is one pair of networks on one data
set: ``OUT/DATA-PAIR`` holds its teacher and a comparison as `pursuhint compare` writes it, with its report.
Seeds are added a few at a time to all blocks, so that what is finished is a whole comparison with fewer
seeds. The same command resumes; with more seeds, pairs or data sets it adds them.
``benchmarks/evidence_page.py`` writes the tables of docs/evidence.md from OUT.

What was fixed before the first student of the study was trained:

- The outcome is the test accuracy of the student after the last epoch, never the best one.
- The question is one of every cell (pair, data set, loss, length): does the arm differ from ``conventional``,
  hints at the end of every resolution stage? A plain vision transformer has no stages; its arms are compared
  with ``even``, the ends of equal parts, and ``conventional`` is one hint at the last block. The
  answer is the verdict of `pursuhint compare`: better, worse, equal within 0.5 points or undecided, corrected
  (Holm) for the arms of the cell. Two intervals: for new seeds, and for new seeds and new images.
- Over all cells: how many of the verdicts survive, against how many tests; and the probability that an arm
  beats ``conventional`` on a cell drawn at random.
- Whether what a loss, a length or a data set says about the arms is what another says: the rank correlation
  of the arms' mean accuracies between cells of a block.
- Every block that was finished is in the tables. A block is not dropped for what it shows.
- In every cell, whether the place matters at all: Friedman's test over the arms with different hint points
  (added minutes after the first run had begun, before any comparison had finished).
- Eight seeds a block, unless time ends first; then blocks have five or three of them, and the page says so.
- Losses have no soft targets beside them; the ramp of knowledge review, 20 of 240 epochs, becomes one
  epoch. Their weights are below the papers' and come from a pilot on the residual pair: ``conventional``,
  seed 0, one run of three or four epochs a weight. On the folder attention transfer ended higher with 100
  than with its paper's 1000, which was 4 to 8 times the cross-entropy; FitNet higher with 10 than with 1
  (its paper has 100; at 10 its term is 13 to 20 times the cross-entropy); knowledge review higher with 1
  than with 0.1 (its paper has 5). So the weights suit ``conventional``, if any arm. The study has other
  seeds. The wide pair takes the same weights without a pilot.
- The transformer took them, too, and its attention transfer ended at chance. That first try, of three seeds,
  does not count: its teacher saw images normalised otherwise than in its training (30.8 instead of 60.4 % on
  the folder), which is how the mistake was found. Now attention transfer has 10 and FitNet 1, the largest of
  the weights that were tried (100, 10, 1; 10, 1, 0.1; 1, 0.1 for knowledge review) with which ``even`` ended
  within 1.5 points of the best of them, on the folder, seed 0, 5 epochs.
- An earlier run with images of 12 pixels and one pair had been seen when this one was planned; its weights,
  arms and questions were kept, its size was not: images of 8 pixels and shorter lengths pay for three pairs
  and eight seeds. Learning rate and augmentation of the transformer come from six runs of the student alone
  with another seed; with crops of 8 pixels it learned next to nothing.

Not fixed before: when all tables were known, the rule ``probe`` was redefined, and its students trained anew
where its points moved. docs/evidence.md has its results before and after.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pursuhint.acceleration import Acceleration, set_up_memory
from pursuhint.data import ImageData, load_dataset
from pursuhint.report import write_report
from pursuhint.study import (
    ARMS,
    ComparisonRequest,
    Crossing,
    StudyOptions,
    compare_crossed,
)
from pursuhint.training import Inputs, LossConfig, Recipe, RunRecord, train

_RESNET = "pursuhint.models.resnet:CifarResNet"
_VIT = "timm:vit_tiny_patch16_224"


ALL_ARMS = (*(name for name in ARMS if name != "published"), "r2cca:kmeans:last")
"""Every arm, but the published positions, which none of these teachers has."""

ARMS_WITHOUT_STAGES = (
    "even",
    "hints:8",
    *(name for name in ALL_ARMS if name not in ("even", "conventional", "centers")),
)
"""The arms for a plain vision transformer, compared with ``even``: it has no stages, so that ``conventional``
is one hint at its last block, ``hints:8`` here, and no control for arms with three. ``kmeans`` stands for
``centers``."""


@dataclass(frozen=True)
class Pair:
    """A teacher and a student.

    Attributes:
        title: what a table calls them.
        teacher: its network in a recipe.
        student: its network in a recipe.
        optimizer: of both; the learning rate is the student's and the teacher's.
        augment: augmentations of their training images.
        normalize: whose constants their images have; None leaves it to the data set.
        arms: of the comparison, the one that the others are compared with first.
        weights: of losses whose weight is not that of `LOSS_SETS`.
    """

    title: str
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    augment: str = "standard"
    normalize: str | None = None
    arms: Sequence[str] = ALL_ARMS
    weights: Mapping[str, float] = field(default_factory=dict)


_SGD = {"lr": 0.1, "nesterov": True}
_ADAMW = {"name": "adamw", "lr": 0.005, "weight_decay": 0.05}
PAIRS = {
    "residual": Pair(
        "resnet20 (16, 32, 64 channels) to resnet8 (8, 16, 32)",
        {"network": "resnet20"},
        {"network": _RESNET, "options": {"depth": 8, "widths": [8, 8, 16, 32]}},
        _SGD,
    ),
    "transformer": Pair(
        "vision transformer of 8 blocks, width 64, to one of 3 blocks, width 24 (patches of 2 pixels)",
        {
            "network": _VIT,
            "options": {"img_size": 8, "patch_size": 2, "embed_dim": 64, "depth": 8, "num_heads": 4},
        },
        {
            "network": _VIT,
            "options": {"img_size": 8, "patch_size": 2, "embed_dim": 24, "depth": 3, "num_heads": 3},
        },
        _ADAMW,
        augment="none",
        normalize="data",
        arms=ARMS_WITHOUT_STAGES,
        weights={"at": 10, "fitnet": 1},
    ),
    "wide": Pair("wrn_16_2 to wrn_10_1", {"network": "wrn_16_2"}, {"network": "wrn_10_1"}, _SGD),
}
"""The pairs by name, the most important one first."""

LOSS_SETS: dict[str, dict[str, LossConfig]] = {
    "at": {"at": LossConfig(weight=100)},
    "fitnet": {"fitnet": LossConfig(weight=10)},
    "reviewkd": {"reviewkd": LossConfig(weight=1, options={"ramp_epochs": 1})},
}
"""Attention transfer, FitNet and knowledge review; see the head of the file for their weights."""

LENGTHS = {"folder": (2, 5), "fashion-mnist": (1, 3)}
"""Epochs of the students, by data set: 46 and 115, 40 and 120 steps."""

SEEDS_AT_A_TIME = (3, 5, 8, 12)
"""Numbers of seeds after which every block has a complete comparison: all blocks have three seeds before the
first one has eight."""


@dataclass(frozen=True)
class Block:
    """One pair of networks on one data set, and where it is kept."""

    data: str
    pair: str
    out: Path

    @property
    def folder(self) -> Path:
        """Of teacher and comparisons."""
        return self.out / f"{self.data}-{self.pair}"

    @property
    def study(self) -> Path:
        """Of the comparison of all arms."""
        return self.folder / "arms"


class _Watch:
    """Prints the runs that finish, at most one line a minute, and the seconds since it was made."""

    def __init__(self) -> None:
        self.began = self.said = time.monotonic()

    def __call__(self, event: Any) -> None:
        now = time.monotonic()
        if type(event).__name__ in ("ArmFinished", "EpochFinished") and now - self.said > 60:
            self.said = now
            print(f"{now - self.began:6.0f} s: {event}"[:160], flush=True)


def load_images(options: argparse.Namespace, data: str) -> ImageData:
    """A data set at the size of the study, with a seeded subset of its training and the first test images."""
    name = f"folder:{options.images}" if data == "folder" else data
    few = options.train_samples if data == "fashion-mnist" else None
    found = load_dataset(name, image_size=options.image_size, train_samples=few)
    kept = torch.arange(min(options.test_samples, len(found.test)))
    return replace(found, test=found.test.select(kept))


def recipe_of(pair: Pair, data: ImageData, options: argparse.Namespace, **changes: Any) -> Recipe:
    """What teacher and students of a block share."""
    return Recipe.from_dict(
        {
            "data": {"name": data.name, "augment": pair.augment, "normalize": pair.normalize},
            "optimizer": pair.optimizer,
            "schedule": "one-cycle",
            "batch_size": 128,
            "precision": options.precision,
            **changes,
        }
    )


def replace_weight(config: LossConfig, weight: float | None) -> LossConfig:
    """The loss with another weight, if there is one."""
    return config if weight is None else config.model_copy(update={"weight": weight})


def train_teacher(block: Block, data: ImageData, options: argparse.Namespace) -> RunRecord:
    """The block's teacher, which all seeds share."""
    pair = PAIRS[block.pair]
    epochs = options.teacher_epochs
    recipe = recipe_of(pair, data, options, student=pair.teacher, epochs=epochs)
    return train(recipe, block.folder / "teacher", data=data, device=options.device, on_event=_Watch())


def begun_seeds(folder: Path) -> int:
    """How many seeds a comparison has, begun ones included: they cannot be dropped. 0 without one."""
    settings = folder / "settings.json"
    return len(json.loads(settings.read_text(encoding="utf-8"))["seeds"]) if settings.exists() else 0


def run_block(block: Block, options: argparse.Namespace, seeds: Sequence[int], *, report: bool) -> None:
    """Train what a block misses of these seeds, if it has no more yet, and perhaps write its report."""
    data, pair = load_images(options, block.data), PAIRS[block.pair]
    teacher = train_teacher(block, data, options)
    print(f"{block.folder.name}: the teacher reaches {teacher.last['test_top1']:.2f} %", flush=True)
    taught = {"network": teacher.recipe.student.model_dump(mode="json")["network"]}
    taught |= {"options": dict(pair.teacher.get("options", {}))}
    taught |= {"checkpoint": str(teacher.path / "student.safetensors")}
    recipe = recipe_of(
        pair,
        data,
        options,
        student=pair.student,
        teacher=taught,
        losses={"at": None},
        hints={"samples": 1000},
    )
    lengths = LENGTHS[block.data]
    if options.lengths is not None:
        lengths = tuple(int(part) for part in options.lengths.split(","))
    how = StudyOptions(torch.device(options.device), options.at_once, False, _Watch())
    arms, out = tuple(options.arms or pair.arms), block.study
    sets = {
        name: {
            loss: replace_weight(config, pair.weights.get(loss)) for loss, config in LOSS_SETS[name].items()
        }
        for name in options.losses or LOSS_SETS
    }
    if options.landscape:
        arms, out, lengths = ("sweep",), block.folder / "landscape", lengths[-1:]
    if len(seeds) < begun_seeds(out):
        return
    began = time.monotonic()
    request = ComparisonRequest(arms, tuple(seeds))
    study = compare_crossed(
        recipe, out, Crossing(sets, lengths), request=request, options=how, passed=Inputs(data=data)
    )
    print(f"{out}: {len(seeds)} seeds, {time.monotonic() - began:.0f} s", flush=True)
    if report:
        write_report(study.path)


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"0-7"`` or ``"0,3"``."""
    first, dash, last = text.partition("-")
    return tuple(range(int(first), int(last) + 1)) if dash else tuple(int(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", help="folder with train/ and val/ or test/, one folder a class")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--data", action="append", choices=LENGTHS, help="only this one; repeatable")
    parser.add_argument("--pair", action="append", choices=PAIRS, help="only this one; repeatable")
    parser.add_argument("--arm", dest="arms", action="append", help="only these; repeatable")
    parser.add_argument(
        "--loss", dest="losses", action="append", choices=LOSS_SETS, help="only this one; repeatable"
    )
    parser.add_argument("--seeds", default="1-8")
    parser.add_argument("--lengths", default=None, help="epochs of the students, for all data sets")
    parser.add_argument("--teacher-epochs", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=8)
    parser.add_argument("--train-samples", type=int, default=5000, help="of fashion-mnist")
    parser.add_argument("--test-samples", type=int, default=2000)
    parser.add_argument("--precision", default="float32")
    parser.add_argument(
        "--landscape", action="store_true", help="one hint at every layer in turn instead, the longest length"
    )
    parser.add_argument("--at-once", type=int, default=None, help="students in training at the same time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of torch")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    set_up_memory(Acceleration(), options.device)  # as the command line does
    seeds = parse_seeds(options.seeds)
    for count in sorted({count for count in SEEDS_AT_A_TIME if count < len(seeds)} | {len(seeds)}):
        for pair in options.pair or PAIRS:
            for data in options.data or LENGTHS:
                block = Block(data, pair, options.out)
                run_block(block, options, seeds[:count], report=count == len(seeds))


if __name__ == "__main__":
    main()
