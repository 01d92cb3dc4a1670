"""Adapters of the modern losses: logits, embeddings, last maps, input gradients, pathways, cross-task."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.distillation.meta_gradient import (
    AfterStep,
    BilevelLosses,
    SgdStep,
    meta_gradient,
    validation_after_step,
)
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap
from pursuhint.losses._parts.contrast_options import NoiseContrastOptions
from pursuhint.losses._parts.maps import pool_to_smaller
from pursuhint.losses.aml import AsymmetricMetricLoss, asymmetric_contrast
from pursuhint.losses.base import Loss
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.crcd import (
    RelationContrast,
    cross_entropy_gradient,
    gradient_disagreement,
)
from pursuhint.losses.dist import PredictionCorrelationLoss
from pursuhint.losses.distpro import PathwayLoss, pathway_weights, pyramid_loss
from pursuhint.losses.fkd import FeatureKernelLoss, feature_kernel
from pursuhint.losses.jacobian import JacobianLoss
from pursuhint.losses.kd import soft_target_divergence
from pursuhint.losses.norm import NToOneLoss
from pursuhint.losses.refilled_stage1 import (
    ComparisonMatchingLoss,
    pairwise_distances,
    semi_hard_comparisons,
)
from pursuhint.losses.refilled_stage2 import LocalDistillationLoss, class_centers
from pursuhint.losses.semckd import SemanticCalibrationLoss
from pursuhint.losses.simkd import ReusedClassifierLoss
from pursuhint.losses.srrl import SoftmaxRegressionLoss
from pursuhint.losses.wcord import LocalTransport, cosine_cost, transport_plan
from pursuhint.study.cross_task import area_under_curve, joint_accuracy, nearest_center_accuracy
from tests.goldens.loss_adapters import Prepared, Setup


def _set_norms(setup: Setup, network: nn.Module) -> None:
    """The case's constants of batch norm, and its mode."""
    mode = setup.option("mode", default="train")
    assert mode in ("train", "eval"), f"unknown mode {mode!r}"
    network.train(mode == "train")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for name, attribute in (("bn_eps", "eps"), ("bn_momentum", "momentum")):
        if name in setup.options:
            value = setup.option(name)
            for norm in norms:
                setattr(norm, attribute, value)


def _shape(features: Tensor) -> FeatureShape:
    return FeatureShape(features.shape[1], tuple(features.shape[2:]))


def _linear(setup: Setup, name: str) -> nn.Linear:
    """A linear layer of the size that a case's parameters have; its values are filled in later."""
    shape = setup.case.arrays[setup.case.entry["parameters"][f"{name}.weight"]].shape
    bias = f"{name}.bias" in setup.case.entry["parameters"]
    return nn.Linear(shape[1], shape[0], bias=bias)


def _dist(setup: Setup) -> Prepared:
    options = setup.given(temperature="tau", beta="beta", gamma="gamma", eps="eps")
    if setup.case.entry["variant"] == "dense":
        options.setdefault("temperature", 1.0)
    loss = PredictionCorrelationLoss(**options)
    inputs = [setup.role("student_logits"), setup.role("teacher_logits")]

    def terms() -> dict[str, Tensor]:
        return dict(zip(("inter_class", "intra_class"), loss.disagreements(*inputs)))

    return Prepared(loss, inputs, terms=terms)


