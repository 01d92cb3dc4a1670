"""Every loss of the table between networks of transformers: it takes a step, or says why it cannot."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.info import LossInfo
from pursuhint.training.recipe.schema import LossConfig

transformers = pytest.importorskip("transformers")

SAMPLES, CLASSES = 8, 4
WIDE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
GRID: dict[str, Any] = {"image_size": 16, "patch_size": 4}
SWIN = {
    "image_size": 16,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViTForImageClassification": ("ViTConfig", {**WIDE, **GRID}),
    "Dinov2Model": ("Dinov2Config", {**{k: WIDE[k] for k in list(WIDE)[:3]}, **GRID, "mlp_ratio": 2}),
    "SwinForImageClassification": ("SwinConfig", SWIN),
    "ConvNextForImageClassification": (
        "ConvNextConfig",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
    ),
    "CLIPVisionModel": ("CLIPVisionConfig", {**WIDE, **GRID}),
    "BertForSequenceClassification": ("BertConfig", {**WIDE, "vocab_size": 40}),
}

PAIRS = [
    ("ViTForImageClassification", "ConvNextForImageClassification"),
    ("Dinov2Model", "ViTForImageClassification"),
    ("SwinForImageClassification", "ViTForImageClassification"),
    ("ConvNextForImageClassification", "SwinForImageClassification"),
    ("CLIPVisionModel", "ConvNextForImageClassification"),
    ("BertForSequenceClassification", "BertForSequenceClassification"),
]
"""Teacher and student: from tokens to maps and back, and between tokens."""

NEEDS = {
    "simkd": "has no place behind its last feature map",
    "norm": "has no place behind its last feature map",
    "ofd": "margins from the teacher's batch norm",
}
"""Losses that need what none of these networks has, with words of the message."""

WITHOUT_LOGITS = {"refilled"}
"""Losses that get the teacher's logits and do without where it has none."""


def build(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config, options = NETWORKS[kind]
    network: nn.Module = getattr(transformers, kind)(
        getattr(transformers, config)(**options, num_labels=CLASSES)
    )
    return network


def samples(kind: str) -> Any:
    """Noise, or texts of ten tokens, every second one with padding."""
    generator = torch.Generator().manual_seed(0)
    if not kind.startswith("Bert"):
        return torch.randn(SAMPLES, 3, 16, 16, generator=generator)
    ids = torch.randint(5, 40, (SAMPLES, 10), generator=generator)
    mask = torch.ones_like(ids)
    mask[::2, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def refusal(name: str, info: LossInfo, teacher: str) -> str | None:
    """Words of the message of a loss that cannot learn from a teacher; None for one that must."""
    reads_logits = ("teacher_logits" in info.inputs and name not in WITHOUT_LOGITS) or (
        info.needs_teacher_classifier
    )
    if teacher.endswith("Model") and reads_logits:
        return f"{teacher} has no classifier"
    if teacher.startswith("Bert") and info.needs_input_gradients:
        return "must be one floating-point tensor"
    return NEEDS.get(name)


def few_negatives(name: str) -> LossConfig | None:
    """Hyperparameters for eight samples, where the loss draws negatives; None for its own."""
    if "negatives" not in inspect.signature(get_loss(name)).parameters:
        return None
    return LossConfig(options={"negatives": 3})


def step(distiller: Distiller, name: str, batch: Batch) -> int:
    """A step of every stage of a loss; returns in how many stages the student learned."""
    distiller.train()
    taught = 0
    for warm_up in (*distiller.loss(name).stages(), None):
        distiller.begin_stage(None if warm_up is None else name, warm_up)
        distiller.begin_epoch(0, 1)
        optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=1e-3)
        distiller.zero_grad()
        total = distiller(batch).total
        assert total.isfinite(), name
        total.backward()
        optimizer.step()
        gradients = [p.grad for p in distiller.student.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients), name
        taught += any(gradient.any() for gradient in gradients)
    return taught


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
@pytest.mark.parametrize(("teacher", "student"), PAIRS, ids=[f"{t}-{s}" for t, s in PAIRS])
def test_every_loss_takes_a_step_or_says_why_not(teacher: str, student: str) -> None:
    inputs, labels = samples(teacher), torch.arange(SAMPLES) % CLASSES
    example = {k: v[:2] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[:2]
    large, first = build(teacher, 0), build(student, 1)
    plan = HintPlan.all_by_depth(find_hint_points(large, example), find_hint_points(first, example))
    batch = Batch(inputs, labels, torch.arange(SAMPLES))
    learned = 0
    for name in LOSSES:
        expected = refusal(name, get_loss(name).info, teacher)

        def make(name: str = name) -> Distiller:
            return Distiller.build(
                build(student, 1), large, losses={name: few_negatives(name)}, plan=plan,
                num_classes=CLASSES, num_samples=SAMPLES, example=example, labels=labels, batch_size=SAMPLES,
            )  # fmt: skip

        if expected is not None:
            with pytest.raises(PursuhintError) as raised:
                step(make(), name, batch)
            assert expected in str(raised.value), name
            assert "\n" not in str(raised.value)
            continue
        assert step(make(), name, batch), name
        learned += 1
    assert learned >= (30 if teacher.endswith("Model") else 45)


def test_hints_reach_the_features_that_they_compare() -> None:
    """A control: FitNet alone changes the student up to its last hint point, and not its classifier."""
    inputs, labels = samples(""), torch.arange(SAMPLES) % CLASSES
    teacher, student = build("Dinov2Model", 0), build("ViTForImageClassification", 1)
    plan = HintPlan.all_by_depth(find_hint_points(teacher, inputs[:2]), find_hint_points(student, inputs[:2]))
    distiller = Distiller.build(
        student, teacher, losses={"fitnet": 1.0, "ce": 0.0}, plan=plan,
        num_classes=CLASSES, num_samples=SAMPLES, example=inputs[:2],
    )  # fmt: skip
    distiller.train()
    distiller(Batch(inputs, labels, torch.arange(SAMPLES))).total.backward()

    def moved(parameter: Tensor) -> bool:
        return parameter.grad is not None and bool(parameter.grad.any())

    reached = {name.split(".")[0] for name, parameter in student.named_parameters() if moved(parameter)}
    assert reached == {"vit"}
