"""From a network and data to hint points."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from pursuhint.analysis.collection import collect
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.analysis.storage import StoredAnalysis
from pursuhint.clustering import ALGORITHMS, get_algorithm
from pursuhint.clustering.inertia import inertia
from pursuhint.clustering.segments import segments
from pursuhint.data import load_dataset, make_loader, sample_indices
from pursuhint.errors import PursuhintError
from pursuhint.hints import HintPlan
from pursuhint.similarity import LayerSimilarity, linear_cka_matrix, r2cca_rank_matrix
from tests.helpers.analysis_networks import noise_images, plain_network, points_of


@pytest.fixture(scope="module")
def network():
    return plain_network()


@pytest.fixture(scope="module")
def data():
    return noise_images()


@pytest.fixture(scope="module")
def analysis(network, data):
    return analyze(network, data, metrics=["cka", "r2cca"], samples=40, seed=3, batch_size=16)


def positions(plan):
    return [point.position for point in plan.teacher_points]


def assert_equal(actual: Analysis, expected: Analysis) -> None:
    for name in vars(expected):
        if name == "similarities":
            assert list(actual.similarities) == list(expected.similarities)
            for metric, similarity in expected.similarities.items():
                loaded = actual.similarities[metric]
                assert torch.equal(loaded.values, similarity.values)
                assert (loaded.points, loaded.metric, loaded.num_samples) == (
                    similarity.points,
                    metric,
                    similarity.num_samples,
                )
        elif name == "samples":
            assert torch.equal(actual.samples, expected.samples)
        else:
            assert getattr(actual, name) == getattr(expected, name), name


def test_similarities_are_those_of_the_drawn_samples(network, data, analysis):
    points = points_of(network)
    loader = make_loader(data, "train", batch_size=40, training=False, subset=sample_indices(data, 40, 3))
    moments = collect([(network, points)], loader.epoch(0))
    assert moments.count == 40
    expected = {"cka": linear_cka_matrix(moments), "r2cca-rank": r2cca_rank_matrix(moments)}
    for metric, values in expected.items():
        torch.testing.assert_close(analysis.similarities[metric].values, values, rtol=0, atol=1e-5)
    assert analysis.layers.points == analysis.candidates == points


def test_another_seed_draws_other_samples(network, data, analysis):
    other = analyze(network, data, samples=40, seed=4)
    assert not torch.allclose(other.similarities["cka"].values, analysis.similarities["cka"].values)


def test_reports_what_was_done(analysis):
    assert analysis.provenance.network == "Sequential"
    assert analysis.provenance.data == "noise"
    assert analysis.provenance.num_samples == 40
    assert analysis.provenance.seed == 3
    assert analysis.provenance.threads == torch.get_num_threads()
    assert analysis.images_per_second > 0
    assert analysis.layers.excluded == ()
    seconds = analysis.seconds
    assert seconds.similarity.keys() == {"cka", "r2cca", "r2cca-rank"}
    assert seconds.clustering.keys() == {"cka", "r2cca"}
    assert seconds.collect == pytest.approx(seconds.data + seconds.forward + seconds.accumulate)
    assert seconds.over_forward > 0


def test_r2cca_is_reported_both_ways_and_clustered_as_it_is(analysis):
    assert set(analysis.similarities) == {"cka", "r2cca", "r2cca-rank"}
    assert set(analysis.clusters.clusterings) == {"cka", "r2cca"}
    clustering = analysis.clusters.clusterings["r2cca"]["segments"]
    assert clustering == segments(analysis.similarities["r2cca"].values, 3)


def test_both_algorithms_and_their_curves_are_always_there(analysis):
    for metric, clustered_with in (("cka", "cka"), ("r2cca", "r2cca")):
        values = analysis.similarities[clustered_with].values
        for algorithm, clustering in analysis.clusters.clusterings[metric].items():
            assert clustering.algorithm == algorithm
            assert clustering.k == 3
            assert clustering.inertia == pytest.approx(inertia(values, clustering.labels))
            curve = analysis.clusters.curves[metric][algorithm]
            assert list(curve) == [2, 3, 4, 5, 6, 7]
            assert curve[3] == clustering.inertia
        found = analysis.clusters.clusterings[metric]
        gap = found["kmeans"].inertia / found["segments"].inertia - 1
        assert analysis.gap(metric) == pytest.approx(gap)
        assert analysis.gap(metric) >= 0 or not found["kmeans"].contiguous


def test_plan_comes_from_the_first_metric(network, data, analysis):
    assert analysis.plan == analysis.select()
    assert analysis.plan.origin["metric"] == "cka"
    other = analyze(
        network, data, metrics=["r2cca"], samples=40, seed=3, k=4, algorithm="segments", position="last"
    )
    origin = other.plan.origin
    assert (origin["metric"], origin["clustered_with"], origin["seed"]) == ("r2cca", "r2cca", 3)
    ends = [
        members[-1] + 1 for members in map(other.clusters.clusterings["r2cca"]["segments"].members, range(4))
    ]
    assert positions(other.plan) == ends
    again = analysis.select(metric="r2cca", k=4, algorithm="segments", position="last")
    assert positions(again) == ends


@pytest.mark.parametrize("k", [None, 4, "auto"])
def test_every_clustering_is_computed_once(network, data, k, monkeypatch):
    calls = []

    def counted(name):
        algorithm = get_algorithm(name)

        def cluster(similarity, k, *, normalize):
            matrix = np.asarray(similarity)
            calls.append((name, k, matrix.tobytes()))
            return algorithm(similarity, k, normalize=normalize)

        return cluster

    algorithms = {name: counted(name) for name in ALGORITHMS}
    for module in ("hints.options", "analysis.from_statistics"):
        monkeypatch.setattr(f"pursuhint.{module}.get_algorithm", algorithms.__getitem__)
    found = analyze(
        network, data, metrics=["cka", "r2cca"], k=k, samples=40, algorithm="segments", position="medoid"
    )
    for metric in ("cka", "r2cca"):
        whole = found.similarities[metric].values.numpy().tobytes()
        times = Counter((name, k) for name, k, matrix in calls if matrix == whole)
        assert times == dict.fromkeys(product(ALGORITHMS, range(2, 8)), 1)


def test_stability_is_of_a_plan_of_this_analysis(network, analysis):
    conventional = HintPlan.conventional(network, analysis.candidates)
    with pytest.raises(PursuhintError, match="pass a plan that select"):
        analysis.selection_stability(conventional)


def test_progress(network, data):
    seen = []
    analyze(network, data, samples=40, batch_size=16, on_progress=lambda *numbers: seen.append(numbers))
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_network_is_left_as_it_was(data):
    network = plain_network().train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    analyze(network, data, samples=20, network_name="tiny")
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_pre_activation_and_patterns(network, data):
    found = analyze(network, data, samples=30, activation="pre", include=["[0-4].2"], k=2)
    assert [point.module for point in found.layers.points] == ["0.2", "1.2", "2.2", "3.2", "4.2"]
    pre = analyze(network, data, samples=30, activation="pre")
    post = analyze(network, data, samples=30)
    assert {point.activation for point in pre.layers.points} == {"pre"}
    assert not torch.allclose(pre.similarities["cka"].values, post.similarities["cka"].values)


def test_one_stage_gets_three_hint_points(data):
    found = analyze(plain_network(((6, 4),)), data, samples=30)
    assert len(found.plan) == 3


def test_two_layers_are_enough(data):
    found = analyze(plain_network(((2, 4),)), data, samples=30)
    assert positions(found.plan) == [1, 2]
    assert (
        found.clusters.curves["cka"] == found.clusters.silhouettes["cka"] == {name: {} for name in ALGORITHMS}
    )


def kill(network, index):
    """Make a unit's output zero everywhere, and everything after it constant."""
    with torch.no_grad():
        network[index][1].weight.zero_()
        network[index][1].bias.fill_(-1)
    return network


