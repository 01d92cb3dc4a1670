"""The shell completes commands, options and names, without importing PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from pursuhint.cli.main import main

from pursuhint.losses import ALIASES, LOSSES
from pursuhint.recipes import RECIPES


def completed(*words: str) -> dict[str, str | None]:
    """What is offered for the last word, with what is said of it."""
    shell = ShellComplete(main, {}, "pursuhint", "_PURSUHINT_COMPLETE")
    return {item.value: item.help for item in shell.get_completions(list(words[:-1]), words[-1])}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ev",), {"evaluate"}),
        (("train", "--student-c"), {"--student-checkpoint"}),
        (("train", "--student", "resnet8"), {"resnet8", "resnet8x4"}),
        (("train", "--teacher", "torchv"), {"torchvision:"}),
        (("train", "--teacher", "runs/t"), {"runs/t"}),  # of which the shell makes folders
        (("points", "mobilenetv1"), {"MobileNetV1"}),
        (("train", "--loss", "rr"), {"rrd"}),
        (("train", "--loss", "sph"), {"spherical"}),
        (("analyze", "--metric", "r2"), {"r2cca", "r2cca-rank"}),
        (("analyze", "--data", "cifar"), {"cifar10", "cifar100"}),
        (("analyze", "--pooling", "m"), {"mean", "max"}),
        (("analyze", "--algorithm", "seg"), {"segments"}),
        (("train", "--recipe", "finet"), {"finetune"}),
        (("compare", "--arm", "kmea"), {"kmeans"}),
        (("compare", "--method", "rr"), {"rrd"}),
        (("compare", "--method", "re"), {"recipe:", "refilled", "reviewkd"}),
        (("table", "--paper", "purs"), {"pursuhint"}),
        (("transfer", "run", "--to", "cub"), {"cub200"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_names(words, offered):
    assert set(completed(*words)) == offered


def test_names_come_with_what_they_are():
    assert set(completed("train", "--loss", "")) == {*LOSSES, *ALIASES}
    assert all(completed("train", "--loss", "").values())
    assert completed("train", "--recipe", "finetune") == {"finetune": RECIPES["finetune"]}


def test_the_lines_of_the_readme_work_without_torch():
    """Bash asks the program with the words of the line."""
    code = (
        "import sys\nfrom pursuhint.cli.main import run\n"
        "try: run([])\nfinally: print('HEAVY', sorted({'torch', 'sklearn', 'timm'} & set(sys.modules)))"
    )
    words = {"COMP_WORDS": "pursuhint train --loss k", "COMP_CWORD": "3"}
    for step, expected in (("bash_source", "_pursuhint_completion"), ("bash_complete", "plain,kd")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **words, "_PURSUHINT_COMPLETE": step},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert expected in done.stdout, done.stderr
        assert "HEAVY []" in done.stdout
