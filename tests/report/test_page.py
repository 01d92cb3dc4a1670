"""The HTML page: complete, self-contained, and safe whatever the names in it."""

from __future__ import annotations

import dataclasses
import html
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch

from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.errors import PursuhintError
from pursuhint.report import write_report
from pursuhint.report.figures.interactive import script, script_hash
from pursuhint.report.page import render
from pursuhint.report.page_model import Page
from pursuhint.report.sections.analysis import MEANING
from pursuhint.report.sections.comparison import answer
from pursuhint.report.text import (
    brief,
    count,
    duration,
    listed,
    signed,
    thousands,
)
from pursuhint.similarity import METRICS
from pursuhint.study import compare
from pursuhint.training import RunRecord
from tests.helpers.study_runs import few_digits, recipe, untrained, write_teacher

HOSTILE = '<script>alert("x")</script>"onload="y'


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    arms = ("alone", "conventional", "kmeans", "random")
    return compare(
        recipe(write_teacher(folder, "resnet20")),
        folder / "compared",
        arms=arms,
        seeds=(0, 1, 2),
        data=few_digits(),
        device="cpu",
    )


@pytest.fixture(scope="module")
def analysis(tmp_path_factory) -> Analysis:
    found = analyze(
        untrained("resnet20"), few_digits(), metrics=("cka", "r2cca"), k=3, network_name="resnet20"
    )
    found.save(tmp_path_factory.mktemp("analysed"))
    return found


