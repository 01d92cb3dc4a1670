"""Without a device, calls from Python run on the best there is, as the command line does."""

from __future__ import annotations

import pytest
import torch

from pursuhint._util.devices import choose_device
from pursuhint.analysis import analyze, compare_networks, sample_batches
from pursuhint.study.profile import profile_networks
from tests.helpers.analysis_networks import noise_images, plain_network

BEST = torch.device("cpu", 0)  # another name of the CPU, which shows in what was asked for


@pytest.fixture(autouse=True)
def _best(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: BEST)


def test_none_is_the_accelerator_and_a_name_is_that_device():
    assert choose_device(None) == BEST
    assert choose_device("cpu") == torch.device("cpu")


def test_without_an_accelerator_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert choose_device(None) == torch.device("cpu")


def test_analyze():
    analysis = analyze(plain_network(), noise_images(), samples=40, stability=False)
    assert analysis.provenance.device == "cpu:0"


def test_profile_networks():
    assert profile_networks(plain_network(), None, (3, 8, 8), batch_sizes=(1,), repeats=1).device == "cpu:0"


def test_compare_networks(monkeypatch):
    seen = []
    make_loader = sample_batches.make_loader

    def watched(*arguments, device, **options):
        seen.append(device)
        return make_loader(*arguments, device=device, **options)

    monkeypatch.setattr(sample_batches, "make_loader", watched)
    compare_networks(plain_network(), plain_network(), noise_images(), samples=40)
    assert set(seen) == {BEST}
