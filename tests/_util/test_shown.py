"""What results look like in a notebook, as axes, and as a table."""

from __future__ import annotations

import base64
import io
import pydoc
import re
import sys

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import pursuhint
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import get_loss
from pursuhint.similarity.layer_similarity import LayerSimilarity
from pursuhint.similarity.network_similarity import NetworkSimilarity
from tests.study.test_comparison import ALONE, CENTERS, CONVENTIONAL, comparison

KINDS = ("Analysis", "LayerSimilarity", "NetworkSimilarity", "HintPlan", "RunRecord", "Comparison")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One result of every kind, by the name of its class."""
    folder = tmp_path_factory.mktemp("shown")
    recipe = {"student": "resnet8", "data": {"name": "digits", "train_samples": 100}, "epochs": 1}
    run = pursuhint.train(pursuhint.Recipe.from_dict(recipe), folder / "run", progress=False)
    analysis = pursuhint.analyze(run.load_student(), pursuhint.load_dataset("digits"), samples=100)
    similarity = analysis.similarities["cka"]
    points = similarity.points
    cross = NetworkSimilarity(points, points[:2], similarity.values[:, :2], "cka", 100)
    plan = HintPlan.of(points[1:3], {"strategy": "explicit"}).paired(points, "even")
    found = [analysis, similarity, cross, plan, run, comparison(folder, ALONE, CONVENTIONAL, CENTERS)]
    return {type(result).__name__: result for result in found}


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_line_and_a_picture_that_loads_nothing(results, kind):
    line, page = repr(results[kind]), results[kind]._repr_html_()
    assert line.startswith(f"<{kind}: ")
    assert str(results[kind]) == line
    assert len(line) < 500
    assert "\n" not in line
    (source,) = re.findall(r'src="([^"]+)"', page)
    kind_of_data, _, content = source.partition(",")
    assert kind_of_data == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content))).convert("L")
    assert picture.width > 200
    assert picture.getextrema()[0] < 128 < picture.getextrema()[1]  # something is drawn on white


@pytest.mark.parametrize("kind", KINDS)
def test_plot_draws_on_the_axes_that_it_is_given(results, kind):
    axes = Figure().subplots()
    assert not axes.has_data()
    assert results[kind].plot(axes) is axes
    assert axes.has_data()


def test_the_picture_holds_the_numbers(results):
    similarity = results["LayerSimilarity"]
    drawn = similarity.plot(Figure().subplots()).images[0].get_array()
    assert torch.equal(torch.as_tensor(drawn.data), similarity.values)


def test_rows_of_tables(results):
    """What `to_frame` makes a table of."""
    layers = len(results["LayerSimilarity"])
    assert len(results["LayerSimilarity"]._rows()) == layers**2
    entry = results["NetworkSimilarity"]._rows()[3]
    assert (entry["teacher"], entry["student"]) == (2, 2)
    assert entry["similarity"] == pytest.approx(1)  # a layer and itself
    hints = [row["position"] for row in results["Analysis"]._rows() if row["hint"]]
    assert hints == [point.position for point in results["Analysis"].plan.teacher_points]
    assert [row["teacher_position"] for row in results["HintPlan"]._rows()] == [2, 3]
    assert results["RunRecord"]._rows()[-1]["test_top1"] == results["RunRecord"].last["test_top1"]
    values = [row["last_top1"] for row in results["Comparison"]._rows() if row["arm"] == "alone"]
    assert values == list(ALONE.last.values)


def test_tables_need_pandas(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PursuhintError, match="pip install pandas"):
        results["RunRecord"].to_frame()


def test_tables_of_pandas(results):
    pytest.importorskip("pandas")
    frame = results["LayerSimilarity"].to_frame()
    matrix = frame.pivot(index="first", columns="second", values="similarity").to_numpy()
    assert torch.equal(torch.tensor(matrix), results["LayerSimilarity"].values)


def test_text_from_outside_is_escaped():
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()) for _ in range(3)))
    points = tuple(find_hint_points(network, torch.zeros(1, 3, 12, 12)))
    hostile = '"><script>alert(1)</script>'
    page = HintPlan.of(points[:1], {"strategy": hostile})._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    named = LayerSimilarity(points, torch.eye(len(points)).double(), "$\\frac{$", 10)
    assert "data:image/png" in named._repr_html_()  # not read as a formula


def test_help_on_a_loss_begins_with_our_methods():
    text = pydoc.plain(pydoc.render_doc(get_loss("at")))
    ours, torchs = text.index("pursuhint.losses.base"), text.index("Methods inherited from torch.nn")
    assert ours < text.index("Methods inherited from pursuhint.losses.base") < torchs
    assert text.index("Methods defined here") < torchs


@pytest.mark.parametrize(
    "package", ["pursuhint", "pursuhint.losses", "pursuhint.training", "pursuhint.report"]
)
def test_dir_shows_public_names_only(package):
    module = sys.modules.get(package) or __import__(package, fromlist=["x"])
    assert dir(module) == sorted(module.__all__)
    assert not [name for name in dir(module) if name.startswith("_") and name != "__version__"]


def test_pictures_are_not_kept_by_pyplot(results):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    results["HintPlan"]._repr_html_()
    assert pyplot.get_fignums() == before
    axes = results["HintPlan"].plot()
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close(axes.figure)
