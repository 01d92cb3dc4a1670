"""Write the tables and pictures of docs/evidence.md from what benchmarks/evidence.py left.

    python benchmarks/evidence_page.py runs/evidence --write docs/evidence.md

Blocks whose single layers were trained (``evidence.py --landscape``) have a picture of them with the
positions of all arms, ``pictures/evidence-BLOCK.png`` beside the document. Without ``--write`` the tables are
printed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from marked_text import write_between
from scipy import stats

from pursuhint.report import write_figure
from pursuhint.study import (
    ArmResult,
    Comparison,
    CrossedComparison,
    PairedComparison,
    probability_of_improvement,
)

BEGIN, END = "<!-- tables: written by benchmarks/evidence_page.py -->", "<!-- end of tables -->"
CONTROLS = ("conventional", "even")
"""What the arms of a block are compared with: the first of them that is a control of its comparison."""
WITHOUT_HINTS = ("alone", "kd")


@dataclass(frozen=True)
class Cell:
    """One comparison of the study.

    Attributes:
        block: name of the block's folder.
        title: loss and length.
        comparison: its arms and verdicts.
    """

    block: str
    title: str
    comparison: Comparison

    @property
    def loss(self) -> str:
        """Name of its set of losses."""
        return self.title.rpartition(", ")[0]

    @property
    def control(self) -> str:
        """Name of the arm that the others are compared with."""
        return next(name for name in CONTROLS if name in self.comparison.against)

    @property
    def pairs(self) -> Mapping[str, PairedComparison]:
        """Every arm against the control."""
        return {pair.arm: pair for pair in self.comparison.against[self.control]}

    def same_runs(self, name: str) -> bool:
        """Whether an arm is the control's runs under another name."""
        folders = {arm.name: [run.folder for run in arm.runs] for arm in self.comparison.arms}
        return folders[name] == folders[self.control]

    @property
    def placed(self) -> tuple[ArmResult, ...]:
        """The arms with hints, each set of runs once, under the name of the first arm that has it."""
        hinted = [arm for arm in self.comparison.arms if arm.name not in WITHOUT_HINTS]
        once = {tuple(run.folder for run in arm.runs): arm for arm in reversed(hinted)}
        return tuple(arm for arm in hinted if arm in once.values())


def blocks(folder: Path) -> dict[str, CrossedComparison]:
    """The finished comparisons in the folder of the study, by the name of their block."""
    found = folder.glob("*/arms/crossed.json")
    found = sorted(found, key=lambda file: file.parent.parent.name.rpartition("-")[::-1])  # pair, then data
    return {file.parent.parent.name: CrossedComparison.load(file.parent) for file in found}


def cells_of(name: str, study: CrossedComparison) -> list[Cell]:
    """The cells of a block."""
    return [
        Cell(name, cell.title, comparison)
        for cell, comparison in zip(study.cells, study.comparisons, strict=True)
    ]


def marked(cell: Cell, name: str) -> str:
    """The mean difference of an arm to the control, with the marks of the tables."""
    pair = cell.pairs[name]
    text = f"{pair.mean:+.1f}"
    if cell.same_runs(name):
        return "same runs"
    if pair.verdict == "unknown":
        return f"{text} –"
    wide = pair.new_images
    if pair.verdict == "equal":
        text += " =" if pair.survives_correction else " (=)"
    elif pair.verdict in ("better", "worse"):
        text += " \\*\\*" if pair.survives_correction else " \\*"
    return text + (" °" if wide is not None and (wide.low > 0 or wide.high < 0) else "")


def friedman(cell: Cell) -> float | None:
    """p-value of no difference between arms with other hint points; None for under 3, or if none differ."""
    values = [arm.last.values for arm in cell.placed]
    if len(values) < 3 or len(values[0]) < 3:
        return None
    if np.ptp(values, axis=0).max() == 0:
        return None  # all equal in every seed
    return float(stats.friedmanchisquare(*values).pvalue)


def intervals(cell: Cell) -> list[str]:
    """One row an arm: difference to the control with both intervals."""
    rows = []
    for name, pair in cell.pairs.items():
        if pair.low is None or pair.high is None:
            continue
        wide = pair.new_images
        new = "–" if wide is None else f"{wide.low:+.1f} to {wide.high:+.1f}"
        rows.append(
            f"| {name} | {pair.mean:+.1f} | {pair.low:+.1f} to {pair.high:+.1f} | {new} "
            f"| {pair.verdict_in_short} |"
        )
    return rows


