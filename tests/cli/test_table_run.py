"""``pursuhint table run``: a grid of one's own on the digits."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

TOY = """
title: A toy
alone: digits-vanilla
pairs: [resnet14-resnet8]
rows:
  KD: {recipe: digits-vanilla, set: {losses: {kd: 1}}}
"""
QUICK = ("--epochs", "1", "--set", "data.train_samples=100", "--set", "batch_size=50", "--device", "cpu")


@pytest.fixture
def toy(tmp_path):
    file = tmp_path / "toy.yaml"
    file.write_text(TOY)
    return file


def test_a_grid_is_trained_and_stands_beside_itself(pursuhint, toy, tmp_path):
    out = tmp_path / "out"
    done = pursuhint("table", "run", toy, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 cells finished, 3 of them here" in done.stdout
    assert "not as in the paper: 1 epoch," in done.stderr
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = pursuhint("table", "run", toy, *QUICK, "--out", out, "--json", "--quiet")
    assert again.stderr == ""
    progress = json.loads(again.stdout)
    assert len(progress["finished"]) == 3
    assert progress["trained"] == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    table = json.loads(pursuhint("table", out, "--json").stdout)
    assert [row[0] for row in table["rows"]].count("vanilla") == 2  # teacher and student
    assert "KD" in {row[0] for row in table["rows"]}


def test_other_settings_need_another_folder(pursuhint, toy, tmp_path):
    out = tmp_path / "out"
    assert pursuhint("table", "run", toy, *QUICK, "--part", "1/3", "--out", out).returncode == 0
    refused = pursuhint("table", "run", toy, *QUICK, "--epochs", "2", "--out", out)
    assert refused.returncode == 1
    assert "begun with other settings (epochs: 1)" in refused.stderr
    mixed = pursuhint("train", "--student", "resnet8", "--out", out)
    assert mixed.returncode == 1
    assert "holds a grid of runs" in mixed.stderr


def test_a_cell_that_fails_is_named_and_the_others_are_trained(pursuhint, toy, tmp_path):
    toy.write_text(TOY.replace("losses: {kd: 1}", "optimizer: {lr: 1.0e+38}, losses: {kd: 1}"))
    done = pursuhint("table", "run", toy, *QUICK, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "2 of 3 cells finished, 2 of them here; 1 failed" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("pursuhint: 1 cell failed: KD-")


def test_every_cell_stands_beside_the_figures_of_its_own_row(pursuhint, toy, tmp_path):
    """Re-ReviewKD's table 4 has five rows of one method; the runs are one of the toy's under other names."""
    out, trained = tmp_path / "out", tmp_path / "trained"
    done = pursuhint("table", "run", toy, *QUICK, "--out", trained, "--quiet")
    assert done.returncode == 0, done.stderr
    run = next(trained.glob("KD-*/resnet14-resnet8/seed-0"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["name"] = "cifar100"
    for role, network in (("teacher", "resnet56"), ("student", "resnet20")):
        recipe[role]["network"] = network

    from pursuhint.published import find_grid
    from pursuhint.study import GridOptions
    from pursuhint.study.grids.cells import grid_cells
    from pursuhint.study.grids.folder import claim
    from pursuhint.study.grids.results import describe

    options = GridOptions(seeds=(0, 1), epochs=1)
    for name in ("re-reviewkd-4", "re-reviewkd-5", "pursuhint-4"):
        grid = find_grid(name)
        cells = grid_cells(grid, out, options)
        claim(out, options, {name: describe(grid, cells, options)})
        for cell in cells:
            if cell.teacher is not None and name != "pursuhint-4":
                shutil.copytree(run, out / cell.name, dirs_exist_ok=True)
                (out / cell.name / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shown = pursuhint("table", out, "--json")
    assert shown.stderr.startswith(f"{out} is not as in the paper: 1 epoch,")
    table = json.loads(shown.stdout)
    rows = [dict(zip(table["heads"], row)) for row in table["rows"]]
    assert all(row["ours"].endswith("± 0.00 (2)") for row in rows)
    figures = {(row["published"], row["source"]) for row in rows}
    assert {value for value, source in figures if source == "re-reviewkd, table 4"} == {
        "71.62", "71.79", "71.77", "71.91"
    }  # fmt: skip
    same = [row for row in rows if row["published"] == "71.79"]
    assert {row["source"] for row in same} == {"re-reviewkd, table 4", "re-reviewkd, table 5"}
    assert len(rows) == 5 + 3


def test_a_damaged_description_of_the_folder_is_one_line(pursuhint, tmp_path):
    (tmp_path / "grid.json").write_text('{"grids": [1]}')
    refused = pursuhint("table", tmp_path)
    assert refused.returncode == 1
    assert "the description of the grid" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_recipes_of_a_grid_are_files_beside_it_and_unfinished_cells_are_left_out(pursuhint, toy, tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: digits-vanilla\nteacher: resnet14\nlosses: {at: 5}\n")
    toy.write_text("alone: digits-vanilla\npairs: [resnet14-resnet8]\nrows: {AT: mine.yaml}\n")
    out = tmp_path / "out"
    done = pursuhint("table", "run", toy, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    run = out / "mine" / "resnet14-resnet8" / "seed-0"
    assert yaml.safe_load((run / "recipe.yaml").read_text())["losses"]["at"]["weight"] == 5
    methods = [row[0] for row in json.loads(pursuhint("table", out, "--json").stdout)["rows"]]
    assert methods == ["vanilla", "vanilla", "AT"]
    (run / "result.json").unlink()
    shown = pursuhint("table", out, "--json")
    assert f"{out}: 1 unfinished cell left out" in shown.stderr
    assert [row[0] for row in json.loads(shown.stdout)["rows"]] == ["vanilla", "vanilla"]