def _srrl(setup: Setup) -> Prepared:
    variant = setup.case.entry["variant"]
    if variant == "embedding":
        student, teacher = setup.role("student_embedding"), setup.role("teacher_embedding")
    else:
        (student,), (teacher,) = setup.role("student_features"), setup.role("teacher_features")
    loss = SoftmaxRegressionLoss(
        student.shape[1],
        teacher.shape[1],
        _linear(setup, "teacher_classifier"),
        variant=variant,
        **setup.given(logit_weight="weight"),
    )
    _set_norms(setup, loss)
    logits = setup.role("teacher_logits")
    inputs = [[student], [teacher], logits]
    weights = {name: setup.option(name, default=None) for name in ("cls", "div", "beta", "kd_T")}
    student_logits = setup.role("student_logits") if "student_logits" in setup.roles else None
    labels = setup.role("labels") if "labels" in setup.roles else None
    kept: dict[str, Tensor] = {}

    def state() -> dict[str, Tensor]:
        bn = loss.connector.bn
        kept["bn_running_mean_after"], kept["bn_running_var_after"] = (
            bn.running_mean.clone(),
            bn.running_var.clone(),
        )
        kept["transformed_student"] = loss.connected(student)
        kept["teacher_classifier_logits"] = loss.classified(kept["transformed_student"])
        return kept

    def terms() -> dict[str, Tensor]:
        own = loss.terms(*inputs)
        if student_logits is None:
            return {"feature_mse": own["feature"], "logit_mse_weighted": own["logit"]}
        ce = F.cross_entropy(student_logits, labels)
        kl = soft_target_divergence(student_logits, logits, weights["kd_T"])
        total = weights["cls"] * ce + weights["div"] * kl + weights["beta"] * sum(own.values())
        return {
            "feature_mse": own["feature"],
            "logit_mse": own["logit"],
            "ce": ce,
            "kd_kl": kl,
            "total": total,
        }

    return Prepared(loss, inputs, state=state, terms=terms)


def _fkd(setup: Setup) -> Prepared:
    loss = FeatureKernelLoss(**setup.given(kernel_weight="lambda_kd", length_weight="lambda_fr"))
    student, teachers = setup.role("student_embedding"), setup.role("teacher_embeddings")
    inputs = [student, *teachers]

    def state() -> dict[str, Tensor]:
        return {"student_kernel": feature_kernel(student), "teacher_kernel": loss.teacher_kernel(*teachers)}

    def terms() -> dict[str, Tensor]:
        return dict(zip(("kernel_offdiagonal_mse", "feature_squared_norm"), loss.parts(*inputs)))

    return Prepared(loss, inputs, state=state, terms=terms)


class _GivenTuples(AsymmetricMetricLoss):
    """The loss of tuples that are given, instead of those of a batch."""

    def forward(self, student: Tensor, members: Tensor) -> Tensor:
        mask = torch.ones(members.shape[0], members.shape[1] - 1, dtype=torch.bool)
        return asymmetric_contrast(student, members, mask, self.margin, self.eps)


def _aml(setup: Setup) -> Prepared:
    assert setup.case.entry["variant"] == "asymmetric_contrastive"
    student, members = setup.role("student_embedding"), setup.role("teacher_tuples")
    loss = _GivenTuples(student.shape[1], members.shape[2], **setup.given(margin="margin", eps="eps"))
    return Prepared(loss, [student, members], term_names={"loss": "asymmetric_contrastive_sum"})


def _semckd(setup: Setup) -> Prepared:
    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    loss = SemanticCalibrationLoss(
        [_shape(features) for features in students],
        [_shape(features) for features in teachers],
        len(students[0]),
        **setup.given(batch_size="batch_size", factor="factor", softness="soft"),
    )
    _set_norms(setup, loss)

    def parameter_name(name: str) -> str:
        name = re.sub(r"^query(\d+)", r"queries.\1", re.sub(r"^key(\d+)", r"keys.\1", name))
        return name.replace("regressor.", "regressors.")

    def state() -> dict[str, Tensor]:
        return {
            "attention": loss.attention(students, teachers),
            "pair_mse_batch_mean": loss.errors(students, teachers).mean(0),
        }

    return Prepared(loss, [students, teachers], parameter_name, {"loss": "semckd"}, state)


class _Tail(nn.Module):
    """The end of a student: pooling and classifier. Its images are the last map."""

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(self.pool(features).flatten(1))


