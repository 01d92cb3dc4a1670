"""Remove a run that another one replaces, and nothing that is not of a run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pursuhint._util.atomic_files import TEMPORARY
from pursuhint._util.input_files import shown
from pursuhint.errors import PursuhintError

__all__: list[str] = []

# What training, reports, figures and exports write into a run folder.
_FILES = re.compile(
    r"(recipe\.yaml|environment\.json|metrics\.jsonl|result\.json|correct\.json|report\.html|table\.md)"
    r"|hints(-.+)?\.json|(student|best)\.(safetensors|onnx|onnx\.data|pt2)|\.lock"
)
_FOLDERS = frozenset(
    {"state", "figures", "analysis", "pre", "teacher_student", "tensorboard", "wandb", "bundle"}
)
_LAST = ("environment.json", "recipe.yaml")  # as long as they stand, the folder is known as a run


def check_replaceable(folder: Path) -> None:
    """Check that a run folder holds nothing that somebody else has put there.

    Raises:
        PursuhintError: it does; the message names the first such file.
    """
    for path in sorted(folder.iterdir()):
        ours = path.name in _FOLDERS if path.is_dir() else _FILES.fullmatch(path.name)
        if not ours and not TEMPORARY.fullmatch(path.name):
            raise PursuhintError(
                f"{shown(folder)} holds {shown(path.name)}, which is not of a run; move it away, or choose "
                "another folder (--out), before the run in it is replaced"
            )


def remove_run(folder: Path) -> None:
    """Remove the run in a folder that `check_replaceable` accepted; the folder and its lock stay.

    Killed in between, it leaves a folder that is still a run of the old settings, to be replaced again.
    """
    paths = sorted(folder.iterdir(), key=lambda path: (path.name in _LAST, path.name))
    for path in paths:
        if path.name == ".lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
