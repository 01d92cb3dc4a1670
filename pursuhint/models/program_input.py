"""What an exported program takes: images, or texts as numbers of tokens and their mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import MASK
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.logits import LogitsOnly, TextLogits

Tensors = tuple[Tensor, ...]


class ProgramInput(Protocol):
    """The tensors that a program takes."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors, in their order."""

    def program(self, network: nn.Module) -> nn.Module:
        """The network as a module that takes these tensors by position and returns logits alone."""

    def two(self) -> Tensors:
        """Two samples: torch.export would specialize a batch of one to a constant."""

    def shapes(self) -> tuple[dict[int, Any], ...]:
        """Axes that may have any size, for torch.export, a mapping for each tensor."""

    def draw(self, count: int, generator: torch.Generator) -> Tensors:
        """Random samples, to compare the program with the network."""


def program_input(example: Tensor | Mapping[str, Tensor]) -> ProgramInput:
    """What a program of a network takes whose input an example shows.

    Args:
        example: images (N, C, H, W), or ``input_ids`` and ``attention_mask`` (N, tokens).

    Raises:
        PursuhintError: a mapping of other tensors.
    """
    if isinstance(example, Tensor):
        return ImageInput(tuple(example.shape[1:]))
    if set(example) != {"input_ids", MASK}:
        raise PursuhintError(
            f"a network of texts is exported with input_ids and {MASK}; got {', '.join(sorted(example))}"
        )
    ids = example["input_ids"]
    return TextInput(ids.shape[1], int(ids.max()) + 1)


@dataclass(frozen=True)
class ImageInput:
    """Images, normalised, in batches of any size.

    Attributes:
        shape: of an image, (channels, height, width).
    """

    shape: tuple[int, ...]
    names = ("images",)

    def program(self, network: nn.Module) -> nn.Module:
        """The network itself where it returns one tensor."""
        (two,) = self.two()
        with evaluating(network), torch.no_grad():
            if isinstance(network(two), Tensor):
                return network
        return LogitsOnly(network, two).train(network.training)

    def two(self) -> Tensors:
        """Black images."""
        return (torch.zeros(2, *self.shape),)

    def shapes(self) -> tuple[dict[int, Any], ...]:
        """Any number of images."""
        return ({0: torch.export.Dim("batch")},)

    def draw(self, count: int, generator: torch.Generator) -> Tensors:
        """Normally distributed values."""
        return (torch.randn(count, *self.shape, generator=generator),)


@dataclass(frozen=True)
class TextInput:
    """Texts, as numbers of tokens and a mask that is 0 where they are padded, in batches of any size.

    Attributes:
        tokens: of a text, at most.
        vocab_size: numbers of tokens that occur.
    """

    tokens: int
    vocab_size: int
    names = ("input_ids", MASK)

    def program(self, network: nn.Module) -> nn.Module:
        """The network, wrapped."""
        ids, mask = self.two()
        return TextLogits(network, {"input_ids": ids, MASK: mask}).train(network.training)

    def two(self) -> Tensors:
        """Two texts of the same token."""
        ids = torch.zeros(2, self.tokens, dtype=torch.int64)
        return ids, torch.ones_like(ids)

    def shapes(self) -> tuple[dict[int, Any], ...]:
        """Any number of texts, and of tokens up to the most."""
        axes = {0: torch.export.Dim("batch")}
        if self.tokens > 2:
            axes[1] = torch.export.Dim("tokens", min=2, max=self.tokens)
        return axes, axes

    def draw(self, count: int, generator: torch.Generator) -> Tensors:
        """Random tokens, the more the larger the batch is, and padding behind some of them."""
        length = min(self.tokens, 2 + count)
        ids = torch.randint(self.vocab_size, (count, length), generator=generator)
        real = torch.randint(1, length + 1, (count, 1), generator=generator)
        return ids, (torch.arange(length) < real).long()
