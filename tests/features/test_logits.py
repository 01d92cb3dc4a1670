"""One place turns a network's output into logits."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.logits import LogitsReader


class Returning(nn.Module):
    """A classifier whose embedding is as wide as its three classes, with outputs of a given kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.hidden = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(3, 3)

    def logits(self, images: Tensor) -> Tensor:
        return self.classifier(self.hidden(images))

    def forward(self, images: Tensor) -> Any:
        features = self.hidden(images)
        logits = self.classifier(features)
        outputs: dict[str, Any] = {
            "tensor": logits,
            "tuple of one": (logits,),
            "logits first": (logits, features),
            "features first": (features, logits),
            "list with a table": [torch.arange(7.0), features, logits],
            "mapping": OrderedDict(features=features, logits=logits),
            "mapping without a name": {"embedding": features, "scores": logits},
            "object": SimpleNamespace(hidden_states=(features,), logits=logits),
            "nested": (features, {"out": logits}),
            "maps first": (images[:, :, :1, :1], logits),
        }
        return outputs[self.kind]


KINDS = (
    "tensor", "tuple of one", "logits first", "features first", "list with a table", "mapping",
    "mapping without a name", "object", "nested", "maps first",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_what_the_classifier_gives(kind: str) -> None:
    network, images = Returning(kind), torch.randn(4, 3, 5, 5)
    expected = network.logits(images)
    assert torch.equal(LogitsReader(network)(images), expected)
    features = FeatureExtractor(network, embedding=True)(images)
    assert features.logits is not None
    assert features.embedding is not None
    assert torch.equal(features.logits, expected)
    assert torch.equal(features.embedding, network.hidden(images))


def test_logits_behind_a_softmax_and_features_behind_a_dropout() -> None:
    class Scaled(Returning):
        def forward(self, images: Tensor) -> Any:
            features = self.hidden(images)
            return features * 1.0, F.log_softmax(self.classifier(features), dim=1)

    network, images = Scaled("tensor"), torch.randn(4, 3, 5, 5)
    expected = F.log_softmax(network.logits(images), dim=1)
    assert torch.equal(LogitsReader(network)(images), expected)


def test_auxiliary_outputs_of_training_do_not_count() -> None:
    class Auxiliary(Returning):
        def forward(self, images: Tensor) -> Any:
            logits = self.logits(images)
            return (logits, -logits, self.hidden(images)[:, :2]) if self.training else (logits, images)

    network, images = Auxiliary("tensor"), torch.randn(4, 3, 5, 5)
    assert torch.equal(LogitsReader(network)(images), network.logits(images))


def test_no_tensor_is_refused() -> None:
    class Nothing(nn.Linear):
        def forward(self, images: Tensor) -> Any:
            return {"loss": None}

    with pytest.raises(PursuhintError, match="returned no tensor"):
        LogitsReader(Nothing(2, 2))(torch.ones(1, 2))
