"""VkD against a slow transcription, its projection, and the projection as a connector of other losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.orthogonal import OrthogonalProjection
from pursuhint.losses.fitnet import FitNetLoss
from pursuhint.losses.srrl import SoftmaxRegressionLoss
from pursuhint.losses.vkd import OrthogonalProjectionLoss

WIDTHS = [(3, 5), (5, 3), (4, 4)]


def embeddings(*widths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(6, width, generator=generator, dtype=torch.float64) for width in widths]


def normalized(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    variance = sum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + 1e-5) for value in row]


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


@pytest.mark.parametrize("projection", ["orthogonal", "linear"])
def test_is_the_formula(projection):
    torch.manual_seed(0)
    loss = OrthogonalProjectionLoss(3, 5, projection=projection).double()
    matrix = loss.project.matrix if projection == "orthogonal" else loss.project.weight
    student, teacher = embeddings(3, 5)
    total = 0.0
    for own, other in zip(student.tolist(), teacher.tolist()):
        projected = [sum(p * value for p, value in zip(row, own)) for row in matrix.tolist()]
        total += sum(huber(a - b) for a, b in zip(projected, normalized(other)))
    assert loss(student, teacher).item() == pytest.approx(total / 30, rel=1e-12)


def trained(projection: OrthogonalProjection, target: nn.Module) -> OrthogonalProjection:
    """After steps of SGD with weight decay."""
    optimizer = torch.optim.SGD(projection.parameters(), lr=0.1, weight_decay=0.01)
    x = torch.randn(64, projection.free.shape[1]).double()
    for _ in range(150):
        optimizer.zero_grad()
        F.mse_loss(projection(x), target(x).detach()).backward()
        optimizer.step()
    return projection


@pytest.mark.parametrize(("own", "other"), WIDTHS)
def test_the_projection_stays_orthogonal_and_learns(own, other):
    torch.manual_seed(0)
    target, projection = (OrthogonalProjection(own, other).double() for _ in range(2))
    if own == other and torch.linalg.det(projection.matrix @ target.matrix) < 0:
        with torch.no_grad():  # no path leads from a rotation to a reflection
            target.free[0].neg_()
    before = (projection.matrix - target.matrix).norm().item()
    trained(projection, target)
    matrix = projection.matrix.detach()
    gram = matrix.T @ matrix if other >= own else matrix @ matrix.T
    torch.testing.assert_close(gram, torch.eye(min(own, other)).double())
    assert (matrix - target.matrix).norm() < 0.9 * before


@pytest.mark.parametrize(("own", "other"), [(3, 5), (4, 4)])
def test_the_projection_keeps_lengths_where_the_teacher_is_as_wide(own, other):
    torch.manual_seed(0)
    (x,) = embeddings(own)
    y = OrthogonalProjection(own, other).double()(x)
    torch.testing.assert_close(torch.cdist(y, y), torch.cdist(x, x))


def test_the_scale_of_the_weights_does_not_count():
    torch.manual_seed(0)
    projection = OrthogonalProjection(3, 5).double()
    before = projection.matrix.detach()
    with torch.no_grad():
        projection.free.mul_(1e-3)
    torch.testing.assert_close(projection.matrix, before)


def test_scale_and_shift_of_the_teacher_do_not_count():
    loss = OrthogonalProjectionLoss(3, 5, norm_eps=1e-30).double()
    student, teacher = embeddings(3, 5)
    torch.testing.assert_close(loss(student, teacher), loss(student, 7 * teacher - 2))


@pytest.mark.parametrize(
    ("own", "other", "size", "wanted", "output"),
    [(3, 5, (4, 4), (2, 2), (2, 2)), (5, 3, (2, 4), (4, 4), (2, 4))],
)
def test_fitnet_takes_the_projection_as_its_connector(own, other, size, wanted, output):
    torch.manual_seed(0)
    loss = FitNetLoss(own, other, size, wanted, connector="orthogonal", norm=False, relu=False)
    student, teacher = torch.randn(2, own, *size), torch.randn(2, other, *wanted)
    matrix = loss.regressor.conv.matrix
    pooled, target = F.adaptive_avg_pool2d(student, output), F.adaptive_avg_pool2d(teacher, output)
    expected = F.mse_loss(torch.einsum("oc,nchw->nohw", matrix, pooled), target)
    torch.testing.assert_close(loss(student, teacher), expected)


def test_srrl_takes_the_projection_as_its_connector():
    torch.manual_seed(0)
    loss = SoftmaxRegressionLoss(3, 5, nn.Linear(5, 4), connector="orthogonal").eval()
    x = torch.randn(6, 3)
    expected = torch.relu(x @ loss.connector.project.matrix.T) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(loss.connected(x), expected)


@pytest.mark.parametrize("options", [{"projection": "diagonal"}, {"norm_eps": 0.0}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match=next(iter(options))):
        OrthogonalProjectionLoss(3, 5, **options)
