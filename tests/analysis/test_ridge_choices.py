"""The choice by ridge CCA from CCA to CKA, beside clusterings of matrices that are computed one by one."""

from __future__ import annotations

import re

import pytest
import torch

from pursuhint.analysis import Analysis, RidgeChoices, StoredAnalysis, analyze
from pursuhint.analysis.ridge_choices import RIDGES
from pursuhint.clustering import get_algorithm
from pursuhint.data import make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features import FeatureExtractor
from pursuhint.hints.plan import choose_positions
from pursuhint.report import write_report
from pursuhint.report.figures.ridge_choices import ridge_choices
from pursuhint.similarity import linear_cka, ridge_cca, yanai_gcd
from tests.helpers.analysis_networks import noise_images, plain_network

SAMPLES = 150


@pytest.fixture(scope="module")
def found():
    return analyze(
        plain_network(), noise_images(), metrics=("cka", "ridge-cca"), k=2, samples=SAMPLES, device="cpu"
    )


@pytest.fixture(scope="module")
def rows(found):
    """Pooled features of every layer."""
    loader = make_loader(
        noise_images(), "train", batch_size=SAMPLES, training=False, subset=found.samples, augment=False
    )
    with torch.no_grad():
        maps = FeatureExtractor(plain_network().eval(), found.candidates)(
            next(iter(loader.epoch(0))).images
        ).maps
    return [(one.mean((2, 3)) if one.ndim == 4 else one).double() for one in maps]


def slow(found, rows, similarity):
    """The choice, pair by pair."""
    values = torch.stack([torch.stack([similarity(x, y) for y in rows]) for x in rows])
    layers = choose_positions(get_algorithm("kmeans")(values, 2), "center", values)
    return tuple(found.candidates[layer].position for layer in layers)


def test_every_ridge_gives_the_choice_of_its_own_similarities(found, rows):
    choices = found.robustness.ridges
    assert choices.ridges == RIDGES
    by_ridge = dict(zip(choices.ridges, choices.positions, strict=True))
    assert by_ridge[0.0] == slow(found, rows, yanai_gcd)
    assert by_ridge[0.1] == slow(found, rows, lambda x, y: ridge_cca(x, y, ridge=0.1))
    assert (
        choices.cka
        == slow(found, rows, linear_cka)
        == tuple(point.position for point in found.plan.teacher_points)
    )
    own = found.clusters.clusterings["ridge-cca"]["kmeans"]
    chosen = choose_positions(own, "center", found.similarities["ridge-cca"].values)
    assert by_ridge[0.01] == tuple(found.candidates[layer].position for layer in chosen)


def test_they_are_kept_and_drawn(found, tmp_path):
    found.save(tmp_path)
    assert Analysis.load(tmp_path).robustness.ridges == found.robustness.ridges
    assert StoredAnalysis.load(tmp_path).robustness.ridges == found.robustness.ridges
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert found.robustness.ridges.sentence() in page
    assert list(tmp_path.rglob("ridges*.png"))


def test_other_metrics_do_without():
    plain = analyze(plain_network(), noise_images(), k=2, samples=40, stability=False, device="cpu")
    assert plain.robustness.ridges is None


@pytest.mark.parametrize(
    ("positions", "cka", "words"),
    [
        (((1, 4), (1, 4)), (1, 4), "1, 4 with every ridge"),
        (
            ((1, 4), (2, 5)),
            (2, 5),
            "up to a ridge of 0 .* CCA \\(1, 4\\), from 0.1 on those of CKA \\(2, 5\\)$",
        ),
        (((1, 4), (1, 4)), (2, 5), "up to a ridge of 0.1 .* \\(1, 4\\), beyond all of these .* \\(2, 5\\)$"),
        (((1, 4), (2, 4)), (2, 5), "up to a ridge of 0 .*beyond all .*; between them there is another one$"),
    ],
    ids=["same", "two", "beyond", "three"],
)
def test_sentences(positions, cka, words):
    text = RidgeChoices((0.0, 0.1), positions, cka).sentence()
    assert re.search(words, text), text


def test_choices_of_other_layers_are_refused():
    with pytest.raises(PursuhintError, match="a choice each"):
        ridge_choices([0.0, 0.1], [(1,)], (1,), positions=[1, 2])
    assert ridge_choices([0.0], [(1,)], (2,), positions=[1, 2], stages=[1, 2])
