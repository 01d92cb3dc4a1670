"""Meta-optimisation of pathways."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pursuhint.data.batch import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.distillation.meta_gradient import (
    BilevelLosses,
    SearchOptions,
    SgdStep,
    meta_gradient,
    search_pathways,
    validation_after_step,
)
from pursuhint.errors import PursuhintError
from tests.distillation.test_distiller import CLASSES, EXAMPLE, Net, make_plan

STEP = SgdStep(lr=0.3, weight_decay=0.05, momentum=0.9)


@pytest.fixture
def problem():
    """A linear student with two tasks, weighted by alpha, and a third that is held out."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs, targets, held_out = draw(6, 3), draw(2, 6, 2), draw(6, 2)
    weights = {"w": draw(3, 2), "b": draw(2)}
    alpha, buffers = draw(2), {"w": draw(3, 2)}

    def train_loss(weights, alpha):
        output = (inputs @ weights["w"] + weights["b"]).tanh()
        return sum(share * F.mse_loss(output, target) for share, target in zip(alpha.softmax(0), targets))

    def validation_loss(weights):
        return F.mse_loss((inputs @ weights["w"] + weights["b"]).tanh(), held_out)

    return BilevelLosses(train_loss, validation_loss), weights, alpha, buffers


def test_exact_gradient_is_that_of_the_step(problem):
    losses, weights, alpha, buffers = problem
    sgd = replace(STEP, buffers=buffers)
    gradient = meta_gradient(losses, weights, alpha, step=sgd, method="exact")
    for index in range(2):
        ends = []
        for sign in (1, -1):
            moved = alpha.clone()
            moved[index] += sign * 1e-6
            leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
            after = validation_after_step(losses, leaves, moved, step=sgd, differentiable=False)
            step = {
                name: weight - 0.3 * (g + 0.05 * weight + 0.9 * buffers.get(name, torch.zeros(())))
                for (name, weight), g in zip(
                    leaves.items(),
                    torch.autograd.grad(losses.train(leaves, moved), list(leaves.values())),
                )
            }
            for name, weight in step.items():
                torch.testing.assert_close(after.weights[name], weight)
            ends.append(after.validation_loss.item())
        assert gradient[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_differences_come_close_to_it(problem):
    before = copy.deepcopy(problem[1:])
    exact = meta_gradient(*problem[:3], step=STEP, method="exact")
    close = meta_gradient(*problem[:3], step=STEP, radius=1e-4)
    torch.testing.assert_close(close, exact, rtol=1e-5, atol=0)
    assert all(torch.equal(before[0][name], weight) for name, weight in problem[1].items())
    assert torch.equal(before[1], problem[2])


def test_nothing_to_gain_gives_a_gradient_of_zero(problem):
    losses, weights, alpha, _ = problem
    flat = replace(losses, validation=lambda weights: 0 * weights["w"].sum())
    gradient = meta_gradient(flat, weights, alpha, step=SgdStep(lr=0.1))
    assert not gradient.any()


def build(**options) -> Distiller:
    torch.manual_seed(0)
    student, teacher = Net(4), Net(6)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    class Options:
        weight = None

    Options.options = options
    plan = make_plan(student, teacher)
    return Distiller.build(
        student,
        teacher,
        losses={"distpro": Options()},
        plan=plan,
        num_classes=CLASSES,
        num_samples=50,
        example=EXAMPLE,
    )


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    for start in (0, 6):
        images = torch.randn(6, 3, 8, 8, generator=generator)
        yield Batch(images, torch.arange(6) % CLASSES, torch.arange(6) + start)


@pytest.mark.parametrize("method", ["differences", "exact"])
def test_search_gives_one_row_an_epoch_and_trains_the_student(method):
    distiller, seen = build(weighting="softmax"), []
    before = copy.deepcopy(distiller.state_dict())
    process = search_pathways(
        distiller,
        "distpro",
        train=batches,
        validation=lambda epoch: list(batches(epoch + 9))[:1],
        options=SearchOptions(3, SgdStep(0.01, momentum=0.9, weight_decay=5e-4), method=method),
        on_epoch=lambda epoch, alpha: seen.append((epoch, alpha.tolist())),
    )
    assert process.shape == (3, 3)
    assert process.isfinite().all()
    assert [row for _, row in seen] == process.tolist()
    assert not torch.equal(process[0], process[2])
    after = distiller.state_dict()
    assert not torch.equal(before["student.fc.weight"], after["student.fc.weight"])
    assert after["student.blocks.0.bn1.num_batches_tracked"] == 6  # the looks ahead leave no trace
    assert build(process=tuple(map(tuple, process.tolist()))).loss("distpro").process.shape == (3, 3)


def test_both_methods_find_similar_processes():
    found = [
        search_pathways(
            build(weighting="softmax").double(),
            "distpro",
            train=doubled,
            validation=doubled,
            options=SearchOptions(1, SgdStep(0.01, momentum=0.9, weight_decay=5e-4), method=method),
        )
        for method in ("differences", "exact")
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0.05, atol=1e-3)


def doubled(seed):
    for batch in batches(seed):
        yield Batch(batch.images.double(), batch.labels, batch.indices)


def test_refuses_a_term_without_pathways():
    for term in ("ce", "nothing"):
        with pytest.raises(PursuhintError, match=f"no term '{term}' with pathways to search"):
            search_pathways(build(), term, train=batches, validation=batches)
    with pytest.raises(PursuhintError, match="method must be one of differences, exact"):
        SearchOptions(method="guess")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SgdStep(0.0), "lr must be positive"),
        (lambda: SgdStep(0.1, momentum=-0.1), "momentum must not be negative"),
        (lambda: SgdStep(0.1, weight_decay=-1.0), "weight_decay must not be negative"),
        (lambda: SearchOptions(epochs=0), "epochs must be positive"),
        (lambda: SearchOptions(alpha_lr=0.0), "alpha_lr must be positive"),
    ],
)
def test_refuses_values_out_of_range(make, message):
    with pytest.raises(PursuhintError, match=message):
        make()
