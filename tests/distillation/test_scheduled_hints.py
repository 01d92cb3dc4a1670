"""Hint points that change from epoch to epoch: what teaches, what learns, how deep the teacher runs."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.distillation.scheduled_hints import ScheduledHints
from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.hints.schedules.random_each_epoch import draw, random_each_epoch
from pursuhint.losses import LOSSES, get_loss
from pursuhint.training.recipe.schema import LossConfig
from tests.helpers.study_runs import untrained

EXAMPLE = torch.zeros(2, 1, 8, 8)
EPOCHS = 3

STAYS = {"afd", "norm", "simkd", "ab", "fsp"}
"""Losses with a hint plan that choose their own points, change the student, or end before the main stage."""


@pytest.fixture(scope="module")
def teacher():
    return untrained("resnet14")


@pytest.fixture(scope="module")
def batch() -> Batch:
    torch.manual_seed(0)
    return Batch(torch.randn(8, 1, 8, 8), torch.arange(8), torch.arange(8))


def drawn(teacher, student) -> HintPlan:
    points, own = find_hint_points(teacher, EXAMPLE), find_hint_points(student, EXAMPLE)
    return random_each_epoch(points, own, seed=4, epochs=EPOCHS)


def distiller(teacher, student, plan, losses, **options) -> Distiller:
    torch.manual_seed(1)
    built = Distiller.build(
        student, teacher, losses=losses, plan=plan, num_classes=10, num_samples=8, example=EXAMPLE, **options
    )
    return built.train()


def noting(reached: list[int], position: int):
    return lambda *_: reached.append(position)


def test_draws_follow_from_seed_and_epoch_alone_and_are_uniform():
    assert draw(9, 3, seed=5, epoch=7) == draw(9, 3, seed=5, epoch=7)
    draws = [draw(9, 3, seed=5, epoch=epoch) for epoch in range(3000)]
    assert all(list(layers) == sorted(set(layers)) for layers in draws)
    counts = Counter(draws)
    assert len(counts) == 84  # every subset of three of nine
    expected = 3000 / 84
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 83 + 4 * (2 * 83) ** 0.5
    assert sum(draw(9, 3, seed=6, epoch=epoch) == draws[epoch] for epoch in range(300)) < 15


@pytest.mark.parametrize("loss", ["at", "fitnet", "ofd", "reviewkd"])
def test_every_epoch_is_the_loss_on_the_pairs_of_its_draw(teacher, batch, loss):
    """A slow reference: a distiller built for each epoch, with what has been learned for its pairs."""
    student = untrained("resnet8", seed=2)
    plan = drawn(teacher, student)
    ours = distiller(teacher, student, plan, {"ce": 0.0, loss: 1.0})
    scheduled = ours.loss(loss)
    assert isinstance(scheduled, ScheduledHints)
    for epoch in range(EPOCHS):
        ours.begin_epoch(epoch, EPOCHS)
        now = scheduled.present_pairs
        assert [plan.pairs[pair].teacher.position - 1 for pair in now] == list(
            draw(len(find_hint_points(teacher, EXAMPLE)), 3, seed=4, epoch=epoch)
        )
        alone = HintPlan(tuple(plan.pairs[pair] for pair in now))
        reference = distiller(teacher, untrained("resnet8", seed=2), alone, {"ce": 0.0, loss: 1.0})
        reference.begin_epoch(epoch, EPOCHS)
        parts = [scheduled.variants[use.variant] for use in scheduled._now]
        if loss == "reviewkd":
            reference.loss(loss).load_state_dict(parts[0].state_dict())
        else:
            for own, part in zip(reference.loss(loss).hints, parts, strict=True):
                own.load_state_dict(part.hints[0].state_dict())
        with torch.no_grad():
            torch.testing.assert_close(ours(batch).parts[loss], reference(batch).parts[loss])


def test_a_connector_belongs_to_a_pair_and_learns_when_the_pair_teaches(teacher, batch):
    student = untrained("resnet8")
    plan = drawn(teacher, student)
    ours = distiller(teacher, student, plan, {"fitnet": 1.0})
    loss = ours.loss("fitnet")
    assert len(loss.variants) == len(plan.pairs)
    for epoch in range(EPOCHS):
        ours.zero_grad(set_to_none=True)
        ours.begin_epoch(epoch, EPOCHS)
        ours(batch).total.backward()
        at_work = {use.variant for use in loss._now}
        assert len(at_work) == 3
        for index, variant in enumerate(loss.variants):
            gradients = [parameter.grad is not None for parameter in variant.parameters()]
            assert all(gradients) if index in at_work else not any(gradients)


def test_the_teacher_is_read_at_the_points_of_the_epoch_and_runs_no_deeper(teacher, batch):
    student = untrained("resnet8")
    plan = drawn(teacher, student)
    ours = distiller(teacher, student, plan, {"at": 1.0})
    depths = set()
    for epoch in range(EPOCHS):
        ours.begin_epoch(epoch, EPOCHS)
        read = ours.teacher_outputs.points
        assert {point.position - 1 for point in read} == set(draw(6, 3, seed=4, epoch=epoch))
        reached: list[int] = []
        hooks = [
            teacher.get_submodule(point.module).register_forward_hook(noting(reached, point.position))
            for point in find_hint_points(teacher, EXAMPLE)
        ]
        ours._teacher_runner._original(batch.images)
        for hook in hooks:
            hook.remove()
        assert max(reached) == max(point.position for point in read)
        depths.add(max(reached))
    assert len(depths) > 1


def test_a_pass_for_several_students_is_read_at_what_each_has_drawn(teacher, batch):
    from pursuhint.distillation import TeacherOutputs, TeacherRunner

    students = [untrained("resnet8"), untrained("resnet8")]
    plans = [
        random_each_epoch(
            find_hint_points(teacher, EXAMPLE), find_hint_points(students[0], EXAMPLE), seed=seed, epochs=2
        )
        for seed in (0, 1)
    ]
    ours = [distiller(teacher, student, plan, {"at": 1.0}) for student, plan in zip(students, plans)]
    for epoch in range(2):
        for each in ours:
            each.begin_epoch(epoch, 2)
        union = TeacherOutputs.union([each.teacher_outputs for each in ours])
        shared = TeacherRunner(teacher, union)(batch.images)
        for each in ours:
            given = union.select(shared, each.teacher_outputs)
            torch.testing.assert_close(each(batch, given).total, each(batch).total)


@pytest.mark.parametrize("name", [name for name in LOSSES if get_loss(name).needs_hint_plan()])
def test_any_hint_loss_follows_a_schedule_or_says_why_not(teacher, batch, name):
    student = untrained("resnet8")
    plan = drawn(teacher, student)
    if name in STAYS:
        with pytest.raises(PursuhintError, match="cannot change from epoch to epoch"):
            distiller(teacher, student, plan, {name: 1.0})
        return
    ours = distiller(teacher, student, plan, {name: 1.0}, labels=batch.labels, batch_size=8)
    for epoch in range(2):
        ours.zero_grad(set_to_none=True)
        ours.begin_epoch(epoch, EPOCHS)
        losses = ours(batch)
        losses.total.backward()
        assert torch.isfinite(losses.parts[name])
        trained = [parameter.grad for parameter in ours.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in trained)


def test_a_loss_that_ends_before_the_main_stage_by_an_option_is_refused(teacher):
    student = untrained("resnet8")
    losses = {"fitnet": LossConfig(weight=1.0, options={"two_stages": True})}
    with pytest.raises(PursuhintError, match="ends before the main stage"):
        distiller(teacher, student, drawn(teacher, student), losses)


def test_an_epoch_after_the_last_draw_is_refused(teacher):
    student = untrained("resnet8")
    ours = distiller(teacher, student, drawn(teacher, student), {"at": 1.0})
    with pytest.raises(PursuhintError, match="drawn for 3 epochs, and this is epoch 4"):
        ours.begin_epoch(3, 4)