class Links(HTMLParser):
    """Collects what a page would load, and the tags that it opens without closing."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.anchors: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self.anchors |= {value or "" for name, value in attrs if name == "id"}
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    @property
    def pictures(self) -> list[str]:
        return [link for link in self.loads if not link.startswith("#")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(path) -> tuple[str, str, Links]:
    """Page, its text without tags, and what it links to."""
    source = path.read_text(encoding="utf-8")
    links = Links()
    links.feed(source)
    assert links.open == []
    without = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", source, flags=re.S)
    return source, re.sub(r"\s+", " ", html.unescape(without)), links


def scripts_of(source: str) -> list[str]:
    return re.findall(r"<script[^>]*>(.*?)</script>", source, flags=re.S | re.I)


def check_self_contained(source: str, links: Links) -> None:
    assert not [link for link in links.loads if not link.startswith(("data:image/png;base64,", "#"))]
    assert {link[1:] for link in links.loads if link.startswith("#")} <= links.anchors
    assert not {"link", "iframe", "object", "form", "base"} & set(links.tags)
    assert scripts_of(source) in ([], [script()])  # nothing runs but our own
    policy = f"script-src '{script_hash()}'" if scripts_of(source) else "default-src 'none'"
    assert policy in source
    assert ("script-src" in source) == bool(scripts_of(source))
    assert "http://" not in source
    assert "https://" not in source
    assert "@import" not in source
    assert "url(" not in source


def test_comparison(comparison):
    path = write_report(comparison.path)
    assert path == comparison.path / "report.html"
    source, text, links = read(path)
    check_self_contained(source, links)
    figures = {path.stem for path in (comparison.path / "figures").glob("*.png")}
    of_layers = {f"{name}-cka" for name in ("similarity", "inertia", "silhouette", "tree")}
    assert figures == of_layers | {"classes", "comparison", "positions", "training-students"}
    assert len(links.pictures) == len(figures)
    for arm in comparison.arms:
        assert f"{arm.last.mean:.2f} ± {arm.last.std:.2f} %" in text
        assert arm.positions_text in text
    for sentence in comparison.sentences["conventional"]:
        assert re.sub(r"(?<= )-", "−", sentence)[1:] in text
    file = comparison.path / "recipe.yaml"
    assert f"pursuhint.compare(pursuhint.Recipe.load('{file}')" in text  # the data came from Python
    assert comparison.provenance is not None
    assert f"started {comparison.provenance.started}" in text
    assert answer(comparison) in text
    table = (comparison.path / "table.md").read_text(encoding="utf-8")
    for pair in comparison.against["conventional"]:
        cells = next(line for line in table.splitlines() if f"| {comparison.arm(pair.arm).title} |" in line)
        assert f"{signed(pair.mean)}" in cells
        assert (pair.low is None) or f"{signed(pair.high)}], {pair.verdict_in_short}" in cells
        assert pair.verdict_in_short in text
    assert table.endswith("Equal: shown to differ by less than 0.5 points.\n")
    assert "show a difference below 0.5 points, the margin" in text
    for name in ("similarity-cka", "inertia-cka", "comparison", "positions", "training-students"):
        assert (comparison.path / "figures" / f"{name}.png").stat().st_size > 5000


def test_run(comparison):
    run = RunRecord.load(comparison.path / "arms/conventional/seed-1")
    source, text, links = read(write_report(run.path))
    check_self_contained(source, links)
    assert f"{run.last['test_top1']:.2f} %" in text
    assert "layer1.2 (position 3 of 9, post)" in text
    assert "last sub-block of every resolution stage" in text
    assert "AT (at)" in text
    alone = RunRecord.load(comparison.path / "arms/alone/seed-1")
    assert f"{alone.last['test_top1']:.2f} % the student alone, same seed" in text
    assert f"{comparison.teacher.parameters / comparison.student.parameters:.1f} x fewer parameters" in text
    assert f"{run.teacher_accuracy.top1:.2f} % test accuracy of the teacher" in text
    assert "without its teacher was not measured" not in text
    assert f"{run.metrics[0]['train_at']:.4g}" in text


def test_run_without_a_teacher(comparison):
    _, text, _ = read(write_report(comparison.path / "arms/alone/seed-0"))
    assert "resnet8 trained alone" in text
    assert "The hint points were" not in text


def test_a_run_by_itself_says_that_the_student_alone_is_not_known(comparison, tmp_path):
    shutil.copytree(comparison.path / "arms/conventional/seed-1", tmp_path / "run")
    _, text, _ = read(write_report(tmp_path / "run"))
    assert "without its teacher was not measured" in text
    assert "the student alone, same seed" not in text


def test_unfinished_run_says_so(comparison, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(comparison.path / "arms/alone/seed-0", folder)
    (folder / "result.json").unlink()
    assert "The run is not finished" in read(write_report(folder))[1]
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(PursuhintError, match="has no finished epoch"):
        write_report(folder)


def test_analysis(analysis, tmp_path):
    analysis.save(tmp_path / "a")
    source, text, links = read(write_report(tmp_path / "a"))
    check_self_contained(source, links)
    of_a_metric = ("similarity", "inertia", "silhouette", "tree")
    metrics = analysis.similarities.keys() & {"cka", "r2cca"}
    assert len(links.pictures) == len(of_a_metric) * len(metrics) + 1  # and the classes
    assert ", ".join(str(point.position) for point in analysis.plan.teacher_points) in text
    assert f"{analysis.clusters.clusterings['cka']['kmeans'].inertia:.3f}" in text
    assert "R²CCA" in text
    assert "pursuhint.analyze(network, data, metrics=['cka', 'r2cca'], k=3)" in text  # made from Python
    made = analysis.provenance
    assert f"weights {made.network_fingerprint[:12]}" in text
    assert all(value in text for value in (made.network_fingerprint, made.data_fingerprint, made.ended))


def test_analysis_with_a_layer_left_out(tmp_path):
    """A block whose output is always zero is like nothing else."""
    network = untrained("resnet14")
    torch.nn.init.constant_(network.layer3[1].bn2.bias, -1e6)
    found = analyze(network, few_digits(), k=2)
    assert [point.position for point in found.layers.excluded] == [6]
    found.save(tmp_path)
    _, text, _ = read(write_report(tmp_path))
    assert "layer3.1 does not vary over these images, so the pictures leave it out" in text
    assert "every pair of the 5 sub-blocks" in text


def test_hostile_names_are_shown_and_not_run(analysis, tmp_path):
    folder = tmp_path / "a'b\"&<i>"
    hostile = dataclasses.replace(analysis.provenance, network=HOSTILE, data=HOSTILE)
    dataclasses.replace(analysis, provenance=hostile).save(folder)
    source, text, links = read(write_report(folder))
    check_self_contained(source, links)
    assert len(scripts_of(source)) == 1
    assert HOSTILE in text


def test_everything_in_a_page_is_escaped():
    """Every string of a page, wherever the template puts it."""
    text = {field.name: (HOSTILE,) for field in dataclasses.fields(Page) if field.name in _LISTS}
    rows = dict.fromkeys(("setting", "recipes", "environment"), ((HOSTILE, HOSTILE),))
    page = Page(title=HOSTILE, subtitle=HOSTILE, setting_title=HOSTILE, footer=HOSTILE, **text, **rows)
    assert "<script" not in render(page)


_LISTS = ("summary", "question", "limits", "repeat", "commands")


def test_the_page_is_the_same_when_written_again(comparison):
    folder = comparison.path / "arms/conventional/seed-0"
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_folders_with_nothing_known_are_refused(tmp_path):
    with pytest.raises(PursuhintError, match="holds no analysis, run, comparison, transfer or demo"):
        write_report(tmp_path)
    with pytest.raises(PursuhintError, match="no folder"):
        write_report(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("file", "message"), [("settings.json", "comparison"), ("demo.json", "demo")])
def test_unfinished_studies_are_refused(file, message, tmp_path):
    (tmp_path / file).write_text("{}", encoding="utf-8")
    with pytest.raises(PursuhintError, match=f"the {message} in .* is not finished"):
        write_report(tmp_path)


def test_answers_follow_the_statistics(comparison):
    pair = comparison.against["conventional"][1]
    assert pair.arm == "kmeans"

    def said(**changes) -> str:
        changed = dataclasses.replace(pair, std=0.1, **changes)
        return answer(comparison.model_copy(update={"against": {"conventional": (changed,)}}))

    none = {"adjusted_p_value": 0.5, "low": -1.0, "high": 1.0}
    assert said(**none) == (
        "In 3 seeds there is no evidence that the chosen positions teach better or worse than the "
        "conventional ones."
    )
    clear = {"adjusted_p_value": 0.01, "low": 0.5, "high": 1.0}
    assert said(**clear) == (
        "The place of the hints made a difference here: chosen (k-means) is better than conventional."
    )
    same = {"low": -0.2, "high": 0.1, "equality_p_value": 0.01, "adjusted_equality_p_value": 0.02}
    assert said(**same).endswith(
        "the chosen positions and the conventional ones are equal within 0.5 points."
    )
    assert "no evidence" in said(**{**same, "adjusted_equality_p_value": 0.2})
    assert "is worse than" in said(adjusted_p_value=0.01, low=-1.0, high=-0.5)
    assert "does not survive the correction" in said(adjusted_p_value=0.2, low=0.1, high=1.0)


def test_numbers_as_people_write_them():
    assert (count(1, "hint"), count(3, "hint")) == ("1 hint", "3 hints")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (signed(0.004), signed(-0.004), signed(-1.2), signed(0.33)) == ("0.00", "0.00", "-1.20", "+0.33")
    assert (thousands(999), thousands(466_618), thousands(1_730_714)) == ("999", "467\u00a0k", "1.7\u00a0M")
    assert [brief(seconds) for seconds in (0.0, 0.034, 0.96, 12.34, 600)] == [
        "0.001 s", "0.03 s", "1.0 s", "12.3 s", "10 min"
    ]  # fmt: skip
    assert (duration(45), duration(600), duration(9000)) == ("45 s", "10 min", "2.5 h")


def test_terms_are_explained_where_they_occur():
    def page(summary: str) -> Page:
        return Page("t", "s", (summary,), ("q",), "setting", (), (), (), (), (), (), "footer")

    assert [term for term, _ in page("By CKA, and by hints.").words] == ["CKA", "hint"]
    assert 'id="words"' in render(page("By CKA."))
    assert page("Chinese CKAs").words == ()
    assert "words" not in dict(page("Nothing.").sections)


def test_every_metric_is_explained():
    assert MEANING.keys() == METRICS.keys()
