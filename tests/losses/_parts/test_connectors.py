"""Maps from student to teacher features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.losses._parts.connectors import ConvRegressor, PointwiseNetwork


def describe(student, teacher):
    regressor = ConvRegressor(3, 5, student, teacher)
    output = regressor(torch.randn(2, 3, *student))
    assert output.shape == (2, 5, *regressor.output_size)
    conv = regressor.conv
    pooled = not isinstance(regressor.pool, nn.Identity)
    return type(conv).__name__, conv.kernel_size, conv.stride, conv.padding, regressor.output_size, pooled


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((8, 8), (4, 4), ("Conv2d", (3, 3), (2, 2), (1, 1), (4, 4), False)),
        ((2, 2), (1, 1), ("Conv2d", (3, 3), (2, 2), (1, 1), (1, 1), False)),
        ((4, 4), (8, 8), ("ConvTranspose2d", (4, 4), (2, 2), (1, 1), (8, 8), False)),
        ((8, 8), (8, 8), ("Conv2d", (1, 1), (1, 1), (0, 0), (8, 8), False)),
        ((8, 8), (6, 6), ("Conv2d", (3, 3), (1, 1), (0, 0), (6, 6), False)),
        ((8, 8), (2, 2), ("Conv2d", (7, 7), (1, 1), (0, 0), (2, 2), False)),
        ((8, 12), (4, 6), ("Conv2d", (3, 3), (2, 2), (1, 1), (4, 6), False)),
        ((4, 6), (8, 12), ("ConvTranspose2d", (4, 4), (2, 2), (1, 1), (8, 12), False)),
        ((8, 7), (4, 4), ("Conv2d", (3, 3), (2, 2), (1, 1), (4, 4), False)),
        ((8, 5), (4, 5), ("Conv2d", (5, 1), (1, 1), (0, 0), (4, 5), False)),
        ((4, 4), (7, 7), ("Conv2d", (1, 1), (1, 1), (0, 0), (4, 4), True)),
        ((4, 4), (8, 4), ("Conv2d", (1, 1), (1, 1), (0, 0), (4, 4), True)),
        ((8, 4), (4, 8), ("Conv2d", (1, 1), (1, 1), (0, 0), (4, 4), True)),
    ],
)
def test_convolution_follows_from_the_sizes(student, teacher, expected):
    assert describe(student, teacher) == expected


def test_ends_in_a_relu_only_if_asked():
    features = torch.randn(4, 3, 2, 2)
    assert ConvRegressor(3, 5, (2, 2), (2, 2))(features).min() == 0
    assert ConvRegressor(3, 5, (2, 2), (2, 2), relu=False)(features).min() < 0


def test_pointwise_network_treats_every_position_alike():
    network = PointwiseNetwork(3, 5)
    features = torch.randn(2, 3, 2, 4)
    output = network(features)
    assert output.shape == (2, 5, 2, 4)
    torch.testing.assert_close(network(features.flip(3)), output.flip(3))
    assert not any(name.endswith("bias") for name, _ in network.named_parameters())
