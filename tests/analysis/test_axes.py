"""An analysis compares means over space, tokens or length, whichever axes these are in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pursuhint.analysis.run_analysis import analyze
from pursuhint.data import ImageData, InputData
from pursuhint.similarity import linear_cka
from tests.features.test_axes import Transformer, convnext


def images(samples: int, size: int) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (samples, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(samples) % 3
    return ImageData.from_tensors("noise", train=(pixels, labels), test=(pixels, labels))


def by_hand(features: list[Tensor]) -> Tensor:
    return torch.stack([torch.stack([linear_cka(x, y) for y in features]) for x in features])


def test_tokens_in_the_first_axis_in_batches_of_as_many_images():
    torch.manual_seed(0)
    first, second = Transformer(False), Transformer(True)
    second.load_state_dict(first.state_dict())
    options = {"batch_size": 16, "k": 2, "stability": False}  # 16 tokens
    found, expected = (
        analyze(network, images(48, 16), **options).similarities["cka"].values for network in (first, second)
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_channels_of_a_stage_that_ends_in_a_norm_of_either_order():
    network = convnext(8)
    data = images(24, 64)
    found = analyze(network, data, k=2, stability=False)
    seen: list[Tensor] = []
    blocks = [*network.first, *network.second]
    hooks = [block.register_forward_hook(lambda m, a, output: seen.append(output)) for block in blocks]
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (data.mean, data.std))
    with torch.no_grad():
        network((data.train.images.float() / 255 - mean) / std)
    for hook in hooks:
        hook.remove()
    expected = by_hand([values.mean((2, 3)) for values in seen])
    torch.testing.assert_close(found.similarities["cka"].values, expected, atol=1e-5, rtol=0)


def test_signals_are_compared_by_their_mean_over_length():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Conv1d(5, 7, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(7, 3),
    ).eval()  # fmt: skip
    signals = torch.randn(40, 2, 20, generator=torch.Generator().manual_seed(0))
    data = InputData.from_tensors("signals", train=(signals, torch.arange(40) % 3))
    found = analyze(network, data, k=2, stability=False).similarities["cka"].values
    with torch.no_grad():
        expected = by_hand([network[:2](signals).mean(2), network[:4](signals).mean(2)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
