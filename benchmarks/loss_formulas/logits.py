"""Formulas of losses that compare logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    p = torch.softmax(teacher / temperature, 1)
    return temperature**2 * (p * (p.log() - F.log_softmax(student / temperature, 1))).sum() / len(student)


def cross_entropy(loss: Any, student: Tensor, labels: Tensor) -> Tensor:
    return -F.log_softmax(student, 1)[torch.arange(len(labels)), labels].mean()


def kd(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return divergence(student, teacher, 4)


def skd(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    length = teacher.norm(dim=1, keepdim=True)
    own, other = (length.mean() * logits / logits.norm(dim=1, keepdim=True) for logits in (student, teacher))
    return 0.9 * divergence(own, other, 4) + 0.1 * F.cross_entropy(own, labels)


def wsld(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    own, other = (F.cross_entropy(logits.detach(), labels, reduction="none") for logits in (student, teacher))
    weights = 1 - (-own / (other + 1e-7)).exp()
    soft = -((teacher / 2).softmax(1) * (student / 2).log_softmax(1)).sum(1)
    return F.cross_entropy(student, labels) + 2.5 * 2**2 * (weights * soft).mean()


def dkd(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    target = F.one_hot(labels, student.shape[1]).bool()

    def binary(logits: Tensor) -> Tensor:
        p = torch.softmax(logits / 4, 1)
        return torch.stack([(p * target).sum(1), (p * ~target).sum(1)], 1)

    p, q = binary(teacher), binary(student)
    first = (p * (p / q).log()).sum()
    own, other = (F.log_softmax(logits / 4 - 1000.0 * target, 1) for logits in (student, teacher))
    second = (other.exp() * (other - own)).masked_fill(target, 0).sum()
    return 4**2 / len(student) * (first + 8 * second)


def dist(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    def disagreement(u: Tensor, v: Tensor) -> Tensor:
        u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        return 1 - ((u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1) + 1e-8)).mean()

    own, other = (student / 4).softmax(1), (teacher / 4).softmax(1)
    return 4**2 * (disagreement(own, other) + disagreement(own.T, other.T))


def ipwd(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
    own = embedding @ loss.head.weight.T + loss.head.bias

    def entropy(logits: Tensor) -> Tensor:
        logits = logits.detach()
        centered = logits - logits.mean(1, keepdim=True)
        return F.cross_entropy(
            centered / (centered.square().mean(1, keepdim=True) + 1e-7).sqrt(), labels, reduction="none"
        )

    weights = (1 + entropy(student) / entropy(own)).clamp(1, 10)
    p = torch.softmax(teacher / 4, 1)
    each = 4**2 * (p * (p.log() - F.log_softmax(own / 4, 1))).sum(1)
    return (weights / weights.mean() * each).mean()


def nkd(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    target = F.one_hot(labels, student.shape[1]).bool()
    first = -(teacher.softmax(1) * student.log_softmax(1))[target].mean()
    own, other = (logits[~target].view(len(logits), -1) for logits in (student, teacher))
    return first - 1.5 * (other.softmax(1) * own.log_softmax(1)).sum(1).mean()


def softened(teacher: Tensor, power: float) -> Tensor:
    return torch.softmax(teacher, 1) ** power


def ttm(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    p = softened(teacher, 0.1)
    p = p / p.sum(1, keepdim=True)
    return (p * (p.log() - student.log_softmax(1))).sum(1).mean()


def wttm(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    p = softened(teacher, 0.2)
    size = p.sum(1, keepdim=True)
    return (size * (p / size) * ((p / size).log() - student.log_softmax(1))).sum(1).mean()


def rld(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    rows = torch.arange(len(labels))
    p, q = teacher.softmax(1).amax(1), student.softmax(1)[rows, labels]
    first = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    second = []
    for own, other, label in zip(student / 4, teacher / 4, labels):
        below = other < other[label]
        u, v = own[below].log_softmax(0), other[below].log_softmax(0)
        second.append((v.exp() * (v - u)).sum())
    return first + 8 * 4**2 * torch.stack(second).mean()


def mlkd(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    values = []
    for t in (4, 3, 5, 2, 6):
        q, p = (student / t).softmax(1), (teacher / t).softmax(1)
        values += [
            t**2 * (p * (p / q).log()).sum(1).mean(),
            (p @ p.T - q @ q.T).square().sum() / len(p),
            (p.T @ p - q.T @ q).square().sum() / p.shape[1],
        ]
    return torch.stack(values).sum()


def ofa(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor, maps: list[Tensor]) -> Tensor:
    p = teacher.softmax(1)  # with a power of 1 the label's one cancels
    logits = [student, *(exit_(features) for exit_, features in zip(loss.exits, maps))]
    return torch.stack([-(p * one.log_softmax(1)).sum(1).mean() for one in logits]).sum()


FORMULAS = {
    "nkd": nkd,
    "ttm": ttm,
    "wttm": wttm,
    "rld": rld,
    "mlkd": mlkd,
    "ofa": ofa,
    "ce": cross_entropy,
    "kd": kd,
    "skd": skd,
    "wsld": wsld,
    "dkd": dkd,
    "dist": dist,
    "ipwd": ipwd,
}
