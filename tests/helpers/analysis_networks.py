"""Small networks and data to analyse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pursuhint.data import ImageData
from pursuhint.features.hint_points import Activation, HintPoint, find_hint_points


def noise_images(samples: int = 60, size: int = 16, seed: int = 0) -> ImageData:
    """Images of smooth noise, two classes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(samples + 6, 3, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, size=size, mode="bilinear").mul(255).to(torch.uint8)
    labels = torch.arange(samples + 6) % 2
    return ImageData.from_tensors(
        "noise", train=(images[:samples], labels[:samples]), test=(images[samples:], labels[samples:])
    )


def unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def plain_network(
    stages: tuple[tuple[int, int], ...] = ((3, 8), (2, 12), (3, 10)), seed: int = 0
) -> nn.Sequential:
    """A plain CNN; each stage is (units, channels), and every stage but the first halves the resolution."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 3
    for stage, (units, width) in enumerate(stages):
        for number in range(units):
            layers.append(unit(channels, width, 2 if stage > 0 and number == 0 else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


class Block(nn.Module):
    """A transformer's feed-forward block on tokens (N, T, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, 2 * width)
        self.activation = nn.GELU()
        self.second = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.second(self.activation(self.first(self.norm(tokens))))


class TokenNetwork(nn.Module):
    """Patches to tokens, three blocks, mean, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.blocks = nn.ModuleList(Block(6) for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(1))


def vector_network() -> nn.Sequential:
    """Linear layers only: features (N, C)."""
    torch.manual_seed(0)
    hidden = [nn.Sequential(nn.Linear(inputs, 10), nn.ReLU()) for inputs in (3 * 16 * 16, 10, 10)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(10, 2))


def points_of(
    network: nn.Module, *, activation: Activation = "post", size: int = 16
) -> tuple[HintPoint, ...]:
    return find_hint_points(network, torch.zeros(1, 3, size, size), activation=activation)
