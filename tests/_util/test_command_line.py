from __future__ import annotations

import pytest

from pursuhint._util.command_line import as_shell_line, current_command, running_command


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["/home/me/venv/bin/pursuhint", "demo", "--out", "my demo"], "pursuhint demo --out 'my demo'"),
        (["/site-packages/pursuhint/__main__.py", "demo"], "python -m pursuhint demo"),
        (["/home/me/study.py"], "from Python (study.py)"),
        ([], ""),
        ("pursuhint demo", "pursuhint demo"),
    ],
)
def test_a_recorded_command_loses_the_folder_of_its_program(arguments, line):
    assert as_shell_line(arguments) == line


def test_the_running_command_counts_as_long_as_it_runs():
    outside = current_command()
    with running_command("pursuhint demo"):
        assert current_command() == "pursuhint demo"
    assert current_command() == outside
