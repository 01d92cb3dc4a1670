"""How well the representations of runs serve other data, as records and as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from pursuhint.published import Table

__all__ = ["LinearAccuracy", "TransferResult", "TransferredRun"]

CONFIDENCE = 0.95
_FEWEST_SEEDS = 3


@dataclass(frozen=True)
class LinearAccuracy:
    """Accuracy of a linear classifier on a frozen student.

    Attributes:
        target: name of the data.
        classifier: a key of `CLASSIFIERS`.
        top1: percent of the target's test images.
        low: lower end of Wilson's 95 % interval for other test images, in percent.
        high: upper end of it.
        count: test images.
        lr: learning rate of ``sgd``; None for ``logistic``.
    """

    target: str
    classifier: str
    top1: float
    low: float
    high: float
    count: int
    lr: float | None = None

    @classmethod
    def of(
        cls, target: str, classifier: str, hits: int, count: int, *, lr: float | None = None
    ) -> LinearAccuracy:
        """From the number of test images that are classified correctly."""
        interval = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
        return cls(target, classifier, 100 * hits / count, 100 * interval.low, 100 * interval.high, count, lr)


@dataclass(frozen=True)
class TransferredRun:
    """A run and what its student's representation is worth elsewhere.

    Attributes:
        run: its folder, as given.
        network: of its student.
        data: on which it was trained.
        seed: of its training.
        group: the same number for runs that differ by their seed alone.
        accuracies: one a target and classifier, in the same order for all runs.
    """

    run: str
    network: str
    data: str
    seed: int
    group: int
    accuracies: tuple[LinearAccuracy, ...]


@dataclass(frozen=True)
class TransferResult:
    """Frozen students on other data.

    Attributes:
        runs: in the order in which they were given.
        preprocessing: how a target's images become the input of a student, by name; one entry for every size
            and number of channels that the students take.
        settings: epochs, augmentation and the like, as JSON has them.
    """

    runs: tuple[TransferredRun, ...]
    preprocessing: dict[str, list[dict[str, Any]]]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """Runs as rows, targets and classifiers as columns.

        Runs that differ by their seed alone are followed by a row of their means, from three seeds on with
        the 95 % t interval for other seeds.
        """
        heads = tuple(f"{one.target} ({one.classifier})" for one in self.runs[0].accuracies)
        rows = []
        for group in dict.fromkeys(run.group for run in self.runs):
            members = [run for run in self.runs if run.group == group]
            rows += [(run.run, *map(_cell, run.accuracies)) for run in members]
            if len(members) > 1:
                columns = zip(*(run.accuracies for run in members))
                name = f"mean of {len(members)} seeds of {members[0].run}"
                rows.append((name, *(_mean_cell([one.top1 for one in column]) for column in columns)))
        title = "Top-1 accuracy (%) of linear classifiers on frozen students, with 95 % intervals"
        return Table(title, ("run", *heads), tuple(rows))


def _cell(one: LinearAccuracy) -> str:
    return f"{one.top1:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _mean_cell(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) < _FEWEST_SEEDS:
        return f"{mean:.2f}"
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"
