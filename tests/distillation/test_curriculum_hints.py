"""A teacher layer that moves deeper: when it moves, what is learned meanwhile, how far the teacher runs."""

from __future__ import annotations

import pytest
import torch

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.distillation.curriculum_hints import CurriculumHints, batch_similarity
from pursuhint.errors import PursuhintError
from pursuhint.features import FeatureExtractor, find_hint_points
from pursuhint.hints import Curriculum, HintPlan
from pursuhint.hints.schedules.curriculum import curriculum, targets_of
from pursuhint.similarity import debiased_cka
from tests.helpers.study_runs import untrained

EXAMPLE = torch.zeros(2, 1, 8, 8)


@pytest.fixture(scope="module")
def teacher():
    return untrained("resnet14")


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    torch.manual_seed(0)
    return [Batch(torch.randn(8, 1, 8, 8), torch.arange(8), torch.arange(8)) for _ in range(4)]


def build(teacher, schedule: Curriculum, loss: str = "at", k: int = 3) -> Distiller:
    torch.manual_seed(1)
    student = untrained("resnet8", seed=2)
    targets = targets_of(find_hint_points(teacher, EXAMPLE), k, epochs=9)
    own = find_hint_points(student, EXAMPLE)[-1:] * k
    return Distiller.build(
        student,
        teacher,
        losses={"ce": 0.0, loss: 1.0},
        plan=curriculum(targets, own, schedule),
        num_classes=10,
        num_samples=8,
        example=EXAMPLE,
    ).train()


def walk(ours: Distiller, batches: list[Batch], epochs: int) -> tuple[list[int], list[float]]:
    """The target of every epoch, and the running similarity at its end."""
    loss = ours.loss("at")
    assert isinstance(loss, CurriculumHints)
    targets, similarities = [], []
    for epoch in range(epochs):
        ours.begin_epoch(epoch, epochs)
        for batch in batches:
            ours(batch)
        targets.append(int(loss.target))
        similarities.append(float(loss.similarity))
    return targets, similarities


def reference(teacher, batches: list[Batch], schedule: Curriculum, epochs: int):
    """The same, one target at a time, by fixed distillers and the similarity of the analysis."""
    student = untrained("resnet8", seed=2).train()
    points = find_hint_points(teacher, EXAMPLE)
    chosen = [points[1], points[3], points[5]]
    own = FeatureExtractor(student, find_hint_points(student, EXAMPLE)[-1:])
    target = since = 0
    mean, targets, similarities = 0.0, [], []
    for epoch in range(epochs):
        cap = epochs // 3 if schedule.cap is None else schedule.cap
        if epoch and target < 2 and (mean >= schedule.threshold or epoch - since >= cap):
            target, since, mean = target + 1, epoch, 0.0
        for batch in batches:
            with torch.no_grad():
                x = own(batch.images).maps[0].mean((2, 3))
                y = FeatureExtractor(teacher.eval(), [chosen[target]])(batch.images).maps[0].mean((2, 3))
            mean += schedule.smoothing * (float(debiased_cka(x, y)) - mean)
        targets.append(target)
        similarities.append(mean)
    return targets, similarities


@pytest.mark.parametrize(
    ("schedule", "targets"),
    [
        (Curriculum(threshold=1.0), [0, 0, 1, 1, 2, 2]),
        (Curriculum(threshold=1.0, cap=1), [0, 1, 2, 2, 2, 2]),
        (Curriculum(threshold=1.0, cap=9), [0, 0, 0, 0, 0, 0]),
        (Curriculum(threshold=0.001, smoothing=0.5, cap=9), None),
    ],
    ids=["shares", "cap", "long-cap", "similar"],
)
def test_targets_and_similarities_are_those_of_a_slow_reference(teacher, batches, schedule, targets):
    found = walk(build(teacher, schedule), batches, 6)
    expected = reference(teacher, batches, schedule, 6)
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], abs=1e-4)
    if targets is None:
        assert found[0][-1] > 0  # by similarity: the cap is too long
    else:
        assert found[0] == targets


