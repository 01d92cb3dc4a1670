from __future__ import annotations

import copy
import math

import pytest
import torch

from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.losses.context import LossContext
from pursuhint.losses.crd import ContrastiveRepresentationLoss
from pursuhint.training.prepare_training import _training_labels

SAMPLES = 20
LABELS = torch.arange(SAMPLES) % 4


def make(**options) -> ContrastiveRepresentationLoss:
    torch.manual_seed(0)
    return ContrastiveRepresentationLoss(
        5, 7, SAMPLES, LABELS, **{"negatives": 9, "width": 6, **options}
    ).double()


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, width, generator=generator, dtype=torch.float64) for width in (5, 7)]


INDICES = torch.tensor([3, 11, 6, 12])


def unit(vector):
    return vector / math.sqrt(sum(float(x) ** 2 for x in vector))


def slow(loss, student, teacher, contrast, constants=None):
    """Both sides, their constants and the memories afterwards, number by number."""
    options, n = loss.options, loss.num_samples
    tau, eps, m = options.temperature, options.eps, options.momentum
    u = [unit(loss.student_embed.weight @ e + loss.student_embed.bias) for e in student]
    v = [unit(loss.teacher_embed.weight @ e + loss.teacher_embed.bias) for e in teacher]
    q = (contrast.shape[1] - 1) / n
    activations, found = [], []
    for side, (anchors, memory) in enumerate(((u, loss.memory_teacher), (v, loss.memory_student))):
        scores = [
            [math.exp(float(anchor @ memory.vectors[c]) / tau) for c in row]
            for anchor, row in zip(anchors, contrast)
        ]
        flat = [score for row in scores for score in row]
        z = n * sum(flat) / len(flat) if constants is None else constants[side]
        total = 0.0
        for row in scores:
            p = [score / z for score in row]
            total += math.log(p[0] / (p[0] + q + eps))
            total += sum(math.log(q / (p_j + q + eps)) for p_j in p[1:])
        activations.append(-total / len(scores))
        found.append(z)
    memories = []
    for memory, vectors in ((loss.memory_student, u), (loss.memory_teacher, v)):
        after = memory.vectors.clone()
        for index, vector in zip(INDICES, vectors):
            after[index] = unit(m * memory.vectors[index] + (1 - m) * vector)
        memories.append(after)
    return activations, found, memories


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"momentum": 0.8, "temperature": 0.5, "eps": 1e-3, "negatives": 1}])
def test_is_the_formula(embeddings, options):
    loss = make(**options)
    for constants in (None, "from the first batch"):
        contrast = loss.draw(INDICES)
        before = copy.deepcopy(loss)
        terms = loss.terms(*embeddings, INDICES, contrast)
        if constants is not None:
            constants = [float(loss.log_z_student.exp()), float(loss.log_z_teacher.exp())]
        activations, found, memories = slow(before, *embeddings, contrast, constants)
        assert list(terms) == ["student_anchor", "teacher_anchor"]
        torch.testing.assert_close([term.item() for term in terms.values()], activations, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            [float(loss.log_z_student.exp()), float(loss.log_z_teacher.exp())], found, rtol=1e-12, atol=0
        )
        torch.testing.assert_close(loss.memory_student.vectors, memories[0])
        torch.testing.assert_close(loss.memory_teacher.vectors, memories[1])


def test_constants_are_those_of_the_first_batch(embeddings):
    loss = make()
    loss(*embeddings, INDICES)
    constants = loss.log_z_student.clone(), loss.log_z_teacher.clone()
    loss(*[2 + embedding for embedding in embeddings], INDICES + 1)
    assert (loss.log_z_student, loss.log_z_teacher) == constants
    other = make()
    other.load_state_dict(loss.state_dict())
    assert (other.log_z_student, other.log_z_teacher) == constants
    copy.deepcopy(loss)


def test_gradient_reaches_both_maps(embeddings):
    loss, (student, teacher) = make(), embeddings
    loss(student.requires_grad_(), teacher, INDICES).backward()
    assert student.grad.any()
    assert all(parameter.grad.any() for parameter in loss.parameters())


def test_negatives_are_of_other_classes_and_change_from_batch_to_batch(embeddings):
    loss = make()
    drawn = loss.draw(INDICES)
    assert torch.equal(drawn[:, 0], INDICES)
    assert (LABELS[drawn[:, 1:]] != LABELS[INDICES][:, None]).all()
    assert torch.equal(loss.draw(INDICES), drawn)
    loss(*embeddings, INDICES)
    assert not torch.equal(loss.draw(INDICES), drawn)


