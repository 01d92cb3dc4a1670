"""No table and no sentence is wrapped by the terminal, in the middle of a number, at 80 columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pursuhint.cli import results, terminal
from pursuhint.cli.list_ import KINDS
from pursuhint.cli.main import main

from pursuhint._util.text import folded
from pursuhint._util.text_tables import aligned, aligned_within
from pursuhint.published import PAPERS

CLI = Path(results.__file__).parent
TABLES = [(paper, number) for paper, entry in PAPERS.items() for number in entry.tables]


@pytest.fixture
def rendered(monkeypatch, capsys):
    """What a command prints in a terminal of 80 columns, and in one of any width."""

    def call(*words: str) -> tuple[str, str]:
        texts = []
        for width in ("80", "99999"):
            monkeypatch.setenv("COLUMNS", width)
            main.main(args=list(words), standalone_mode=False)
            texts.append(capsys.readouterr().out)
        return texts[0], texts[1]

    return call


def check(narrow: str, wide: str) -> None:
    """Lines of 80 characters at most, unless they are one word, with the words of the wide text."""
    for line in narrow.splitlines():
        assert len(line) <= 80 or " " not in line.strip(), line
    assert set(narrow.split()) == set(wide.split())


@pytest.mark.parametrize("kind", KINDS)
def test_lists(rendered, kind):
    check(*rendered("list", kind))


def test_verbose_lists_of_what_needs_no_network(rendered):
    for kind in ("arms", "figures", "tables"):
        check(*rendered("list", kind, "--verbose"))


def test_published_tables(rendered):
    check(*rendered("table"))
    for paper, number in TABLES:
        check(*rendered("table", "--paper", paper, "--table", number))


def test_points_of_a_deep_network(rendered):
    check(*rendered("points", "resnet32", "--size", "32"))


def test_formats_for_programs_are_not_folded(rendered):
    for kind in ("csv", "latex", "markdown", "html"):
        narrow, wide = rendered("table", "--paper", "pursuhint", "--table", "4", "--format", kind)
        assert narrow == wide


def test_a_file_or_pipe_is_not_folded(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal.columns() is None  # pytest has no terminal
    terminal.echo("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1
    monkeypatch.setenv("COLUMNS", "80")
    terminal.echo("word " * 100, err=True)  # an error is one line wherever it goes
    assert capsys.readouterr().err.count("\n") == 1


def test_columns_that_do_not_fit_stand_below_with_their_rows():
    lines = [["network", *(f"seed {seed}" for seed in range(12))]]
    lines += [[f"net{row}", *(f"{row}{seed}.25" for seed in range(12))] for row in range(3)]
    found = aligned_within(lines, 40)
    assert max(map(len, found)) <= 40
    blocks = "\n".join(found).split("\n\n")
    assert all(block.splitlines()[0].startswith("network") for block in blocks)
    cells = [[re.split(r"  +", line)[1:] for line in block.splitlines()] for block in blocks]
    joined = [[cell for block in cells for cell in block[row]] for row in range(4)]
    assert joined == [line[1:] for line in lines]
    assert aligned_within(lines, None) == aligned_within(lines, 500) == aligned(lines)


def test_numbers_keep_their_units_and_paths_stay_whole():
    path = "/a/" + "long/" * 20 + "path"
    parts = folded(f"  accuracy 91.25 % ± 0.31 in 12.5 s of k = 5 at {path}", 24)
    text = "\n".join(parts)
    assert all(unit in text for unit in ("91.25 %", "± 0.31", "12.5 s", path))
    assert all(len(part) <= 24 or path in part for part in parts)
    assert all(part.startswith("    ") for part in parts[1:])


def test_every_line_of_a_command_goes_through_echo():
    for file in CLI.glob("*.py"):
        if file.name == "terminal.py":
            continue
        for line in file.read_text().splitlines():
            assert not re.search(r"(?<![\w.])print\(", line) or "console" in line, (file.name, line)
            if "click.echo(" in line and file.name != "standard_streams.py":
                assert re.search(r"json|result\)|^\s*click\.echo\($", line), (file.name, line)
