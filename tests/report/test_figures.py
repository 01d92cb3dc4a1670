"""Pictures: the right marks in the right places, readable and not blank."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pursuhint.clustering.hierarchical import linkage_tree
from pursuhint.errors import PursuhintError
from pursuhint.report.figures import (
    Difference,
    Series,
    comparison_plot,
    grouped_bars,
    inertia_curves,
    length_curves,
    pairs_by_scheme,
    position_landscape,
    position_map,
    save_figure,
    series_colors,
    silhouette_curves,
    similarity_heatmap,
    training_curves,
)
from pursuhint.report.figures.landscape import Landscape, position_landscapes
from pursuhint.report.figures.layers import dendrogram, teacher_student_map
from pursuhint.report.figures.search_history import Slice, importance_bars, search_history, search_slices
from pursuhint.study.arms import ARMS, DEFAULT_ARMS


def similarity(layers: int) -> np.ndarray:
    place = np.arange(layers)
    return np.exp(-np.abs(place[:, None] - place[None]) / layers)


def thirds(layers: int) -> list[int]:
    return [3 * i // layers for i in range(layers)]


def heatmap(layers: int, **options) -> Figure:
    groups = thirds(layers)
    hints = sorted({1, (layers + 1) // 2, layers})
    defaults = {"metric": "linear CKA", "clusters": groups, "hints": hints, "stages": [g + 1 for g in groups]}
    return similarity_heatmap(similarity(layers), **(defaults | options))


def curve(epochs: int, final: float = 97.0) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "train_top1": final + 1 - 80 / epoch,
            "test_loss": 2.2 / epoch,
            "test_top1": final - 80 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def arms(seeds: int = 3) -> dict[str, list[float]]:
    names = [ARMS[name].title for name in DEFAULT_ARMS]
    return {name: [90.0 + i + 0.3 * seed for seed in range(seeds)] for i, name in enumerate(names)}


FIGURES = {
    "heatmap-3": lambda: heatmap(3, title="three"),
    "heatmap-9": lambda: heatmap(9, title="nine layers"),
    "heatmap-54": lambda: heatmap(54, title="resnet110"),
    **{
        f"heatmap-{layers}-with-everything": lambda layers=layers: heatmap(
            layers,
            conventional=[layers // 3, 2 * layers // 3, layers],
            frequencies=np.linspace(0, 1, layers).tolist(),
        )
        for layers in (6, 15, 150)
    },
    **{
        f"tree-{layers}": lambda layers=layers: dendrogram(
            linkage_tree(torch.from_numpy(similarity(layers))),
            clusters=thirds(layers),
            hints=[1, layers],
            names=[f"layer{layer}" for layer in range(layers)],
            title="tree",
        )
        for layers in (6, 54, 150)
    },
    **{
        f"teacher-and-student-{layers}": lambda layers=layers: teacher_student_map(
            similarity(layers)[:, :3],
            similarity(layers)[:, -3:],
            metric="linear CKA",
            hints=[(1, 1), (layers, 3)],
            title="both",
        )
        for layers in (6, 150)
    },
    "teacher-and-student-once": lambda: teacher_student_map(similarity(15), metric="linear CKA"),
    "silhouette": lambda: silhouette_curves({"kmeans": {2: 0.3, 3: -0.1}}, chosen=2),
    "heatmap-plain": lambda: similarity_heatmap(similarity(4)),
    "positions-9": lambda: position_map({"conventional": [3, 6, 9], "random (seed 0)": [1, 2]}, 9),
    "positions-54": lambda: position_map(
        {"kmeans": [9, 30, 48], "random": [1, 2, 3, 52, 53, 54]},
        54,
        clusters={"kmeans": thirds(54)},
        stages=[g + 1 for g in thirds(54)],
        title="where",
    ),
    "inertia-last-k": lambda: inertia_curves(
        {
            name: {2: 3.0, 3: 2.0, 4: 1.0}
            for name in ("k-means", "best contiguous", "k-medoids", "hierarchical")
        },
        chosen=4,
    ),
    "inertia": lambda: inertia_curves(
        {"kmeans": {2: 3.0, 3: 2.0}, "segments": {2: 2.5, 3: 1.5}}, chosen=3, title="CKA"
    ),
    "search-history": lambda: search_history({0: 60.0, 1: 70.0, 3: 65.0}, {2: 40.0}),
    "search-slices": lambda: search_slices(
        [
            Slice("losses.at", (1.0, 10.0, 1000.0), log=True),
            Slice("hints.metric", ("cka", "r2cca", "cka")),
            Slice("losses.kd.temperature", (2.0, 4.0, 8.0)),
            Slice("optimizer.lr", (0.01, 0.02, 0.05)),
        ],
        [60.0, 70.0, 65.0],
        1,
    ),
    "search-importances": lambda: importance_bars({"losses.at": 0.7, "losses.kd.temperature": 0.3}),
    "training-one": lambda: training_curves([Series("run", (curve(20),))]),
    "training-first-epoch": lambda: training_curves([Series("run", (curve(1),))]),
    "training-arms": lambda: training_curves(
        [Series(name, (curve(20), curve(20, 96.0))) for name in arms()], title="students"
    ),
    "comparison": lambda: comparison_plot(
        arms(), control="conventional", differences={"random": Difference(0.3, -0.5, 1.1)}, title="arms"
    ),
    "comparison-one-seed": lambda: comparison_plot(
        arms(1), control="conventional", differences={"random": Difference(2.0)}
    ),
}


@pytest.fixture(scope="module", params=list(FIGURES))
def figure(request) -> Figure:
    return FIGURES[request.param]()


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Texts that are really drawn, with their boxes: Matplotlib also keeps ticks outside of the limits."""
    figure.canvas.draw()
    hidden: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not axes.axison or not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {id(tick.label1), id(tick.label2)}
            if not axes.axison:
                hidden.add(id(axis.label))
    return [(text.get_text(), text.get_window_extent()) for text in texts(figure) if id(text) not in hidden]


