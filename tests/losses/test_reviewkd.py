from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.reviewkd import ContextDistance, KnowledgeReviewLoss

STUDENT = [(3, 8, 6), (5, 4, 3), (4, 2, 2)]  # channels, height, width
TEACHER = [(6, 8, 6), (7, 5, 3), (5, 2, 1)]
EMBEDDINGS = 4, 9


def features(samples=3, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(samples, *shape, generator=generator, dtype=torch.float64)

    return (
        [draw(*size) for size in STUDENT],
        [draw(*size) for size in TEACHER],
        draw(EMBEDDINGS[0]),
        draw(EMBEDDINGS[1]),
    )


def make(**options) -> KnowledgeReviewLoss:
    torch.manual_seed(0)
    channels = [[size[0] for size in sizes] for sizes in (STUDENT, TEACHER)]
    loss = KnowledgeReviewLoss(*channels, *EMBEDDINGS, **options).double()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return loss


# -- the formula, written out -----------------------------------------------------------------------------


def norm(x, bn, training):
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, variance = bn.running_mean, bn.running_var
    scale = bn.weight / torch.sqrt(variance + 1e-5)
    return (x - mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


def nearest(x, height, width):
    rows = [i * x.shape[2] // height for i in range(height)]
    columns = [i * x.shape[3] // width for i in range(width)]
    return x[:, :, rows][:, :, :, columns]


def pool(x, height, width):
    out = x.new_zeros(*x.shape[:2], height, width)
    for i, j in itertools.product(range(height), range(width)):
        top, bottom = i * x.shape[2] // height, -(-(i + 1) * x.shape[2] // height)
        left, right = j * x.shape[3] // width, -(-(j + 1) * x.shape[3] // width)
        out[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return out


def hcl(o, t, levels=(4, 2, 1)):
    total, weight, used = ((o - t) ** 2).mean(), 1.0, 1.0
    for level in levels:
        if level >= o.shape[2]:
            continue
        weight /= 2
        total = total + weight * ((pool(o, level, level) - pool(t, level, level)) ** 2).mean()
        used += weight
    return total / used


def slow(loss, inputs, training, *, attention=True, output_passed_on=False, distance=hcl):
    students = [*inputs[0], inputs[2][:, :, None, None]]
    teachers = [*inputs[1], inputs[3][:, :, None, None]]
    terms, previous = [], None
    for j in reversed(range(len(students))):
        m, f, t = loss.fusions[j], students[j], teachers[j]
        x = norm(F.conv2d(f, m.conv1.weight), m.bn1, training)
        if previous is not None:
            if output_passed_on:
                conv, bn = m.deeper
                previous = norm(F.conv2d(previous, conv.weight), bn, training)
            y = nearest(previous, *f.shape[2:])
            if attention:
                z = torch.sigmoid(F.conv2d(torch.cat([x, y], 1), m.attention.weight, m.attention.bias))
                x = x * z[:, :1] + y * z[:, 1:]
            else:
                x = x + y
        x = nearest(x, *t.shape[2:])
        o = norm(F.conv2d(x, m.conv2.weight, padding=1), m.bn2, training)
        previous = o if output_passed_on else x
        terms.append(distance(o, t))
    return torch.stack(terms[::-1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"mid_channels": 11}, {}),
        ({"fusion": "sum"}, {"attention": False}),
        ({"residual_output": "output"}, {"output_passed_on": True}),
        ({"residual_output": "output", "fusion": "sum"}, {"output_passed_on": True, "attention": False}),
        ({"distance": "l2"}, {"distance": F.mse_loss}),
    ],
)
def test_is_the_formula(options, changes, training):
    loss, inputs = make(**options).train(training), features()
    expected = slow(loss, inputs, training, **changes)
    terms = loss.terms(*inputs)
    assert list(terms) == ["hint_0", "hint_1", "hint_2", "hint_3"]
    torch.testing.assert_close(torch.stack(list(terms.values())), expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(loss(*inputs), expected.sum(), rtol=1e-11, atol=0)


def alone(m, f, t, training=True):
    x = nearest(norm(F.conv2d(f, m.conv1.weight), m.bn1, training), *t.shape[2:])
    return hcl(norm(F.conv2d(x, m.conv2.weight, padding=1), m.bn2, training), t)


@pytest.mark.parametrize("review", [True, False])
def test_without_residual_learning_every_pair_has_its_own_map(review):
    loss, inputs = make(review=review, residual=False), features()
    students = [*inputs[0], inputs[2][:, :, None, None]]
    teachers = [*inputs[1], inputs[3][:, :, None, None]]
    for j, value in enumerate(loss.terms(*inputs).values()):
        sources = range(j, 4) if review else [j]
        expected = sum(alone(loss.fusions[j][i - j], students[i], teachers[j]) for i in sources)
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=0)
    assert sum(len(fusions) for fusions in loss.fusions) == (10 if review else 4)


def test_without_embeddings():
    loss, inputs = make(embedding=False, mid_channels=4), features()
    assert loss.info.inputs == ("student_maps", "teacher_maps")
    assert list(loss.terms(*inputs[:2])) == ["hint_0", "hint_1", "hint_2"]
    assert loss.fusions[2].attention is None
    assert loss(*inputs[:2]).isfinite()


@pytest.mark.parametrize(
    "options",
    [{}, {"review": False}, {"residual": False}, {"fusion": "sum"}, {"residual_output": "output"}],
)
def test_everything_learns(options):
    loss, inputs = make(**options), features()
    for tensor in (*inputs[0], inputs[2]):
        tensor.requires_grad_()
    loss(*inputs).backward()
    assert all(tensor.grad.any() for tensor in (*inputs[0], inputs[2]))
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_width_of_the_fusion_is_that_of_the_deepest_point_up_to_512():
    assert KnowledgeReviewLoss([8], [8], 64, 64).fusions[0].conv1.out_channels == 64
    assert KnowledgeReviewLoss([8], [8], 2048, 64).fusions[0].conv1.out_channels == 512
    assert KnowledgeReviewLoss([8, 7], [8, 7], embedding=False).fusions[0].conv1.out_channels == 7


# -- the hierarchical context loss ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "size", "expected"),
    [
        (("h", 4, 2, 1), (8, 8), [8, 4, 2, 1]),
        (("h", 4, 2, 1), (4, 4), [4, 2, 1]),
        (("h", 4, 2, 1), (1, 1), [1]),
        ((4, 1), (8, 8), [4, 1]),
        ((4, 1), (2, 2), [2, 1]),
        (("h", "h/2", "h/4"), (7, 7), [7, 3, 1]),
        (("h", "h - 1", "h-2", "h-3"), (8, 8), [8, 7, 6, 5]),
        (("h", "h-1", "h-2", "h-3"), (2, 2), [2, 1]),
    ],
)
def test_levels(levels, size, expected):
    assert ContextDistance(levels, [1.0] * len(levels)).sizes(size) == tuple((n, n) for n in expected)


def test_the_height_of_rectangular_maps_decides():
    distance = ContextDistance(["h", 4, "h/2", "h-5", 1], [1.0] * 5)
    assert distance.sizes((6, 3)) == ((6, 3), (4, 4), (3, 1), (1, 1))
    assert distance.sizes((4, 8)) == ((4, 8), (2, 4), (1, 3), (1, 1))


def test_weights_fall_to_the_levels_that_are_left():
    distance = ContextDistance(("h", 4, 2, 1), (0.125, 0.25, 0.5, 1.0))
    first, second = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(2))
    expected = sum(
        weight * F.mse_loss(pool(first, level, level), pool(second, level, level))
        for weight, level in ((0.125, 4), (0.25, 2), (0.5, 1))
    )
    torch.testing.assert_close(distance(first, second), expected / 0.875)


def test_pooled_levels_forgive_what_averages_out():
    same_mean = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    one_level = ContextDistance((1,), (1.0,))
    assert one_level(same_mean, torch.zeros(1, 1, 2, 2)) == 0
    assert ContextDistance(("h",), (1.0,))(same_mean, torch.zeros(1, 1, 2, 2)) == 1


# -- in training ------------------------------------------------------------------------------------------


def test_grows_over_the_first_epochs():
    inputs = features()
    full = make()(*inputs)
    for start, factors in ((1, (0.05, 0.1, 1.0)), (0, (0.0, 0.05, 0.95))):
        loss = make(ramp_start=start)
        for epoch, factor in zip((0, 1, 19), factors):
            loss.begin_epoch(epoch, 240)
            torch.testing.assert_close(loss(*inputs), factor * full)
    loss = make(ramp_epochs=0)
    loss.begin_epoch(0, 240)
    assert loss(*inputs) == full


def test_takes_tokens():
    loss = KnowledgeReviewLoss([4, 4], [6, 6], 4, 6)
    students = [torch.randn(2, 17, 4), torch.randn(2, 17, 4)]
    teachers = [torch.randn(2, 6, 8, 8), torch.randn(2, 17, 6)]
    assert loss(students, teachers, torch.randn(2, 4), torch.randn(2, 6)).isfinite()


def test_build():
    pairs = tuple((FeatureShape(s[0], s[1:]), FeatureShape(t[0], t[1:])) for s, t in zip(STUDENT, TEACHER))
    context = LossContext(pairs, 10, 64, *EMBEDDINGS)
    loss = KnowledgeReviewLoss.build(context, levels=["h", "h/2"], level_weights=[1, 0.5])
    assert loss(
        *(
            [tensor.float() for tensor in entry] if isinstance(entry, list) else entry.float()
            for entry in features()
        )
    ).isfinite()


def test_says_what_is_wrong():
    inputs = features()
    with pytest.raises(PursuhintError, match="built for 4 levels, but got 3 of the student and 4"):
        make()(inputs[0][:2], *inputs[1:])
    with pytest.raises(PursuhintError, match="compares embeddings too"):
        make()(*inputs[:2])
    with pytest.raises(PursuhintError, match="batch of one sample"):
        make()(*features(samples=1))
    assert make().eval()(*features(samples=1)).isfinite()
    with pytest.raises(PursuhintError, match="got 1 of the student and 2 of the teacher"):
        KnowledgeReviewLoss([3], [3, 4], 2, 2)
    with pytest.raises(PursuhintError, match="at least one hint point"):
        KnowledgeReviewLoss([], [], embedding=False)
    with pytest.raises(PursuhintError, match="mid_channels must be positive"):
        make(mid_channels=0)
    with pytest.raises(PursuhintError, match="equally many, and at least one; got 4 and 3"):
        make(level_weights=(1.0, 1.0, 1.0))
    with pytest.raises(PursuhintError, match="level_weights must be positive, got 0"):
        make(levels=("h",), level_weights=(0.0,))
    for level in ("k", "h+1", "h-0", 0, True):
        with pytest.raises(PursuhintError, match="a level is a positive number"):
            make(levels=(level,), level_weights=(1.0,))
    with pytest.raises(PursuhintError, match="fusion must be one of attention, sum; got 'x'"):
        make(fusion="x")
    with pytest.raises(PursuhintError, match="ramp_epochs must not be negative"):
        make(ramp_epochs=-1)
