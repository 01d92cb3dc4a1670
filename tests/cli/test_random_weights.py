"""A teacher without weights is analyzed on request only, and its report says so first."""

from __future__ import annotations

import pytest

from pursuhint.analysis import Analysis

QUICK = ("analyze", "--teacher", "resnet8", "--samples", "50", "--no-stability", "--device", "cpu")


def test_a_teacher_without_weights_is_refused(pursuhint, tmp_path):
    done = pursuhint(*QUICK, "--out", tmp_path / "a")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the teacher resnet8 has no weights" in done.stderr
    assert "--random-weights" in done.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.filterwarnings("default")
def test_on_request_it_is_analyzed_and_the_report_says_so_at_the_top(pursuhint, tmp_path):
    done = pursuhint(*QUICK, "--random-weights", "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "note: the teacher resnet8 has random weights" in done.stderr
    known = Analysis.load(tmp_path / "a").provenance.accuracy
    assert known is not None
    assert known.random_weights
    page = (tmp_path / "a/report.html").read_text()
    assert page.index("Warning: the teacher resnet8 has random weights") < page.index("the hints should come")


@pytest.mark.filterwarnings("default")
def test_a_teacher_with_weights_says_nothing_of_the_kind(pursuhint, teacher_file, tmp_path):
    done = pursuhint(*QUICK, "--teacher-checkpoint", teacher_file, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "random weights" not in done.stderr
    assert "teacher resnet8: top-1 " in done.stderr  # the line before the pass
    assert "the teacher resnet8 is near chance" in done.stderr  # which these weights are
    assert done.stderr.count("near chance") == 1
    weights = ("--teacher-checkpoint", teacher_file, "--random-weights")
    both = pursuhint(*QUICK, *weights, "--out", tmp_path / "b")
    assert "not both" in both.stderr
