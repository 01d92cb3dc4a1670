from __future__ import annotations

import copy
import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.rrd import RelationalRepresentationLoss


def make(**options) -> RelationalRepresentationLoss:
    torch.manual_seed(0)
    return RelationalRepresentationLoss(5, 7, **{"queue_size": 9, "width": 4, **options}).double()


def embeddings(samples=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(samples, width, generator=generator, dtype=torch.float64) for width in (5, 7)]


def unit(vector):
    return vector / math.sqrt(sum(float(x) ** 2 for x in vector))


def softmax(scores):
    total = sum(math.exp(score - max(scores)) for score in scores)
    return [math.exp(score - max(scores)) / total for score in scores]


def slow(loss, student, teacher):
    """Loss, queue and pointer, number by number."""
    queue, pointer = [row.clone() for row in loss.queue], int(loss.queue_pointer)
    u = [unit(loss.student_embed.weight @ e + loss.student_embed.bias) for e in student]
    v = [unit(loss.teacher_embed.weight @ e + loss.teacher_embed.bias) for e in teacher]

    def enqueue():
        for i, vector in enumerate(v):
            queue[(pointer + i) % len(queue)] = vector

    if loss.variant == "fifo":
        enqueue()
    total = 0.0
    for own, other in zip(u, v):
        p = softmax([float(other @ row) / loss.teacher_temperature for row in queue])
        q = softmax([float(own @ row) / loss.student_temperature for row in queue])
        total -= sum(a * math.log(b) for a, b in zip(p, q)) / len(u)
    if loss.variant == "paper":
        enqueue()
    return total, torch.stack(queue), (pointer + len(v)) % len(queue)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["paper", "fifo"])
@pytest.mark.parametrize("samples", [1, 3, 4, 9, 20])
def test_is_the_formula_for_any_batch(variant, samples):
    loss = make(variant=variant)
    for step in range(4):  # the batch need not divide the queue
        inputs = embeddings(samples, seed=step)
        expected, queue, pointer = slow(loss, *inputs)
        torch.testing.assert_close(loss(*inputs).item(), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(loss.queue, queue, rtol=1e-12, atol=1e-14)
        assert loss.queue_pointer.tolist() == [pointer]


def test_variants_have_their_own_temperatures():
    assert (make().student_temperature, make().teacher_temperature) == (0.04, 0.07)
    fifo = make(variant="fifo")
    assert (fifo.student_temperature, fifo.teacher_temperature) == (0.1, 0.02)
    fifo = make(variant="fifo", teacher_temperature=0.5)
    assert (fifo.student_temperature, fifo.teacher_temperature) == (0.1, 0.5)


@pytest.mark.parametrize("variant", ["paper", "fifo"])
@pytest.mark.parametrize("options", [{}, {"train_teacher_map": False}, {"train_teacher_map": True}])
def test_what_is_trained(variant, options):
    loss, (student, teacher) = make(variant=variant, **options), embeddings()
    loss(student.requires_grad_(), teacher).backward()
    assert student.grad.any()
    without = {name for name, parameter in loss.named_parameters() if parameter.grad is None}
    assert without == set(loss.info.no_grad_parameters)
    expected = set() if options.get("train_teacher_map") else {"teacher_embed.weight", "teacher_embed.bias"}
    assert without == expected


@pytest.mark.parametrize("variant", ["paper", "fifo"])
def test_training_the_teachers_map_changes_gradients_and_not_the_value(variant):
    losses = [make(variant=variant, train_teacher_map=trained) for trained in (False, True)]
    for loss in losses:
        loss(*embeddings()).backward()
    own, other = (loss.student_embed.weight.grad for loss in losses)
    torch.testing.assert_close(own, other)
    assert losses[0](*embeddings()) == losses[1](*embeddings())
    assert losses[1].teacher_embed.weight.grad.any()


def test_least_when_the_student_sees_what_the_teacher_sees():
    loss = make(student_temperature=0.07)
    loss.student_embed = torch.nn.Linear(7, 4).double()
    loss.student_embed.load_state_dict(loss.teacher_embed.state_dict())
    teacher = embeddings()[1]
    targets = torch.softmax(
        torch.nn.functional.normalize(loss.teacher_embed(teacher)) @ loss.queue.T / 0.07, dim=1
    )
    entropy = -(targets * targets.log()).sum(1).mean()
    other = copy.deepcopy(loss)
    torch.testing.assert_close(loss(teacher, teacher), entropy)
    assert other(teacher + 0.1, teacher) > entropy


def test_columns_of_the_fresh_queue_have_length_1():
    torch.testing.assert_close(make().queue.norm(dim=0).float(), torch.ones(4))


def test_evaluation_remembers_nothing():
    loss = make().eval()
    before = copy.deepcopy(loss.state_dict())
    loss(*embeddings())
    assert all(torch.equal(before[name], value) for name, value in loss.state_dict().items())


def test_zero_embeddings_have_finite_gradients():
    loss, (student, teacher) = make(), embeddings()
    for layer in (loss.student_embed, loss.teacher_embed):
        torch.nn.init.zeros_(layer.bias)
    student[1], teacher[2] = 0, 0
    loss(student.requires_grad_(), teacher).backward()
    assert student.grad.abs().max() < 1e3


def test_says_what_is_wrong():
    student, teacher = embeddings()
    with pytest.raises(PursuhintError, match="different batches: 3 and 4"):
        make()(student, teacher[:3])
    for options, message in (
        ({"queue_size": 0}, "queue_size must be positive"),
        ({"student_temperature": 0.0}, "student_temperature must be positive"),
        ({"variant": "lifo"}, "variant must be one of paper, fifo; got 'lifo'"),
    ):
        with pytest.raises(PursuhintError, match=message):
            make(**options)