def test_layers_without_variance_are_left_out_and_named(data, tmp_path):
    network = kill(plain_network(), 6)
    found = analyze(network, data, metrics=["cka", "r2cca"], samples=40)
    assert [point.module for point in found.layers.excluded] == ["6.2", "7.2"]
    assert [point.position for point in found.candidates] == [1, 2, 3, 4, 5, 6]
    assert len(found.layers.points) == 8
    for similarity in found.similarities.values():
        assert len(similarity) == 6
        assert similarity.values.isfinite().all()
    assert len(found.clusters.clusterings["cka"]["kmeans"].labels) == 6
    found.save(tmp_path)
    assert_equal(Analysis.load(tmp_path), found)
    with pytest.raises(PursuhintError, match=r"only 6 of 8 layers vary .* 7 hint points; .*: 6\.2, 7\.2"):
        analyze(network, data, samples=40, k=7)
    with pytest.raises(PursuhintError, match=r"only 0 of 8 layers vary"):
        analyze(kill(plain_network(), 0), data, samples=40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["ckaa"]}, "no metric named 'ckaa'; did you mean 'cka'"),
        ({"metrics": []}, "metrics must be one or more names"),
        ({"metrics": "cka"}, "metrics must be one or more names in a list, got 'cka'"),
        ({"algorithm": "kmeens"}, "no clustering algorithm named 'kmeens'"),
        ({"position": "middle"}, "no position in a cluster named 'middle'"),
        ({"k": 9}, "cannot choose 9 hint points from 8 layers; ask for at most 8"),
        ({"k": 1}, "k must be at least 2, got 1"),
        ({"samples": 1}, "at least 2 samples, got samples=1"),
        ({"samples": 3, "metrics": ["cka", "debiased-cka"]}, "debiased-cka needs at least 4 samples, got 3"),
        ({"activation": "mid"}, "activation must be 'pre' or 'post', got 'mid'"),
        ({"include": ["nothing.*"]}, "pattern 'nothing.*' matches no module"),
        ({"include": ["0.2"]}, "at least 2 layers; Sequential has only 0.2"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (
            {"memory_limit": 50_000, "metrics": ["cka"]},
            "features in all need .* KB, and the memory limit",
        ),
    ],
)
def test_mistakes_are_found_before_the_pass(network, data, options, message, monkeypatch):
    monkeypatch.setattr(
        "pursuhint.analysis.run_analysis.CollectionPlan.collect",
        lambda *a, **k: pytest.fail("ran the network"),
    )
    with pytest.raises(PursuhintError, match=message):
        analyze(network, data, **options)