def test_the_checks_below_see_every_text():
    strings = [string for string, _ in drawn_texts(heatmap(3))]
    assert strings.count("2") == 3  # on both axes and over its triangle
    assert {"A", "B", "C", "stage 1", "stage 2", "stage 3", "linear CKA", "hints at", "0.5", "0.72"} <= set(
        strings
    )


def test_nothing_is_cut_off(figure):
    width, height = figure.bbox.size
    for string, box in drawn_texts(figure):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{string!r} leaves the picture: {box.extents} of {width} x {height}"


def test_no_two_texts_overlap(figure):
    for (first, box), (second, other) in combinations(drawn_texts(figure), 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        down = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert across <= 1 or down <= 2, f"{first!r} overlaps {second!r}"


def test_every_text_is_large_enough_to_read(figure):
    assert min(text.get_fontsize() for text in texts(figure)) >= 8


def test_is_saved_whole_and_not_blank(figure, tmp_path):
    path = save_figure(figure, tmp_path / "picture.png", svg=True)
    pixels = imread(path)
    assert pixels.shape[0] == math.floor(figure.get_figheight() * 200 + 0.5)
    assert 3 <= figure.get_figwidth() <= 10
    assert pixels[..., :3].std() > 0.02
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["picture.png", "picture.svg"]


@pytest.mark.parametrize(
    ("layers", "labels"),
    [(3, ["1", "2", "3"]), (9, [str(i) for i in range(1, 10)]), (54, ["1", *map(str, range(5, 55, 5))])],
)
def test_ticks_thin_out_with_depth(layers, labels):
    axes = heatmap(layers).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == labels
    assert list(axes.get_xticks()) == [int(label) - 1 for label in labels]


def test_contiguous_clusters_are_framed_on_the_diagonal():
    frames = [patch for patch in heatmap(9).axes[0].patches if isinstance(patch, Rectangle)]
    assert sorted((f.get_x(), f.get_y(), f.get_width()) for f in frames) == [
        (-0.5, -0.5, 3),
        (2.5, 2.5, 3),
        (5.5, 5.5, 3),
    ]


def test_a_torn_cluster_is_framed_off_the_diagonal_too():
    axes = similarity_heatmap(similarity(4), clusters=[0, 1, 1, 0]).axes[0]
    corners = {(f.get_x(), f.get_y()) for f in axes.patches if isinstance(f, Rectangle)}
    assert corners == {(-0.5, -0.5), (-0.5, 2.5), (2.5, -0.5), (2.5, 2.5), (0.5, 0.5)}


def test_hint_positions_are_written_and_lie_on_the_diagonal():
    figure = heatmap(54, hints=[2, 12, 30])
    bold = [text.get_text() for text in texts(figure) if text.get_fontweight() == "bold"]
    assert bold == ["2", "12", "30"]
    marks = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert list(marks[0].get_xdata()) == list(marks[0].get_ydata()) == [1, 11, 29]


def test_layers_that_were_left_out_keep_their_place_in_the_numbering():
    figure = similarity_heatmap(similarity(4), hints=[4], positions=[1, 2, 4, 7])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "7"]
    assert [text.get_text() for text in texts(figure) if text.get_fontweight() == "bold"] == ["4"]
    header = figure.axes[1]
    assert list(header.get_lines()[0].get_xdata()) == [2]


