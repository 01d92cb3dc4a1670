"""The figures of the papers, one record a figure."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

__all__ = ["PAPERS", "Paper", "PublishedResult", "published_results"]


@dataclass(frozen=True)
class Paper:
    """A paper whose tables are at hand.

    Attributes:
        citation: authors, title, place, year.
        tables: title of each table by its number.
    """

    citation: str
    tables: Mapping[str, str]


PAPERS: Mapping[str, Paper] = MappingProxyType(
    {
        "pursuhint": Paper(
            "PURSUhInT: In Search of Informative Hint Points Based on Layer Clustering for KD",
            {
                "1": "Seconds of the two steps, by similarity metric",
                "2": "Top-1 accuracy of AT by grouping and position",
                "3": "Hint positions, 1-based from the input",
                "4": "Baseline and proposed hint positions, top-1 accuracy of the best epoch",
                "5": "Top-1 accuracy of the last epoch on CIFAR-100",
                "6": "Top-1 and top-5 error on ImageNet",
                "7": "Size and speed",
            },
        ),
        "icd": Paper(
            "Giakoumoglou and Stathaki, Invariant Consistency for Knowledge Distillation, 2024",
            {
                "1": "Top-1 accuracy on CIFAR-100, similar architectures",
                "2": "Top-1 accuracy on CIFAR-100, different architectures",
                "3": "Top-1 accuracy of a linear classifier on transferred representations",
            },
        ),
        "rrd-supplement": Paper(
            "Giakoumoglou and Stathaki, Relational Representation Distillation, 2024, supplement",
            {
                "1": "Top-1 accuracy on CIFAR-100, similar architectures",
                "2": "Top-1 accuracy on CIFAR-100, different architectures",
                "3": "Top-1 accuracy on ImageNet",
            },
        ),
        "re-reviewkd": Paper(
            "Reproduction of Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021",
            {
                "1": "Top-1 accuracy on CIFAR-100, similar architectures",
                "2": "Top-1 accuracy on CIFAR-100, different architectures",
                "3": "Parts of ReviewKD, top-1 accuracy",
                "4": "Levels of the hierarchical context loss, top-1 accuracy",
                "5": "Weights of the levels, top-1 accuracy",
                "6": "Changes to the fusion, top-1 accuracy",
            },
        ),
        "refilled-supplement": Paper(
            "Ye, Lu and Zhan, Generalized Knowledge Distillation via Relationship Matching, supplement",
            {
                "1": "Mean accuracy on CUB by class overlap",
                "2": "Mean accuracy on CIFAR-100 by class overlap",
                "3": "Mean accuracy on CIFAR-100, standard distillation",
                "4": "Accuracy of nearest class means on CUB after the first stage",
                "text": "Figures given in the text",
            },
        ),
        "since-2021": Paper(
            "Losses since 2021 on the two pairs that most of their papers have, each figure as its own paper "
            "prints it",
            {
                "1": "Top-1 accuracy on CIFAR-100",
                "2": "Top-1 accuracy on ImageNet",
            },
        ),
    }
)
"""The papers, and a collection of several, by the name that ``pursuhint table --paper`` takes."""


@dataclass(frozen=True)
class PublishedResult:
    """One figure of one table.

    Attributes:
        source: the paper, a key of `PAPERS`.
        table: number of its table, as text.
        dataset: as the paper calls it, such as ``CIFAR-100``.
        teacher: as the paper calls it; empty where there is none.
        student: as the paper calls it; empty where there is none.
        method: as the paper calls it; ``vanilla`` is the student without a teacher, ``teacher`` the teacher.
        metric: what the figure measures, such as ``top1`` (percent).
        value: the figure as printed.
        note: what else distinguishes it, such as the class overlap.
    """

    source: str
    table: str
    dataset: str
    teacher: str
    student: str
    method: str
    metric: str
    value: str
    note: str

    @property
    def number(self) -> float | None:
        """The figure as a number; None for positions and sizes with units."""
        try:
            return float(self.value)
        except ValueError:
            return None


@functools.cache
def published_results() -> tuple[PublishedResult, ...]:
    """All figures, in the order of the papers' tables. Where two papers differ on a cell, both stand."""
    text = resources.files(__package__).joinpath("results.csv").read_text(encoding="utf-8")
    return tuple(PublishedResult(**row) for row in csv.DictReader(text.splitlines()))