def test_stability_comes_with_its_cost(analysis):
    assert analysis.robustness.no_stability == ""
    assert set(analysis.robustness.stability) == set(analysis.metrics)
    assert "half-samples" in analysis.stability_sentence()
    assert all(seconds > 0 for seconds in analysis.seconds.stability.values())
    error = analysis.similarities["cka"].standard_error
    assert error.diagonal().max() < 1e-6
    assert error.min() >= 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"stability": False}, "it was switched off"),
        ({"samples": 39}, "it takes at least 40 images, and there were 39"),
    ],
)
def test_without_stability_says_why(network, data, options, why, tmp_path):
    result = analyze(network, data, **options)
    assert result.robustness.stability == result.seconds.stability == {}
    assert result.robustness.no_stability.startswith(why)
    result.save(tmp_path)
    assert_equal(Analysis.load(tmp_path), result)
    with pytest.raises(PursuhintError, match="no stability was estimated for metric 'cka'"):
        result.stability_sentence()


def test_wrong_number_of_channels(network):
    with pytest.raises(PursuhintError, match=r"Sequential cannot run on (an )?input of shape"):
        analyze(network, load_dataset("digits"))


def test_nan_in_the_network_is_named(data):
    network = plain_network()
    with torch.no_grad():
        network[2][0].weight[0] = torch.nan
    with pytest.raises(PursuhintError, match=r"features of 2\.2 \(position 3 of 8, post\) hold NaN"):
        analyze(network, data)


def test_real_images():
    network = nn.Sequential(plain_network(((4, 8), (4, 16)))[0:8], nn.Flatten(), nn.Linear(256, 10))
    network[0][0][0] = nn.Conv2d(1, 8, 3, padding=1)
    found = analyze(network, load_dataset("digits"), metrics=["cka", "r2cca"], samples=500)
    assert found.provenance.num_samples == 500
    for similarity in found.similarities.values():
        values = similarity.values.numpy()
        assert ((values > 0) & (values < 1 + 1e-9)).all()
        neighbors = np.diagonal(values, 1)
        assert neighbors[:3].mean() > values[0, -1], "neighbours are more alike than the two ends"


