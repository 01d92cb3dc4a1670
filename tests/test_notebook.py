"""The notebooks run from top to bottom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "quickstart.ipynb"
MAGIC = "%matplotlib inline"
# What makes a notebook shorter than a reader would have it, with the same steps.
SHORTER = {
    "quickstart.ipynb": {
        '"resnet20", "data": "digits", "epochs": 8, ': (
            '"resnet14", "data": {"name": "digits", "train_samples": 700}, "epochs": 8, "batch_size": 32, '
        ),
    },
    "own_network.ipynb": {'"batch_size": 16': '"batch_size": 32', '"epochs": 8': '"epochs": 4'},
    "cross_task.ipynb": {'"train_samples": 400': '"train_samples": 250', '"epochs": 3': '"epochs": 2'},
}


def shortened(name: str) -> str:
    """The file of a notebook with less training."""
    notebook = json.loads(NOTEBOOK.with_name(name).read_text(encoding="utf-8"))
    left = set(SHORTER[name])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for longer in [text for text in left if text in source]:
                source = source.replace(longer, SHORTER[name][longer])
                left.remove(longer)
            cell["source"] = source.replace(MAGIC, "")
    assert not left
    return json.dumps(notebook)


@pytest.mark.parametrize("file", sorted(NOTEBOOK.parent.glob("*.ipynb")), ids=lambda file: file.stem)
def test_notebooks_are_valid_and_need_no_magic_but_that_of_pictures(file: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    lines = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code").splitlines()
    assert {line for line in lines if line.startswith(("%", "!"))} <= {MAGIC}


def test_quickstart_notebook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    names = run_cells(NOTEBOOK.name)
    printed = capsys.readouterr().out
    assert "hint points:" in printed
    assert "stability under resampling of images" in printed
    assert re.search(r"agreement of \d+ ways of choosing", printed)
    alone, taught = map(float, re.search(r"alone ([\d.]+) %, with the teacher ([\d.]+) %", printed).groups())
    assert alone < taught
    names["figure"].savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def run_cells(name: str) -> dict[str, Any]:
    """What the cells of a notebook define. They are plain Python, so no kernel is started for them."""
    from matplotlib import pyplot

    names: dict[str, Any] = {}
    for cell in json.loads(shortened(name))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], cell["id"], "exec"), names)
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
    for table in (result.table(), result.measure_table()):
        heads = next(line for line in printed.splitlines() if line.split()[:1] == [table.heads[0]])
        assert [len(line) for line in str(table).splitlines()[1:]] == [len(heads)] * (1 + len(table.rows))
        printed = printed.partition(heads)[2]
    assert result.cell(0, "alone").last.mean > 40
    assert names["axes"].has_data()
