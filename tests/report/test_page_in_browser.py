"""Every kind of page on a screen, a tablet and a phone, in light and dark: nothing is cut, all can be read.

With axe-core (``npm install --no-save axe-core`` in the root of the repository, or its file in ``AXE_CORE``),
its rules on accessibility are checked too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pursuhint.analysis.run_analysis import analyze
from pursuhint.report import write_report
from pursuhint.report.figures.interactive import Layer, live_map_of_layers
from pursuhint.report.page import render
from pursuhint.report.page_model import (
    AnalysisSection,
    Card,
    ComparisonSection,
    ControlSection,
    CrossedSection,
    FigureFolder,
    Grid,
    MetricSection,
    Page,
    RunSection,
    SearchSection,
    TransferSection,
)
from tests.helpers.browser import Browser
from tests.helpers.study_runs import few_digits, untrained

WIDTHS, SCHEMES = (1280, 768, 390), ("light", "dark")
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"))

# The color of an element's text against the first color that is painted behind it, as WCAG defines contrast.
_CONTRAST = """(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    const color = element ? getComputedStyle(element).backgroundColor : "rgb(255, 255, 255)";
    return element && numbers(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), element.tagName, element.textContent.slice(0, 40)]);
  }
  return found;
})()"""


LONG = "backbone.stages.3.residual_blocks.11.attention_and_feed_forward.output_projection"


def whole_page(folder: Path) -> Page:
    """A page with every section, long names, wide tables and figures, and a map of many layers."""
    figures = FigureFolder(folder)
    layers = [Layer(f"{LONG}.{index}", index + 1, stage=1, cluster=0, frequency=0.5) for index in range(54)]
    live = live_map_of_layers(np.eye(54), layers, metric="linear CKA", label="similarity of all layers")
    wide = figures.add("wide", Figure((9.2, 3)), "a figure", f"How {LONG} is read.")
    grid = Grid(("Way", "Hints at", "Last epoch", ""), ((LONG, f"1, 2 ({LONG})", "97.50 ± 0.21 %", "1.0"),))
    metric = MetricSection(
        "CKA", figures.add("map", Figure((6, 6)), "a map", "", live=live), "Said.", grid, wide
    )
    return Page(
        *(LONG, f"About {LONG}.", (f"In short, {LONG}.",), ("Asked.",), "Teacher and data"),
        *((("Teacher", LONG), ("Hash", "0123456789abcdef" * 4)), ("A limit.",), ("Repeated by:",)),
        *((f"pursuhint train --out {LONG}",), (("recipe.yaml", f"teacher: {LONG}"),), (("System", LONG),)),
        "footer",
        cards=tuple(Card("97.50 ± 0.21 %", f"{LONG}, the teacher") for _ in range(4)),
        arms=((LONG, "a way of training"),),
        teacher_curves=wide,
        analysis=AnalysisSection(("Said.",), ("Chosen.",), grid, grid, (metric,)),
        run=RunSection("Pairs.", grid, grid, "The best.", wide, grid, wide),
        comparison=ComparisonSection(
            "Designed.", grid, (), wide, (ControlSection(LONG, "Said.", (LONG,), grid),)
        ),
        crossed=CrossedSection("Designed.", grid, ((LONG, wide),), grid),
        search=SearchSection("Designed.", ((LONG, wide),), grid, grid),
        transfer=TransferSection("Designed.", wide, grid),
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page made by hand that has everything, and the page of an analysis."""
    folder = tmp_path_factory.mktemp("pages")
    whole = folder / "whole.html"
    whole.write_text(render(whole_page(folder)), encoding="utf-8")
    analyze(untrained("resnet14"), few_digits(), k=2).save(folder / "analysis")
    return {"whole": whole, "analysis": write_report(folder / "analysis")}


def show(browser: Browser, page: Path, *, width: int, scheme: str) -> None:
    browser.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
    )
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser, pages, width):
    for page in pages.values():
        show(browser, page, width=width, scheme="light")
        assert browser.ask("document.documentElement.scrollWidth") <= width, page
        wide = browser.ask(
            "[...document.querySelectorAll('h1,h2,h3,p,li,nav,.card,.sheet,.wide,.heatmap')]"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
        )
        assert wide == [], page
        broken = "[...document.querySelectorAll('.card b')].filter(b => b.getClientRects()[0].height > 40)"
        assert browser.ask(f"{broken}.map(b => b.textContent)") == [], page
        assert browser.problems() == []


def test_nothing_of_an_analysis_is_cut_off_on_a_desk(browser, pages):
    show(browser, pages["analysis"], width=1280, scheme="light")
    cut = "[...document.querySelectorAll('.sheet,.wide')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert browser.ask("document.querySelectorAll('.pair .sheet').length") > 2
    assert browser.ask(f"{cut}.map(e => e.ariaLabel)") == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_in_both_schemes(browser, pages, scheme):
    for page in pages.values():
        show(browser, page, width=1280, scheme=scheme)
        found = browser.ask(_CONTRAST)
        assert len(found) > 20
        assert [entry for entry in found if entry[0] < 4.5] == [], page


def test_the_dark_scheme_is_dark_and_its_figures_lie_on_light_sheets(browser, pages):
    ask = "getComputedStyle(document.{}).backgroundColor"
    for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(21, 24, 27)")):
        show(browser, pages["whole"], width=1280, scheme=scheme)
        assert browser.ask(ask.format("body")) == paper
        for sheet in (".heatmap .sheet", "figure > .sheet"):
            assert browser.ask(ask.format(f"querySelector('{sheet}')")) == "rgb(255, 255, 255)"


def test_contents_lead_to_every_section(browser, pages):
    for page in pages.values():
        show(browser, page, width=768, scheme="light")
        listed = browser.ask("[...document.querySelectorAll('.contents a')].map(a => a.textContent)")
        assert listed == browser.ask("[...document.querySelectorAll('main h2')].map(h => h.textContent)")
        browser.ask("[...document.querySelectorAll('.contents a')].pop().click()")
        assert browser.ask("location.hash.slice(1)") == browser.ask(
            "[...document.querySelectorAll('main section')].pop().id"
        )
        assert browser.ask("scrollY") > 0


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_fault(browser, pages, scheme):
    program = AXE.read_text(encoding="utf-8")
    for name, page in pages.items():
        for width in WIDTHS:
            show(browser, page, width=width, scheme=scheme)
            browser.send("Runtime.evaluate", expression=program)
            answer = browser.send(
                "Runtime.evaluate",
                expression="axe.run().then((found) => JSON.stringify(found.violations.map("
                "(fault) => [fault.id, fault.nodes.map((node) => node.html)])))",
                awaitPromise=True,
                returnByValue=True,
            )
            assert json.loads(answer["result"]["value"]) == [], (name, width)
