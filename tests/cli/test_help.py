"""Help teaches, and costs nothing."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from pursuhint.cli.main import COMMANDS, main

from pursuhint import __version__

HELP = """
import contextlib, io, json, sys
from pursuhint.cli.main import run
shown = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            run([*command.split(), "--help"])
        except SystemExit as end:
            status = end.code
    heavy = sorted({"torch", "matplotlib", "sklearn", "accelerate"} & set(sys.modules))
    shown[command] = status, heavy, out.getvalue()
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def helps():
    """Of every command: exit status, heavy modules by then, and text; all from one process."""
    words = [sys.executable, "-c", HELP, json.dumps(["", *COMMANDS])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ["", *COMMANDS], ids=lambda command: command or "main")
def test_help_imports_no_torch_and_shows_an_example(command, helps):
    status, heavy, text = helps[command]
    assert status in (None, 0)
    assert heavy == []
    assert f"pursuhint {command or 'demo'}" in text


@pytest.fixture(scope="module")
def verbose():
    """What ``list KIND --verbose`` writes, read once: to list the losses builds them all."""
    call = CliRunner()

    @functools.cache
    def read(*words):
        return call.invoke(main, ["list", *words, "--verbose"]).stdout

    return read


def test_version(pursuhint):
    assert __version__ in pursuhint("--version").stdout


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_short_word_for_help_works_after_every_command(command):
    answers = [CliRunner().invoke(main, [*command.split(), word]) for word in ("-h", "--help")]
    assert [answer.exit_code for answer in answers] == [0, 0]
    assert answers[0].stdout == answers[1].stdout != ""


def test_help_says_what_a_number_is_when_it_is_not_typed(helps):
    """``--batch-size`` and ``--workers`` come from a table that several commands share."""
    for command, (_, _, text) in helps.items():
        words = " ".join(text.split())
        for option in re.findall(r"--(?:batch-size|workers|image-size) \S+ .*?(?= --)", words):
            assert "[default: " in option, (command, option)


def test_only_the_command_that_takes_several_metrics_offers_to_repeat_them(helps):
    takes = [command for command, (*_, text) in helps.items() if "--metric NAME" in text]
    offers = [
        command
        for command in takes
        if "Repeat for several" in " ".join(helps[command][2].partition("--metric NAME")[2].split())
    ]
    assert offers == ["analyze"]
    assert set(takes) == {"analyze", "compare", "report", "select"}


def test_a_mistyped_command_is_answered_with_the_nearest(pursuhint):
    done = pursuhint("anlyze")
    assert done.returncode == 2
    assert "did you mean 'analyze'?" in done.stderr


@pytest.mark.parametrize(
    "kind", ["models", "datasets", "losses", "metrics", "recipes", "arms", "figures", "tables"]
)
def test_lists(pursuhint, verbose, kind):
    plain = pursuhint("list", kind)
    assert plain.returncode == 0
    rows = json.loads(verbose(kind, "--json"))
    assert len(rows) == len([line for line in plain.stdout.splitlines() if not line.startswith(" ")])
    assert all(len(row) > 1 for row in rows)


def test_verbose_lists_fit_a_terminal_and_say_what_a_method_is(verbose):
    from pursuhint.losses import LOSSES, get_loss

    for kind in ("losses", "recipes"):
        assert max(map(len, verbose(kind).splitlines())) <= 100
    text = " ".join(verbose("losses").split())
    for name in LOSSES:
        loss = get_loss(name)
        assert (
            f"{name} {loss.info.title}: looks at {loss.info.taps}; weight {loss.info.default_weight:g}"
            in text
        )
        assert loss.info.paper in text
        assert loss.info.learns in text
    assert "30 epochs of paraphraser, then main stage" in text


def test_a_short_list_of_losses_names_the_methods(pursuhint):
    from pursuhint.losses import LOSSES, get_loss

    lines = pursuhint("list", "losses").stdout.splitlines()
    for name in LOSSES:
        title = get_loss(name).info.title
        assert title
        assert any(line.split()[0] == name and line.split(maxsplit=1)[1].startswith(title) for line in lines)


def test_losses_as_json(verbose):
    rows = {row["name"]: row for row in json.loads(verbose("losses", "--json"))}
    assert rows["kd"]["weight_of_ce_beside_it"] == 0.1
    assert rows["skd"]["weight_of_ce_beside_it"] is None
    assert rows["ab"]["stages"] == [
        {"name": "initialisation", "epochs": 30},
        {"name": "main", "contains_loss": False},
    ]
    assert rows["crd"]["bytes_per_sample"] >= 2 * 128 * 4
    assert rows["fitnet"]["learns"]
