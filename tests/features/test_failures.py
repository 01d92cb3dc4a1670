"""A network that cannot take the images says in one line which module, which shape, and what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

import pursuhint
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import failing_module_named, trace_calls


def transformer() -> VisionTransformer:
    return VisionTransformer(16, 4, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8, num_classes=3)


def test_the_size_a_network_was_built_for_is_offered_before_training() -> None:
    with pytest.raises(PursuhintError, match=r"shape \(2, 3, 8, 8\).*--image-size 16 .* resizes the images"):
        pursuhint.Distiller.build(
            transformer(), None, losses={}, num_classes=3, num_samples=4, example=torch.randn(4, 3, 8, 8)
        )


class Picky(nn.Module):
    """Fails as a network of a library does that knows one size."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.error = error

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("Input height (8) doesn't match model (224)."),
        ValueError("Input image size (8*8) doesn't match model (224*224)."),
    ],
    ids=["timm", "transformers"],
)
def test_messages_of_other_libraries_about_sizes_are_understood(error: Exception) -> None:
    with pytest.raises(PursuhintError, match=r"--image-size 224 \(data.image_size: 224\)"):
        trace_calls(Picky(error), torch.randn(2, 3, 8, 8))


def test_a_failure_that_is_not_of_the_network_stays_what_it_is() -> None:
    network = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), failing_module_named(network, torch.randn(4, 2)):
        _ = 1 / 0
    wide = torch.randn(4, 3)
    with pytest.raises(PursuhintError, match="cannot run"), failing_module_named(network, wide):
        network(wide)