def test_similarity_of_a_batch_is_debiased_cka():
    torch.manual_seed(0)
    x, y = torch.randn(20, 6, 3, 3), torch.randn(20, 9)
    y = y + 3 * x.mean((2, 3)).repeat(1, 2)[:, :9]
    expected = debiased_cka(x.mean((2, 3)), y)
    torch.testing.assert_close(batch_similarity(x, y).double(), expected, atol=1e-5, rtol=1e-4)
    assert float(batch_similarity(100 * x, x)) == pytest.approx(1, abs=1e-5)
    assert batch_similarity(torch.ones(5, 2), torch.randn(5, 2)).isnan()
    independent = torch.stack([batch_similarity(torch.randn(8, 64), torch.randn(8, 64)) for _ in range(300)])
    assert abs(float(independent.mean())) < 0.03  # the biased one is near 0.9


def test_all_pairs_warm_up_also_when_the_epoch_is_resumed(teacher):
    ours = build(teacher, Curriculum(), loss="ft")
    loss = ours.loss("ft")
    ours.begin_stage(*ours.warm_ups()[0])
    assert loss.present_pairs == (0, 1, 2)
    ours.resume_epoch()
    assert loss.present_pairs == (0, 1, 2)
    ours.begin_stage()
    ours.begin_epoch(0, 9)
    ours.resume_epoch()
    assert loss.present_pairs == (0,)


def test_the_teacher_ends_at_its_present_target(teacher, batches):
    ours = build(teacher, Curriculum(threshold=1.0, cap=1))
    depths = []
    for epoch in range(3):
        ours.begin_epoch(epoch, 3)
        (point,) = ours.teacher_outputs.points
        assert not ours.teacher_outputs.logits
        after = [
            other.module for other in find_hint_points(teacher, EXAMPLE) if other.position > point.position
        ]
        ran = []
        hooks = [teacher.get_submodule(name).register_forward_hook(noting(ran)) for name in after]
        ours._teacher_runner._original(batches[0].images)
        for hook in hooks:
            hook.remove()
        assert not ran
        depths.append(point.position)
    assert depths == [2, 4, 6]


def noting(ran: list[bool]):
    return lambda *_: ran.append(True)


def test_a_state_within_an_epoch_brings_its_target_back(teacher, batches):
    first = build(teacher, Curriculum(threshold=1.0))
    walk(first, batches, 6)
    second = build(teacher, Curriculum(threshold=1.0))
    second.begin_epoch(0, 6)
    second.load_state_dict(first.state_dict())
    second.resume_epoch()
    assert second.teacher_outputs.points == first.teacher_outputs.points
    assert second.restarted == first.restarted == 4
    torch.testing.assert_close(second(batches[0]).total, first(batches[0]).total)
    assert build(teacher, Curriculum(restart=False)).restarted == 0


@pytest.mark.parametrize("loss", ["fitnet", "reviewkd", "semckd", "vid"])
def test_what_is_learned_belongs_to_its_target(teacher, batches, loss):
    ours = build(teacher, Curriculum(threshold=1.0, cap=1), loss)
    for epoch in range(3):
        ours.zero_grad(set_to_none=True)
        ours.begin_epoch(epoch, 3)
        ours(batches[0]).total.backward()
        learning = [
            any(parameter.grad is not None for parameter in variant.parameters())
            for variant in ours.loss(loss).variants
        ]
        assert learning == [index == epoch for index in range(3)]


def test_layers_are_the_ends_of_equal_parts_and_no_more_than_epochs(teacher):
    points = find_hint_points(teacher, EXAMPLE)
    for k, epochs, positions in ((None, 10, [1, 2, 3, 4, 5, 6]), (None, 2, [3, 6]), (3, 10, [2, 4, 6])):
        assert [point.position for point in targets_of(points, k, epochs)] == positions
    with pytest.raises(PursuhintError, match="curriculum of 3 hint points needs as many epochs"):
        targets_of(points, 3, 2)
    with pytest.raises(PursuhintError, match="cannot take 7 hint points from 6 layers"):
        targets_of(points, 7, 20)


@pytest.mark.parametrize(
    "values", [{"threshold": 0.0}, {"threshold": 1.5}, {"smoothing": 0.0}, {"cap": 0}], ids=str
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(PursuhintError, match=f"hints.curriculum.{next(iter(values))}"):
        Curriculum(**values)


def test_a_plan_file_keeps_the_curriculum(teacher, tmp_path):
    points = find_hint_points(teacher, EXAMPLE)
    plan = curriculum(points[:2], points[-1:] * 2, Curriculum(threshold=0.7, cap=4, restart=False))
    plan.save(tmp_path / "hints.json")
    assert HintPlan.load(tmp_path / "hints.json") == plan
