"""kmedoids is an extra under the GPL: its algorithm says so, and everything else works without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pursuhint.cli.main import run

from pursuhint.analysis import StoredAnalysis, analyze
from pursuhint.clustering import ALGORITHMS, get_algorithm, installed_algorithms
from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model


@pytest.fixture
def without_kmedoids(monkeypatch: pytest.MonkeyPatch) -> None:
    find = sys.modules["pursuhint.clustering"].find_spec
    monkeypatch.setattr(
        "pursuhint.clustering.find_spec", lambda name: None if name == "kmedoids" else find(name)
    )
    monkeypatch.setitem(sys.modules, "kmedoids", None)  # importing it fails


@pytest.mark.usefixtures("without_kmedoids")
def test_the_algorithm_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert installed_algorithms() == ("kmeans", "segments", "hierarchical")
    with pytest.raises(PursuhintError, match=r"licence is the GPL: pip install 'pursuhint\[kmedoids\]'"):
        get_algorithm("kmedoids")
    out = tmp_path / "analysis"
    with pytest.raises(SystemExit):
        run(
            [
                "analyze",
                "--teacher",
                "resnet8",
                "--random-weights",
                "--samples",
                "50",
                "--algorithm",
                "kmedoids",
                "--out",
                str(out),
            ]
        )
    assert capsys.readouterr().err.count("pip install 'pursuhint[kmedoids]'") == 1


@pytest.mark.usefixtures("without_kmedoids")
def test_an_analysis_needs_it_for_nothing(tmp_path: Path) -> None:
    network = create_model("resnet8", num_classes=10, in_channels=1)
    analysis = analyze(network, load_dataset("digits"), samples=50, device="cpu")
    assert set(analysis.clusters.clusterings["cka"]) == {"kmeans", "segments", "hierarchical"}
    analysis.save(tmp_path)
    assert StoredAnalysis.load(tmp_path).select().teacher_points == analysis.plan.teacher_points


def test_with_it_all_algorithms_are_there() -> None:
    assert installed_algorithms() == tuple(ALGORITHMS)