def test_relaxed_positives_are_of_the_same_class():
    drawn = make(positive="class").draw(INDICES)
    assert torch.equal(LABELS[drawn[:, 0]], LABELS[INDICES])
    assert not torch.equal(drawn[:, 0], INDICES)


def test_negatives_may_be_of_any_class():
    torch.manual_seed(0)
    loss = ContrastiveRepresentationLoss(5, 7, SAMPLES, negatives=19, negatives_from="other_samples")
    drawn = loss.draw(INDICES)
    assert [sorted(row) for row in drawn.tolist()] == [list(range(SAMPLES))] * 4


def test_evaluation_remembers_nothing(embeddings):
    loss = make().eval()
    before = copy.deepcopy(loss.state_dict())
    values = [loss(*embeddings, INDICES) for _ in range(2)]
    assert torch.equal(*values)
    assert all(torch.equal(before[name], value) for name, value in loss.state_dict().items())
    assert torch.equal(make()(*embeddings, INDICES), values[0])


def test_a_small_temperature_does_not_overflow(embeddings):
    loss = make(temperature=1e-3).float()
    student, teacher = (embedding.float() for embedding in embeddings)
    value = loss(student.requires_grad_(), teacher, INDICES)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_a_zero_embedding_is_finite(embeddings):
    loss, (student, teacher) = make(), embeddings
    for layer in (loss.student_embed, loss.teacher_embed):
        torch.nn.init.zeros_(layer.bias)
    student[1], teacher[2] = 0, 0
    loss(student.requires_grad_(), teacher, INDICES).backward()
    assert student.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in loss.parameters())


def test_memories_in_half_precision_or_on_the_host(embeddings):
    value = make()(*embeddings, INDICES)
    torch.testing.assert_close(make(bank_precision="half")(*embeddings, INDICES), value, rtol=1e-2, atol=0)
    assert torch.equal(make(bank_on_host=True)(*embeddings, INDICES), value)


def test_memories_are_not_sent_between_processes():
    loss = make()
    assert set(loss.info.shared_buffers) == {name for name, _ in loss.named_buffers()}


def test_samples_held_out_of_training_are_no_negatives():
    data = load_dataset("digits", val_fraction=0.3)
    labels = _training_labels(data)
    assert torch.equal(labels[data.train.indices], data.train.labels)
    context = LossContext((), 10, data.num_samples, 5, 7, labels=labels)
    loss = ContrastiveRepresentationLoss.build(context, negatives=500)
    drawn = loss.draw(data.train.indices[:20])
    assert torch.isin(drawn, data.train.indices).all()
    assert torch.isin(data.val.indices, data.train.indices).sum() == 0


def test_build():
    context = LossContext((), 4, SAMPLES, 5, 7, labels=LABELS)
    loss = ContrastiveRepresentationLoss.build(context, negatives=3)
    assert loss.draw(INDICES).shape == (4, 4)


def test_says_what_is_wrong(embeddings):
    with pytest.raises(PursuhintError, match="needs the classes of the training samples"):
        ContrastiveRepresentationLoss(5, 7, SAMPLES)
    with pytest.raises(PursuhintError, match="positives of the same class need the classes"):
        ContrastiveRepresentationLoss(5, 7, SAMPLES, positive="class", negatives_from="other_samples")
    with pytest.raises(PursuhintError, match="different batches: 3 and 4"):
        make()(embeddings[0], embeddings[1][:3], INDICES)
    for options, message in (
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5"),
        ({"negatives": 0}, "negatives must be positive"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"positive": "other"}, "positive must be one of instance, class"),
    ):
        with pytest.raises(PursuhintError, match=message):
            make(**options)


@torch.no_grad()
def test_without_constants_the_scores_are_those_of_the_paper(embeddings):
    loss = make(constants="none", temperature=0.5)
    assert not loss.info.batch_coupled
    for _ in range(2):  # the first batch is as any other
        contrast = loss.draw(INDICES)
        activations, _, _ = slow(loss, *embeddings, contrast, constants=[1.0, 1.0])
        assert loss(*embeddings, INDICES, contrast).item() == pytest.approx(sum(activations), rel=1e-12)
    assert loss.log_z_student == loss.log_z_teacher == 0
    assert make().info.batch_coupled
