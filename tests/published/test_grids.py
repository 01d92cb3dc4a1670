"""Every table and figure has what stands behind it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.published import PAPERS, find_grid, paper_grids, papers_page, published_results
from pursuhint.published.grids import ALONE, figures_of
from pursuhint.published.names import own_network, published_network
from pursuhint.recipes import is_recipe

TRAINED = [grid for grid in paper_grids().values() if grid.trains]


@pytest.mark.parametrize("grid", TRAINED, ids=lambda grid: grid.name)
def test_every_accuracy_of_a_table_is_a_cell_or_is_said_to_be_left_out(grid):
    cells = {(row.name, teacher, student) for row, (teacher, student, _) in grid.cells}
    for one in figures_of(grid.name):
        pair = own_network(one.teacher, one.dataset), own_network(one.student, one.dataset)
        if one.method == "teacher":
            assert pair[0] in grid.teachers
        elif one.method in ALONE:
            assert pair[1] in grid.students
        elif one.method not in grid.left_out:
            assert {(one.method, *pair), (f"{one.method} | {one.note}", *pair)} & cells, one


@pytest.mark.parametrize("grid", TRAINED, ids=lambda grid: grid.name)
def test_cells_of_a_table_are_figures_of_it(grid):
    if not figures_of(grid.name):  # a figure of the paper, whose numbers are not printed
        return
    names = {name for one in figures_of(grid.name) for name in (one.method, f"{one.method} | {one.note}")}
    assert {row.name for row, *_ in grid.cells} <= names
    assert len(grid.cells) <= len(figures_of(grid.name))


def test_recipes_of_rows_exist():
    rows = [row for grid in TRAINED for row in (*grid.rows, grid.alone)]
    assert [row.recipe for row in rows if not is_recipe(row.recipe)] == []


def test_every_table_of_a_paper_has_an_entry():
    entries = {(paper, number) for paper, entry in PAPERS.items() for number in entry.tables}
    named = {tuple(name.rsplit("-", 1)) for name in paper_grids() if not re.search(r"figure-\d+$", name)}
    assert named == entries


def test_networks_of_the_tables_have_names_of_ours():
    for one in published_results():
        if one.dataset in ("CIFAR-100", "ImageNet"):
            for name in filter(None, (one.teacher, one.student)):
                ours = own_network(name, one.dataset)
                assert published_network(ours) == name or name == "MobileNet"


def test_a_grid_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("alone: digits-vanilla\npairs: [resnet14-resnet8]\nrows: {AT: cifar100-at}\n")
    grid = find_grid(str(file))
    assert (grid.name, grid.teachers, grid.students) == ("mine", ("resnet14",), ("resnet8",))
    assert [(row.recipe, pair) for row, pair in grid.cells] == [
        ("cifar100-at", ("resnet14", "resnet8", "resnet14-resnet8"))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be a mapping"),
        ("rowz: {}", "no key 'rowz'"),
        ("alone: digits-vanilla\nrows: {AT: cifar100-at}", "needs the keys alone, pairs and rows"),
        ("alone: digits-vanilla\npairs: [resnet8]\nrows: {AT: cifar100-at}", "'resnet8' is no pair"),
        ("alone: digits-vanilla\npairs: [a-b]\nrows: {AT: 3}", "'AT' must be a recipe's name"),
        ("alone: digits-vanilla\npairs: [a-b]\nrows: [AT]", "rows must be a mapping"),
        (
            "alone: digits-vanilla\npairs: [a-b]\nrows: {AT: {recipe: x, set: 3}}",
            "'AT' must be a recipe's name",
        ),
        ("alone: digits-vanilla\npairs: [a-b]\nsettings: 3\nrows: {AT: x}", "settings must be a mapping"),
        ("alone: digits-vanilla\npairs: [a-b]\nseeds: many\nrows: {AT: x}", "seeds must be a number"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(text, message, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(PursuhintError, match=re.escape(message)):
        find_grid(str(file))


def test_what_is_not_trained_says_what_to_call():
    with pytest.raises(
        PursuhintError, match=r"nothing is trained for pursuhint-7 .*pursuhint report papers/"
    ):
        find_grid("pursuhint-7")


def test_the_page_of_the_documentation_is_written_from_the_data():
    """The page is what `pursuhint.published.papers_page` returns."""
    page = Path(__file__).parents[2] / "docs" / "papers.md"
    assert page.read_text(encoding="utf-8") == papers_page()


def test_every_table_and_figure_says_what_to_call_or_why_nothing():
    for grid in paper_grids().values():
        assert grid.trains or grid.commands or grid.drawing or grid.remark, grid.name


@pytest.mark.parametrize("grid", TRAINED[:3], ids=lambda grid: grid.name)
def test_grids_are_sent_to_other_processes(grid):
    assert pickle.loads(pickle.dumps(grid)) == grid
