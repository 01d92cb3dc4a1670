"""The blocks of docs/other-libraries.md, one after the other."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "other-libraries.md"


def test_its_blocks_run(tmp_path, monkeypatch):
    missing = [name for name in ("transformers", "lightning", "timm", "modelopt") if not find_spec(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with warnings.catch_warnings(action="ignore"):  # of the other packages
        for text in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S):
            exec(compile(text, PAGE.name, "exec"), names)
    assert (tmp_path / "others" / "student" / "model.safetensors").exists()
    assert names["student"].state_dict().keys() == names["module"].step.distiller.student.state_dict().keys()
