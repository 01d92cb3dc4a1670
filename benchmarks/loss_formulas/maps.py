"""Formulas of losses that compare feature maps, hint point by hint point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Maps = Sequence[Tensor]


def fitnet(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    return sum(
        (F.relu(hint.regressor.bn(hint.regressor.conv(own))) - other).square().mean()
        for hint, own, other in zip(loss.hints, students, teachers)
    )


def attention_map(features: Tensor) -> Tensor:
    return F.normalize(features.pow(2).mean(1).flatten(1))


def at(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    return sum(
        (attention_map(own) - attention_map(other)).square().mean() for own, other in zip(students, teachers)
    )


def vid(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    total = 0
    for hint, own, other in zip(loss.hints, students, teachers):
        network = hint.mean
        mean = network.conv2(F.relu(network.conv1(F.relu(network.conv0(own)))))
        variance = (1 + hint.log_scale.exp()).log() + 1e-5
        variance = variance.view(1, -1, 1, 1)
        total = total + (0.5 * ((mean - other).square() / variance + variance.log())).mean()
    return total


def sp(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    total = 0
    for own, other in zip(students, teachers):
        g_s, g_t = (F.normalize(f.flatten(1) @ f.flatten(1).T) for f in (own, other))
        total = total + (g_t - g_s).square().sum() / len(own) ** 2
    return total


def nst(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("bcp,bdp->bcd", x, y).square().mean()

    total = 0
    for own, other in zip(students, teachers):
        s, t = (F.normalize(f.flatten(2), dim=2) for f in (own, other))
        total = total + kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)
    return total


def kdsvd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    def right_vectors(features: Tensor, count: int) -> Tensor:
        return torch.linalg.svd(features.flatten(2).mT, full_matrices=False)[2].mT[:, :, :count]

    aligned = []
    for own, other in zip(students, teachers):
        with torch.no_grad():
            theirs = right_vectors(other, 1)
            theirs = theirs * theirs.gather(1, theirs.abs().argmax(1, keepdim=True)).sign()
        candidates = right_vectors(own, 4)
        products = candidates.mT @ theirs
        best = products.abs().argmax(1, keepdim=True)
        chosen = candidates.gather(2, best.expand(-1, candidates.shape[1], 1))
        aligned.append((chosen * products.gather(1, best).sign().detach(), theirs))
    total = 0
    for (s_a, t_a), (s_b, t_b) in pairwise(aligned):
        r_s, r_t = (
            torch.exp(-(b[:, :, None] - a[:, None]).square() / 8) for a, b in ((s_a, s_b), (t_a, t_b))
        )
        total = total + (r_s - r_t).square().sum() / len(s_a)
    return total


def fsp(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    def flow(first: Tensor, second: Tensor) -> Tensor:
        size = min(first.shape[2], second.shape[2])
        first, second = (F.adaptive_avg_pool2d(f, size) for f in (first, second))
        return torch.einsum("bchw,bdhw->bcd", first, second) / size**2

    steps = zip(pairwise(students), pairwise(teachers))
    return sum((flow(*own) - flow(*other)).square().mean() for own, other in steps)


def ab(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    total, last = 0, len(students) - 1
    for index, (hint, r, t) in enumerate(zip(loss.hints, students, teachers)):
        r = hint.connector(r)
        each = (r + 1).square() * ((r > -1) & (t <= 0)) + (r - 1).square() * ((r <= 1) & (t > 0))
        total = total + each.sum() * 2.0 ** (index - last) / len(r) * 3 / 1000
    return total


def ft(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    return sum(
        (attention_map(hint.translator(own)) - attention_map(hint.paraphraser.encoder(other))).abs().mean()
        for hint, own, other in zip(loss.hints, students, teachers)
    )


def paraphrase(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    return sum(
        (hint.paraphraser.decoder(hint.paraphraser.encoder(other)) - other).square().mean()
        for hint, other in zip(loss.hints, teachers)
    )


def ofd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    total, last = 0, len(students) - 1
    for index, (hint, own, t) in enumerate(zip(loss.hints, students, teachers)):
        r = hint.connector.bn(hint.connector.conv(own))
        s, mean = hint.teacher_scale.abs(), hint.teacher_shift
        below = 0.5 * (1 + torch.erf(-mean / s / math.sqrt(2)))
        margin = mean - s * (-((mean / s) ** 2) / 2).exp() / (math.sqrt(2 * math.pi) * below)
        m = torch.where(below > 0.001, margin, -3 * s).view(1, -1, 1, 1)
        each = (
            (r - m).square() * ((r > m) & (t <= m))
            + (r - t).square() * ((r > t) & (m < t) & (t <= 0))
            + (r - t).square() * (t > 0)
        )
        total = total + each.sum() / len(r) * 2.0 ** (index - last)
    return total


def norm(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    expanded, teacher = students[-1], teachers[0]
    return 8 * (expanded - teacher.repeat(1, 8, 1, 1)).square().mean()


def simkd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    return (students[-1] - teachers[0]).square().mean()


def srrl(loss: Any, students: Maps, teachers: Maps, teacher_logits: Tensor) -> Tensor:
    embedding, target = (f.mean((2, 3), keepdim=True) for f in (students[0], teachers[0]))
    h = F.relu(loss.connector.bn(loss.connector.conv(embedding))).flatten(1)
    logits = loss.teacher_classifier(h)
    return (h - target.flatten(1)).square().mean() + (logits - teacher_logits).square().mean()


def pyramid(a: Tensor, b: Tensor) -> Tensor:
    total, weight, weights = (a - b).square().mean(), 1.0, 1.0
    for level in (4, 2, 1):
        if level < a.shape[2]:
            weight /= 2
            weights += weight
            pooled = F.adaptive_avg_pool2d(a, level) - F.adaptive_avg_pool2d(b, level)
            total = total + weight * pooled.square().mean()
    return total / weights


def distpro(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    shares = torch.cat([loss.alpha, loss.alpha.new_ones(1)]).softmax(0)[:-1] * len(loss.alpha)
    total = 0
    for share, (i, j) in zip(shares, loss.pathways):
        path = loss.connectors[f"t{i}_s{j}"]
        x = F.relu(path.bn1(path.conv1(students[j])))
        x = F.relu(path.bn2(path.conv2(x * path.gate(x))))
        x = F.interpolate(x, size=teachers[i].shape[2:], mode="nearest")
        total = total + share * pyramid(path.bn3(path.conv3(x)), teachers[i])
    return total


def cwd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    total = 0
    for hint, s, t in zip(loss.hints, students, teachers):
        own, other = hint.connector(s).flatten(2).softmax(2), t.flatten(2).softmax(2)
        total = total + (other * (other / own).log()).sum() / other.shape[0] / other.shape[1]
    return total


def pkd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    def normalized(x: Tensor) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        return (x - mean) / (var.sqrt() + 1e-6)

    return sum(
        0.5 * (normalized(hint.connector(s)) - normalized(t)).square().mean()
        for hint, s, t in zip(loss.hints, students, teachers)
    )


def mgd(loss: Any, students: Maps, teachers: Maps, indices: Tensor) -> Tensor:
    total = 0
    for number, (hint, s, t) in enumerate(zip(loss.hints, students, teachers)):
        aligned = hint.align(s)
        masked = aligned * loss.mask(aligned, indices, number)
        total = total + (hint.conv2(hint.conv1(masked).relu()) - t).square().sum() / len(t)
    return total


def wkd_f(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    total = 0
    for hint, s, t in zip(loss.hints, students, teachers):
        own = hint.connector(s)
        means = (own.mean((2, 3)) - t.mean((2, 3))).square().sum()
        deviations = [(x.var((2, 3)) + 1e-5).sqrt() for x in (own, t)]
        total = total + (4 * means + (deviations[0] - deviations[1]).square().sum()) / len(t)
    return total


def _class_maps(loss: Any, maps: Tensor, layer: Any, *, bias: bool) -> Tensor:
    found = torch.einsum("kc,nchw->nkhw", layer.weight, maps)
    return found + layer.bias[:, None, None] if bias else found


def cat_kd(loss: Any, students: Maps, teachers: Maps) -> Tensor:
    layers = loss.class_maps._student[0], loss.class_maps.teacher
    found = [
        _class_maps(loss, maps[0], layer, bias=False) for maps, layer in zip((students, teachers), layers)
    ]
    own, other = (F.adaptive_avg_pool2d(x, 2) for x in found)
    return (own - other).square().mean()


def sdd(loss: Any, students: Maps, teachers: Maps, labels: Tensor) -> Tensor:
    layers = loss.class_maps._student[0], loss.class_maps.teacher
    own, other = (
        _class_maps(loss, maps[0], layer, bias=True) for maps, layer in zip((students, teachers), layers)
    )
    right = other.mean((2, 3)).argmax(1) == labels
    total = 0
    for scale in (1, 2, 4):
        z, t = (F.adaptive_avg_pool2d(x, scale) for x in (own, other))
        p, q = (t / 4).softmax(1), (z / 4).softmax(1)
        here = t.argmax(1) == labels[:, None, None]
        weights = 1 + (here != right[:, None, None]).to(p.dtype)
        total = total + (weights * (p * (p / q).log()).sum(1)).sum()
    return 16 * total / (21 * len(labels))


FORMULAS = {
    "wkd-f": wkd_f,
    "cat-kd": cat_kd,
    "sdd": sdd,
    "cwd": cwd,
    "pkd": pkd,
    "mgd": mgd,
    "fitnet": fitnet,
    "at": at,
    "vid": vid,
    "sp": sp,
    "nst": nst,
    "kdsvd": kdsvd,
    "fsp": fsp,
    "ab": ab,
    "ft": ft,
    "ft:paraphraser": paraphrase,
    "ofd": ofd,
    "norm": norm,
    "simkd": simkd,
    "srrl": srrl,
    "distpro": distpro,
}
