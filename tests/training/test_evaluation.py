"""Accuracy, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.data import ImageData, make_loader
from pursuhint.training import evaluate


class Scores(nn.Module):
    """Returns the image itself as the scores: what is right is then known."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return images.flatten(1)


def data(classes: int, samples: int = 23) -> ImageData:
    generator = torch.Generator().manual_seed(classes)
    images = torch.randn(samples, 1, 1, classes, generator=generator)
    labels = torch.randint(classes, (samples,), generator=generator)
    labels[0] = classes - 1
    return ImageData.from_tensors(
        "scores", train=(images, labels), test=(images, labels), mean=[0.0], std=[1.0], num_classes=classes
    )


@pytest.mark.parametrize("classes", [3, 5, 12])
@pytest.mark.parametrize("batch_size", [1, 7, 23])
def test_counts_every_sample_once(classes, batch_size):
    images = data(classes)
    loader = make_loader(images, "test", batch_size=batch_size, training=False)
    result = evaluate(Scores(), loader)
    scores, labels = images.test.images.flatten(1).double(), images.test.labels
    ranks = (scores > scores.gather(1, labels[:, None])).sum(dim=1)
    assert result.count == len(labels)
    assert result.top1 == pytest.approx(100 * (ranks < 1).double().mean().item())
    assert result.top5 == pytest.approx(100 * (ranks < 5).double().mean().item())
    assert result.loss == pytest.approx(nn.functional.cross_entropy(scores, labels).item())


def test_with_few_classes_top5_is_everything():
    assert evaluate(Scores(), make_loader(data(3), "test", batch_size=8, training=False)).top5 == 100


def test_shards_add_up_to_the_whole():
    images, network = data(12), Scores()
    whole = evaluate(network, make_loader(images, "test", batch_size=7, training=False))
    sums = []
    for which in range(2):
        loader = make_loader(images, "test", batch_size=7, training=False, shard=(which, 2))
        evaluate(network, loader, reduce=lambda values: sums.append(values) or values)
    first, second = sums
    loader = make_loader(images, "test", batch_size=7, training=False, shard=(0, 2))
    together = evaluate(network, loader, reduce=lambda values: values + second)
    assert (together.top1, together.top5, together.count) == (whole.top1, whole.top5, whole.count)
    assert together.loss == pytest.approx(whole.loss, rel=1e-12)
    assert int(first[-1] + second[-1]) == whole.count


def test_training_flags_are_restored():
    network = nn.Sequential(Scores(), nn.Dropout())
    network.train()
    network[1].eval()
    evaluate(network, make_loader(data(5), "test", batch_size=8, training=False))
    assert [module.training for module in network.modules()] == [True, True, True, False]
