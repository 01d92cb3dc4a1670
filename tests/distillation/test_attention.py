"""Losses that differentiate gradients, in networks with attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.data.batch import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.distillation.meta_gradient import BilevelLosses, SgdStep, meta_gradient
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import HintPlan


class Attention(nn.Module):
    """A residual block of attention by PyTorch's fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.mix(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


def network(seed: int) -> nn.Module:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Conv2d(3, 8, 4, 4)
            self.blocks = nn.Sequential(Attention(), Attention())
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.blocks(self.cut(x).flatten(2).transpose(1, 2)).mean(1))

    torch.manual_seed(seed)
    return Network()


@pytest.mark.parametrize("loss", ["jacobian", "jacobian-attention"])
def test_jacobians_of_networks_with_attention_are_matched(loss):
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    student, teacher = network(1), network(2)
    plan = HintPlan.explicit(find_hint_points(teacher, images), [1, 2]).with_student(
        find_hint_points(student, images)
    )
    task = {"num_classes": 3, "num_samples": 4, "example": images}
    distiller = Distiller.build(student, teacher, losses={loss: 1.0, "ce": 0.0}, plan=plan, **task).train()
    batch = Batch(images, torch.tensor([0, 1, 2, 0]), torch.arange(4))

    def value() -> Tensor:
        return distiller(batch).total

    value().backward()
    weight = student.blocks[0].mix.weight
    found = float(weight.grad[0, 0])
    ends = []
    for step in (1e-2, -2e-2):
        with torch.no_grad():
            weight[0, 0] += step
        ends.append(float(value().detach()))
    assert found == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.1, abs=1e-5)


def test_the_exact_meta_gradient_goes_through_attention():
    student = network(1)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0])

    def loss(weights, scale=1.0):
        return scale * F.cross_entropy(torch.func.functional_call(student, weights, images), labels)

    losses = BilevelLosses(lambda weights, alpha: loss(weights, alpha[0]), loss)
    weights = dict(student.named_parameters())
    alpha = torch.ones(1)
    exact, near = (
        meta_gradient(losses, weights, alpha, step=SgdStep(lr=0.1), method=method)
        for method in ("exact", "differences")
    )
    torch.testing.assert_close(exact, near, rtol=0.02, atol=1e-4)
