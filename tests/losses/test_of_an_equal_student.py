"""What a student gets that is equal to the teacher, when what the loss learns is at its best."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.data.batch import Batch
from pursuhint.features.extractor import Features
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import Loss
from pursuhint.losses.context import LossContext
from pursuhint.testing.loss_setting import CLASSES, SAMPLES, TEACHER
from tests.losses.test_contract import build, make_context

OPTIONS = {
    "dist": {"eps": 1e-30},  # keeps a correlation from being quite 1
    "skd": {"normalization": "std_rescale"},  # which leaves equal logits as they are
    "reviewkd": {"mid_channels": 7},
    "simkd": {"factor": 1},
    "rrd": {"student_temperature": 0.1, "teacher_temperature": 0.1},
    "mgd": {"mask_ratio": 0.0},
}
ONE_PAIR = ("afd", "semckd", "distpro")  # points of other shapes than that which they are compared with


def make_equal_context(name: str) -> LossContext:
    context = make_context(name, student=TEACHER)
    return replace(context, pairs=context.pairs[:1]) if name in ONE_PAIR else context


def make_features(name: str) -> Features:
    """Features as behind a ReLU; the logits and the embedding are the means of the last of them."""
    generator = torch.Generator().manual_seed(5)
    features = [
        torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64).relu() for shape in TEACHER
    ]
    for maps in features:
        maps[:, 0] = 1.0
    embedding = features[-1].mean((2, 3))
    if name == "ab":  # far from the boundary
        features = [torch.where(maps > 0, 1 + maps, -1.5) for maps in features]
    if name in ONE_PAIR:
        features = features[:1]
    return Features(embedding, embedding, tuple(features))


def make_equal_batch() -> Batch:
    order = torch.arange(SAMPLES)
    return Batch(torch.zeros(SAMPLES, 1, 4, 4).double(), labels=order % CLASSES, indices=order + 3)


@torch.no_grad()
def at_its_best(loss: nn.Module) -> nn.Module:
    """Let all that is learned give on what comes in, as far as widths allow."""
    for name, module in loss.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
            module.eps = 0.0
        elif isinstance(module, nn.Conv2d | nn.Linear) and not hasattr(module, "parametrizations"):
            if name.endswith("attention"):  # all of the shallower level, nothing of the deeper ones
                module.weight.zero_()
                module.bias.copy_(torch.tensor([50.0, -50.0]))
                continue
            if isinstance(module, nn.Linear):
                nn.init.eye_(module.weight)
            elif module.out_channels % module.in_channels == 0:
                nn.init.dirac_(module.weight, groups=module.out_channels // module.in_channels)
            else:
                nn.init.dirac_(module.weight)
            if module.bias is not None:
                module.bias.zero_()
    return loss.eval()


def value_of_an_equal_student(name: str, features: Features | None = None) -> tuple[Loss, Tensor, Features]:
    torch.manual_seed(0)
    loss = at_its_best(build(name, make_equal_context(name), **OPTIONS.get(name, {})).double())
    features = make_features(name) if features is None else features
    return loss, loss.compute(features, features, make_equal_batch()), features


DECLARED = [name for name in LOSSES if get_loss(name).info.minimum is not None]


@pytest.mark.parametrize("name", [name for name in DECLARED if name not in ("ce", "aml")])
def test_gets_the_declared_minimum(name):
    loss, value, _ = value_of_an_equal_student(name)
    assert value.item() == pytest.approx(loss.info.minimum, abs=1e-10)


def test_labels_alone_are_met_by_logits_that_are_sure_of_them():
    loss = get_loss("ce")()
    labels = torch.arange(4)
    assert loss(100 * F.one_hot(labels, 5).double(), labels).item() == pytest.approx(loss.info.minimum)


def test_asymmetric_metric_is_met_by_classes_that_are_single_points():
    points = F.one_hot(torch.arange(SAMPLES) % CLASSES, CLASSES).double()
    loss, value, _ = value_of_an_equal_student("aml", Features(points, points, ()))
    assert value.item() == pytest.approx(loss.info.minimum, abs=1e-10)


def cosines(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T


def mean_entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def purity(gram: Tensor) -> Tensor:
    return (gram / gram.trace()).square().sum()


def _skd(loss, features, labels):
    return (1 - loss.alpha) * F.cross_entropy(features.logits, labels)


def _wsld(loss, features, labels):
    p = (features.logits / 2).softmax(1)
    crosses = F.cross_entropy(features.logits, labels, reduction="none")
    weights = 1 - torch.exp(-crosses / (crosses + 1e-7))
    return crosses.mean() + 2.5 * 4 * (weights * -(p * p.log()).sum(1)).mean()


def _vid(loss, features, labels):
    return len(features.maps) * math.log(5.0) / 2


def _rrd(loss, features, labels):
    padded = F.pad(features.embedding, (0, 128 - features.embedding.shape[1]))
    return mean_entropy(F.normalize(padded, dim=1) @ loss.queue.T / 0.1)


def _itrd(loss, features, labels):
    gram = cosines(features.embedding)
    varying = features.embedding.std(0) > 0
    floor = varying.double().sum() * SAMPLES**-3 + (~varying).sum()
    return 2 * floor.log2() + 0.05 * (purity(gram) - purity(gram.square()))


def _fkd(loss, features, labels):
    return loss.length_weight * features.embedding.square().sum(1).mean()


def _ega(loss, features, labels):
    return torch.linalg.norm(torch.corrcoef(features.embedding) - torch.eye(SAMPLES).double())


def _contrast(loss, features, labels):
    return F.cross_entropy(math.e * cosines(features.embedding), torch.arange(SAMPLES))


def _nkd(loss, features, labels):
    p = features.logits.softmax(1)
    label = F.one_hot(labels, CLASSES).bool()
    others = p.masked_fill(label, 0) / p.masked_fill(label, 0).sum(1, keepdim=True)
    entropy = -torch.special.xlogy(others, others).sum(1)
    return (torch.special.entr(p[label]) + 1.5 * entropy).mean()


def _softened(features, gamma):
    p = features.logits.softmax(1)
    softer = p**gamma / (p**gamma).sum(1, keepdim=True)
    return (softer * (softer / p).log()).sum(1)


def _ttm(loss, features, labels):
    return _softened(features, 0.1).mean()


def _wttm(loss, features, labels):
    return ((features.logits.softmax(1) ** 0.2).sum(1) * _softened(features, 0.2)).mean()


def _rld(loss, features, labels):
    p = features.logits.softmax(1)
    first, label = p.amax(1), p[torch.arange(SAMPLES), labels]
    return (first * (first / label).log() + (1 - first) * ((1 - first) / (1 - label)).log()).mean()


def _ofa(loss, features, labels):
    exits = [exit_(maps) for exit_, maps in zip(loss.exits, features.maps)]
    p = features.logits.softmax(1)
    return sum(-(p * logits.log_softmax(1)).sum(1).mean() for logits in (features.logits, *exits))


def _srd(loss, features, labels):
    return 2 * math.log(loss.eps)


def _vkd(loss, features, labels):
    normalized = F.layer_norm(features.embedding, features.embedding.shape[1:])
    return F.smooth_l1_loss(features.embedding @ loss.project.matrix.T, normalized)


FROM_THE_DATA = {
    "vkd": _vkd,
    "nkd": _nkd,
    "ttm": _ttm,
    "wttm": _wttm,
    "rld": _rld,
    "ofa": _ofa,
    "srd": _srd,
    "skd": _skd,
    "wsld": _wsld,
    "vid": _vid,
    "rrd": _rrd,
    "itrd": _itrd,
    "fkd": _fkd,
    "ega": _ega,
    "dcd": _contrast,
    "icd": _contrast,
}
OF_OTHERS = ("crd", "crcd", "wcord")  # what an equal student gets depends on a memory of other samples


def test_every_loss_is_looked_at():
    assert LOSSES.keys() == {*DECLARED, *FROM_THE_DATA, *OF_OTHERS, "refilled"}


@pytest.mark.parametrize("name", FROM_THE_DATA)
def test_gets_what_follows_from_the_data(name):
    loss, value, features = value_of_an_equal_student(name)
    expected = FROM_THE_DATA[name](loss, features, make_equal_batch().labels)
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", OF_OTHERS)
def test_gets_less_than_others_once_it_is_remembered(name):
    points = torch.randn(SAMPLES, 5, generator=torch.Generator().manual_seed(7)).double()
    loss, _, features = value_of_an_equal_student(name, Features(points, points, ()))
    loss.train()
    for _ in range(8):
        loss.compute(features, features, make_equal_batch())
    loss.eval()
    equal = loss.compute(features, features, make_equal_batch())
    for seed in range(5):
        other = torch.randn(SAMPLES, 5, generator=torch.Generator().manual_seed(seed)).double()
        assert loss.compute(replace(features, embedding=other), features, make_equal_batch()) > equal


def test_comparisons_of_another_task_vanish_before_its_labels_come_in():
    loss, _, features = value_of_an_equal_student("refilled")
    loss.begin_stage("matching")
    assert loss.compute(features, features, make_equal_batch()).item() == pytest.approx(0, abs=1e-10)
