"""Figures of the papers, by name: every file here draws one of them from runs or analyses.

`FIGURES` is the one place where a figure has a name. Listing them imports neither PyTorch nor Matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["FIGURES", "PaperFigure"]


@dataclass(frozen=True)
class PaperFigure:
    """A figure that can be asked for by name.

    Attributes:
        about: what it shows, in a few words.
        paper: where papers have it.
        takes: which folders it is drawn from.
        draw: ``"module:function"``; the function takes folders and `FigureSettings`, and returns a
            `DrawnFigure`.
        settings: fields of `FigureSettings` that change it.
    """

    about: str
    paper: str
    takes: str
    draw: str
    settings: tuple[str, ...] = ()


_OF_NETWORKS = ("device", "trust_code")

FIGURES: Mapping[str, PaperFigure] = MappingProxyType(
    {
        "logit-correlation": PaperFigure(
            "teacher minus student: correlations of the logits of every two classes",
            "RRD and ICD, figure 1",
            "runs with a teacher",
            "pursuhint.report.paper_figures.logit_correlation:draw",
            _OF_NETWORKS,
        ),
        "tsne": PaperFigure(
            "embeddings of teachers and students in the plane, by class",
            "common in the field; none of the five papers",
            "runs with a teacher",
            "pursuhint.report.paper_figures.embedding_map:draw",
            ("samples", "seed", *_OF_NETWORKS),
        ),
        "attention": PaperFigure(
            "where teacher and student look at their hint points, for some test images",
            "AT (Zagoruyko and Komodakis, 2017), figure 1",
            "runs with a teacher",
            "pursuhint.report.paper_figures.attention:draw",
            ("images", "seed", *_OF_NETWORKS),
        ),
        "analysis-seconds": PaperFigure(
            "seconds of the two steps of an analysis, by metric",
            "PURSUhInT, table 1",
            "analyses",
            "pursuhint.report.paper_figures.analysis_seconds:draw",
        ),
        "network-blocks": PaperFigure(
            "a network as blocks with sizes, clusters and hint points",
            "PURSUhInT, figure 2",
            "analyses, or runs",
            "pursuhint.report.paper_figures.network_blocks:draw",
            ("trust_code",),
        ),
        "compression": PaperFigure(
            "size, speed and accuracy of students beside their teachers",
            "PURSUhInT, table 7",
            "runs with a teacher",
            "pursuhint.report.paper_figures.compression:draw",
            _OF_NETWORKS,
        ),
        "weight-curve": PaperFigure(
            "accuracy against the weight of a loss, or another of its numbers",
            "Re-ReviewKD, figure 6; REFILLED, supplement, figure 2",
            "runs that differ in this number",
            "pursuhint.report.paper_figures.weight_curve:draw",
        ),
        "grouped-bars": PaperFigure(
            "accuracy of every arm of a comparison as bars, by losses and length",
            "PURSUhInT, figure 3",
            "comparisons",
            "pursuhint.report.paper_figures.grouped_bars:draw",
        ),
        "baseline-proposed": PaperFigure(
            "accuracy with conventional beside chosen positions, by losses and length",
            "PURSUhInT, table 4",
            "comparisons with the arm conventional and one that chooses",
            "pursuhint.report.paper_figures.baseline_proposed:draw",
        ),
        "length-curves": PaperFigure(
            "accuracy of every arm against the length of training",
            "none of the five papers",
            "comparisons with two lengths or more",
            "pursuhint.report.paper_figures.length_curves:draw",
        ),
        "landscape": PaperFigure(
            "accuracy with a single hint at every layer, and where the arms have their hints",
            "none of the five papers",
            "comparisons with the arm sweep, and others of the same teacher",
            "pursuhint.report.paper_figures.landscape:draw",
        ),
    }
)
"""Figures by name."""
