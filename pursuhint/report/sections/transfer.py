"""The report on a transfer: what frozen students are worth on other data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint.data.preprocessing import Preprocessing
from pursuhint.report.figures.transfer_plot import Measured, transfer_plot
from pursuhint.report.page_model import FigureFolder, Grid, Page, TransferSection
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.report.text import count, environment_rows, footer, grain_limit, listed
from pursuhint.study.transfer_result import TransferredRun, TransferResult, seed_interval
from pursuhint.study.transfer_settings import CLASSIFIERS


def build_transfer_page(result: TransferResult, folder: Path, figure_folder: FigureFolder) -> Page:
    """The page of a transfer.

    Args:
        result: what was measured.
        folder: where it lies.
        figure_folder: where pictures go.
    """
    sources = list(dict.fromkeys(run.data for run in result.runs))
    panels = _panels(result)
    counts = [one.count for one in result.runs[0].accuracies]
    made = result.provenance
    command = "" if made is None or not made.command.startswith("pursuhint ") else made.command
    return Page(
        title=f"What students of {listed(sources)} are worth on {listed(result.targets)}",
        subtitle=f"Frozen {'students' if len(result.runs) > 1 else 'student'} as feature extractors, by "
        "PursuHint.",
        summary=tuple(_sentence(title, rows) for title, rows in panels.items()),
        question=(
            "A student that imitates a teacher may learn features that serve elsewhere, too. Each student "
            "was frozen, and a linear classifier learned other classes from its embeddings, which are what "
            "its own classifier takes.",
        ),
        setting_title="Students, data and classifiers",
        setting=facts_of(result),
        transfer=TransferSection(
            "Accuracy on the target's test images. "
            + _intervals(result)
            + " Every student sees the target's images at its own size, normalised with the target's mean "
            "and deviation.",
            figure_folder.add(
                "transfer",
                transfer_plot(panels),
                "Accuracy of linear classifiers on frozen students",
                "Means with their intervals; small dots are seeds. Each panel has its own axis, which is cut "
                "where the accuracies are.",
            ),
            _grid(result),
        ),
        limits=(
            "Two students on the same images are not independent: overlapping intervals do not show that "
            "they are equal. To compare two ways of training, look at several seeds of each.",
            "A linear classifier sees what is linearly separable in the embeddings; students that are "
            "trained further on the target may rank differently.",
            *grain_limit(min(counts)),
        ),
        repeat=(
            "The same is measured again by:"
            if command
            else "It was called from Python as pursuhint.transfer(runs, targets, settings=...); the settings "
            "are in transfer.json.",
        ),
        commands=(command,) if command else (),
        recipes=(),
        environment=environment_rows({}, made),
        footer=footer({}, made),
    )


def _names(result: TransferResult) -> list[str]:
    """One a group: the end of the folder of its first run, and how many seeds it has."""
    names = dict(zip((run.run for run in result.runs), short_names([Path(run.run) for run in result.runs])))
    return [
        names[members[0].run] if len(members) == 1 else f"{names[members[0].run]} and {len(members) - 1} more"
        for members in result.groups
    ]


def _panels(result: TransferResult) -> dict[str, dict[str, Measured]]:
    """What is drawn: by target and classifier, by group of runs."""
    names = _names(result)
    panels: dict[str, dict[str, Measured]] = {}
    for place, first in enumerate(result.runs[0].accuracies):
        rows = {}
        for name, members in zip(names, result.groups):
            rows[name] = _measured(members, place)
        panels[f"{first.target} ({first.classifier})"] = rows
    return panels


def _measured(members: Sequence[TransferredRun], place: int) -> Measured:
    found = [run.accuracies[place] for run in members]
    values = [one.top1 for one in found]
    if len(found) == 1:
        return Measured(values, values[0], found[0].low, found[0].high)
    return Measured(values, *seed_interval(values))


def _sentence(title: str, rows: dict[str, Measured]) -> str:
    ordered = sorted(rows.items(), key=lambda row: row[1].mean)
    (worst, low), (best, high) = ordered[0], ordered[-1]
    if len(rows) == 1:
        return f"On {title}, a linear classifier on {best} reaches {high.mean:.2f} %."
    return f"On {title}, the means go from {low.mean:.2f} % ({worst}) to {high.mean:.2f} % ({best})."


def _intervals(result: TransferResult) -> str:
    """What the intervals are about."""
    sizes = {len(members) for members in result.groups}
    texts = []
    if 1 in sizes:
        texts.append("A single run has Wilson's 95 % interval for other test images.")
    if 2 in sizes:
        texts.append("Two seeds have a mean without an interval.")
    if max(sizes) > 2:
        texts.append("Runs that differ by their seed alone have the 95 % t interval for other seeds.")
    return " ".join(texts)


def facts_of(result: TransferResult) -> tuple[tuple[str, str], ...]:
    """Students, targets, classifiers and images, as rows of a table."""
    settings = result.settings
    students, sources = (
        listed(list(dict.fromkeys(names))) for names in zip(*((run.network, run.data) for run in result.runs))
    )
    rows = [
        ("Students", f"{students}, {count(len(result.runs), 'run')}, trained on {sources}"),
        ("Weights", f"of the {settings['weights']} epoch"),
    ]
    for first in result.runs[0].accuracies:
        if first.classifier == result.runs[0].accuracies[0].classifier:
            rows.append((f"Target {first.target}", f"{first.count:,} test images"))
    for name in dict.fromkeys(one.classifier for one in result.runs[0].accuracies):
        text = CLASSIFIERS.get(name, name)
        if name == "sgd":
            rates = sorted({one.lr for run in result.runs for one in run.accuracies if one.lr is not None})
            extra = [word for word in ("augment", "drift") if settings[word]]
            text += (
                f": {settings['epochs']} epochs, learning rate {listed([f'{rate:g}' for rate in rates])}, "
                f"seed {settings['seed']}{', with ' + listed(extra) if extra else ''}"
            )
        rows.append((f"Classifier {name}", text))
    for target, several in result.preprocessing.items():
        for each in several:
            line = Preprocessing.from_dict(each).line().removeprefix("images: ")
            rows.append((f"Images of {target}", line))
    return tuple(rows)


def _grid(result: TransferResult) -> Grid:
    table = result.table()
    return Grid(table.heads, table.rows, frozenset(range(1, len(table.heads))))