def test_small_matrices_show_their_numbers():
    assert sum(text.get_text() == "1.00" for text in texts(heatmap(3))) == 3
    assert not any(re.fullmatch(r"0\.\d\d", text.get_text()) for text in heatmap(54).axes[0].texts)


@pytest.mark.parametrize("hints", [[1, 2, 3], [52, 53, 54], [26, 27, 28, 29, 30], list(range(1, 55, 3))])
def test_crowded_hints_do_not_overlap(hints):
    test_no_two_texts_overlap(heatmap(54, hints=hints))
    test_nothing_is_cut_off(heatmap(54, hints=hints))


def test_many_seeds_are_a_band():
    run = [{"epoch": e, "test_top1": 50.0 + e, "test_loss": 1.0 / e} for e in (1, 2, 3)]
    other = [{**line, "test_top1": line["test_top1"] + 2} for line in run]
    figure = training_curves([Series(name, (run, other) * 3) for name in "ab"])
    accuracy = figure.axes[0]
    assert [line.get_label() for line in accuracy.get_lines()] == ["a", "b"]
    for band in accuracy.collections:
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (51, 55)


def test_several_seeds_show_each_and_their_mean():
    accuracy = training_curves([Series("a", (curve(4, 96.0), curve(4, 98.0)))]).axes[0]
    mean = [line for line in accuracy.get_lines() if line.get_label() == "a"]
    assert len(accuracy.get_lines()) == 3
    assert mean[0].get_ydata()[-1] == pytest.approx(77.0)


def test_comparison_draws_a_dot_for_every_seed_and_an_interval():
    figure = comparison_plot(
        arms(), control="conventional", differences={"random": Difference(0.3, -0.5, 1.1)}
    )
    left, right = figure.axes[:2]
    dots = [line for line in left.get_lines() if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in dots] == [3] * len(DEFAULT_ARMS)
    assert any(list(line.get_xdata()) == [-0.5, 1.1] for line in right.get_lines())
    assert "+0.30  [-0.50, +1.10]" in {text.get_text() for text in texts(figure)}


@pytest.mark.parametrize(("margin", "bands"), [(0.5, 1), (None, 0), (50.0, 1)])
def test_a_band_is_the_margin_of_equality_and_does_not_widen_the_picture(margin, bands):
    def right(band):
        differences = {"random": Difference(0.3, -0.5, 1.1, band)}
        return comparison_plot(arms(), control="conventional", differences=differences).axes[1]

    axes = right(margin)
    assert axes.get_xlim() == right(None).get_xlim()
    assert len(axes.patches) == bands
    for band in axes.patches:
        low, high = band.get_extents().transformed(axes.transData.inverted()).intervalx
        assert high == pytest.approx(min(margin, axes.get_xlim()[1]))
        assert low == pytest.approx(-high)


def test_alone_keeps_its_colour_and_no_two_arms_share_one():
    colors = series_colors(list(DEFAULT_ARMS))
    assert len(set(colors.values())) == len(DEFAULT_ARMS)
    assert colors["alone"] == series_colors(["kmeans", "alone"])["alone"]


def test_pictures_need_neither_a_display_nor_global_state(tmp_path):
    code = (
        "import sys, threading\n"
        "from pursuhint.report.figures import similarity_heatmap, save_figure\n"
        "draw = lambda: save_figure(similarity_heatmap([[1.0, 0.5], [0.5, 1.0]]), sys.argv[1])\n"
        "thread = threading.Thread(target=draw); thread.start(); thread.join()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    target: Path = tmp_path / "a.png"
    subprocess.run([sys.executable, "-c", code, str(target)], check=True, timeout=60)
    assert target.stat().st_size > 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: similarity_heatmap(np.ones((2, 3))), r"square matrix, got shape \(2, 3\)"),
        (lambda: similarity_heatmap([[1.0, float("nan")], [0.0, 1.0]]), "not finite"),
        (lambda: similarity_heatmap(np.eye(3), clusters=[0, 1]), "3 layers but 2 clusters"),
        (lambda: similarity_heatmap(np.eye(3), hints=[4]), "hint position 4 is not one of the 3 layers"),
        (lambda: position_map({}, 3), "at least one row"),
        (lambda: inertia_curves({"kmeans": {}}), "at least one algorithm"),
        (lambda: training_curves([Series("a", ([],))]), "at least one epoch"),
        (lambda: training_curves([Series("a", ([{"epoch": 1}],))]), "metrics of a have no test_top1"),
        (
            lambda: comparison_plot({"a": [1.0], "b": []}, control="a", differences={}),
            "same number of seeds in every arm",
        ),
    ],
)
def test_refuses_what_cannot_be_drawn(call, message):
    with pytest.raises(PursuhintError, match=message):
        call()


