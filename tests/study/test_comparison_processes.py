"""A comparison that two processes train together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pursuhint.study import Comparison, compare
from tests.helpers.study_runs import few_digits, recipe, write_teacher


def test_two_processes_make_one_comparison_and_the_first_writes_it(tmp_path):
    weights, here = write_teacher(tmp_path), Path(__file__).parents[1] / "helpers"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(here.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    out = tmp_path / "c"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = subprocess.run(
        [*torchrun, str(here / "comparing_process.py"), str(weights), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
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
