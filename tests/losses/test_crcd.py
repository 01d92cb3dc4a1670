"""CRCD: relations between samples, and between gradients."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.head import find_head
from pursuhint.losses import crcd
from pursuhint.losses._parts.contrast_options import NoiseContrastOptions
from pursuhint.losses.crcd import (
    ComplementaryRelationLoss,
    RelationContrast,
    _Negatives,
    cross_entropy_gradient,
)

SAMPLES, WIDTH = 20, 6
LABELS = torch.arange(SAMPLES) % 4
INDICES = torch.tensor([3, 11, 6, 12])
OPTIONS = NoiseContrastOptions(temperature=0.2, width=WIDTH)


def contrast() -> RelationContrast:
    torch.manual_seed(0)
    return RelationContrast(5, 7, SAMPLES, embedder="linear", offset=1e-6, options=OPTIONS).double()


class Tail(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 4)

    def forward(self, images):
        return self.fc(images.flatten(1))


def make(student_width=5, teacher_width=7, **options) -> ComplementaryRelationLoss:
    torch.manual_seed(0)
    student = Tail(student_width)
    loss = ComplementaryRelationLoss(
        student_width,
        teacher_width,
        SAMPLES,
        LABELS,
        nn.Linear(teacher_width, 4),
        find_head(student, torch.zeros(1, student_width, 1, 1)),
        **{"negatives": 9, "width": WIDTH, **options},
    ).double()
    loss.prepare(student.double())
    return loss


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, width, generator=generator, dtype=torch.float64) for width in (5, 7)]


@pytest.fixture
def candidates():
    others = torch.randint(0, SAMPLES, (4, 9), generator=torch.Generator().manual_seed(2))
    others[0, 0] = 11  # an anchor among the negatives
    return torch.cat([INDICES[:, None], others], dim=1)


def unit(vector):
    return vector / vector.norm()


@torch.no_grad()
def slow(relation, student, teacher, candidates, constants=None):
    """Both sides, their constants and the memories afterwards, number by number."""
    n, q = SAMPLES, (candidates.shape[1] - 1) / SAMPLES
    own = [unit(relation.student_embed.weight @ e + relation.student_embed.bias) for e in student]
    other = [unit(relation.teacher_embed.weight @ e + relation.teacher_embed.bias) for e in teacher]
    total, found = 0.0, []
    for side, (vectors, bank) in enumerate(
        ((own, relation.memory_teacher), (other, relation.memory_student))
    ):
        memory, scores = bank.vectors, []
        for vector, row in zip(vectors, candidates):
            for anchor in INDICES:
                r = unit(vector - memory[anchor] + 1e-6)
                scores.append(
                    [math.exp(float(unit(memory[c] - memory[anchor] + 1e-6) @ r) / 0.2) for c in row]
                )
        flat = [score for row in scores for score in row]
        z = n * sum(flat) / len(flat) if constants is None else constants[side]
        found.append(z)
        for row in scores:
            x = [score / z for score in row]
            total -= math.log(x[0] / (x[0] + q + 1e-7)) / 16
            total -= sum(math.log(q / (x_k + q + 1e-7)) for x_k in x[1:]) / 16
    memories = []
    for vectors, bank in ((own, relation.memory_student), (other, relation.memory_teacher)):
        after = bank.vectors.clone()
        for index, vector in zip(INDICES, vectors):
            after[index] = unit(0.5 * after[index] + 0.5 * vector.detach())
        memories.append(after)
    return total, found, memories


def test_equals_the_formula_as_a_loop_twice(embeddings, candidates):
    relation, constants = contrast(), None
    for _ in range(2):
        expected, found, memories = slow(relation, *embeddings, candidates, constants)
        value = relation(*embeddings, INDICES, candidates)
        assert value.item() == pytest.approx(expected, rel=1e-10)
        constants = constants or found
        assert relation.log_z_student.exp().item() == pytest.approx(constants[0])
        assert relation.log_z_teacher.exp().item() == pytest.approx(constants[1])
        torch.testing.assert_close(relation.memory_student.vectors, memories[0])
        torch.testing.assert_close(relation.memory_teacher.vectors, memories[1])


def test_loading_a_state_from_before_the_first_batch_begins_anew(embeddings, candidates):
    relation = contrast()
    fresh = copy.deepcopy(relation.state_dict())
    first = relation(*embeddings, INDICES, candidates)
    relation(*embeddings, INDICES, candidates)  # knows its constants now
    constant = relation.log_z_student.clone()
    relation.load_state_dict(fresh)
    assert torch.equal(relation(*embeddings, INDICES, candidates), first)
    assert torch.equal(relation.log_z_student, constant)


def test_constants_are_looked_at_until_they_are_known(embeddings, candidates, monkeypatch):
    """Each look makes the host wait for a GPU."""
    looks = []
    isinf = torch.Tensor.isinf
    monkeypatch.setattr(torch.Tensor, "isinf", lambda self: looks.append(1) or isinf(self))
    relation = contrast()
    counts = []
    for _ in range(4):
        relation(*embeddings, INDICES, candidates)
        counts.append(len(looks))
    assert counts[1] == counts[3]


def test_evaluation_leaves_memories_and_constants_alone(embeddings, candidates):
    relation = contrast().eval()
    before = copy.deepcopy(relation.state_dict())
    relation(*embeddings, INDICES, candidates)
    assert all(torch.equal(before[name], value) for name, value in relation.state_dict().items())


def plain_scores(vectors, memory, candidates):
    """Scores of all candidates with all anchors, (N, K + 1, A), with every relation written out."""
    places, others = memory[INDICES], memory[candidates]
    r = F.normalize(vectors[:, None] - places + 1e-6, dim=2)
    q = F.normalize(others[:, :, None] - places + 1e-6, dim=3)
    return (q * r[:, None]).sum(3) / 0.2


def test_single_precision_is_as_good_as_the_plain_formula(candidates):
    torch.manual_seed(0)
    relation = RelationContrast(5, 7, SAMPLES, embedder="linear", offset=1e-6, options=OPTIONS)
    vectors, bank = F.normalize(torch.randn(4, WIDTH), dim=1), relation.memory_teacher
    exact = plain_scores(vectors.double(), bank.vectors.double(), candidates[:, 1:])
    towards = F.normalize(vectors[:, None] - bank.vectors[INDICES] + 1e-6, dim=2)
    ((_, negatives),) = _Negatives(bank, INDICES, candidates[:, 1:], 1e-6, 0.2).parts(towards)
    assert (negatives.scores(towards) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("at_once", [2**22, 200, 1])  # all samples together, two, one
def test_gradient_of_a_few_samples_at_a_time(monkeypatch, at_once, embeddings, candidates):
    monkeypatch.setattr(crcd, "_AT_ONCE", at_once)
    relation, q = contrast(), 9 / SAMPLES
    student = embeddings[0].requires_grad_()
    vectors = F.normalize(relation.student_embed(student), dim=1)
    scores = plain_scores(vectors, relation.memory_teacher.vectors, candidates)
    x = scores.exp() / (SAMPLES * scores.exp().mean().detach())
    terms = [(x[:, :1] / (x[:, :1] + q + 1e-7)).log(), (q / (x[:, 1:] + q + 1e-7)).log()]
    expected = torch.autograd.grad(-torch.cat(terms, dim=1).sum() / 16, student)
    value = relation(student, embeddings[1], INDICES, candidates)
    torch.testing.assert_close(torch.autograd.grad(value, student), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("embedder", ["linear", "nonlinear", "none"])
def test_embedders(embedder, embeddings):
    loss = make(5, 5, embedder=embedder, gradient="none")
    student, teacher = embeddings[0], embeddings[0].flip(0)
    loss(student.requires_grad_(), teacher, INDICES, LABELS[INDICES]).backward()
    assert student.grad.any()
    layers = {"linear": 1, "nonlinear": 3, "none": 0}[embedder]
    embedders = (loss.relations.student_embed, loss.relations.teacher_embed)
    assert [sum(isinstance(m, nn.Linear) for m in part.modules()) for part in embedders] == [layers] * 2
    if embedder == "none":
        with pytest.raises(PursuhintError, match="without embedders the widths must be equal, got 5 and 7"):
            make(embedder="none", gradient="none")


def test_gradient_of_the_cross_entropy_is_written_out(embeddings):
    layer = nn.Linear(5, 4).double()
    student, labels = embeddings[0].requires_grad_(), LABELS[INDICES]
    (expected,) = torch.autograd.grad(F.cross_entropy(layer(student), labels), student)
    torch.testing.assert_close(cross_entropy_gradient(student, labels, layer.weight, layer.bias), expected)


def test_cosine_of_the_gradients(embeddings):
    loss, labels = make(5, 5, gradient="cosine", cosine_scale=3.0), LABELS[INDICES]
    student, teacher = embeddings[0], embeddings[0].flip(0)
    own, other = loss.gradient_elements(student, teacher, labels)
    expected = 3 * (1 - sum(F.cosine_similarity(own, other)) / 4)
    torch.testing.assert_close(loss.terms(student, teacher, INDICES, labels)["gradient"], expected)


def test_the_form_of_the_gradient_term_follows_the_widths():
    assert make(5, 5).gradient == "cosine"
    assert make(5, 7).gradient == "contrast"
    assert not hasattr(make(5, 5), "gradient_relations")
    with pytest.raises(PursuhintError, match="needs embeddings of equal width, got 5 of the student and 7"):
        make(5, 7, gradient="cosine")


def test_both_classifiers_are_seen_and_only_the_students_learns(embeddings):
    loss = make()
    loss(*embeddings, INDICES, LABELS[INDICES]).backward()
    (classifier,) = loss._student_classifier
    assert classifier.weight.grad.any()
    assert not loss.teacher_classifier.weight.requires_grad
    assert not any("classifier" in name and "teacher" not in name for name, _ in loss.named_parameters())


def test_the_end_of_the_training_does_without(embeddings):
    loss = make(active=0.9)
    arguments = (*embeddings, INDICES, LABELS[INDICES])
    loss.begin_epoch(8, 10)
    assert loss(*arguments) > 0
    loss.begin_epoch(9, 10)
    assert loss(*arguments).item() == 0


def test_other_negatives_are_drawn_at_every_step(embeddings):
    loss = make(gradient="none")
    before = loss.sampler(INDICES, 9)
    loss(*embeddings, INDICES, LABELS[INDICES])
    assert not torch.equal(loss.sampler(INDICES, 9), before)


def test_half_precision_and_host_memories(embeddings):
    loss = make(bank_precision="half", bank_on_host=True)
    assert loss.relations.memory_student.vectors.dtype == torch.float16
    assert loss(*embeddings, INDICES, LABELS[INDICES]).isfinite()


def test_dead_and_equal_samples_stay_finite(candidates):
    relation = RelationContrast(WIDTH, WIDTH, SAMPLES, embedder="none", offset=1e-6, options=OPTIONS)
    relation.memory_teacher.vectors[:] = relation.memory_teacher.vectors[0]
    student = relation.memory_teacher.vectors[INDICES].clone()
    student[0] = 0
    student.requires_grad_()
    value = relation(student, torch.zeros(4, WIDTH), INDICES, candidates)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
