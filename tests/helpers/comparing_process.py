"""A comparison as one of two processes; started by test_comparison_processes.py."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from pursuhint.study import compare
from tests.helpers.study_runs import few_digits, recipe

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=90))
    weights, out = map(Path, sys.argv[1:])
    events: list[object] = []
    result = compare(
        recipe(weights),
        out,
        arms=("alone", "conventional", "kmeans"),
        seeds=(0,),
        data=few_digits(128, 64),
        device="cpu",
        on_event=events.append,
    )
    rank = dist.get_rank()
    assert bool(events) == (rank == 0)
    (out / f"seen-by-{rank}.json").write_text(result.model_dump_json(by_alias=True), encoding="utf-8")
    dist.destroy_process_group()
