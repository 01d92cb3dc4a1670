"""Formulas of losses that weigh or fuse feature maps of several depths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .maps import pyramid

Maps = Sequence[Tensor]


def afd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    width = 128
    keys = [F.relu(key.bn(key.linear(f.mean((2, 3))))) for key, f in zip(loss.student_key, students)]
    queries = [query.bn(query.linear(f.mean((2, 3)))) for query, f in zip(loss.teacher_query, teachers)]
    stacked = torch.stack(keys, 1).flatten(0, 1)
    forms = loss.bilinear.bn(loss.bilinear.linear(stacked))
    forms = forms.view(len(students[0]), len(students), len(teachers), width)
    logits = torch.einsum("bijd,bjd->bji", forms, torch.stack(queries, 1))
    logits = (logits + loss.teacher_position @ loss.student_position.T) / math.sqrt(width)
    attention = logits.softmax(2)
    total = 0
    for j, other in enumerate(teachers):
        target = F.normalize(other.square().mean(1).flatten(1))
        for i, own in enumerate(students):
            pooled = F.adaptive_avg_pool2d(own.square().mean(1, keepdim=True), other.shape[2:])
            distance = (F.normalize(pooled.flatten(1)) - target).square().mean(1)
            total = total + (attention[:, j, i] * distance).mean()
    return total


def semckd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    def describe(network: Any, features: Tensor) -> Tensor:
        gram = features.flatten(1) @ features.flatten(1).T
        vectors = network.linear2(F.relu(network.linear1(gram)))
        return vectors / vectors.norm(dim=1, keepdim=True)

    queries = [describe(network, f) for network, f in zip(loss.queries, students)]
    keys = [describe(network, f) for network, f in zip(loss.keys, teachers)]
    total = 0
    for i, own in enumerate(students):
        energies = torch.stack([(queries[i] * key).sum(1) for key in keys], 1)
        attention = energies.softmax(1)
        for j, other in enumerate(teachers):
            size = min(own.shape[2], other.shape[2])
            x, target = F.adaptive_avg_pool2d(own, size), F.adaptive_avg_pool2d(other, size)
            path = loss.regressors[f"{i}_{j}"]
            x = F.relu(path.bn1(path.conv1(x)))
            x = path.conv3(F.relu(path.bn2(path.conv2(x))))
            total = total + (attention[:, j] * (x - target).square().mean((1, 2, 3))).sum()
    return total / (len(students[0]) * len(students))


def reviewkd(loss: Any, students: Maps, teachers: Maps, own: Tensor, other: Tensor) -> Tensor:
    inputs = [*students, own[:, :, None, None]]
    targets = [*teachers, other[:, :, None, None]]
    total, passed_on = 0, None
    for block, x, target in reversed(list(zip(loss.fusions, inputs, targets))):
        x = block.bn1(block.conv1(x))
        if passed_on is not None:
            y = F.interpolate(passed_on, x.shape[2:], mode="nearest")
            z = torch.sigmoid(block.attention(torch.cat([x, y], 1)))
            x = x * z[:, 0:1] + y * z[:, 1:2]
        passed_on = F.interpolate(x, target.shape[2:], mode="nearest")
        total = total + pyramid(block.bn2(block.conv2(passed_on)), target)
    return total


FORMULAS = {"afd": afd, "semckd": semckd, "reviewkd": reviewkd}
