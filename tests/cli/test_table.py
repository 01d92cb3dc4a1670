"""``pursuhint table``: tables of papers, and runs beside them."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

QUICK = ("--student", "resnet8", "--epochs", "1", "--train-samples", "100", "--quiet", "--no-report")


def test_a_table_as_published(pursuhint):
    printed = pursuhint("table", "--paper", "icd", "--table", "1")
    assert printed.returncode == 0
    lines = printed.stdout.splitlines()
    assert lines[0].startswith("icd, table 1: ")
    assert next(line for line in lines if line.startswith("ICD+KD")).endswith("+76.42")
    table = json.loads(pursuhint("table", "--paper", "icd", "--table", "1", "--json").stdout)
    assert table["rows"][-1][:2] == ["ICD+KD", "76.06"]


def test_without_arguments_it_lists_papers_and_tables(pursuhint):
    listed = json.loads(pursuhint("table", "--json").stdout)
    papers = ["pursuhint", "icd", "rrd-supplement", "re-reviewkd", "refilled-supplement", "since-2021"]
    assert list(listed) == papers
    assert "  4  Baseline and proposed" in pursuhint("table", "--paper", "pursuhint").stdout


@pytest.mark.parametrize(
    ("kind", "beginning"),
    [
        ("markdown", "**pursuhint, table 4"),
        ("latex", "\\begin{table}"),
        ("csv", "method,"),
        ("html", "<table>"),
    ],
)
def test_formats(pursuhint, kind, beginning):
    printed = pursuhint("table", "--paper", "pursuhint", "--table", "4", "--format", kind).stdout
    assert printed.startswith(beginning)
    assert "76.98" in printed


def test_a_file(pursuhint, tmp_path):
    out = tmp_path / "table.tex"
    done = pursuhint("table", "--paper", "icd", "--table", "3", "--format", "latex", "--out", out)
    assert done.stdout == ""
    assert "\\toprule" in out.read_text()
    page = tmp_path / "table.html"
    words = ("table", "--paper", "icd", "--table", "3", "--format", "html")
    assert pursuhint(*words, "--out", page).returncode == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert '<meta charset="utf-8">' in text
    assert text.count("icd, table 3") == 2  # its title, in the tab and above the table
    (rows,) = re.findall("<tbody>.*</tbody>", pursuhint(*words).stdout, re.DOTALL)
    assert rows in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--table", "1"), "--table 1 needs --paper NAME"),
        (("--paper", "icdd"), "did you mean 'icd'"),
        (("--format", "latex"), "--format and --out need a table"),
        (("--paper", "icd", "--table", "1", "--format", "csv", "--json"), "--json and --format csv exclude"),
    ],
)
def test_mistakes_are_one_line(pursuhint, words, message):
    done = pursuhint("table", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_runs_stand_beside_published_figures(pursuhint, teacher_file, tmp_path):
    """Runs on the digits whose recipes are changed to say CIFAR-100, so that published figures fit them."""
    teacher = ("--teacher", "resnet8", "--teacher-checkpoint", teacher_file)
    runs = {
        "alone": (),
        "alone-1": ("--seed", "1"),
        "kd": (*teacher, "--loss", "kd"),
        "at": (*teacher, "--loss", "at", "--loss", "kd"),
    }
    accuracy = {}
    for name, words in runs.items():
        done = pursuhint("train", *QUICK, *words, "--out", tmp_path / name, "--json")
        assert done.returncode == 0, done.stderr
        accuracy[name] = json.loads(done.stdout)["last"]["test_top1"]
        file = tmp_path / name / "recipe.yaml"
        recipe = yaml.safe_load(file.read_text())
        recipe["data"]["name"] = "cifar100"
        recipe["student"]["network"] = "resnet20"
        if recipe["teacher"]:
            recipe["teacher"]["network"] = "resnet110"
        file.write_text(yaml.safe_dump(recipe))
    shown = pursuhint("table", *(tmp_path / name for name in runs), "--json")
    table = json.loads(shown.stdout)
    rows = [dict(zip(table["heads"], row)) for row in table["rows"]]
    kd = [row for row in rows if row["method"] == "KD"]
    assert {row["source"] for row in kd} >= {"icd, table 1", "rrd-supplement, table 1", "pursuhint, table 5"}
    for row in kd:
        assert row["pair"] == "resnet110 → resnet20 on CIFAR-100"
        assert float(row["ours"]) == pytest.approx(accuracy["kd"], abs=0.006)
        assert float(row["difference"]) == pytest.approx(accuracy["kd"] - float(row["published"]), abs=0.006)
    alone = next(row for row in rows if row["method"] == "vanilla")
    assert alone["ours"].endswith("(2)")  # two seeds of one method
    assert any(row["method"] == "AT+KD" for row in rows)


def test_what_is_unfinished_or_no_run_is_refused(pursuhint, tmp_path):
    done = pursuhint("train", *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 0
    alone = pursuhint("table", tmp_path / "run").stdout  # nothing is published for it
    assert alone.splitlines()[1].split() == ["method", "pair", "ours"]
    listed = pursuhint("table", tmp_path / "run", "--format", "csv").stdout
    assert listed.startswith("method,pair,ours,published,")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    (copy / "result.json").unlink()
    for folder, message in ((copy, "is not finished"), (tmp_path, "is not a run folder")):
        refused = pursuhint("table", folder)
        assert refused.returncode == 1
        assert message in refused.stderr
