"""A comparison that two processes train together."""

from __future__ import annotations

import json

from pursuhint.study import Comparison, compare
from tests.helpers import comparing_process
from tests.helpers.processes import ROOT, launched
from tests.helpers.study_runs import few_digits, recipe, write_teacher


def test_two_processes_make_one_comparison_and_the_first_writes_it(tmp_path):
    weights, out = write_teacher(tmp_path), tmp_path / "c"
    for done in launched(comparing_process.__file__, weights, out, PYTHONPATH=str(ROOT)):
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = [json.loads((out / f"seen-by-{rank}.json").read_text()) for rank in (0, 1)]
    assert first["arms"] == second["arms"]
    joint = Comparison.load(out)
    assert [arm.name for arm in joint.arms] == ["alone", "conventional", "kmeans"]
    for arm in joint.arms:
        (run,) = arm.runs
        assert json.loads((out / run.folder / "environment.json").read_text())["processes"] == 2
    again = compare(
        recipe(weights),
        out,
        arms=("alone", "conventional", "kmeans"),
        seeds=(0,),
        data=few_digits(128, 64),
        device="cpu",
    )
    assert again.arms == joint.arms
