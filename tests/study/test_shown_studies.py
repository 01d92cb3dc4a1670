"""Studies as a notebook shows them: one line, a picture, axes, rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from pursuhint.study import (
    CrossTaskCell,
    CrossTaskOverlap,
    CrossTaskResult,
    LinearAccuracy,
    MethodComparison,
    MethodResult,
    SearchResult,
    SearchTrial,
    TransferredRun,
    TransferResult,
)
from pursuhint.study.arm_result import SeedResult
from pursuhint.study.paired_statistics import summarize


def made(kind, **values):
    """A part of a result with the values that are looked at."""
    return kind.model_construct(path=Path("study"), **values)


def transfer():
    accuracies = tuple(LinearAccuracy.of("photos", name, 30, 40) for name in ("sgd", "logistic"))
    runs = tuple(TransferredRun(f"runs/{seed}", "resnet8", "digits", seed, 0, accuracies) for seed in (0, 1))
    return TransferResult(runs, {}, {})


def crosstask():
    cells = [
        made(CrossTaskCell, method=name, title=name.upper(), last=summarize([top1, top1 + 1]))
        for name, top1 in (("alone", 50.0), ("refilled", 60.0))
    ]
    overlaps = [made(CrossTaskOverlap, overlap=share, cells=cells) for share in (0.0, 50.0)]
    facts = {"data": "digits", "teacher": "resnet14", "student": "resnet8", "seeds": (0, 1)}
    return made(CrossTaskResult, overlaps=overlaps, **facts)


def search():
    trials = [
        made(SearchTrial, number=number, values={"losses.at": at}, state=state, top1=top1, curve=(9, end))
        for number, at, state, top1, end in (
            (0, "10", "complete", 40.0, 40.0),
            (1, "20", "complete", 45.0, 45.0),
            (2, "90", "pruned", None, 10.0),
        )
    ]
    return made(SearchResult, trials=trials, best=1)


def methods():
    found = [
        made(
            MethodResult,
            name=name,
            title=name,
            last=summarize([top1]),
            runs=[made(SeedResult, seed=0, last_top1=top1, best_top1=top1, best_epoch=1, seconds=1.0)],
        )
        for name, top1 in (("alone", 50.0), ("kd", 60.0))
    ]
    data = SimpleNamespace(name="digits")
    return made(MethodComparison, methods=tuple(found), failed={"at": "no"}, seeds=(0,), data=data)


@pytest.mark.parametrize(
    ("make", "line", "rows", "row"),
    [
        (transfer, "2 frozen students on photos; the highest is runs/0 with 75.00 %", 4, {"top1": 75.0}),
        (crosstask, "overlaps 0, 50 %, 2 methods, 2 seeds; highest mean at 0 %: REFILLED, 60.50 %", 8,
         {"overlap": 0.0, "method": "alone", "seed": 1, "last_top1": 51.0}),
        (search, "3 trials (2 complete, 1 pruned), the best one is 1 with a validation top-1 of 45.00 %", 3,
         {"trial": 1, "losses.at": "20", "val_top1": 45.0}),
        (methods, "2 methods, 1 could not be trained, 1 seed on digits; highest mean: kd, 60.00 %", 2,
         {"method": "kd", "last_top1": 60.0}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_a_line_a_picture_and_rows(make, line, rows, row):
    result = make()
    assert line in repr(result)
    assert len(repr(result)) < 300
    assert "data:image/png;base64" in result._repr_html_()
    axes = result.plot(Figure().subplots())
    assert axes.has_data()
    table = result._rows()
    assert len(table) == rows
    assert row.items() <= table[1].items()
