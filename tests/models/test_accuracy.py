"""The accuracy of a teacher: how it is measured, when it is chance, and when there is none."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from pursuhint.data import ImageData, make_loader
from pursuhint.errors import PursuhintWarning
from pursuhint.models import TeacherAccuracy, accuracy, evaluate, measure_teacher

CLASSES = 4


def data(count: int = 200, *, shares: tuple[int, ...] = (1, 1, 1, 1)) -> ImageData:
    """Images of one pixel, which is the label; so many of each class in turn."""
    pattern = torch.cat([torch.full((share,), label) for label, share in enumerate(shares)])
    labels = pattern.repeat(count // len(pattern) + 1)[:count]
    images = labels.float().reshape(-1, 1, 1, 1)
    constants = {"mean": [0.0], "std": [1.0], "num_classes": CLASSES}
    return ImageData.from_tensors("levels", train=(images, labels), test=(images, labels), **constants)


class Reader(nn.Module):
    """Reads the label off the pixel; with a shift, its classes are in another order."""

    def __init__(self, width: int = CLASSES, *, shift: int = 0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.width, self.shift = width, shift

    def forward(self, images):
        labels = (images.flatten(1)[:, 0].round().long() + self.shift) % self.width
        return nn.functional.one_hot(labels, self.width) + self.bias


def measure(network: nn.Module, images: ImageData, **more) -> TeacherAccuracy:
    return measure_teacher(network, images, name="reader", device="cpu", **more)


def test_it_is_the_accuracy_that_evaluate_gives():
    images, network = data(), Reader().train()
    found = measure(network, images)
    assert (
        found.top1
        == evaluate(network, make_loader(images, "test", batch_size=64, training=False)).top1
        == 100
    )
    assert (found.samples, found.chance, found.near_chance, found.warning()) == (200, 25.0, False, None)
    assert network.training
    assert "top-1 100.00 % on the 200 test samples of levels" in found.line()


def tail(correct: int, samples: int, share: float) -> float:
    """The probability of at least so many successes, term by term."""
    return sum(
        math.comb(samples, hits) * share**hits * (1 - share) ** (samples - hits)
        for hits in range(correct, samples + 1)
    )


@pytest.mark.parametrize("shares", [(1, 1, 1, 1), (7, 1, 1, 1)])
@pytest.mark.parametrize("samples", [10, 200])
def test_near_chance_is_the_binomial_bound_of_the_most_frequent_class(shares, samples):
    images = data(samples, shares=shares)
    share = torch.bincount(images.test.labels).max().item() / samples
    for correct in range(samples + 1):
        found = accuracy.accuracy_of("t", images, correct=correct)
        assert found.near_chance == (tail(correct, samples, share) > accuracy.LEVEL), correct
        assert accuracy._probability_of_at_least(correct, samples, share) == pytest.approx(
            tail(correct, samples, share), rel=1e-9
        )
    assert accuracy.accuracy_of("t", images, correct=round(share * samples)).near_chance
    if samples > 10:  # ten images of which seven are of one class prove nothing
        assert not accuracy.accuracy_of("t", images, correct=samples).near_chance


def test_a_teacher_with_its_classes_in_another_order_is_one_warning():
    with pytest.warns(
        PursuhintWarning, match="the teacher reader is near chance: it is right on 0.00 %"
    ) as said:
        found = measure(Reader(shift=1), data())
    assert len(said) == 1
    assert found.near_chance


class Embedding(nn.Module):
    def forward(self, images):
        return images.flatten(1).expand(-1, 7)


class Nothing(nn.Module):
    def forward(self, images):
        return {}


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Reader(width=9), "it returns 9 numbers an image, and levels has 4 classes"),
        (Embedding(), "it returns 7 numbers an image"),
        (Nothing(), "it returns no scores of classes"),
    ],
)
def test_a_teacher_without_scores_of_the_classes_is_not_measured(network, why):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(network, data())
    assert found.top1 is None
    assert not found.near_chance
    assert why in found.reason
    assert why in found.line()
    assert "%" not in found.line()  # no accuracy is printed of a foreign teacher


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    passes = []
    monkeypatch.setattr(accuracy, "evaluate", lambda *a, **k: passes.append(1) or evaluate(*a, **k))
    keep = tmp_path / "state" / "accuracy.json"
    keep.parent.mkdir()
    first = measure(Reader(), data(), keep=keep)
    assert measure(Reader(), data(), keep=keep) == first
    assert len(passes) == 1
    other = Reader()
    nn.init.ones_(other.bias)
    measure(other, data(), keep=keep)  # another network
    measure(other, data(199), keep=keep)  # other data
    assert len(passes) == 3


def test_it_survives_json():
    found = TeacherAccuracy("a", "b", reason="c", random_weights=True)
    assert TeacherAccuracy.from_dict(found.to_dict()) == found
    assert "random weights" in (found.warning() or "")
