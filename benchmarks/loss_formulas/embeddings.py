"""Formulas of losses that compare embeddings of a batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def cc(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    d = (loss.student_embedding(student) - loss.teacher_embedding(teacher)).abs()
    return (d[:-1] * d[1:]).sum() / (len(d) - 1)


def rkd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    def distances(x: Tensor) -> Tensor:
        squared = x.square().sum(1)
        squared = (squared[:, None] + squared - 2 * x @ x.T).clamp(min=1e-12)
        found = squared.sqrt() * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))
        return found / found[found > 0].mean()

    def angles(x: Tensor) -> Tensor:
        e = F.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(e, e.mT)

    distance = F.smooth_l1_loss(distances(student), distances(teacher))
    return 25 * distance + 50 * F.smooth_l1_loss(angles(student), angles(teacher))


def pkt(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    def probabilities(x: Tensor) -> Tensor:
        u = x / (x.norm(dim=1, keepdim=True) + 1e-7)
        c = (u @ u.T + 1) / 2
        return c / c.sum(1, keepdim=True)

    p, q = probabilities(teacher), probabilities(student)
    return (p * ((p + 1e-7) / (q + 1e-7)).log()).mean()


def _scores(loss: Any, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, v = F.normalize(loss.student_embed(student)), F.normalize(loss.teacher_embed(teacher))
    return u, v, loss.log_scale.exp().clamp(0, 10) * (u @ v.T) + loss.bias


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum() / len(p)


def icd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    _, _, scores = _scores(loss, student, teacher)
    contrast = -scores.softmax(1).diagonal().log().mean()
    return contrast + 0.5 * _kl(scores.softmax(0).T, scores.softmax(1))


def dcd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    _, _, scores = _scores(loss, student, teacher)
    contrast = -scores.softmax(1).diagonal().log().mean()
    return contrast + 0.5 * _kl(scores.softmax(0).T, scores.softmax(1))


def itrd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    mapped = loss.student_embed(student)
    own, other = ((x - x.mean(0)) / x.std(0) for x in (mapped, teacher))
    correlation = (((own * other).mean(0) - 1).abs() ** 3).sum().log2()
    x = mapped if student.shape[1] != teacher.shape[1] else student
    x, y = F.normalize(x), F.normalize(teacher)
    g, joint = x @ x.T, (x @ x.T) * (y @ y.T)
    purity, both = ((m / m.trace()).square().sum() for m in (g, joint))
    return 2 * correlation + 0.05 * (purity - both)


def ega(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    b = len(student)
    c = torch.corrcoef(torch.cat([teacher, student]))
    nodes = c[:b, b:] - torch.eye(b, dtype=c.dtype, device=c.device)
    return nodes.square().sum().sqrt() + 0.3 * (c[:b, :b] - c[b:, b:]).square().sum().sqrt()


def fkd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    b = len(student)
    own, other = (F.normalize(x) @ F.normalize(x).T for x in (student, teacher))
    others = 1 - torch.eye(b, dtype=own.dtype, device=own.device)
    kernel = ((own - other).square() * others).sum() / (b * (b - 1))
    return 10 * kernel + 0.001 * student.square().sum(1).mean()


def aml(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    anchors, others = F.normalize(student), F.normalize(teacher)
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    distances = (anchors[:, None] - others + 1e-6).norm(dim=2)
    nearest = torch.cdist(anchors, others).masked_fill(same, math.inf).topk(5, largest=False).indices
    hinge = (0.7 - distances.gather(1, nearest)).clamp(min=0).square().sum(1)
    return 0.5 * (distances.square() * positive).sum() + 0.5 * (positive.sum(1) * hinge).sum()


def matching(
    loss: Any, student: Tensor, teacher: Tensor, logits: Tensor, labels: Tensor, teacher_logits: Tensor
) -> Tensor:
    def distances(x: Tensor) -> Tensor:
        u = F.normalize(x)
        off = 1 - torch.eye(len(u), dtype=u.dtype, device=u.device)
        return (u[:, None] - u + (1 - off)[..., None]).norm(dim=2) * off

    own, other = distances(student), distances(teacher)
    same = labels[:, None] == labels
    pair = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    excess = (own[:, None, :] - own[:, :, None]).detach()
    chosen = pair[:, :, None] & ~same[:, None, :] & (excess > 0) & (excess <= 0.2)
    anchor, positive = chosen.any(2).nonzero(as_tuple=True)
    present = torch.cat([torch.ones_like(chosen[..., :1]), chosen], 2)[anchor, positive]

    def probabilities(d: Tensor) -> Tensor:
        members = torch.cat([d[anchor, positive][:, None], d[anchor]], 1)
        return members.masked_fill(~present, 1e9).div(-4).log_softmax(1)

    log_s, log_t = probabilities(own), probabilities(other)
    return 1000 * (log_t.exp() * (log_t - log_s)).masked_fill(~present, 0).sum() / len(anchor)


def local(
    loss: Any, student: Tensor, teacher: Tensor, logits: Tensor, labels: Tensor, teacher_logits: Tensor
) -> Tensor:
    sums = loss.local.sums + F.one_hot(labels, logits.shape[1]).T.to(teacher.dtype) @ teacher
    classes = labels.unique()
    centers = F.normalize(sums[classes])
    p, q = (teacher @ centers.T / 2).softmax(1), (logits[:, classes] / 2).softmax(1)
    weights = 2 * teacher_logits.softmax(1).max(1).values
    return F.cross_entropy(logits, labels) + (weights * (p * (p / q).log()).sum(1)).mean()


def srd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    def normalized(x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-4).sqrt()

    own, other = normalized(student @ loss.embed.weight.T), normalized(teacher)
    return 2 * ((own - other).abs() ** 4).sum().log()


def vkd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    mean, var = teacher.mean(1, keepdim=True), teacher.var(1, keepdim=True, unbiased=False)
    difference = (student @ loss.project.matrix.T - (teacher - mean) / (var + 1e-5).sqrt()).abs()
    return torch.where(difference < 1, difference.square() / 2, difference - 0.5).mean()


FORMULAS = {
    "vkd": vkd,
    "srd": srd,
    "cc": cc,
    "rkd": rkd,
    "pkt": pkt,
    "icd": icd,
    "dcd": dcd,
    "itrd": itrd,
    "ega": ega,
    "fkd": fkd,
    "aml": aml,
    "refilled": local,
    "refilled:matching": matching,
}
