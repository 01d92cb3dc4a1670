"""Grids of cells: recipes of all tables and figures, shares, and workers that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pursuhint._util import lease as lease_module
from pursuhint._util.atomic_files import write_json
from pursuhint._util.folder_lock import lock_folder
from pursuhint.errors import PursuhintError
from pursuhint.published import find_grid, paper_grids
from pursuhint.study import GridOptions, run_grid
from pursuhint.study.grids.cells import grid_cells
from pursuhint.study.grids.folder import claim
from pursuhint.study.grids.run import share
from pursuhint.training import RunRecord, RunStopped
from pursuhint.training.recipe.resolve import resolve_recipe
from tests.helpers.grid_worker import work
from tests.helpers.processes import server

TOY = """
title: A toy
alone: digits-vanilla
pairs: [resnet14-resnet8, resnet8-resnet14]
rows:
  KD: {recipe: digits-vanilla, set: {losses: {kd: 1}}}
  AT: {recipe: digits-vanilla, set: {losses: {at: 1000}}}
"""
OPTIONS = GridOptions(seeds=(0, 1), epochs=3, assignments=("data.train_samples=150", "batch_size=50"))


@pytest.fixture
def toy(tmp_path):
    file = tmp_path / "toy.yaml"
    file.write_text(TOY)
    return find_grid(str(file))


def test_all_cells_of_all_tables_and_figures_resolve_to_recipes():
    """Every distinct recipe once: seeds differ in their seed alone."""
    cells = {}
    for grid in paper_grids().values():
        if grid.trains:
            own = grid_cells(grid, Path("papers"), GridOptions(seeds=(0,)))
            names = {cell.name for cell in own}
            assert {cell.teacher for cell in own} - {None} <= names
            assert not any(cell.recipe != cells.get(cell.name, cell).recipe for cell in own)
            cells |= {cell.name: cell for cell in own}
    assert len(cells) > 500
    for cell in cells.values():
        resolve_recipe(cell.recipe)
        taught = cell.recipe.teacher is not None
        assert taught == (cell.teacher is not None)
        if taught:
            assert cell.recipe.teacher.checkpoint.endswith(f"{cell.teacher}/student.safetensors")


def test_overwrite_replaces_cells_of_other_settings_that_nobody_trains(tmp_path):
    cell = tmp_path / "digits-vanilla/resnet8/seed-0"
    cell.mkdir(parents=True)
    (cell / "recipe.yaml").write_text("student: resnet8")
    grid = {"toy": {"cells": {"digits-vanilla/resnet8": ["KD", "", "resnet8"]}}}
    write_json(tmp_path / "grid.json", {"grids": grid})
    claim(tmp_path, OPTIONS, grid)
    other = replace(OPTIONS, epochs=5)
    with pytest.raises(PursuhintError, match=r"begun with other settings.*--overwrite"):
        claim(tmp_path, other, grid)
    other = replace(other, overwrite=True)
    with lock_folder(cell), pytest.raises(PursuhintError, match="another run is writing"):
        claim(tmp_path, other, grid)
    (tmp_path / "mine").mkdir()
    with pytest.raises(PursuhintError, match="holds mine, which is not of a grid"):
        claim(tmp_path, other, grid)
    assert (cell / "recipe.yaml").exists()
    (tmp_path / "mine").rmdir()
    claim(tmp_path, other, grid)
    assert not cell.exists()
    assert json.loads((tmp_path / "grid.json").read_text())["changed"]["epochs"] == 5


def test_cells_that_tables_share_have_one_folder():
    one, other = (
        {
            cell.name
            for cell in grid_cells(find_grid(name), Path("papers"), GridOptions(seeds=(0,)))
            if cell.row == "KD"
        }
        for name in ("icd-1", "rrd-supplement-1")
    )
    assert one == other
    assert len(one) == 7


def test_small_mobile_networks_alone_have_the_learning_rate_of_the_benchmark():
    cells = {cell.name: cell for cell in grid_cells(find_grid("icd-2"), Path("p"), GridOptions(seeds=(0,)))}
    assert cells["cifar100-vanilla/ShuffleV1/seed-0"].recipe.optimizer.lr == 0.01
    assert cells["cifar100-vanilla/vgg8/seed-0"].recipe.optimizer.lr == 0.05
    assert cells["cifar100-kd/wrn_40_2-ShuffleV1/seed-0"].recipe.optimizer.lr == 0.01


def test_what_a_smaller_grid_changes():
    grid = find_grid("icd-1")
    options = GridOptions(seeds=(3,), epochs=24, data="digits", assignments=("batch_size=32",))
    cells = {cell.name: cell for cell in grid_cells(grid, Path("p"), options)}
    recipe = cells["cifar100-fsp/resnet56-resnet20/seed-3"].recipe
    assert (recipe.seed, recipe.epochs, recipe.data.name, recipe.batch_size) == (3, 24, "digits", 32)
    assert recipe.schedule.milestones == (15, 18, 21)
    assert recipe.losses["fsp"].options["warm_up_epochs"] == 3
    usual = grid_cells(grid, Path("p"), GridOptions(seeds=(3,)))
    assert [cell.name for cell in usual] == list(cells)


def test_by_default_there_are_as_many_seeds_as_the_paper_has():
    cells = grid_cells(find_grid("re-reviewkd-3"), Path("p"), GridOptions())
    assert Counter(cell.recipe.seed for cell in cells) == {0: 8, 1: 8, 2: 8}


def test_shares_are_disjoint_but_for_teachers_and_together_all():
    cells = grid_cells(find_grid("icd-1"), Path("p"), GridOptions(seeds=(0, 1)))
    shares = [share(cells, number, 16) for number in range(1, 17)]
    teachers = {cell.teacher for cell in cells}
    counts = Counter(cell.name for part in shares for cell in part)
    assert set(counts) == {cell.name for cell in cells}
    assert {name for name, count in counts.items() if count > 1} <= teachers
    for part in shares:
        assert {cell.teacher for cell in part} - {None} <= {cell.name for cell in part}
    with pytest.raises(PursuhintError, match="no share 17 of 16"):
        share(cells, 17, 16)


def test_teachers_that_are_at_hand_are_not_trained(tmp_path):
    options = GridOptions(seeds=(0,), teachers={"resnet56": str(tmp_path / "resnet56.pth")})
    cells = grid_cells(find_grid("re-reviewkd-5"), Path("p"), options)
    assert {cell.teacher for cell in cells} == {None}
    assert "cifar100-vanilla/resnet56/seed-0" not in {cell.name for cell in cells}
    taught = [cell.recipe.teacher.checkpoint for cell in cells if cell.recipe.teacher]
    assert set(taught) == {str(tmp_path / "resnet56.pth")}
    with pytest.raises(PursuhintError, match="no teacher 'resnet8'; there are resnet56"):
        grid_cells(find_grid("re-reviewkd-5"), Path("p"), GridOptions(teachers={"resnet8": "a.pth"}))


def test_a_grid_of_a_file_names_no_code(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("alone: digits-vanilla\npairs: [my.net:build-resnet8]\nrows: {KD: cifar100-kd}\n")
    with pytest.raises(PursuhintError, match="names code that would be imported and run"):
        grid_cells(find_grid(str(file)), Path("p"), GridOptions())


def test_a_network_that_is_not_there_is_named_before_anything_is_trained(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("alone: digits-vanilla\npairs: [resnet14-resnt8]\nrows: {KD: cifar100-kd}\n")
    with pytest.raises(PursuhintError, match="did you mean 'resnet8'"):
        run_grid(find_grid(str(file)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_workers_that_are_killed_at_random_end_complete_and_train_nothing_twice(tmp_path):
    """Eight cells. Whoever is killed is replaced; the numbers are those of a worker that nobody kills."""
    out, log = tmp_path / "out", tmp_path / "log"
    (tmp_path / "toy.yaml").write_text(TOY.replace(", resnet8-resnet14", ""))
    toy = find_grid(str(tmp_path / "toy.yaml"))
    log.touch()
    context = server()
    draw, workers, killed = random.Random(0), [], 0

    def start():
        worker = context.Process(target=work, args=(toy, out, OPTIONS, log))
        worker.start()
        workers.append(worker)
        return worker

    running = [start(), start()]
    deadline = time.monotonic() + 200
    while killed < 4:
        victim = draw.choice(running)
        lines = len(log.read_text().splitlines())
        while len(log.read_text().splitlines()) < lines + draw.randint(1, 5) and victim.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(draw.random() / 10)
        victim.kill()
        victim.join()
        killed += 1
        running[running.index(victim)] = start()
    for worker in running:
        worker.join(timeout=120)
        assert worker.exitcode == 0

    cells = grid_cells(toy, out, OPTIONS)
    assert run_grid(toy, out, OPTIONS, device="cpu").trained == []  # complete
    assert list((out / "leases").glob("*.json")) == []
    told = [line.split() for line in log.read_text().splitlines()]
    ended = Counter(words[2] for words in told if words[1] == "ends")
    assert set(ended) <= {cell.name for cell in cells}
    assert max(ended.values()) == 1
    by_cell = {cell.name: [words for words in told if words[2] == cell.name] for cell in cells}
    for name, lines in by_cell.items():
        epochs = [int(words[3]) for words in lines if words[1] == "epoch"]
        begun = sum(words[1] == "begins" for words in lines)
        # An epoch is there again only where a worker was killed between its line and its saved state.
        assert len(epochs) - len(set(epochs)) <= begun - 1, (name, lines)
        assert epochs == sorted(epochs), (name, lines)
        assert len((out / name / "metrics.jsonl").read_text().splitlines()) == OPTIONS.epochs
    assert sum(words[1] == "begins" for words in told) > len(cells)  # some were resumed

    undisturbed = tmp_path / "undisturbed"
    progress = run_grid(
        toy, undisturbed, GridOptions(seeds=(1,), epochs=OPTIONS.epochs, assignments=OPTIONS.assignments)
    )
    assert progress.is_complete
    for name in progress.cells:
        here, there = (RunRecord.load_finished(folder / name) for folder in (undisturbed, out))
        assert [m["test_loss"] for m in here.metrics] == [m["test_loss"] for m in there.metrics]


def test_a_student_whose_teacher_another_worker_trains_waits_for_it(toy, tmp_path, monkeypatch):
    """The teacher is held by a process of another host, which finishes it after a while."""
    from pursuhint.study.grids import run

    options = GridOptions(seeds=(0,), epochs=1, assignments=("data.train_samples=100", "batch_size=50"))
    source, out = tmp_path / "source", tmp_path / "out"
    assert run_grid(toy, source, options, device="cpu").is_complete
    names = [cell.name for cell in grid_cells(toy, out, options)]
    teacher = out / "digits-vanilla/resnet14/seed-0"
    (out / "leases").mkdir(parents=True)
    lease = out / "leases" / "digits-vanilla-resnet14-seed-0.json"
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))
    begun = []

    def sleep(seconds):
        begun.append(sorted(path.parent.name for path in out.rglob("recipe.yaml")))
        teacher.parent.mkdir(exist_ok=True)
        (source / "digits-vanilla/resnet14/seed-0").rename(teacher)
        lease.unlink()

    monkeypatch.setattr(run, "time", SimpleNamespace(sleep=sleep))
    progress = run_grid(toy, out, options, device="cpu")
    assert progress.is_complete
    assert len(begun) == 1
    assert len(begun[0]) == 3  # resnet8 alone, and the two that it teaches
    assert len(progress.trained) == len(names) - 1


def test_a_signal_at_the_end_of_a_cell_stops_the_worker(toy, tmp_path):
    out = tmp_path / "out"
    options = GridOptions(seeds=(0,), epochs=1, assignments=("data.train_samples=100", "batch_size=50"))

    def end(event):
        if type(event).__name__ == "EpochFinished":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped) as stopped:
        run_grid(toy, out, options, device="cpu", watch=lambda cell: contextlib.nullcontext(end))
    assert stopped.value.code == 143
    assert len(list(out.rglob("result.json"))) == 1
    assert list((out / "leases").glob("*.json")) == []


def test_what_another_worker_holds_is_skipped_and_said(toy, tmp_path):
    options = GridOptions(seeds=(0,), epochs=1, assignments=("data.train_samples=100", "batch_size=50"))
    (tmp_path / "out" / "leases").mkdir(parents=True)
    name = next(cell.name for cell in grid_cells(toy, tmp_path, options) if cell.row == "KD")
    lease = tmp_path / "out" / "leases" / f"{name.replace('/', '-')}.json"
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 7, "token": "another"}))
    progress = run_grid(toy, tmp_path / "out", options, device="cpu")
    assert progress.held == {name: "elsewhere, process 7"}
    assert len(progress.finished) == 5
    assert not (tmp_path / "out" / name).exists()
    assert lease.exists()

    # The lease of a worker that was killed once its cell had a result goes with the next worker.
    left = lease.with_name(f"{progress.finished[0].replace('/', '-')}.json")
    left.write_text(json.dumps({**lease_module._this_process(), "pid": 2**30, "token": "another"}))
    run_grid(toy, tmp_path / "out", options, device="cpu")
    assert not left.exists()
    assert lease.exists()


def test_a_cell_that_was_taken_over_or_is_written_by_another_run_did_not_fail(toy, tmp_path, monkeypatch):
    """It is the other worker's, as it would be if this one had come later."""
    from pursuhint.study.grids import run

    options = GridOptions(seeds=(0,), epochs=1, assignments=("data.train_samples=100", "batch_size=50"))
    with monkeypatch.context() as lost:
        lost.setattr(run.Lease, "is_lost", property(lambda lease: True))
        progress = run_grid(toy, tmp_path / "lost", options, part=(1, 3), device="cpu")
    assert not progress.failed
    assert all("taken it over" in reason for reason in progress.held.values())
    assert set(progress.held) == {f"digits-vanilla/{name}/seed-0" for name in ("resnet8", "resnet14")}

    with lock_folder(tmp_path / "lost" / "digits-vanilla/resnet8/seed-0"):
        progress = run_grid(toy, tmp_path / "lost", options, part=(1, 3), device="cpu")
    assert not progress.failed
    assert "another run is writing" in progress.held["digits-vanilla/resnet8/seed-0"]