class _AtLastMap(nn.Module):
    """A loss that alters the student, with the end of a student that it has altered."""

    def __init__(
        self, kind: type[Loss], student: Tensor, teacher: Tensor, tail: _Tail, **options: Any
    ) -> None:
        super().__init__()
        classifier = options.pop("teacher_classifier", None)
        context = LossContext(
            pairs=((_shape(student), _shape(teacher)),),
            num_classes=tail.classifier.out_features,
            num_samples=len(student),
            student_embedding=student.shape[1],
            teacher_embedding=teacher.shape[1],
            teacher_classifier=classifier,
            student=tail,
            example=torch.zeros(student.shape),
        )
        self.loss = kind.build(context, **options)
        self.student = self.loss.prepare(tail)

    def features(self, student: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the loss sees of the student, and the logits."""
        points = [
            HintPoint(name, 0, 0, "post", 0, (), 0, Tap(name, copy=True))
            for name in self.loss.info.extra_taps
        ]
        trace = FeatureExtractor(self.student, points)(student)
        return [student, *trace.maps], trace.logits

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return self.loss(self.features(student)[0], [teacher])

    def terms(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"loss": self(*inputs)}


def _simkd(setup: Setup) -> Prepared:
    (student,), (teacher,) = setup.role("student_features"), setup.role("teacher_features")
    classifier = _linear(setup, "teacher_classifier")
    tail = _Tail(nn.Linear(student.shape[1], classifier.out_features))
    whole = _AtLastMap(
        ReusedClassifierLoss,
        student,
        teacher,
        tail,
        teacher_classifier=classifier,
        **setup.given(factor="factor"),
    )
    _set_norms(setup, whole)

    def parameter_name(name: str) -> str:
        name = name.replace("teacher_classifier.", "student.classifier.")
        return name.replace("projector.", "student.pool.projector.layers.")

    def state() -> dict[str, Tensor]:
        layers = whole.student.pool.projector.layers
        found = {
            f"bn{index}_running_{what}_after": getattr(layers, f"bn{index}")
            .get_buffer(f"running_{what}")
            .clone()
            for index in (1, 2, 3)
            for what in ("mean", "var")
        }
        evaluated = copy.deepcopy(whole).eval()
        (_, projected), logits = whole.features(student)
        return found | {
            "projected_student": projected,
            "aligned_teacher": pool_to_smaller(student, teacher)[1],
            "logits": logits,
            "logits_eval_after": evaluated.features(student)[1],
        }

    return Prepared(
        whole,
        [student, teacher],
        parameter_name,
        {"loss": "simkd_mse"},
        state,
        settled=("student.pool.projector.output_size",),
    )


def _norm(setup: Setup) -> Prepared:
    (student,), (teacher,) = setup.role("student_features"), setup.role("teacher_features")
    tail = _Tail(_linear(setup, "student_classifier"))
    options = setup.given(
        segments="N", logit_scale="logit_scale", eps="logit_norm_eps", transform="transform", ramp="ramp"
    )
    if setup.case.entry["variant"] == "plain" or not setup.option("residual", default=True):
        options["transform"] = "plain"
    if options["segments"] == 1 and "expand.conv.weight" not in setup.case.entry["parameters"]:
        options["transform"] = "none"
    whole = _AtLastMap(NToOneLoss, student, teacher, tail, **options)
    whole.loss.begin_epoch(setup.option("epoch"), 240)
    _set_norms(setup, whole)
    weights = {name: setup.option(name, default=1.0) for name in ("gamma", "alpha", "beta", "kd_T")}
    teacher_logits, labels = setup.role("teacher_logits"), setup.role("labels")
    kept: dict[str, Tensor] = {}

    def parameter_name(name: str) -> str:
        name = name.replace("student_classifier.", "student.classifier.")
        return re.sub(r"^(expand|contract)\.", r"student.pool.transform.\1.", name)

    def state() -> dict[str, Tensor]:
        copied = copy.deepcopy(whole)
        before = {name: setup.case.array(entry) for name, entry in setup.case.entry["parameters"].items()}
        for name, buffer in copied.named_buffers():  # the case folds with the statistics before the step
            ours = {parameter_name(theirs): theirs for theirs in before}
            if name in ours:
                buffer.copy_(torch.from_numpy(before[ours[name]]))
        evaluated = copied.eval().features(student)[1]
        exported = copied.loss.export(copied.student)
        torch.testing.assert_close(exported(student), evaluated)
        features, logits = whole.features(student)
        terms = _norm_terms(whole.loss, features, teacher, logits, teacher_logits, labels, weights)
        kept.update(terms)
        named = {"s0": student, "fc_weight": whole.student.classifier.weight}
        if whole.loss.info.alters_student:
            layers = whole.student.pool.transform
            named["p_expand_conv_weight"] = layers.expand.conv.weight
            named["p_contract_conv_weight"] = layers.contract.conv.weight
        gradients = torch.autograd.grad(terms["total"], list(named.values()))
        return {
            "ramp": torch.tensor(whole.loss.strength, dtype=torch.float64),
            "expanded_train": features[-1],
            "logits_train": logits,
            "logits_eval": evaluated,
            "folded_fc_weight": exported.classifier.weight,
            "folded_fc_bias": exported.classifier.bias,
            **{f"total_grad_{name}": gradient for name, gradient in zip(named, gradients)},
        }

    return Prepared(whole, [student, teacher], parameter_name, state=state, terms=lambda: kept)


def _norm_terms(
    loss: NToOneLoss,
    features: list[Tensor],
    teacher: Tensor,
    logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    own, other = loss.transform_logits(logits), loss.transform_logits(teacher_logits)
    feature = loss.difference(features[-1], teacher)
    ce = F.cross_entropy(own, labels)
    kl = soft_target_divergence(own, other, weights["kd_T"])
    total = weights["gamma"] * ce + weights["alpha"] * kl + weights["beta"] * loss.strength * feature
    return {
        "norm_feature": feature,
        "ce_on_normalised_logits": ce,
        "kl_on_normalised_logits": kl,
        "total": total,
    }


class _BetweenNetworks(nn.Module):
    """Jacobian matching with the two networks: flatten, linear, tanh, linear."""

    def __init__(self, loss: JacobianLoss, setup: Setup) -> None:
        super().__init__()
        self.loss = loss
        for role in ("student", "teacher"):
            layers = {
                "fc1": _linear(setup, f"{role}.fc1"),
                "tanh": nn.Tanh(),
                "fc2": _linear(setup, f"{role}.fc2"),
            }
            self.add_module(role, nn.Sequential(OrderedDict([("flatten", nn.Flatten()), *layers.items()])))

    def seen(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images = images.detach().requires_grad_()
        return self.student(images), self.teacher(images), labels, images

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(*self.seen(images, labels))

    def terms(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        names = {
            "element": "mean_over_elements (repository)",
            "sample": "mean_over_samples_of_squared_l2 (paper scaling)",
        }
        return {
            name: JacobianLoss(target=self.loss.target, reduction=reduction)(*self.seen(images, labels))
            for reduction, name in names.items()
        }


def _jacobian(setup: Setup) -> Prepared:
    target = {"target_class": "label", "teacher_argmax": "teacher_argmax"}[setup.case.entry["variant"]]
    loss = JacobianLoss(reduction="element", **({"target": target} | setup.given(target="target")))
    whole = _BetweenNetworks(loss, setup)
    inputs = [setup.role("images"), setup.role("labels")]

    def state() -> dict[str, Tensor]:
        gradients = loss.gradients(*whole.seen(*inputs))
        return {
            f"jacobian_{role}": gradient.reshape(inputs[0].shape)
            for role, gradient in zip(("student", "teacher"), gradients)
        }

    return Prepared(whole, inputs, state=state)


def _refilled(setup: Setup) -> Prepared:
    variant = setup.case.entry["variant"]
    if variant == "evaluation":
        return _cross_task(setup)
    if variant == "stage2_local_kd":
        return _local_distillation(setup)
    options = setup.given(temperature="tau1", margin="margin", k_hat="k_hat", scale="scale")
    options["mode"] = "tuples" if setup.option("tuples", default=variant != "stage1_triplets") else "triplets"
    loss = ComparisonMatchingLoss(**options)
    inputs = [setup.role("student_embedding"), setup.role("teacher_embedding"), setup.role("labels")]

    def state() -> dict[str, Tensor]:
        distances = pairwise_distances(inputs[0])
        every = semi_hard_comparisons(distances, inputs[2], margin=loss.margin).as_triplets()
        chosen = loss.comparisons(distances, inputs[2])
        return {
            "anchor": every.anchor,
            "positive": every.positive,
            "negative": every.negative[:, 0],
            "tuple_anchor": chosen.anchor,
            "tuple_positive": chosen.positive,
            "tuple_negative": chosen.negative,
            "tuple_mask": chosen.mask,
        }

    return Prepared(loss, inputs, term_names={"loss": "1000x_kl"}, state=state)


def _local_distillation(setup: Setup) -> Prepared:
    student, teacher, labels = (
        setup.role("student_logits"),
        setup.role("teacher_embedding"),
        setup.role("labels"),
    )
    loss = LocalDistillationLoss(
        student.shape[1],
        teacher.shape[1],
        **({"weighting": "constant"} | setup.given(weighting="weighting", centers="centers")),
        **setup.given(temperature="tau2", strength="lambda"),
    ).to(setup.dtype)
    if loss.centers == "global":
        loss.see(setup.role("teacher_embedding_train"), setup.role("labels_train"))
        loss.complete()
    of_teacher = [setup.role("teacher_logits")] if "teacher_logits" in setup.roles else []

    def state() -> dict[str, Tensor]:
        present = loss.present(labels)
        return {"class_centers": loss.class_centers(teacher, labels), "classes_in_batch": present.float()}

    return Prepared(
        loss,
        [student, teacher, labels, *of_teacher],
        term_names={"local": "lambda_times_local_kl"},
        state=state,
        settled=("sums", "completed"),
    )


class _Measures(nn.Module):
    """The measures of a case; the harmonic mean stands for a loss."""

    def forward(self, measures: Mapping[str, float]) -> Tensor:
        return torch.tensor(measures["harmonic_mean"], dtype=torch.float64)

    def terms(self, measures: Mapping[str, float]) -> dict[str, Tensor]:
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in measures.items()}


def _cross_task(setup: Setup) -> Prepared:
    joint = joint_accuracy(setup.role("joint_scores"), setup.role("joint_labels"), setup.role("old_classes"))
    embedding, labels = setup.role("query_embedding"), setup.role("query_labels")
    train, train_labels = setup.role("train_embedding"), setup.role("train_labels")
    classes = 1 + int(max(labels.max(), train_labels.max()))
    centers = class_centers(train, train_labels, classes)
    measures = {
        "acc_old": joint.old,
        "acc_current": joint.current,
        "harmonic_mean": joint.harmonic_mean,
        "ncm_accuracy_self_centres": nearest_center_accuracy(
            embedding, labels, class_centers(embedding, labels, classes)
        ),
        "ncm_accuracy_train_centres": nearest_center_accuracy(embedding, labels, centers),
        "lambda_auc_seen_vs_unseen": area_under_curve(setup.role("lambda_i"), setup.role("seen")),
    }
    return Prepared(_Measures(), [measures], state=lambda: {"train_centres": centers})


def _crcd(setup: Setup) -> Prepared:
    if setup.case.entry["variant"] == "gradient_cosine":
        return _gradient_cosine(setup)
    student, teacher = setup.role("student_embedding"), setup.role("teacher_embedding")
    embedder = {"nofc": "none"}.get(kind := setup.option("embed_type"), kind)
    relation = RelationContrast(
        student.shape[1],
        teacher.shape[1],
        setup.option("n_data"),
        embedder=embedder,
        offset=setup.option("relation_offset", default=1e-6),
        options=NoiseContrastOptions(
            temperature=setup.option("nce_t"),
            momentum=setup.option("nce_m"),
            width=setup.option("feat_dim"),
            eps=setup.option("nce_eps", default=1e-7),
        ),
    ).to(setup.dtype)
    inputs = [student, teacher, setup.role("indices"), setup.role("contrast_indices")]
    assert setup.option("nce_k") == inputs[3].shape[1] - 1
    second = setup.role("second_step") if "second_step" in setup.roles else None
    constants = {"Z_s": relation.log_z_student, "Z_t": relation.log_z_teacher}
    kept: dict[str, Tensor] = {}

    def parameter_name(name: str) -> str:
        name = re.sub(r"^embed_(student|teacher)", r"\1_embed", name)
        return f"{name}.vectors" if name.startswith("memory") else name

    def state() -> dict[str, Tensor]:
        memories = relation.memory_student.vectors, relation.memory_teacher.vectors
        found = {name: buffer.exp()[0] for name, buffer in constants.items()}
        found |= {"mem_s_after": memories[0].clone(), "mem_t_after": memories[1].clone()}
        if second is not None:
            embedding = second["student_embedding"].detach().requires_grad_()
            rest = [second[name] for name in ("teacher_embedding", "indices", "contrast_indices")]
            kept["second"] = relation(embedding, *rest)
            found["loss_second_step"] = kept["second"]
            (found["grad_es_second_step"],) = torch.autograd.grad(kept["second"], embedding)
            found["mem_s_after_second"], found["mem_t_after_second"] = memories
        return found

    loss = _AsLoss(relation, "crcd_first_step")

    def terms() -> dict[str, Tensor]:
        found = {"crcd_first_step": kept["first"]}
        return found if second is None else found | {"crcd_second_step_with_frozen_Z": kept["second"]}

    loss.keep = kept
    return Prepared(
        loss,
        inputs,
        lambda name: f"part.{parameter_name(name)}",
        state=state,
        terms=terms,
        settled=("part.log_z_student", "part.log_z_teacher"),
    )


class _AsLoss(nn.Module):
    """A part of a loss as if it were one."""

    def __init__(self, part: nn.Module, name: str) -> None:
        super().__init__()
        self.part = part
        self.name = name
        self.keep: dict[str, Tensor] = {}

    def forward(self, *inputs: Tensor) -> Tensor:
        self.keep["first"] = self.part(*inputs)
        return self.keep["first"]

    def terms(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {self.name: self.part(*inputs)}


class _GradientCosine(nn.Module):
    """The gradient term of CRCD alone, with both classifiers."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.student_classifier = _linear(setup, "student_classifier")
        self.teacher_classifier = _linear(setup, "teacher_classifier")

    def elements(self, student: Tensor, teacher: Tensor, labels: Tensor) -> list[Tensor]:
        pairs = (student, self.student_classifier), (teacher, self.teacher_classifier)
        return [cross_entropy_gradient(side, labels, layer.weight, layer.bias) for side, layer in pairs]

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return gradient_disagreement(*self.elements(student, teacher, labels))

    def terms(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"one_minus_cosine": self(*inputs)}


def _gradient_cosine(setup: Setup) -> Prepared:
    loss, scale = _GradientCosine(setup), setup.option("scale")
    inputs = [setup.role("student_embedding"), setup.role("teacher_embedding"), setup.role("labels")]

    def state() -> dict[str, Tensor]:
        names = ("gradient_element_student", "gradient_element_teacher")
        return dict(zip(names, loss.elements(*inputs)))

    def terms() -> dict[str, Tensor]:
        value = loss(*inputs)
        return {"one_minus_cosine": value, "term_as_added_to_the_total_before_its_weight": scale * value}

    return Prepared(loss, inputs, state=state, terms=terms)


def _wcord(setup: Setup) -> Prepared:
    assert setup.case.entry["variant"] == "local_sinkhorn"
    options = setup.given(epsilon="epsilon", iterations="iterations")
    loss = _AsLoss(LocalTransport(**options), "transport_cost")
    inputs = [setup.role("student_embedding"), setup.role("teacher_embedding")]

    def state() -> dict[str, Tensor]:
        student = inputs[0].detach().requires_grad_()
        whole = LocalTransport(**options, through_plan=True)(student, inputs[1])
        cost = cosine_cost(*inputs)
        return {
            "cost": cost,
            "plan": transport_plan(cost, loss.part.epsilon, loss.part.iterations),
            "grad_es_backprop_through_iterations": torch.autograd.grad(whole, student)[0],
        }

    return Prepared(loss, inputs, state=state)


WEIGHTINGS = {
    0: "constant",
    1: "softmax",
    2: "biased_softmax",
    3: "sigmoid",
    4: "absolute",
    5: "share",
    6: "bounded_share",
    333: "scaled_biased_softmax",
}


def _distpro(setup: Setup) -> Prepared:
    if setup.case.entry["variant"] == "meta_gradient":
        return _meta_gradient(setup)
    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    options = setup.given(kd_weight="kd_weight")
    if "pathways" in setup.options:
        options["pathways"] = tuple(map(tuple, setup.option("pathways")))
    loss = PathwayLoss(
        [_shape(features) for features in students],
        [_shape(features) for features in teachers],
        weighting=WEIGHTINGS[setup.option("alpha_normalization_style")],
        **options,
    )
    loss.alpha.requires_grad_()
    _set_norms(setup, loss)
    inputs = [students, teachers]

    def terms() -> dict[str, Tensor]:
        return {f"hcl_{name}": value for name, value in loss.differences(*inputs).items()}

    return Prepared(loss, inputs, lambda name: name.replace("path_", "connectors."), terms=terms)


class _ToySearch(nn.Module):
    """One inner step of the toy problem, and its outer loss."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        parameters = setup.case.entry["parameters"]
        for theirs in parameters:
            shape = setup.case.arrays[parameters[theirs]].shape
            self.register_parameter(theirs.replace(".", "_"), nn.Parameter(torch.zeros(shape)))
        self.weighting = WEIGHTINGS[setup.option("alpha_normalization_style")]
        self.step = SgdStep(setup.option("inner_lr"), setup.option("weight_decay"), setup.option("momentum"))
        self.radius = setup.option("finite_difference_r")

    @staticmethod
    def student(weights: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = F.conv2d(images, weights["student_conv1_weight"])
        second = F.conv2d(first.relu(), weights["student_conv2_weight"])
        logits = F.linear(second.mean((2, 3)), weights["student_fc_weight"], weights["student_fc_bias"])
        return first, second, logits

    def problem(self, batches: Mapping[str, Any]) -> BilevelLosses:
        def train_loss(weights: Mapping[str, Tensor], alpha: Tensor) -> Tensor:
            first, second, logits = self.student(weights, batches["train_images"])
            total = F.cross_entropy(logits, batches["train_labels"])
            pairs = [(0, first), (0, second), (1, second)]
            for index, (layer, features) in enumerate(pairs):
                mapped = F.conv2d(features, weights[f"pathway_{index}_adapter_weight"])
                share = pathway_weights(alpha, self.weighting)[index]
                total = total + share * pyramid_loss(mapped, batches["teacher_features"][layer])
            return total

        def validation_loss(weights: Mapping[str, Tensor]) -> Tensor:
            logits = self.student(weights, batches["val_images"])[2]
            return F.cross_entropy(logits, batches["val_labels"])

        return BilevelLosses(train_loss, validation_loss)

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter for name, parameter in self.named_parameters() if name != "alpha"}

    def after(self, batches: Mapping[str, Any]) -> AfterStep:
        return validation_after_step(self.problem(batches), self.weights(), self.alpha, step=self.step)

    def forward(self, batches: Mapping[str, Any]) -> Tensor:
        return self.after(batches).validation_loss

    def terms(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        after = self.after(batches)
        return {
            "inner_train_loss": after.train_loss,
            "outer_validation_loss_after_step": after.validation_loss,
        }


def _meta_gradient(setup: Setup) -> Prepared:
    toy = _ToySearch(setup)
    batches = {name: setup.role(name) for name in tuple(setup.roles)}

    def state() -> dict[str, Tensor]:
        arguments = (toy.problem(batches), toy.weights(), toy.alpha)
        exact = meta_gradient(*arguments, method="exact", step=toy.step)
        torch.testing.assert_close(exact, toy.alpha.grad)
        return {
            "alpha_grad_finite_difference": meta_gradient(*arguments, radius=toy.radius, step=toy.step),
            "stepped_student_conv1": toy.after(batches).weights["student_conv1_weight"],
        }

    return Prepared(toy, [batches], lambda name: name.replace(".", "_"), state=state)


ADAPTERS: Mapping[str, Callable[[Setup], Prepared]] = {
    "dist": _dist,
    "srrl": _srrl,
    "semckd": _semckd,
    "simkd": _simkd,
    "norm": _norm,
    "fkd": _fkd,
    "distpro": _distpro,
    "wcord": _wcord,
    "crcd": _crcd,
    "refilled": _refilled,
    "jacobian": _jacobian,
    "aml": _aml,
}