def test_autocast_is_close_and_recorded(network, data, analysis, tmp_path):
    found = analyze(network, data, samples=40, seed=3, batch_size=16, autocast="bf16")
    difference = (found.similarities["cka"].values - analysis.similarities["cka"].values).abs()
    assert 1e-6 < difference.max() < 0.04
    found.save(tmp_path)
    assert Analysis.load(tmp_path).provenance.autocast == "bf16"
    assert analysis.provenance.autocast is None


@pytest.mark.parametrize(
    ("autocast", "message"),
    [
        ("bf8", "no autocast type named 'bf8'; there are bf16, fp16"),
        ("fp16", "'fp16' needs a GPU; use 'bf16'"),
    ],
)
def test_autocast_that_cannot_be(network, data, autocast, message):
    with pytest.raises(PursuhintError, match=message):
        analyze(network, data, autocast=autocast)


# -- files ---------------------------------------------------------------------------------------------------


def test_round_trip(analysis, tmp_path):
    analysis.save(tmp_path / "analysis")
    files = {path.name for path in (tmp_path / "analysis").iterdir()}
    assert files == {"analysis.json", "analysis.npz", "hints.json"}
    loaded = Analysis.load(tmp_path / "analysis")
    assert_equal(loaded, analysis)
    assert loaded.select(k=5) == analysis.select(k=5)


def test_samples_are_recorded(data, analysis):
    assert torch.equal(analysis.samples, sample_indices(data, 40, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"k": 5},
        {"k": 3, "position": "last", "algorithm": "segments"},
        {"k": 2, "metric": "r2cca", "algorithm": "hierarchical", "position": "medoid"},
        {"k": 4, "algorithm": "kmedoids", "metric": "r2cca", "normalize": True},
    ],
)
def test_choosing_from_the_files_alone(analysis, tmp_path, options):
    analysis.save(tmp_path)
    stored = StoredAnalysis.load(tmp_path)
    assert stored.candidates == analysis.candidates
    assert stored.select(**options) == analysis.select(**options)
    plan = stored.select(**options)
    assert stored.selection_stability(plan) == analysis.selection_stability(plan)


@pytest.mark.parametrize("k", [3, "auto"])
def test_choosing_from_the_files_imports_nothing_heavy(folder, k):
    code = (
        "import sys; from pursuhint.analysis.storage import StoredAnalysis; "
        f"found = StoredAnalysis.load({str(folder)!r}); plan = found.select(k={k!r}, metric='r2cca'); "
        "found.selection_stability(plan); found.select_by_rule('probe', k=3); "
        "print({'torch', 'sklearn', 'scipy'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["set()"]


def test_json_tells_the_reader_what_matters(analysis, tmp_path):
    analysis.save(tmp_path)
    file = json.loads((tmp_path / "analysis.json").read_text())
    assert file["schema"] == 2
    assert file["provenance"]["network"] == "Sequential"
    assert file["summary"]["hint_points"] == [str(point) for point in analysis.plan.teacher_points]
    assert file["summary"]["gap"]["r2cca"] == analysis.gap("r2cca")
    assert file["summary"]["contiguous"]["cka"]["segments"] is True
    assert file["seconds"]["similarity"]["cka"] > 0


def test_summary_is_the_same_after_saving(analysis, tmp_path):
    analysis.save(tmp_path)
    found = analysis.summary()
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(Analysis.load(tmp_path).summary()))
    assert found["hint_positions"] == [point.position for point in analysis.plan.teacher_points]
    everywhere = sorted(point.position for point in analysis.candidates)
    for algorithms in found["clusterings"].values():
        for clustering in algorithms.values():
            assert sorted(place for cluster in clustering["clusters"] for place in cluster) == everywhere


