"""Run the command line: in this process (fast) or as a real one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pursuhint.cli.main import run

from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights

Finished = subprocess.CompletedProcess[str]


@pytest.fixture
def pursuhint(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Call the entry point in this process; returns exit status, stdout and stderr."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        words = [str(argument) for argument in arguments]
        with pytest.raises(SystemExit) as stop:
            run(words)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    """Weights of a resnet8 for the digits; what they compute does not matter."""
    torch.manual_seed(0)
    path = tmp_path / "teacher.safetensors"
    save_weights(create_model("resnet8", num_classes=10, in_channels=1), path)
    return path
