"""Adapters of the classic losses on relations, feature maps and embeddings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint.losses import get_loss
from pursuhint.losses.ab import ActivationBoundaryLoss
from pursuhint.losses.base import HintSum, Loss
from pursuhint.losses.context import LossContext
from pursuhint.losses.kdsvd import SingularVectorLoss, step_distance
from pursuhint.losses.ofd import FeatureOverhaulLoss
from tests.goldens.loss_adapters import Prepared, Setup, _context, _hint_loss, _set_mode


def _of_hints(setup: Setup) -> Prepared:
    """A loss of hint points without hyperparameters."""
    return Prepared(*_hint_loss(setup))


def _of_embeddings(setup: Setup, **options: Any) -> tuple[Loss, list[Tensor]]:
    student, teacher = setup.role("student_embedding"), setup.role("teacher_embedding")
    context = LossContext((), 10, 64, student.shape[1], teacher.shape[1])
    return get_loss(setup.case.method).build(context, **options), [student, teacher]


def _cc(setup: Setup) -> Prepared:
    loss, inputs = _of_embeddings(setup, **setup.given(embedding_width="embed_dim"))
    return Prepared(loss, inputs, lambda name: name.replace("_embed.", "_embedding."))


def _rkd(setup: Setup) -> Prepared:
    names = ("distance_weight", "angle_weight", "eps")
    return Prepared(*_of_embeddings(setup, **setup.given(**{name: name for name in names})))


def _pkt(setup: Setup) -> Prepared:
    return Prepared(*_of_embeddings(setup, **setup.given(eps="eps")))


def _by_hint(name: str) -> str:
    """``connector.1.bn.bias`` is ``hints.1.connector.bn.bias``."""
    return re.sub(r"^(\w+)\.(\d+)\.", r"hints.\2.\1.", name)


def _ab(setup: Setup) -> Prepared:
    loss, inputs = _hint_loss(setup, **setup.given(margin="margin"))
    assert isinstance(loss.hints[0], ActivationBoundaryLoss)
    _set_mode(loss, setup.option("module_mode", default="train"))
    return Prepared(loss, inputs, _by_hint)


class _Reconstruction(Loss):
    """What the paraphraser of a `FactorTransferLoss` is trained with, and nothing else of that loss."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = [loss]  # not registered, since the case gives no values for its translator
        self.paraphraser = loss.hints[0].paraphraser

    def forward(self, teachers: list[Tensor]) -> Tensor:
        return self._loss[0](teachers, teachers)


def _ft(setup: Setup) -> Prepared:
    stage, mode = setup.option("stage"), setup.option("module_mode", default="train")
    assert stage in ("pretrain", "distill"), f"unknown stage {stage!r}"
    options = setup.given(
        factor_ratio="k",
        power="p1",
        difference_power="p2",
        translator_norm="translator_batchnorm",
        paraphraser_norm="paraphraser_batchnorm",
    )
    if stage == "pretrain":
        teachers = setup.role("teacher_features")
        loss = get_loss("ft").build(_context(teachers, teachers), **options)
        loss.begin_stage("paraphraser")
        _set_mode(loss, mode)
        return Prepared(_Reconstruction(loss), [teachers])
    loss, inputs = _hint_loss(setup, **options)
    _set_mode(loss, mode)
    return Prepared(loss, inputs, lambda name: "hints.0." + name.replace("translator.encoder", "translator"))


def _ofd(setup: Setup) -> Prepared:
    documented = setup.case.entry["parameters"]

    class WithNorms(FeatureOverhaulLoss):
        """The case gives scale and shift of the teacher's norms, but no teacher that they are in."""

        @classmethod
        def teacher_norm(cls, context: LossContext, index: int) -> nn.Module:
            norm = nn.BatchNorm2d(context.pairs[index][1].channels)
            for name in ("weight", "bias"):
                values = setup.case.array(documented[f"teacher_bn.{index}.{name}"])
                getattr(norm, name).data = torch.from_numpy(values)
            return norm

    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    loss = WithNorms.build(_context(students, teachers), **setup.given(kernel_size="kernel_size"))
    assert isinstance(loss, HintSum)
    _set_mode(loss, setup.option("module_mode", default="train"))

    def parameter_name(name: str) -> str:
        own = {"weight": "teacher_scale", "bias": "teacher_shift"}
        renamed = re.sub(
            r"^teacher_bn\.(\d+)\.(\w+)$", lambda found: f"hints.{found[1]}.{own[found[2]]}", name
        )
        return _by_hint(renamed) if renamed == name else renamed

    def state() -> dict[str, Tensor]:
        return {f"margin.{i}": hint.margin(t) for i, (hint, t) in enumerate(zip(loss.hints, teachers))}

    return Prepared(loss, [students, teachers], parameter_name, state=state)


def _kdsvd(setup: Setup) -> Prepared:
    expected = setup.case.expected["state"]

    class AsInTheCase(SingularVectorLoss):
        """Takes of every two opposite vectors the one that the reference happened to get."""

        def oriented(self, index: int, vectors: Tensor) -> Tensor:
            theirs = torch.from_numpy(setup.case.array(expected[f"teacher_vectors.{index}"])).to(vectors)
            return vectors * torch.where((vectors * theirs).sum(1, keepdim=True) < 0, -1, 1)

    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    loss = AsInTheCase.build(_context(students, teachers), **setup.given(vectors="k"))

    def state() -> dict[str, Tensor]:
        pairs = [loss.directions(i, s, t) for i, (s, t) in enumerate(zip(students, teachers))]
        steps = list(pairwise(pairs))
        found = {
            "pair_loss_same_sign": torch.stack([step_distance(a, b) for a, b in steps]),
            "pair_loss_opposite_sign": torch.stack([step_distance((-a[0], -a[1]), b) for a, b in steps]),
        }
        for index, (own, theirs) in enumerate(pairs):
            given = torch.from_numpy(setup.case.array(expected[f"teacher_vectors.{index}"]))
            of_unit_length = torch.allclose(given.norm(dim=1), torch.ones((), dtype=given.dtype))
            length = theirs.norm(dim=1, keepdim=True) if of_unit_length else 1.0
            found[f"teacher_vectors.{index}"] = theirs / length
            found[f"student_vectors.{index}"] = own / length
        return found

    return Prepared(loss, [students, teachers], state=state)


ADAPTERS: Mapping[str, Callable[[Setup], Prepared]] = {
    "sp": _of_hints,
    "cc": _cc,
    "rkd": _rkd,
    "pkt": _pkt,
    "nst": _of_hints,
    "kdsvd": _kdsvd,
    "fsp": _of_hints,
    "ab": _ab,
    "ft": _ft,
    "ofd": _ofd,
}
