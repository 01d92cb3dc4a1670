"""The notebook on transformers runs from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pursuhint.models.evaluation import evaluate

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "hugging_face.ipynb"


@pytest.mark.filterwarnings("ignore:arrays. classes have no names")
def test_the_student_learns_and_is_kept(monkeypatch, tmp_path):
    pytest.importorskip("transformers", minversion="5.24")
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert len(names["plan"]) == 2
    assert names["teacher_top1"] > 80
    assert min(names["taught"], names["alone"]) > names["before"] + 30
    kept = evaluate(names["kept"], names["test"]).top1
    assert kept == pytest.approx(names["taught"], abs=1e-3)
