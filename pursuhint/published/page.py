"""The page of the documentation that says what to call for every table and figure."""

from __future__ import annotations

import re
import textwrap

from pursuhint.published.grids import Grid, paper_grids
from pursuhint.published.results import PAPERS

__all__ = ["papers_page"]

_OUT = "papers"
_WIDTH = 108

_HEAD = """\
# Tables and figures of the papers

What to call for every table and figure of five papers, and for figures of the losses since 2021.
`pursuhint table run NAME --out papers` trains the networks behind one: a run folder for every network, method
and seed. Tables share cells, such as teachers and KD, if they share a folder;
`pursuhint table --paper PAPER --table NUMBER` prints what was published, and `pursuhint table papers` your
results beside it.

- **How long?** `--dry-run` says how many cells there are, and how many hours and how much disk they take.
- **Smaller**: `--seeds 0`, `--epochs 20`, `--data`, `--set data.train_samples=5000`. What is changed is said
  in one line and kept in `papers/grid.json`.
- **Teachers** are trained first, one for every seed. `--teacher-weights resnet56=FILE` takes weights that you
  have.
- **Several machines**: start the same command on each. A cell that another worker holds is skipped; the cell
  of a worker that died is resumed from its last epoch; a student waits for its teacher. Without a shared
  folder, `--part 3/16` trains a share, with the teachers that it needs. `--submit slurm --jobs 16` submits
  workers to Slurm through submitit; a job that is preempted, or whose time is over, is queued again.
- **A grid of your own** is a YAML file in place of the name; recipes are names, or files beside it:

```
alone: digits-vanilla                  # how teachers, and students without one, are trained
pairs: [resnet20-resnet8]              # TEACHER-STUDENT
rows:
  KD: {recipe: digits-vanilla, set: {losses: {kd: 1}}}
  AT: {recipe: digits-vanilla, set: {losses: {at: 1000}}}
```

This page is written from the same data as the commands are (`pursuhint.published.papers_page`).
"""


def papers_page() -> str:
    """The text of ``docs/papers.md``, in Markdown."""
    parts = [_HEAD]
    for paper, entry in PAPERS.items():
        parts.append(f"## {paper}\n\n{textwrap.fill(entry.citation, 118)}\n")
        parts += [
            _entry(grid, grid.name.removeprefix(f"{paper}-"))
            for grid in paper_grids().values()
            if grid.name.startswith(f"{paper}-")
        ]
    return "\n".join(parts)


def _entry(grid: Grid, number: str) -> str:
    kind = "Figure" if number.startswith("figure-") else "Table"
    what = f"{kind} {number.removeprefix('figure-')}" if number != "text" else "Text"
    lines = [f"### {what}: {grid.title}", ""]
    notes = []
    if grid.drawing:
        notes.append("A drawing without numbers.")
    if grid.trains:
        networks = len({*grid.teachers, *grid.students})
        cells = len(grid.cells) + networks
        notes.append(f"{cells} cells a seed, {networks} of them networks alone; {_seeds(grid.seeds)}.")
    notes += [grid.remark.format(out=_OUT)] * bool(grid.remark)
    if notes:
        lines += [textwrap.fill(" ".join(notes), 118, break_long_words=False, break_on_hyphens=False), ""]
    commands = [f"pursuhint table run {grid.name} --out {_OUT}"] * grid.trains
    commands += [command.format(out=_OUT) for command in grid.commands]
    if commands:
        lines += ["```bash", *(line for command in commands for line in _wrapped(command)), "```", ""]
    return "\n".join(lines)


def _seeds(number: int) -> str:
    return f"by default {number} seeds, as in the paper" if number > 1 else "by default 1 seed"


def _wrapped(command: str) -> list[str]:
    """A command over several lines; an option stays beside its value."""
    words = re.findall(r"--\S+(?: (?!--)\S+)?|\S+", command)
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
