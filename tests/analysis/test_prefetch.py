"""Batches on their way to the device, and the time that each part of a pass takes."""

from __future__ import annotations

import time

import pytest
import torch

from pursuhint._util.timing import CollectSeconds, Stopwatch
from pursuhint.analysis.collection import collect
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.analysis.prefetch import Prefetcher
from pursuhint.data import Batch
from pursuhint.features.hint_points import find_hint_points
from pursuhint.models import create_model


def some_batches(count: int = 5, size: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        Batch(
            torch.randn(size, 3, 16, 16, generator=generator),
            torch.zeros(size, dtype=torch.int64),
            torch.arange(number * size, (number + 1) * size),
        )
        for number in range(count)
    ]


def test_hands_out_what_it_was_given_and_then_nothing():
    given = some_batches(3)
    prefetcher = Prefetcher(given, "cpu")
    for batch in given:
        taken = prefetcher.next()
        prefetcher.preload()
        assert torch.equal(taken.images, batch.images)
        assert torch.equal(taken.indices, batch.indices)
    assert prefetcher.next() is None
    assert prefetcher.next() is None


def test_on_the_cpu_no_batch_is_fetched_before_its_time():
    fetched = []

    def batches():
        for batch in some_batches(3):
            fetched.append(batch)
            yield batch

    prefetcher = Prefetcher(batches(), "cpu")
    prefetcher.next()
    prefetcher.preload()
    assert len(fetched) == 1


def test_parts_of_a_pass_are_timed():
    seconds = CollectSeconds(forward=1.0)
    watch = Stopwatch(seconds, "cpu")
    with watch.measure("forward"):
        time.sleep(0.02)
    with watch.measure("accumulate"):
        time.sleep(0.01)
    watch.settle()
    assert 1.02 <= seconds.forward < 1.5
    assert 0.01 <= seconds.accumulate < 0.5
    assert seconds.data == 0


@pytest.mark.gpu
def test_on_a_gpu_the_same_statistics_with_the_next_batch_under_way():
    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=10, in_channels=3)
    given = some_batches()
    points = find_hint_points(network, given[0].images)
    expected = collect([(network, points)], given)
    seconds = CollectSeconds()
    began = time.perf_counter()
    found = collect([(network.cuda(), points)], given, PassOptions(device="cuda"), seconds=seconds)
    assert seconds.total <= time.perf_counter() - began
    assert min(seconds.forward, seconds.accumulate) > 0
    for layer in range(len(points)):
        torch.testing.assert_close(
            found.cross(layer, layer).cpu(), expected.cross(layer, layer), rtol=1e-3, atol=1e-3
        )


@pytest.mark.gpu
def test_on_a_gpu_a_batch_is_copied_while_another_is_worked_on():
    prefetcher = Prefetcher(some_batches(2), "cuda")
    first = prefetcher.next()
    prefetcher.preload()
    second = prefetcher.next()
    for batch, given in zip((first, second), some_batches(2)):
        assert batch.images.is_cuda
        assert torch.equal(batch.images.cpu(), given.images)
    assert prefetcher.next() is None
