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


FORMULAS = {
    "ce": cross_entropy,
    "kd": kd,
    "skd": skd,
    "wsld": wsld,
    "dkd": dkd,
    "dist": dist,
    "ipwd": ipwd,
}