def draw_landscapes(folder: Path, document: Path) -> None:
    """Draw the single layers of every block that has them, with the positions of its arms."""
    for study in sorted(folder.glob("*/landscape/crossed.json")):
        block = study.parent.parent
        if (block / "arms" / "crossed.json").exists():
            with tempfile.TemporaryDirectory() as drawn:
                write_figure("landscape", [study.parent, block / "arms"], drawn)
                target = document.parent / picture_of(block.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(drawn, "landscape.png"), target)


def picture_of(block: str) -> str:
    """The path of a block's landscape, from the document on."""
    return f"pictures/evidence-{block}.png"


def landscape_lines(name: str, study: CrossedComparison) -> Iterator[str]:
    """The picture of a block whose single layers were trained, and how to read it."""
    path = study.path.parent / "landscape"
    if not (path / CrossedComparison.FILE).exists():
        return
    single = CrossedComparison.load(path)
    lengths, seeds = (", ".join(map(str, numbers)) for numbers in (single.lengths, single.seeds))
    yield f"![Accuracy with a single hint at every layer, and the arms' positions]({picture_of(name)})"
    yield ""
    yield (
        f"A single hint at every layer in turn, seeds {seeds}, {lengths} epochs: mean and one standard "
        "deviation; the dashed line is `kd`. Below, the positions of the arms over all seeds; marks in color "
        "where they differ between the losses."
    )
    yield ""


def block_lines(name: str, study: CrossedComparison) -> Iterator[str]:
    """Facts and the table of a block."""
    cells = cells_of(name, study)
    first = cells[0].comparison
    data, recipe = first.data, first.recipe
    yield f"### {name}"
    yield ""
    yield (
        f"{first.student.name.rpartition(':')[2]} ({first.student.parameters:,} parameters) taught by "
        f"{first.teacher.name.rpartition(':')[2]} ({first.teacher.parameters:,} parameters, "
        f"{first.teacher.top1:.1f} %), {data.train:,} training and {data.test:,} test images of "
        f"{data.image_size[0]} x {data.image_size[1]} pixels, {data.num_classes} classes, batches of "
        f"{recipe['batch_size']}; seeds {', '.join(map(str, study.seeds))}; {first.k} hints "
        "where their number is free."
    )
    yield ""
    yield f"| arm | {' | '.join(cell.title for cell in cells)} |"
    yield f"| --- |{' --- |' * len(cells)}"
    against = cells[0].control
    absolute = ((against, True), *((arm, False) for arm in WITHOUT_HINTS))
    for arm, control in absolute:
        entries = []
        for cell in cells:
            found = {entry.name: entry for entry in cell.comparison.arms}.get(arm)
            if found is None:
                entries.append("–")
                continue
            mark = "" if control else f" ({marked(cell, arm)})"
            entries.append(f"{found.last.mean:.1f} ± {found.last.std or 0:.1f}{mark}")
        yield f"| {arm}, % | {' | '.join(entries)} |"
    for arm in first.arms:
        if arm.name != against and arm.name not in WITHOUT_HINTS:
            yield f"| {arm.name} | {' | '.join(marked(cell, arm.name) for cell in cells)} |"
    places = ["–" if (p := friedman(cell)) is None else f"{p:.1g}" for cell in cells]
    spreads = []
    for cell in cells:
        means = [arm.last.mean for arm in cell.placed]
        spreads.append(f"{max(means) - min(means):.1f}")
    detectable = []
    for cell in cells:
        seen = [pair.detectable for arm, pair in cell.pairs.items() if pair.detectable is not None]
        detectable.append(f"{np.median(seen):.1f}" if seen else "–")
    yield f"| *best minus worst place* | {' | '.join(spreads)} |"
    yield f"| *smallest visible difference (median)* | {' | '.join(detectable)} |"
    yield f"| *p of no difference between places* | {' | '.join(places)} |"
    yield ""
    yield f"Positions of the teacher's layers, {cells[0].title}:"
    same = {arm.positions_text: [] for arm in first.arms}
    for arm in first.arms:
        same[arm.positions_text].append(arm.name)
    yield "; ".join(f"{', '.join(arms)} {where}" for where, arms in same.items() if where != "none") + "."
    yield ""
    yield from landscape_lines(name, study)


