"""Formulas of losses that contrast embeddings with a memory. The draw of negatives is the loss's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _negatives(loss: Any, indices: Tensor) -> Tensor:
    return torch.cat([indices[:, None], loss.sampler(indices, loss.options.negatives)], 1)


def _remember(bank: Tensor, indices: Tensor, vectors: Tensor) -> None:
    bank[indices] = F.normalize(0.5 * bank[indices] + 0.5 * vectors.detach())


def crd(loss: Any, student: Tensor, teacher: Tensor, indices: Tensor) -> Tensor:
    u, v = F.normalize(loss.student_embed(student)), F.normalize(loss.teacher_embed(teacher))
    contrast = _negatives(loss, indices)
    n, q = loss.num_samples, loss.options.negatives / loss.num_samples

    def side(anchors: Tensor, bank: Tensor) -> Tensor:
        scores = (torch.bmm(bank[contrast], anchors[:, :, None])[:, :, 0] / 0.07).exp()
        p = scores / (n * scores.mean()).detach()
        found = (p[:, 0] / (p[:, 0] + q + 1e-7)).log()
        return -(found + (q / (p[:, 1:] + q + 1e-7)).log().sum(1)).mean()

    own, other = loss.memory_student.vectors, loss.memory_teacher.vectors
    total = side(u, other) + side(v, own)
    _remember(own, indices, u)
    _remember(other, indices, v)
    return total


def rrd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    u, v = F.normalize(loss.student_embed(student)), F.normalize(loss.teacher_embed(teacher))
    queue = loss.queue.clone()
    targets = (v @ queue.T / 0.07).softmax(1).detach()
    total = -(targets * (u @ queue.T / 0.04).log_softmax(1)).sum(1).mean()
    loss.queue[: len(v)] = v.detach()
    return total


def crcd(loss: Any, student: Tensor, teacher: Tensor, indices: Tensor, labels: Tensor) -> Tensor:
    part = loss.relations
    u, v = F.normalize(part.student_embed(student)), F.normalize(part.teacher_embed(teacher))
    contrast = _negatives(loss, indices)
    n, q = part.num_samples, loss.options.negatives / part.num_samples

    def side(vectors: Tensor, bank: Tensor) -> Tensor:
        scores = []
        for anchor in bank[indices]:
            relations = F.normalize(bank[contrast] - anchor + 1e-6, dim=2)
            relation = F.normalize(vectors - anchor + 1e-6)
            scores.append((torch.bmm(relations, relation[:, :, None])[:, :, 0] / 0.05).exp())
        x = torch.stack(scores, 1)
        x = x / (x.mean() * n).detach()
        found = (x[..., 0] / (x[..., 0] + q + 1e-7)).log()
        return -(found + (q / (x[..., 1:] + q + 1e-7)).log().sum(2)).mean()

    own, other = part.memory_student.vectors, part.memory_teacher.vectors
    total = side(u, other) + side(v, own)
    _remember(own, indices, u)
    _remember(other, indices, v)
    (classifier,) = loss._student_classifier
    g_s, g_t = (
        torch.autograd.grad(F.cross_entropy(layer(x), labels), x, create_graph=True)[0]
        for layer, x in (
            (classifier, student),
            (loss.teacher_classifier, teacher.detach().requires_grad_()),
        )
    )
    return total + 10 * (1 - F.cosine_similarity(g_s, g_t, eps=1e-30).mean())


def wcord(loss: Any, student: Tensor, teacher: Tensor, indices: Tensor) -> Tensor:
    u = F.normalize(loss.student_projection(student))
    v = F.normalize(loss.teacher_projection(teacher))
    hidden, score = loss.critic.hidden, loss.critic.score.weight[0]
    matrix, bias = hidden.weight, hidden.bias
    towards_teacher, towards_student = matrix[:, : v.shape[1]], matrix[:, v.shape[1] :]
    shifted = v @ towards_teacher.T + bias
    same = F.relu(shifted + u @ towards_student.T) @ score
    bank = loss.memory.vectors
    chosen = bank[loss.sampler(indices, loss.options.negatives)]
    different = F.relu(shifted[:, None] + chosen @ towards_student.T) @ score
    cost = 1 - u @ v.T
    plan = _sinkhorn(cost.detach())
    bank[indices] = F.normalize(0.5 * bank[indices] + 0.5 * u.detach())
    return 0.8 * (different.mean() - same.mean()) + 0.05 * (plan * cost).sum()


def _sinkhorn(cost: Tensor) -> Tensor:
    kernel, share = (-cost / 0.1).exp(), 1 / len(cost)
    columns = torch.ones_like(cost[0])
    for _ in range(50):
        rows = share / (kernel @ columns)
        columns = share / (kernel.T @ rows)
    return rows[:, None] * kernel * columns


FORMULAS = {"crd": crd, "rrd": rrd, "crcd": crcd, "wcord": wcord}
