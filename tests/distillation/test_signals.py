"""Networks of signals and videos learn from each other at hint points."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pursuhint.acceleration.options import Acceleration
from pursuhint.data.batch import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.features.feature_norm import find_norm
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import HintPlan


def network(width: int, axes: int, norms: bool = True) -> nn.Sequential:
    """Three convolutions over one or three axes."""
    convolution, norm, pool = {
        1: (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d),
    }[axes]
    layers: list[nn.Module] = []
    for before, after, stride in ((2, width, 1), (width, width, 2), (width, 2 * width, 2)):
        layers += [convolution(before, after, 3, stride), norm(after), nn.ReLU()]
    return nn.Sequential(*layers, pool(1), nn.Flatten(), nn.Linear(2 * width, 3))


SIGNALS = torch.randn(8, 2, 40, generator=torch.Generator().manual_seed(0))
VIDEOS = torch.randn(8, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def distil(loss: str, batch: Tensor) -> tuple[Distiller, Tensor]:
    torch.manual_seed(0)
    student, teacher = (network(width, batch.ndim - 2) for width in (4, 8))
    plan = HintPlan.explicit(find_hint_points(teacher, batch), [1, 2, 3])
    plan = plan.with_student(find_hint_points(student, batch))
    distiller = Distiller.build(
        student, teacher, losses={loss: 1.0, "ce": 0.0}, plan=plan, num_classes=3, num_samples=8,
        example=batch, batch_size=8, acceleration=Acceleration(channels_last=True),
    ).train()  # fmt: skip
    return distiller, distiller(Batch(batch, torch.arange(8) % 3, torch.arange(8))).total


@pytest.mark.parametrize("loss", ["at", "fitnet", "vid", "sp", "reviewkd", "semckd", "ofd", "ft"])
@pytest.mark.parametrize("batch", [SIGNALS, VIDEOS], ids=["signals", "videos"])
def test_hints_of_signals_and_videos_reach_the_first_layer(loss, batch):
    distiller, value = distil(loss, batch)
    assert value.isfinite()
    assert value > 0
    value.backward()
    assert distiller.student[0].weight.grad.abs().sum() > 0


def test_attention_of_a_signal_is_that_over_its_length():
    distiller, found = distil("at", SIGNALS)
    expected = 0.0
    for end in (3, 6, 9):  # what the three activations return
        own, other = (
            nn.functional.normalize(part[:end](SIGNALS).square().mean(1), dim=1)
            for part in (distiller.student, distiller.teacher)
        )
        expected += float((own - other).square().mean().detach())
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_norm_in_front_of_a_point_of_a_signal_is_found():
    teacher = network(4, 1).eval()
    points = find_hint_points(teacher, SIGNALS, activation="pre")
    assert [find_norm(teacher, point, SIGNALS) for point in points] == [teacher[1], teacher[4], teacher[7]]
