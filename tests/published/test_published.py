"""Published figures: all there, tables as printed, the papers' own averages reproduced."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.published import PAPERS, published_results, published_table, relative_improvement
from pursuhint.published.formats import FORMATS
from pursuhint.published.names import method_parts, published_method, published_network

TABLES = [(paper, number) for paper, entry in PAPERS.items() for number in entry.tables]


def test_every_figure_is_in_a_table_that_has_a_title():
    results = published_results()
    assert len(results) == 1355
    assert {(one.source, one.table) for one in results} == set(TABLES)


@pytest.mark.parametrize(("paper", "number"), TABLES)
def test_every_figure_stands_in_its_table(paper, number):
    table = published_table(paper, number)
    assert all(len(row) == len(table.heads) for row in table.rows)
    shown = [value for row in table.rows for cell in row[1:] for value in cell.split(" / ")]
    for one in published_results():
        if (one.source, one.table) == (paper, number):
            assert one.value in shown


def test_the_papers_average_relative_improvements():
    table = published_table("icd", 1)
    gains = {row[0]: row[-1] for row in table.rows}
    assert table.heads[-1] == "relative to KD (%)"
    assert (gains["ICD"], gains["ICD+KD"]) == ("+24.66", "+76.42")
    assert gains["KD"] == gains["teacher"] == gains["FSP"] == ""  # the last has no figure for one pair


def test_relative_improvement_is_its_formula():
    assert relative_improvement([73, 72], [71, 74], [70, 70]) == pytest.approx(100 * (2 / 1 - 2 / 4) / 2)
    with pytest.raises(PursuhintError, match="got 2, 1 and 1"):
        relative_improvement([73, 72], [71], [70])
    with pytest.raises(PursuhintError, match="pair 2 is not defined"):
        relative_improvement([73, 72], [71, 70], [70, 70])


@pytest.mark.parametrize(
    ("paper", "number", "message"),
    [
        ("icdd", 1, "no paper named 'icdd'; did you mean 'icd'"),
        ("icd", 9, "icd has no table '9'; there are 1, 2"),
    ],
)
def test_what_is_not_there_is_named(paper, number, message):
    with pytest.raises(PursuhintError, match=message):
        published_table(paper, number)


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.open = tag in ("td", "th")
        if self.open:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.open:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self.open = False


@pytest.mark.parametrize(("paper", "number"), TABLES)
def test_csv_and_html_hold_the_cells(paper, number):
    table = published_table(paper, number)
    lines = [list(line) for line in (table.heads, *table.rows)]
    assert list(csv.reader(io.StringIO(FORMATS["csv"](table)))) == lines
    cells = Cells()
    cells.feed(FORMATS["html"](table))
    assert cells.rows == lines


@pytest.mark.parametrize("kind", ["text", "markdown", "latex"])
@pytest.mark.parametrize(("paper", "number"), TABLES)
def test_other_formats_have_a_line_for_every_row(kind, paper, number):
    table = published_table(paper, number)
    written = FORMATS[kind](table).splitlines()
    counted = {
        "text": len(written) - 2,
        "markdown": sum(line.startswith("|") for line in written) - 2,
        "latex": sum(line.endswith("\\\\") for line in written) - 1,
    }
    assert counted[kind] == len(table.rows)
    if kind == "markdown":
        assert {line.replace("\\|", "").count("|") for line in written if line.startswith("|")} == {
            len(table.heads) + 1
        }
    if kind == "latex":
        assert all(
            line.replace("\\&", "").count("&") == len(table.heads) - 1
            for line in written
            if line.endswith("\\\\")
        )


def test_names_of_networks_and_methods():
    known = {one.student for one in published_results()}
    for ours in ("wrn_40_2", "wrn_16_2", "resnet8x4", "ShuffleV1", "ShuffleV2", "MobileNetV2", "vgg8"):
        assert published_network(ours) in known
    assert published_method({"kd", "at", "crd"}) == "AT+CRD+KD"
    assert published_method(["ce"]) == "vanilla"
    assert published_method(["vkd", "wkd-f", "cat-kd", "sdd"]) == "CAT-KD+SDD+VkD+WKD-F"
    assert published_method({"kd": {"temperature": "learned"}}) == "CTKD"
    assert (
        published_method({"at": {}, "dkd": {"temperature": "learned", "standardize": True}})
        == "AT+DKD+CTKD+LS"
    )
    assert published_method({"kd": {"temperature": 4.0}, "ce": {}}, optimizer="dot") == "KD+DOT"
    assert published_method(["ce"], optimizer="dot") == "vanilla"
    methods = {method_parts(one.method) for one in published_results()}
    for losses in (
        {"kd"},
        {"wsld", "at"},
        {"crd", "at", "kd"},
        {"rrd", "kd"},
        {"itrd"},
        {"reviewkd"},
        {"afd"},
    ):
        assert method_parts(published_method(losses)) in methods
