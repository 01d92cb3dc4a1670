"""How well the representations of runs serve other data, as records and as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint._util.output_folder import claim_folder, remove_leftovers
from pursuhint._util.provenance import BaseProvenance
from pursuhint._util.replace_folder import DifferentResult, check_replaceable, remove_result
from pursuhint._util.shown import Shown
from pursuhint.data.preprocessing import Preprocessing
from pursuhint.errors import PursuhintError
from pursuhint.published import Table
from pursuhint.study.transfer_settings import TransferSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


@dataclass(frozen=True, repr=False)
class TransferResult(Shown):
    """Frozen students on other data.

    Attributes:
        runs: in the order in which they were given.
        preprocessing: how a target's images become the input of a student, by name; one entry for every size
            and number of channels that the students take.
        settings: epochs, augmentation and the like, as JSON has them.
        provenance: command, versions and time.
    """

    FILE: ClassVar[str] = "transfer.json"

    runs: tuple[TransferredRun, ...]
    preprocessing: dict[str, list[dict[str, Any]]]
    settings: dict[str, Any]
    provenance: BaseProvenance | None = None

    def _headline(self) -> str:
        best = max(((run, one) for run in self.runs for one in run.accuracies), key=lambda pair: pair[1].top1)
        count = f"{len(self.runs)} frozen student{'s' * (len(self.runs) > 1)}"
        return (
            f"{count} on {', '.join(self.targets)}; the highest is {best[0].run} with {best[1].top1:.2f} % "
            f"on {best[1].target} ({best[1].classifier})"
        )

    def _draw(self, axes: Axes) -> None:
        columns = list(zip(*(run.accuracies for run in self.runs)))
        for number, column in enumerate(columns):
            tops = [one.top1 for one in column]
            ends = [[one.top1 - one.low for one in column], [one.high - one.top1 for one in column]]
            shift = (number - (len(columns) - 1) / 2) * 0.6 / len(columns)
            heights = [row + shift for row in range(len(tops))]
            name = f"{column[0].target} ({column[0].classifier})"
            axes.errorbar(tops, heights, xerr=ends, fmt="o", label=name)
        axes.set_yticks(range(len(self.runs)), [run.run for run in self.runs])
        axes.invert_yaxis()
        axes.set_xlabel("test accuracy of the linear classifier, %")
        axes.legend(fontsize="small")

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"run": run.run, "network": run.network, "trained_on": run.data, "seed": run.seed, **asdict(one)}
            for run in self.runs
            for one in run.accuracies
        ]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the data on which the students are measured."""
        return tuple(dict.fromkeys(one.target for one in self.runs[0].accuracies))

    @property
    def groups(self) -> tuple[tuple[TransferredRun, ...], ...]:
        """The runs, those that differ by their seed alone together."""
        numbers = dict.fromkeys(run.group for run in self.runs)
        return tuple(tuple(run for run in self.runs if run.group == number) for number in numbers)

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
        for members in self.groups:
            rows += [(run.run, *map(_cell, run.accuracies)) for run in members]
            if len(members) > 1:
                columns = zip(*(run.accuracies for run in members))
                name = f"mean of {len(members)} seeds of {members[0].run}"
                rows.append((name, *(_mean_cell([one.top1 for one in column]) for column in columns)))
        title = "Top-1 accuracy (%) of linear classifiers on frozen students, with 95 % intervals"
        return Table(title, ("run", *heads), tuple(rows))

    def save(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Write ``transfer.json``.

        Args:
            folder: a folder of its own, or one that holds the transfer of the same runs to the same data.
            overwrite: replace a transfer of other runs or to other data.

        Raises:
            PursuhintError: the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        runs = [run.run for run in self.runs]
        if check_transfer_folder(folder, runs, self.targets, overwrite=overwrite):
            remove_result(folder, "transfer")
        make_folder(folder)
        remove_leftovers(folder)
        write_json(folder / self.FILE, {"schema": 1, **self.to_dict()})

    @classmethod
    def load(cls, folder: Path | str) -> TransferResult:
        """Read what `save` wrote.

        Raises:
            PursuhintError: the file is missing or damaged.
        """
        path = Path(folder) / cls.FILE
        file = validated(_File, read_json(path, "transfer"), f"the transfer {path}")
        images = {name: [each.to_dict() for each in several] for name, several in file.preprocessing.items()}
        result = cls(file.runs, images, file.settings.plain(), file.provenance)
        measured = [[(one.target, one.classifier) for one in run.accuracies] for run in result.runs]
        if not measured[0] or any(each != measured[0] for each in measured):
            raise PursuhintError(f"the transfer {path} is not valid: its runs have different accuracies")
        return result


class _File(BaseModel):
    """The JSON file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    runs: tuple[TransferredRun, ...] = Field(min_length=1)
    preprocessing: dict[str, list[Preprocessing]]
    settings: TransferSettings
    provenance: BaseProvenance | None


def check_transfer_folder(
    folder: Path, runs: Sequence[str], targets: Sequence[str], *, overwrite: bool
) -> bool:
    """Refuse a folder that holds anything but the transfer of these runs to these data. Nothing is written.

    Args:
        folder: which may be missing.
        runs: their folders, as given.
        targets: names of data sets.
        overwrite: whether the transfer of other runs or to other data is to be replaced.

    Returns:
        Whether there is something to replace.

    Raises:
        PursuhintError: it holds something else, or the transfer of other runs or to other data that is not to
            be replaced or has files of others beside it.
    """
    claim_folder(folder, "transfer")
    if not (folder / TransferResult.FILE).exists():
        return False
    known = TransferResult.load(folder)
    places = [[Path(run).resolve() for run in each] for each in (runs, [one.run for one in known.runs])]
    if places[0] == places[1] and set(targets) == set(known.targets):
        return False
    if not overwrite:
        raise DifferentResult(
            f"{folder} holds the transfer of other runs or to other data; choose another folder, or "
            "replace it (--overwrite)"
        )
    check_replaceable(folder, "transfer")
    return True


def _cell(one: LinearAccuracy) -> str:
    return f"{one.top1:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _mean_cell(values: Sequence[float]) -> str:
    mean, low, high = seed_interval(values)
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def seed_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean over seeds and the ends of its 95 % t interval for other seeds; no ends below three seeds."""
    mean = statistics.fmean(values)
    if len(values) < _FEWEST_SEEDS:
        return mean, None, None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half
