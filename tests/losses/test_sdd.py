"""Scale decoupled distillation against a slow transcription."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.dkd import DecoupledLoss
from pursuhint.losses.kd import SoftTargetLoss
from pursuhint.losses.sdd import ScaleDecoupledLoss

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def layers() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(3, 4).double(), nn.Linear(2, 4).double()


def maps(channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return 4 * torch.randn(6, channels, 4, 4, generator=generator, dtype=torch.float64)


def softened(values: list[float]) -> list[float]:
    exponentials = [math.exp(value / 4) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def regions(scale: int):
    step = 4 // scale
    bounds = [slice(index * step, (index + 1) * step) for index in range(scale)]
    return [(row, column) for row in bounds for column in bounds]


def logits(layer: nn.Linear, image: torch.Tensor, region) -> list[float]:
    return layer(image[:, region[0], region[1]].mean((1, 2))).tolist()


def test_is_the_formula():
    own, other = layers()
    student, teacher = maps(3), maps(2)
    total, differing = 0.0, 0
    for s, t, label in zip(student, teacher, LABELS.tolist()):
        of_image = logits(other, t, (slice(None), slice(None)))
        right = of_image.index(max(of_image)) == label
        for region in regions(1) + regions(2) + regions(4):
            z, y = logits(own, s, region), logits(other, t, region)
            differs = (y.index(max(y)) == label) != right
            differing += differs
            kl = sum(p * math.log(p / q) for p, q in zip(softened(y), softened(z)))
            total += (2.0 if differs else 1.0) * kl
    assert 0 < differing < 6 * 20
    loss = ScaleDecoupledLoss(own, other)
    assert loss([student], [teacher], LABELS).item() == pytest.approx(16 * total / (6 * 21), rel=1e-10)


@pytest.mark.parametrize("divergence", ["kd", "dkd"])
def test_the_whole_alone_is_the_plain_loss_of_the_logits(divergence):
    own, other = layers()
    student, teacher = maps(3), maps(2)
    plain = SoftTargetLoss() if divergence == "kd" else DecoupledLoss()
    expected = plain(own(student.mean((2, 3))), other(teacher.mean((2, 3))), LABELS)
    loss = ScaleDecoupledLoss(own, other, scales=(1,), divergence=divergence)
    torch.testing.assert_close(loss([student], [teacher], LABELS), expected)


def test_the_label_matters_only_through_where_the_teacher_is_right():
    own, other = layers()
    plain = ScaleDecoupledLoss(own, other, complementary_weight=1.0)
    values = [plain([maps(3)], [maps(2)], labels) for labels in (LABELS, (LABELS + 1) % 4)]
    torch.testing.assert_close(*values)
    weighted = ScaleDecoupledLoss(own, other, complementary_weight=3.0)
    assert weighted([maps(3)], [maps(2)], LABELS) > values[0]


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"scales": ()}, {"scales": (0, 2)}, {"alpha": -1.0}, {"divergence": "js"}],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match=next(iter(options))):
        ScaleDecoupledLoss(*layers(), **options)
