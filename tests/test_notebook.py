"""The notebook runs from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "quickstart.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook client's own making
def test_quickstart_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "Traceback" not in printed
    assert "hint points:" in printed
    assert "stability under resampling of images" in printed
    assert re.search(r"agreement of \d+ ways of choosing", printed)
    alone, taught = map(float, re.search(r"alone ([\d.]+) %, with the teacher ([\d.]+) %", printed).groups())
    assert alone < taught
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("image/png" in picture["data"] for picture in pictures)