# -- crossed comparisons


def test_the_history_of_a_search_has_the_best_so_far():
    (axes,) = search_history({4: 65.0, 0: 60.0, 1: 70.0}, {2: 40.0}).axes
    best, complete, ended = axes.lines
    assert list(best.get_ydata()) == [60, 70, 70, 70]
    assert list(complete.get_xdata()) == [0, 1, 4]
    assert list(ended.get_ydata()) == [40]
    with pytest.raises(PursuhintError, match="complete trial"):
        search_history({}, {2: 40.0})


def test_slices_of_a_search_mark_the_best_trial():
    figure = search_slices([Slice("metric", ("b", "a")), Slice("lr", (0.1, 0.3))], [60.0, 70.0], 1)
    first, second = figure.axes
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["a", "b"]
    assert [list(line.get_xdata()) for line in first.lines] == [[1, 0], [0]]
    assert [list(line.get_xdata()) for line in second.lines] == [[0.1, 0.3], [0.3]]
    with pytest.raises(PursuhintError, match="as many values"):
        search_slices([Slice("lr", (0.1,))], [60.0, 70.0], 1)


def test_grouped_bars_have_a_bar_for_every_arm_and_group():
    groups = {name: {arm: [50 + i, 51 + i] for i, arm in enumerate("abc")} for name in ("at", "kd")}
    (axes,) = grouped_bars(groups).axes
    heights = sorted(patch.get_height() for patch in axes.patches)
    assert heights == [50.5, 50.5, 51.5, 51.5, 52.5, 52.5]
    assert 0 < axes.get_ylim()[0] < 50
    with pytest.raises(PursuhintError, match="same arms"):
        grouped_bars({"at": {"a": [1.0]}, "kd": {"b": [1.0]}})


def test_pairs_by_scheme_say_the_difference_of_the_means():
    figure = pairs_by_scheme({"at": ([70.0, 72.0], [71.0, 74.0]), "kd": ([60.0], [59.0])}, names=("a", "b"))
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == ["+1.50", "-1.00"]
    with pytest.raises(PursuhintError, match="same seeds"):
        pairs_by_scheme({"at": ([70.0], [71.0, 74.0])}, names=("a", "b"))


def test_length_curves_have_a_line_for_every_arm():
    (axes,) = length_curves({"a": {20: 71.0, 8: 70.0}, "b": {8: 69.0, 20: 72.0}}).axes
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert lines == [[[8, 70], [20, 71]], [[8, 69], [20, 72]]]
    with pytest.raises(PursuhintError, match="two or more lengths"):
        length_curves({"a": {8: 70.0}})


def test_the_landscape_marks_the_positions_of_every_arm():
    figure = position_landscape({1: [60, 62], 2: [64, 66], 3: [61, 63]}, {"even": [1, 3]}, baseline=60.0)
    upper, lower = figure.axes
    assert upper.lines[0].get_xydata().tolist() == [[1, 61], [2, 65], [3, 62]]
    marks = [line.get_xdata() for line in lower.lines if line.get_marker() != "None"]
    assert [list(places) for places in marks] == [[1, 3]]
    with pytest.raises(PursuhintError, match="two or more layers"):
        position_landscape({1: [60]}, {})


def test_a_landscape_without_other_arms_is_the_curve_alone(recwarn):
    (axes,) = position_landscape({1: [60, 62], 2: [64, 66]}, {}).axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 61], [2, 65]]
    assert axes.get_xlabel()
    assert not recwarn.list


def test_landscapes_of_one_teacher_share_the_rows_of_arms():
    layers = {1: [60], 2: [64], 3: [61]}
    ways = {
        "at": Landscape(layers, {"even": [1, 3], "last": [2, 3]}, baseline=60.0),
        "kd": Landscape(layers, {"even": [1, 2], "last": [2, 3]}, baseline=60.0),
    }
    upper, lower = position_landscapes(ways).axes
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["at", "kd"]
    assert len(upper.lines) == 3  # both have the same accuracy without hints: one line
    marks = [line for line in lower.lines if line.get_marker() != "None"]
    assert [list(line.get_xdata()) for line in marks] == [[1, 3], [1, 2], [2, 3]]
    assert len({line.get_color() for line in marks}) == 3  # those of the curves, and one for what they share
