"""The interactive maps in a real browser, offline: opened, pointed at, clicked, and used by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pursuhint.report.figures.interactive import Layer, live_map_of_layers, live_map_of_networks
from pursuhint.report.page import render
from pursuhint.report.page_model import AnalysisSection, FigureFolder, Grid, MetricSection, Page, RunSection
from tests.helpers.browser import Browser

LAYERS = 54
VALUES = np.exp(-np.abs(np.subtract.outer(np.arange(LAYERS), np.arange(LAYERS))) / 20)
BEFORE, AFTER = VALUES[:, :3] / 2, VALUES[:, :3]


def named(count: int, *, told: bool) -> list[Layer]:
    return [
        Layer(
            f"block.{index}",
            index + 1,
            stage=1 + 3 * index // count,
            cluster=(2 * index // count) if told else None,
            chosen=told and index in (12, 40),
            frequency=0.25 if told else None,
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a map of one network and one of two."""
    folder = tmp_path_factory.mktemp("page")
    figure_folder = FigureFolder(folder)
    one = live_map_of_layers(VALUES, named(LAYERS, told=True), metric="linear CKA", label="alike")
    two = live_map_of_networks(
        {"before distillation": BEFORE, "after distillation": AFTER},
        named(LAYERS, told=False),
        named(3, told=False),
        metric="linear CKA",
        label="both",
        pairs=[(12, 1)],
    )
    grid = Grid(("a", "b"), (("c", "d"),))
    metric = MetricSection("CKA", figure_folder.add("one", Figure(), "", "", live=one), "", grid, None)
    run = RunSection("", None, grid, "", figure_folder.add("curves", Figure(), "", ""), grid, None)
    run = RunSection(**{**vars(run), "teacher_student": figure_folder.add("two", Figure(), "", "", live=two)})
    report = Page(
        *("title", "subtitle", ("summary",), ("question",), "setting", (), (), (), (), (), (), "footer"),
        analysis=AnalysisSection((), (), grid, None, (metric,)),
        run=run,
    )
    path = folder / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


def map_at(browser: Browser, index: int) -> tuple[float, float]:
    """Scroll to a map; where its canvas begins."""
    browser.ask(f"document.querySelectorAll('canvas')[{index}].scrollIntoView()")
    corner = browser.ask(
        f"(() => {{ const r = document.querySelectorAll('canvas')[{index}].getBoundingClientRect();"
        " return [r.left, r.top]; })()"
    )
    return corner[0], corner[1]


def readout(browser: Browser, index: int) -> str:
    return str(browser.ask(f"document.querySelectorAll('output')[{index}].textContent"))


def told_cell(text: str) -> tuple[int, int, float]:
    """Row and column from 0 and the value that a readout names."""
    numbers = [int(number) - 1 for number in re.findall(r"position (\d+)", text)]
    value = float(re.findall(r"CKA (\d\.\d+)", text)[0])
    return numbers[0], numbers[-1], value


def test_pointing_tells_names_and_value(browser, page):
    browser.open(page)
    left, top = map_at(browser, 0)
    seen = set()
    for x, y in ((100, 100), (200, 90), (330, 400)):
        browser.mouse("mouseMoved", left + x, top + y)
        text = readout(browser, 0)
        row, column, value = told_cell(text)
        assert f"block.{row} (" in text
        assert f"block.{column} (" in text
        assert value == pytest.approx(VALUES[row, column], abs=6e-4)
        seen.add((row, column))
    assert len(seen) == 3
    assert browser.problems() == []


def test_a_click_pins_the_cell_and_another_lets_it_go(browser, page):
    browser.open(page)
    left, top = map_at(browser, 0)
    browser.click(left + 150, top + 200)
    pinned = readout(browser, 0)
    assert pinned.endswith("(pinned)")
    browser.mouse("mouseMoved", left + 300, top + 300)
    assert readout(browser, 0) == pinned
    browser.click(left + 150, top + 200)
    browser.mouse("mouseMoved", left + 300, top + 300)
    assert told_cell(readout(browser, 0))[:2] != told_cell(pinned)[:2]


def test_arrow_keys_reach_every_cell(browser, page):
    browser.open(page)
    browser.ask("document.querySelectorAll('canvas')[0].focus()")
    for _ in range(2):
        browser.key("ArrowRight")
    browser.key("ArrowDown")
    assert told_cell(readout(browser, 0)) == (13, 2, pytest.approx(VALUES[13, 2], abs=6e-4))
    browser.key("Home")
    browser.key("ArrowUp")
    assert told_cell(readout(browser, 0))[:2] == (12, 0)
    browser.key("End")
    assert told_cell(readout(browser, 0))[:2] == (12, LAYERS - 1)


def test_the_diagonal_tells_how_often_a_layer_was_chosen(browser, page):
    browser.open(page)
    browser.ask("document.querySelectorAll('canvas')[0].focus()")  # the first hint, and the first column
    for _ in range(12):
        browser.key("ArrowRight")
    assert "block.12 (position 13, cluster A, hint) with itself" in readout(browser, 0)
    assert "chosen in 25 % of half-samples" in readout(browser, 0)


def test_buttons_switch_between_before_after_and_change(browser, page):
    browser.open(page)
    left, top = map_at(browser, 1)
    browser.click(left + 70, top + 200)
    texts = []
    for button in range(3):
        browser.ask(f"document.querySelectorAll('.choices button')[{button}].click()")
        texts.append(readout(browser, 1))
    row, column, value = told_cell(texts[0])
    assert value == pytest.approx(BEFORE[row, column], abs=6e-4)
    assert told_cell(texts[1])[2] == pytest.approx(AFTER[row, column], abs=6e-4)
    assert "change of linear CKA" in texts[2]
    assert texts[0].startswith(f"teacher block.{row} (position {row + 1})")
    assert f"student block.{column} (position {column + 1})" in texts[0]
    assert browser.problems() == []
