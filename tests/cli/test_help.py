"""Help teaches, and costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pursuhint.cli.main import COMMANDS

from pursuhint import __version__


@pytest.mark.parametrize(
    "command", [[], *(name.split() for name in COMMANDS)], ids=lambda words: " ".join(words) or "main"
)
def test_help_imports_no_torch_and_shows_an_example(command):
    code = (
        "import sys\n"
        "from pursuhint.cli.main import run\n"
        f"try: run({[*command, '--help']!r})\n"
        "finally: print('HEAVY', sorted({'torch', 'matplotlib', 'sklearn', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    assert "pursuhint " + (" ".join(command) or "demo") in done.stdout


def test_version(pursuhint):
    assert __version__ in pursuhint("--version").stdout


def test_a_mistyped_command_is_answered_with_the_nearest(pursuhint):
    done = pursuhint("anlyze")
    assert done.returncode == 2
    assert "did you mean 'analyze'?" in done.stderr


@pytest.mark.parametrize(
    "kind", ["models", "datasets", "losses", "metrics", "recipes", "arms", "figures", "tables"]
)
def test_lists(pursuhint, kind):
    import json

    plain = pursuhint("list", kind)
    assert plain.returncode == 0
    rows = json.loads(pursuhint("list", kind, "--verbose", "--json").stdout)
    assert len(rows) == len([line for line in plain.stdout.splitlines() if not line.startswith(" ")])
    assert all(len(row) > 1 for row in rows)


def test_verbose_lists_fit_a_terminal_and_say_what_a_method_is(pursuhint):
    from pursuhint.losses import LOSSES, get_loss

    for kind in ("losses", "recipes"):
        text = pursuhint("list", kind, "--verbose").stdout
        assert max(map(len, text.splitlines())) <= 100
    text = " ".join(pursuhint("list", "losses", "--verbose").stdout.split())
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


def test_losses_as_json(pursuhint):
    import json

    rows = {row["name"]: row for row in json.loads(pursuhint("list", "losses", "-v", "--json").stdout)}
    assert rows["kd"]["weight_of_ce_beside_it"] == 0.1
    assert rows["skd"]["weight_of_ce_beside_it"] is None
    assert rows["ab"]["stages"] == [
        {"name": "initialisation", "epochs": 30},
        {"name": "main", "contains_loss": False},
    ]
    assert rows["crd"]["bytes_per_sample"] >= 2 * 128 * 4
    assert rows["fitnet"]["learns"]
