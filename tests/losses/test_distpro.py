"""DistPro: pathways, their weights and their process."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape
from pursuhint.losses.distpro import PathwayLoss, pathway_weights, pyramid_loss

STUDENT = ((3, 8, 8), (5, 4, 4), (6, 2, 4))
TEACHER = ((4, 8, 8), (4, 4, 4), (7, 2, 4))
ALL = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def make(**options) -> PathwayLoss:
    torch.manual_seed(0)
    shapes = [[FeatureShape(c, tuple(size)) for c, *size in side] for side in (STUDENT, TEACHER)]
    return PathwayLoss(*shapes, **options).double()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    return [
        [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in side]
        for side in (STUDENT, TEACHER)
    ]


def connect(connector, x, size):
    """The connector, written out."""

    def norm(values, bn):
        mean = values.mean((0, 2, 3), keepdim=True)
        variance = values.var((0, 2, 3), correction=0, keepdim=True)
        scaled = (values - mean) / (variance + bn.eps).sqrt()
        return scaled * bn.weight[:, None, None] + bn.bias[:, None, None]

    x = norm(F.conv2d(x, connector.conv1.weight, padding=1), connector.bn1).clamp(min=0)
    x = x * (x * connector.gate.weight[0]).sum(1, keepdim=True)
    x = norm(F.conv2d(x, connector.conv2.weight, padding=1), connector.bn2).clamp(min=0)
    rows = [int(i * x.shape[2] / size[0]) for i in range(size[0])]
    columns = [int(j * x.shape[3] / size[1]) for j in range(size[1])]
    return norm(F.conv2d(x[:, :, rows][:, :, :, columns], connector.conv3.weight, padding=1), connector.bn3)


def pyramid(a, b):
    parts, weights = [(a - b).square().mean()], [1.0]
    for size in (4, 2, 1):
        if size < min(a.shape[2:]):
            pools = [F.adaptive_avg_pool2d(part, size) for part in (a, b)]
            parts.append((pools[0] - pools[1]).square().mean())
            weights.append(weights[-1] / 2)
    return sum(w * part for w, part in zip(weights, parts)) / sum(weights)


@pytest.mark.parametrize("pathways", [None, ((0, 2), (2, 0), (1, 1))])
def test_equals_the_formula_as_a_loop(features, pathways):
    loss = make(pathways=pathways, weighting="sigmoid")
    torch.nn.init.normal_(loss.alpha)
    assert loss.pathways == (pathways or ALL)
    total = 0.0
    for (i, j), alpha in zip(loss.pathways, loss.alpha.tolist()):
        connector = loss.connectors[f"t{i}_s{j}"]
        assert connector.conv1.out_channels == min(STUDENT[j][0], TEACHER[i][0])
        mapped = connect(connector, features[0][j], TEACHER[i][1:])
        total = total + pyramid(mapped, features[1][i]) / (1 + math.exp(-alpha))
    torch.testing.assert_close(loss(*features), total)


@pytest.mark.parametrize(
    ("weighting", "formula"),
    [
        ("constant", lambda a: [0.7] * 3),
        ("softmax", lambda a: [math.exp(x) / sum(map(math.exp, a)) for x in a]),
        ("biased_softmax", lambda a: [math.exp(x) / (math.e + sum(map(math.exp, a))) for x in a]),
        ("sigmoid", lambda a: [1 / (1 + math.exp(-x)) for x in a]),
        ("absolute", lambda a: [abs(x) for x in a]),
        ("share", lambda a: [3 * abs(x) / sum(map(abs, a)) for x in a]),
        ("bounded_share", lambda a: [10 * abs(x) / (1 + sum(map(abs, a))) for x in a]),
        (
            "scaled_biased_softmax",
            lambda a: [2.1 * math.exp(x) / (math.e + sum(map(math.exp, a))) for x in a],
        ),
    ],
)
def test_weights(weighting, formula):
    alpha = [0.3, -1.2, 2.0]
    given = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    weights = pathway_weights(given, weighting, kd_weight=0.7)
    assert weights.tolist() == pytest.approx(formula(alpha))
    zeros = pathway_weights(torch.zeros(3, requires_grad=True), weighting)
    assert zeros.isfinite().all()


def test_pyramid_of_small_maps_is_the_plain_error():
    first, second = torch.randn(2, 2, 3, 1, 1)
    torch.testing.assert_close(pyramid_loss(first, second), F.mse_loss(first, second))
    assert pyramid_loss(first, first).item() == 0


def test_alpha_is_not_trained_with_the_student(features):
    loss = make()
    loss(*features).backward()
    assert loss.alpha.grad is None
    assert all(p.grad is not None for name, p in loss.named_parameters() if name != "alpha")


def test_the_training_goes_through_the_process():
    process = tuple(tuple(float(10 * row + column) for column in range(6)) for row in range(3))
    loss = make(process=process)
    assert loss.alpha.tolist() == [1] * 6
    found = []
    for epoch in range(5):
        loss.begin_epoch(epoch, 5)
        found.append(loss.alpha[0].item())
    assert found == [0, 5, 10, 15, 20]
    loss = make(process=process, interpolate=False)
    for epoch, row in ((0, 0), (1, 0), (2, 1), (4, 2)):
        loss.begin_epoch(epoch, 5)
        assert loss.alpha[0].item() == 10 * row
    for epochs, rows in ((1, process), (3, process[:1])):
        loss = make(process=rows)
        loss.begin_epoch(epochs - 1, epochs)
        assert loss.alpha[0].item() == 0


def test_a_process_may_come_from_yaml():
    checked = PathwayLoss.checked({"process": [[1.0, 2.0]], "pathways": [[0, 0], [0, 1]]})
    assert checked == {"process": ((1.0, 2.0),), "pathways": ((0, 0), (0, 1))}


def test_one_sample_cannot_be_normalised():
    shape = [FeatureShape(2, (1, 1))]
    loss = PathwayLoss(shape, shape)
    with pytest.raises(PursuhintError, match="batch of one sample"):
        loss([torch.randn(1, 2, 1, 1)], [torch.randn(1, 2, 1, 1)])


def test_refuses_pathways_and_processes_that_do_not_fit():
    with pytest.raises(PursuhintError, match=r"pathway \(3, 0\) does not lead from one of 3 layers"):
        make(pathways=((3, 0),))
    with pytest.raises(PursuhintError, match=r"one number for each of the 6 pathways, got rows of \[5\]"):
        make(process=((1.0,) * 5,))
    with pytest.raises(PursuhintError, match="there is no pathway"):
        make(pathways=())
