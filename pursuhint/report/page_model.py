"""The model of a report page: plain values without HTML, which the template renders."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pursuhint.report.figures import save_figure
from pursuhint.report.glosses import glosses_for


@dataclass(frozen=True)
class Picture:
    """A figure, embedded.

    Attributes:
        data: the PNG file in base64.
        alt: alternative text for screen readers.
        caption: how to read it.
        width: pixels at which its text has the size of the page's.
        live: what an interactive map in its place shows, from `pursuhint.report.figures.interactive`; None
            where the picture has none. The picture stays for paper, and for browsers that run no scripts.
    """

    data: str
    alt: str
    caption: str
    width: int
    live: str | None = None


@dataclass(frozen=True)
class FigureFolder:
    """The folder that pictures are saved to."""

    folder: Path

    def add(self, name: str, figure: Figure, alt: str, caption: str, *, live: str | None = None) -> Picture:
        """Save a figure as ``<name>.png`` and embed it.

        Raises:
            PursuhintError: it cannot be written.
        """
        path = save_figure(figure, self.folder / f"{name}.png")
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        return Picture(data, alt, caption, round(figure.get_figwidth() * 100), live)


@dataclass(frozen=True)
class Grid:
    """A table; ``numbers`` are the indices of the columns that are aligned as numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Card:
    """One headline number and its label."""

    value: str
    label: str


@dataclass(frozen=True)
class MetricSection:
    """Layer similarity by one metric, and the clusters."""

    title: str
    heatmap: Picture
    verdict: str
    clusters: Grid
    inertia: Picture | None
    silhouette: Picture | None = None
    tree: Picture | None = None
    ridges: Picture | None = None


@dataclass(frozen=True)
class AnalysisSection:
    """The analysis of a teacher."""

    paragraphs: tuple[str, ...]
    choice: tuple[str, ...]
    positions: Grid
    agreement: Grid | None
    metrics: tuple[MetricSection, ...]
    classes: Picture | None = None


@dataclass(frozen=True)
class RunSection:
    """One run."""

    pairs_text: str
    pairs: Grid | None
    results: Grid
    best_text: str
    curves: Picture
    terms: Grid
    teacher_student: Picture | None = None


@dataclass(frozen=True)
class ControlSection:
    """The arms against one control."""

    title: str
    text: str
    sentences: tuple[str, ...]
    table: Grid


@dataclass(frozen=True)
class ComparisonSection:
    """The students, arm by arm."""

    design: str
    table: Grid
    notes: tuple[str, ...]
    plot: Picture
    controls: tuple[ControlSection, ...]
    map: Picture | None = None
    curves: Picture | None = None
    landscape: Picture | None = None


@dataclass(frozen=True)
class CrossedSection:
    """A table over two things that vary, and one of every cell; ``pictures`` have a heading each."""

    design: str
    table: Grid
    pictures: tuple[tuple[str, Picture], ...]
    cells: Grid
    heading: str = "The students, by losses and length of training"
    cells_heading: str = "Each comparison by itself"


@dataclass(frozen=True)
class TransferSection:
    """Accuracies of linear classifiers on frozen students."""

    design: str
    plot: Picture
    table: Grid


@dataclass(frozen=True)
class SearchSection:
    """The trials of a search; ``pictures`` have a heading each."""

    design: str
    pictures: tuple[tuple[str, Picture], ...]
    table: Grid
    confirmation: Grid | None


@dataclass(frozen=True)
class Page:
    """Everything that a report shows, in the order of the page."""

    title: str
    subtitle: str
    summary: tuple[str, ...]
    question: tuple[str, ...]
    setting_title: str
    setting: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
    repeat: tuple[str, ...]
    commands: tuple[str, ...]
    recipes: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    footer: str
    cards: tuple[Card, ...] = ()
    arms: tuple[tuple[str, str], ...] = ()
    teacher_curves: Picture | None = None
    analysis: AnalysisSection | None = None
    run: RunSection | None = None
    comparison: ComparisonSection | None = None
    crossed: CrossedSection | None = None
    search: SearchSection | None = None
    transfer: TransferSection | None = None

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """Terms that it uses, and what they mean."""
        return glosses_for(self)

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Anchor and heading of every section that it has, in the order of the page."""
        found: tuple[tuple[str, str, object], ...] = (
            ("summary", "In short", True),
            ("question", "What was asked", True),
            ("setting", self.setting_title, True),
            ("layers", "How the layers resemble each other", self.analysis),
            ("positions", "Which positions were chosen, and how stable the choice is", self.analysis),
            ("run", "The run", self.run),
            ("comparison", "The students, compared", self.comparison),
            ("crossed", "" if self.crossed is None else self.crossed.heading, self.crossed),
            ("trials", "The trials", self.search),
            ("transfer", "Accuracy on the other data", self.transfer),
            ("limits", "What this cannot show", True),
            ("repeat", "How to repeat it", True),
            ("words", "Words on this page", self.words),
        )
        return tuple((anchor, title) for anchor, title, there in found if there)

    @property
    def interactive(self) -> bool:
        """Whether it has a picture that needs a script."""
        metrics = self.analysis.metrics if self.analysis is not None else ()
        pictures = [metric.heatmap for metric in metrics]
        if self.run is not None and self.run.teacher_student is not None:
            pictures.append(self.run.teacher_student)
        return any(picture.live is not None for picture in pictures)
