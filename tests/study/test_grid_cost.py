"""What a grid costs, before it is trained and beside what it cost."""

from __future__ import annotations

import json

import pytest
from pursuhint.cli.main import main

from pursuhint.errors import PursuhintError
from pursuhint.published import find_grid
from pursuhint.study import GridOptions, estimate_grid, run_grid

TOY = """
alone: digits-vanilla
pairs: [resnet14-resnet8]
rows:
  KD: {recipe: digits-vanilla, set: {losses: {kd: 1}}}
"""
OPTIONS = GridOptions(epochs=2, assignments=("data.train_samples=120", "batch_size=50"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Grid and folder of a toy of which one seed is finished."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "toy.yaml").write_text(TOY)
    grid = find_grid(str(folder / "toy.yaml"))
    run_grid(grid, folder / "out", OPTIONS, device="cpu")
    return grid, folder / "out"


def test_steps_and_hours_of_the_cells_that_are_left(trained):
    grid, out = trained
    two = GridOptions(seeds=(0, 1), epochs=2, assignments=OPTIONS.assignments)
    cost = estimate_grid(grid, out, two, seconds_per_step=0.5)
    assert (cost.cells, cost.finished) == (6, 3)
    assert cost.steps == 3 * 2 * 3  # cells, epochs, batches of 50 of 120 images
    assert cost.hours == pytest.approx(18 * 0.5 / 3600)
    assert estimate_grid(grid, out, two, part=(2, 2), seconds_per_step=0.5).cells == 3


def test_the_speed_is_that_of_finished_cells_or_is_measured(trained, tmp_path):
    grid, out = trained
    two = GridOptions(seeds=(0, 1), epochs=2, assignments=OPTIONS.assignments)
    known = estimate_grid(grid, out, two)
    assert known.basis == "as fast as the finished cells"
    measured = estimate_grid(grid, tmp_path / "new", two, device="cpu")
    assert "measured" in measured.basis
    assert set(measured.speeds) == set(known.speeds) == {"resnet14", "resnet8", "resnet14 -> resnet8"}
    for pair, seconds in measured.speeds.items():
        assert known.speeds[pair] / 30 < seconds < 30 * known.speeds[pair]
    assert not (tmp_path / "new").exists()


def test_disk_is_what_the_folders_take(trained):
    grid, out = trained
    there = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert estimate_grid(grid, out, OPTIONS, seconds_per_step=1).gigabytes * 1e9 == pytest.approx(
        there, rel=0.1
    )


def test_warm_ups_and_data_that_are_not_here_count(tmp_path):
    """FSP begins with 30 epochs of its own; 50,000 images are 782 batches of 64."""
    options = GridOptions(seeds=(0,))
    cost = estimate_grid(find_grid("icd-figure-1"), tmp_path / "out", options, seconds_per_step=1)
    assert cost.steps == cost.cells * 240 * 782
    (tmp_path / "fsp.yaml").write_text(
        "alone: cifar100-vanilla\npairs: [resnet56-resnet20]\nrows: {FSP: cifar100-fsp}"
    )
    cost = estimate_grid(find_grid(str(tmp_path / "fsp.yaml")), tmp_path / "out", options, seconds_per_step=1)
    assert cost.steps == (3 * 240 + 30) * 782
    with pytest.raises(PursuhintError, match="size of the data is not known"):
        estimate_grid(
            find_grid("icd-figure-1"), tmp_path, GridOptions(data=f"folder:{tmp_path}"), seconds_per_step=1
        )


def test_a_dry_run_trains_nothing(tmp_path, capsys):
    words = ["table", "run", "re-reviewkd-4", "--out", str(tmp_path / "out"), "--dry-run"]
    main.main(args=[*words, "--seconds-per-step", "1", "--json"], standalone_mode=False)
    cost = json.loads(capsys.readouterr().out)
    assert (cost["cells"], cost["hours"]) == (21, pytest.approx(cost["steps"] / 3600))
    twice = ("--seeds", "0,1", "--seeds", "0")
    main.main(args=[*words, "--seconds-per-step", "2", *twice], standalone_mode=False)
    said = capsys.readouterr()
    assert said.out.startswith("7 cells, 0 of them finished;")
    assert "given 2 times; the last one counts: --seeds 0" in said.err
    assert not (tmp_path / "out").exists()
