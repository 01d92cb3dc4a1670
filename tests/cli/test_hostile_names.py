"""Names of a stranger are shown, in the terminal and in figures, and nothing in them is obeyed."""

from __future__ import annotations

import ast
import io
import sys
import warnings

import pytest
import torch
from matplotlib.text import Text
from pursuhint.cli.progress import CountProgress, TrainingProgress
from pursuhint.cli.results import table
from rich.console import Console
from safetensors.torch import save_file

from pursuhint._util.text import printable
from pursuhint.models import create_model
from pursuhint.report.figures.layers import dendrogram
from pursuhint.training.events import Resumed

HOSTILE = {
    "colors": "conv\x1b[31mred",
    "title of the window": "a\x1b]0;owned\x07b",
    "forged line": "weights\npursuhint: all is well",
    "overwritten line": "weights\rall is well      ",
    "reversed": "abc\u202egnp.exe",
    "eight-bit control": "a\x9b2Jb",
    "half a character": "a\udc80b",
}
SAFE = ("layer3.17", "größe, 日本語 🦊", "[/bold]", "C:\\Users", "a$x^2$b", ":smile:")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_what_a_terminal_would_obey_is_escaped(name):
    shown = printable(name)
    assert shown.isprintable()
    shown.encode()
    assert ast.literal_eval(f'"{shown}"') == name  # nothing is lost


@pytest.mark.parametrize("name", SAFE)
def test_other_names_stay(name):
    assert printable(name) == name


def test_a_name_of_a_megabyte_is_cut():
    shown = printable("x" * 1_000_000)
    assert len(shown) < 4100
    assert "1,000,000 characters" in shown
    lines = table(("name", "value"), [("y" * 1_000_000, "1"), ("short", "2")])
    assert max(map(len, lines)) < 200


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_error_of_a_checkpoint(name, pursuhint, tmp_path):
    name = name.encode(errors="replace").decode()  # safetensors has no halves of characters
    state = create_model("resnet8", num_classes=10, in_channels=1).state_dict()
    save_file({**state, name: torch.zeros(2)}, tmp_path / "teacher.safetensors")
    file = tmp_path / "teacher.safetensors"
    done = pursuhint("evaluate", "--teacher", "resnet8", "--teacher-checkpoint", file)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("pursuhint: ")
    assert message.isprintable()
    assert all(line.isprintable() for line in done.stderr.splitlines())
    assert "all is well" not in {line.removeprefix("pursuhint: ") for line in done.stderr.splitlines()}


def test_name_of_a_file_or_folder(pursuhint, tmp_path):
    folder = tmp_path / "run\x1b[2J[/bold]\nnote: fine"
    folder.mkdir(parents=True)
    done = pursuhint("evaluate", folder)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
    assert "[/bold]" in line


def test_progress_takes_no_markup(monkeypatch):
    out = io.StringIO()
    name = "net[/bold]:smile:\x1b]0;owned\x07"
    for progress in (TrainingProgress(f"{name} "), CountProgress(name, unit="images")):
        progress.console = Console(file=out, force_terminal=True, width=200)
        progress.bars = sys.modules["pursuhint.cli.progress"]._bars(progress.console)
        with progress:
            if isinstance(progress, TrainingProgress):
                progress(Resumed(epoch=1, step=0, notice="a [red]notice[/red] [/nothing]"))
            else:
                progress(1, 2)
    shown = out.getvalue()
    assert "[/bold]:smile:" in shown
    assert "[red]notice[/red] [/nothing]" in shown
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize("name", ["a$x", "$\\frac{$", "$x^$", *HOSTILE.values()])
def test_figures_show_names_as_they_are(name):
    figure = dendrogram([[0, 1, 1.0, 2]], measure=name, names=[name, "b"], title=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png")
        figure.savefig(io.StringIO(), format="svg")
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    if "\n" not in name:
        assert printable(name) in texts
