"""``pursuhint report --figure``: what is written, printed and refused."""

from __future__ import annotations

import json

import pytest

from tests.helpers.figure_runs import two_weights


def test_figures_of_one_folder_go_into_it_and_of_several_where_out_says(pursuhint, tmp_path):
    pair = two_weights(tmp_path)
    done = pursuhint("report", pair[0], "--figure", "logit-correlation", "--device", "cpu")
    assert (done.returncode, done.stdout.strip()) == (
        0,
        str(pair[0] / "figures" / "logit-correlation.png"),
    ), done.stderr
    assert "every cell is a pair of classes" in done.stderr
    words = ("report", *pair, "--figure", "weight-curve", "--figure", "logit-correlation")
    assert "give --out DIR" in pursuhint(*words).stderr
    done = pursuhint(*words, "--out", tmp_path / "figs", "--quiet", "--json", "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["figures"]
    assert list(found) == ["weight-curve", "logit-correlation"]
    kinds = {"png", "svg", "json"}
    assert all((tmp_path / "figs" / f"{name}.{kind}").exists() for name in found for kind in kinds)


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "settings of another figure": ("--figure weight-curve --seed 1", "--seed would be ignored"),
        "images without a figure": ("--images 2", "--images would be ignored"),
        "seed without a figure": ("--seed 1", "--seed would be ignored"),
        "out without a figure": ("--out figs", "--out would be ignored"),
        "metric": ("--figure weight-curve --metric cka", "--metric would be ignored"),
        "both": ("--figure weight-curve --teacher-student", "exclude each other"),
        "twice": ("--figure weight-curve --figure weight-curve", "can be named once"),
        "two folders and no figure": ("OTHER", "a page is about one folder, got 2"),
    }.values(),
    ids=lambda value: value.replace(" ", "_") if value.startswith("-") else "",
)
def test_what_would_be_ignored_is_refused(pursuhint, tmp_path, words, message):
    (tmp_path / "other").mkdir()
    done = pursuhint("report", tmp_path, *words.replace("OTHER", str(tmp_path / "other")).split())
    assert done.returncode == 1
    assert message in done.stderr
