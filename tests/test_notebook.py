"""The notebooks run from top to bottom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

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


def run_cells(name: str) -> dict[str, Any]:
    """What the cells of a notebook define. They are plain Python, so no kernel is started for them."""
    from matplotlib import pyplot

    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.with_name(name).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    pyplot.close("all")
    return names


@pytest.mark.filterwarnings("ignore:arrays. classes have no names")
def test_notebook_of_ones_own_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    names = run_cells("own_network.ipynb")
    assert len(names["analysis"].candidates) == 5
    assert len(names["run"].plan.pairs) == len(names["analysis"].plan)
    assert names["run"].last["test_top1"] > 50


def test_notebook_of_a_teacher_of_other_classes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    names = run_cells("cross_task.ipynb")
    result = names["result"]
    assert [one.student_classes for one in result.overlaps] == [tuple("56789"), tuple("34567")]
    printed = capsys.readouterr().out
    for overlap in (0, 40):
        for method in ("alone", "rkd", "refilled", "at@conventional"):
            assert f"{result.cell(overlap, method).last.mean:.2f}" in printed
    assert result.cell(0, "alone").last.mean > 40
    assert names["axes"].has_data()