def test_select_anew_needs_a_metric_that_was_analysed(analysis):
    with pytest.raises(
        PursuhintError, match="metric 'gcd' was not analysed; there are cka, r2cca, r2cca-rank"
    ):
        analysis.select(metric="gcd")
    with pytest.raises(PursuhintError, match="metric 'gcd' was not analysed; there are cka, r2cca"):
        analysis.gap("gcd")


@pytest.fixture
def folder(analysis, tmp_path):
    analysis.save(tmp_path)
    return tmp_path


def test_missing_files(folder, tmp_path):
    with pytest.raises(PursuhintError, match="no analysis at"):
        Analysis.load(tmp_path / "elsewhere")
    (folder / "analysis.npz").unlink()
    with pytest.raises(PursuhintError, match=r"no set of similarities at .*analysis\.npz"):
        Analysis.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(schema=7), "schema 7; this version of PursuHint reads schema 2$"),
        (lambda file: file.update(schema=1), "reads schema 2; analyze the network again$"),
        (lambda file: file.pop("seconds"), "seconds: Field required"),
        (
            lambda file: file["clusters"]["clusterings"]["cka"]["kmeans"].update(labels=[3, 3, 3]),
            "clusters must be numbered from 0",
        ),
        (
            lambda file: file["layers"].update(excluded=file["layers"]["points"][:1]),
            "no similarities of 7 layers by cka",
        ),
        (lambda file: file["similarities"].append("gcd"), "no similarities of 8 layers by gcd"),
        (lambda file: file.update(arrays="0"), "belongs to another one"),
    ],
)
def test_damaged_analysis(folder, change, message):
    file = json.loads((folder / "analysis.json").read_text())
    change(file)
    (folder / "analysis.json").write_text(json.dumps(file))
    with pytest.raises(PursuhintError, match=rf"analysis\.(json|npz).*{message}"):
        Analysis.load(folder)


def test_damaged_arrays(folder):
    path = folder / "analysis.npz"
    whole = path.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2], b"not an archive"):
        path.write_bytes(part)
        with pytest.raises(
            PursuhintError, match=r"analysis\.npz is not a set of similarities of PursuHint, or damaged"
        ) as caught:
            Analysis.load(folder)
        assert "pickle" not in str(caught.value)
    np.savez(path, values=np.array([print], dtype=object), header=np.array("{}"))
    with pytest.raises(PursuhintError, match="allow_pickle=False"):
        Analysis.load(folder)


@pytest.fixture
def similarity_file(analysis, tmp_path):
    analysis.similarities["cka"].save(tmp_path / "similarity-cka.npz")
    return tmp_path / "similarity-cka.npz"


def test_damaged_similarity(similarity_file):
    path = similarity_file
    whole = path.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2], b"not an archive"):
        path.write_bytes(part)
        with pytest.raises(
            PursuhintError, match=r"similarity-cka\.npz is not a layer similarity of PursuHint"
        ):
            LayerSimilarity.load(path)


def test_similarity_files_cannot_run_code(similarity_file):
    path = similarity_file
    np.savez(path, values=np.array([print], dtype=object), header=np.array("{}"))
    with pytest.raises(PursuhintError, match="allow_pickle=False"):
        LayerSimilarity.load(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"schema": 2}, "it has schema 2; this version of PursuHint reads schema 1"),
        ({"schema": 1, "points": [{}]}, "not a hint point"),
        ({"schema": 1, "points": [], "metric": "cka"}, "num_samples"),
        ([], "damaged"),
    ],
)
def test_similarity_of_another_kind(tmp_path, header, message):
    path = tmp_path / "similarity-cka.npz"
    np.savez(path, values=np.eye(2), header=np.array(json.dumps(header)))
    with pytest.raises(PursuhintError, match=message):
        LayerSimilarity.load(path)


def test_one_row_and_column_a_layer(network):
    with pytest.raises(PursuhintError, match=r"8 layers but similarities of shape \(7, 8\)"):
        LayerSimilarity(points_of(network), torch.eye(8)[:7], "cka", 10)


def test_parts_of_a_similarity(analysis):
    whole = analysis.similarities["cka"]
    part = whole.subset([1, 5])
    assert part.points == (whole.points[1], whole.points[5])
    assert part.values[0, 1] == whole.values[1, 5]