def overall_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """Verdicts and probabilities of improvement over all cells, by arm."""
    arms = list(dict.fromkeys(name for cell in cells for name in cell.pairs))
    yield "| arm | better | worse | equal | undecided | same runs | beats the control with probability |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    total: Counter[str] = Counter()
    for arm in arms:
        counts: Counter[str] = Counter()
        tasks = {}
        for cell in cells:
            pair = cell.pairs.get(arm)
            if pair is None:
                continue
            by_name = {entry.name: entry.last.values for entry in cell.comparison.arms}
            if cell.same_runs(arm):
                counts["same"] += 1
                continue
            tasks[f"{cell.block} {cell.title}"] = (by_name[arm], by_name[cell.control])
            decided = pair.survives_correction and pair.verdict != "unknown"
            verdict = pair.verdict if decided else "undecided"
            counts[verdict] += 1
            if arm in {placed.name for placed in cell.placed}:
                total[verdict] += 1
        chance = "–"
        if tasks:
            found = probability_of_improvement(tasks, paired=True)
            chance = f"{found.probability:.2f} ({found.low:.2f} to {found.high:.2f})"
        numbers = " | ".join(str(counts[kind]) for kind in ("better", "worse", "equal", "undecided", "same"))
        yield f"| {arm} | {numbers} | {chance} |"
    numbers = " | ".join(str(total[kind]) for kind in ("better", "worse", "equal", "undecided"))
    yield f"| *all places, each once a cell* | {numbers} | | |"
    yield ""


def rank_correlation(one: Cell, other: Cell) -> float | None:
    """Of the arms' mean accuracies in two cells; None with fewer than four arms in common."""
    first, second = ({arm.name: arm.last.mean for arm in cell.placed} for cell in (one, other))
    common = [arm for arm in first if arm in second]
    if len(common) < 4 or any(len({means[arm] for arm in common}) == 1 for means in (first, second)):
        return None
    return float(stats.spearmanr([first[arm] for arm in common], [second[arm] for arm in common]).statistic)


def agreement_between_blocks(studies: Mapping[str, CrossedComparison]) -> Iterator[str]:
    """How far blocks order the arms alike, by loss; the lengths are matched by their order."""
    for one, other in combinations(studies, 2):
        for loss in studies[one].loss_sets:
            pairs = zip(
                [cell for cell in cells_of(one, studies[one]) if cell.loss == loss],
                [cell for cell in cells_of(other, studies[other]) if cell.loss == loss],
                strict=False,
            )
            found = [value for cells in pairs if (value := rank_correlation(*cells)) is not None]
            if found:
                listed = ", ".join(f"{value:+.2f}" for value in found)
                yield f"- {loss}, {one} and {other}, from the shortest length on: {listed}"


def agreement_lines(name: str, cells: Sequence[Cell]) -> Iterator[str]:
    """How far the cells of a block order the arms alike."""
    found: dict[str, list[float]] = {"another length, same loss": [], "another loss": []}
    for one, other in combinations(cells, 2):
        value = rank_correlation(one, other)
        if value is None:
            continue
        same_loss = one.loss == other.loss
        found["another length, same loss" if same_loss else "another loss"].append(value)
    for kind, values in found.items():
        if values:
            yield (
                f"- {name}, {kind}: mean rank correlation of the arms {np.mean(values):+.2f} "
                f"({min(values):+.2f} to {max(values):+.2f}, {len(values)} pairs of cells)"
            )


def tables(folder: Path) -> str:
    """All tables, as Markdown."""
    studies = blocks(folder)
    lines, every = [], []
    for name, study in studies.items():
        every += cells_of(name, study)
        lines += block_lines(name, study)
    lines += ["### Over all cells", "", *overall_lines(every)]
    lines += ["### Do the cells agree on the order of the arms?", ""]
    for name in studies:
        lines += agreement_lines(name, [cell for cell in every if cell.block == name])
    lines += agreement_between_blocks(studies)
    lines += ["", "### Both intervals", ""]
    for cell in every:
        lines += [
            f"<details><summary>{cell.block}, {cell.title}, minus {cell.control}</summary>",
            "",
            "| arm | mean | new seeds | new seeds and images | verdict |",
            "| --- | --- | --- | --- | --- |",
            *intervals(cell),
            "",
            "</details>",
            "",
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="OUT of benchmarks/evidence.py")
    parser.add_argument("--write", type=Path, default=None, help="document to put the tables into")
    options = parser.parse_args(arguments)
    text = tables(options.folder)
    print(text)
    if options.write is not None:
        draw_landscapes(options.folder, options.write)
        write_between(options.write, BEGIN, END, text)


if __name__ == "__main__":
    main()
