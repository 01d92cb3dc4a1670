"""Learning rates by hand, and against PyTorch's schedulers."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from pursuhint.training import ScheduleConfig
from pursuhint.training.schedules import cosine, learning_rate_factor, one_cycle, step_decay, warm_up


def factors(schedule: ScheduleConfig, epochs: int, steps: int) -> list[float]:
    return [
        learning_rate_factor(schedule, step=step, steps_per_epoch=steps, epochs=epochs)
        for step in range(epochs * steps)
    ]


def scheduled_by_torch(make, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_step_decay_by_hand():
    rates = [step_decay(done, milestones=[150, 180, 210]) for done in (0, 149, 150, 179, 180, 209, 210, 239)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_step_decay_is_that_of_torch():
    schedule = ScheduleConfig(kind="step", milestones=(2, 5), gamma=0.2)
    expected = scheduled_by_torch(lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.2), 8)
    assert factors(schedule, 8, 3)[::3] == pytest.approx(expected)
    assert factors(schedule, 8, 3)[2::3] == pytest.approx(expected)  # the same to the end of an epoch


def test_cosine_is_that_of_torch():
    schedule = ScheduleConfig(kind="cosine", floor=0.1)
    expected = scheduled_by_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.1), 20)
    assert factors(schedule, 5, 4) == pytest.approx(expected)


def test_cosine_by_hand():
    assert [cosine(0), cosine(0.5), cosine(1)] == pytest.approx([1, 0.5, 0])
    assert cosine(1, floor=0.2) == pytest.approx(0.2)


def test_cosine_starts_after_the_warm_up():
    rates = factors(ScheduleConfig(kind="cosine", warmup_epochs=2, warmup_start=0.1), 6, 5)
    assert rates[:10] == pytest.approx([0.1 + 0.9 * step / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([cosine(step / 20) for step in range(20)])


def test_one_cycle_has_the_shape_of_torch():
    # Torch counts a step less in either half: compare at its own progress.
    total, peak = 40, 0.25
    expected = scheduled_by_torch(
        lambda o: lr_scheduler.OneCycleLR(
            o, 1.0, total, pct_start=peak, cycle_momentum=False, div_factor=25, final_div_factor=1e4
        ),
        total - 1,
    )
    top = peak * total - 1
    for step, rate in enumerate(expected):
        done = peak * step / top if step <= top else peak + (1 - peak) * (step - top) / (total - 1 - top)
        assert one_cycle(done, peak=peak, start=0.04, floor=4e-6) == pytest.approx(rate, abs=1e-12)


def test_one_cycle_by_hand():
    assert [one_cycle(done) for done in (0, 0.15, 0.3, 0.65, 1)] == pytest.approx([0.04, 0.52, 1, 0.5, 0])


def test_warm_up_is_a_straight_line():
    assert [warm_up(done, start=0.2) for done in (0, 0.5, 1)] == pytest.approx([0.2, 0.6, 1])


def test_milestones_count_from_the_start_of_the_stage():
    rates = factors(ScheduleConfig(kind="step", milestones=(3,), warmup_epochs=1, warmup_start=0.5), 4, 2)
    assert rates == pytest.approx([0.5, 0.75, 1, 1, 1, 1, 0.1, 0.1])


def test_constant_stays():
    assert set(factors(ScheduleConfig(kind="constant"), 3, 4)) == {1.0}


def test_without_a_word_the_rate_falls_along_a_cosine_and_milestones_mean_steps():
    assert ScheduleConfig() == ScheduleConfig(kind="cosine")
    assert ScheduleConfig(milestones=(2,)) == ScheduleConfig(kind="step", milestones=(2,))
    rates = factors(ScheduleConfig(), 4, 5)
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.02
