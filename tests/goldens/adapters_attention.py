"""Adapters of the losses with attention or contrast, and of further losses on logits and embeddings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pursuhint.losses.afd import AttentionMatchingLoss
from pursuhint.losses.crd import ContrastiveRepresentationLoss
from pursuhint.losses.dcd import DiscriminativeConsistentLoss
from pursuhint.losses.dkd import DecoupledLoss
from pursuhint.losses.ega import EmbeddingGraphLoss
from pursuhint.losses.icd import InvariantConsistencyLoss
from pursuhint.losses.itrd import InformationTheoreticLoss
from pursuhint.losses.reviewkd import KnowledgeReviewLoss
from pursuhint.losses.rrd import RelationalRepresentationLoss
from pursuhint.losses.wsld import WeightedSoftLabelLoss
from tests.goldens.loss_adapters import Prepared, Setup, _logits, _set_mode

SAMPLER = ("order", "first", "count", "key")


def _afd(setup: Setup) -> Prepared:
    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    loss = AttentionMatchingLoss(
        [features.shape[1] for features in students],
        [features.shape[1] for features in teachers],
        **setup.given(attention_width="qk_dim"),
    )
    _set_mode(loss, setup.option("module_mode", default="train"))
    return Prepared(loss, [students, teachers])


def _reviewkd(setup: Setup) -> Prepared:
    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    options = setup.given(mid_channels="mid_channels")
    embedding = students[-1].shape[2:] == teachers[-1].shape[2:] == (1, 1)  # the deepest hint is one
    hints = len(students) - embedding
    widths = [[features.shape[1] for features in side] for side in (students, teachers)]
    loss = KnowledgeReviewLoss(
        widths[0][:hints], widths[1][:hints], widths[0][-1], widths[1][-1], embedding=embedding, **options
    )
    _set_mode(loss, setup.option("module_mode", default="train"))
    inputs = [students[:hints], teachers[:hints]]
    if embedding:
        inputs += [students[-1].flatten(1), teachers[-1].flatten(1)]
    return Prepared(loss, inputs, lambda name: re.sub(r"^abf\.", "fusions.", name))


def _crd(setup: Setup) -> Prepared:
    student, teacher = setup.role("student_embedding"), setup.role("teacher_embedding")
    options = setup.given(
        negatives="nce_k", temperature="temperature", momentum="momentum", width="embed_dim", eps="eps"
    )
    loss = ContrastiveRepresentationLoss(
        student.shape[1], teacher.shape[1], setup.option("n_data"), negatives_from="other_samples", **options
    ).to(setup.dtype)
    constants = {"z_student": loss.log_z_student, "z_teacher": loss.log_z_teacher}
    for name, buffer in constants.items():
        value = setup.option(name, default=None)
        if value is not None:
            buffer.copy_(torch.as_tensor(setup.case.array(value)).log())
    return Prepared(
        loss,
        [student, teacher, setup.role("indices"), setup.role("contrast_indices")],
        lambda name: f"{name}.vectors" if name.startswith("memory") else name,
        state=lambda: {name: buffer.exp() for name, buffer in constants.items()},
        settled=("log_z_student", "log_z_teacher", *(f"sampler.{name}" for name in SAMPLER)),
    )


def _rrd(setup: Setup) -> Prepared:
    student, teacher = setup.role("student_embedding"), setup.role("teacher_embedding")
    options = setup.given(
        variant="variant",
        queue_size="queue_size",
        width="embed_dim",
        student_temperature="student_temperature",
        teacher_temperature="teacher_temperature",
    )
    trained = "teacher_embed.weight" in setup.case.expected["grad"]
    loss = RelationalRepresentationLoss(
        student.shape[1], teacher.shape[1], train_teacher_map=trained, **options
    )
    pointer = setup.option("queue_pointer", default=0)
    loss.queue_pointer.copy_(torch.as_tensor(setup.case.array(pointer)).reshape(1))
    return Prepared(
        loss,
        [student, teacher],
        state=lambda: {"queue_pointer": loss.queue_pointer},
        settled=("queue_pointer",),
    )


def _wsld(setup: Setup) -> Prepared:
    loss = WeightedSoftLabelLoss(**setup.given(temperature="temperature", alpha="alpha", eps="eps"))
    return Prepared(loss, _logits(setup))


def _dkd(setup: Setup) -> Prepared:
    loss = DecoupledLoss(**setup.given(temperature="temperature", alpha="alpha", beta="beta"))
    return Prepared(loss, _logits(setup))


def _embeddings(setup: Setup) -> list[Tensor]:
    return [setup.role("student_embedding"), setup.role("teacher_embedding")]


def _dcd(setup: Setup) -> Prepared:
    student, teacher = _embeddings(setup)
    options = setup.given(
        **{name: name for name in ("alpha", "max_scale", "trainable_scale", "fixed_scale")}, width="embed_dim"
    )
    loss = DiscriminativeConsistentLoss(student.shape[1], teacher.shape[1], **options)
    for name in setup.case.entry["parameters"].keys() & {"log_scale", "bias"}:
        if not hasattr(loss, name):  # of no use where the scale is fixed, but a case may list it
            loss.register_parameter(name, nn.Parameter(torch.zeros(())))
    return Prepared(loss, [student, teacher])


def _icd(setup: Setup) -> Prepared:
    student, teacher = _embeddings(setup)
    options = {"distribution": "representations"} | setup.given(
        distribution="distribution", alpha="alpha", max_scale="max_scale", width="embed_dim"
    )
    loss = InvariantConsistencyLoss(student.shape[1], teacher.shape[1], **options)
    return Prepared(loss, [student, teacher])


def _itrd(setup: Setup) -> Prepared:
    inputs = _embeddings(setup)
    options = setup.given(correlation_weight="lambda_corr", mutual_weight="lambda_mutual", alpha="alpha")
    loss = InformationTheoreticLoss(*(embedding.shape[1] for embedding in inputs), **options)

    def terms() -> dict[str, Tensor]:
        found = loss.terms(*inputs)
        asked = len(setup.case.expected.get("loss_terms", found))
        return found | ({"mutual": torch.zeros(())} if asked > len(found) else {})

    return Prepared(loss, inputs, terms=terms)


def _ega(setup: Setup) -> Prepared:
    student, teacher = _embeddings(setup)
    options = setup.given(node_weight="node_weight", edge_weight="edge_weight")
    return Prepared(EmbeddingGraphLoss(student.shape[1], teacher.shape[1], **options), [student, teacher])


ADAPTERS: Mapping[str, Callable[[Setup], Prepared]] = {
    "afd": _afd,
    "reviewkd": _reviewkd,
    "crd": _crd,
    "rrd": _rrd,
    "wsld": _wsld,
    "dkd": _dkd,
    "icd": _icd,
    "dcd": _dcd,
    "itrd": _itrd,
    "ega": _ega,
}
