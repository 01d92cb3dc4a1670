"""Losses of hint points take them from any plan: any number of pairs, of other widths, sizes and kinds."""

from __future__ import annotations

import pytest
import torch

from pursuhint.data.batch import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, get_loss
from pursuhint.models import create_model

CLASSES, SAMPLES = 5, 3
IMAGES = torch.randn(SAMPLES, 3, 24, 20, generator=torch.Generator().manual_seed(1))
NAMES = [name for name in LOSSES if get_loss(name).needs_hint_plan()]

# Pairs of points of a student (maps of 12 x 10 to 2 x 2, of 8 to 160 channels) and of a teacher (24 x 20 to
# 6 x 5, of 16 to 64 channels); the last plan goes up and down.
PLANS = {
    "one pair": [("blocks.2.1", "layer2.1")],
    "two pairs": [("blocks.0.0", "layer2.0"), ("blocks.4.2", "layer3.1")],
    "five pairs": [
        ("blocks.0.0", "layer1.0"),
        ("blocks.1.0", "layer1.1"),
        ("blocks.2.2", "layer2.0"),
        ("blocks.5.1", "layer2.1"),
        ("blocks.6.0", "layer3.0"),
    ],
    "in another order": [
        ("blocks.5.0", "layer1.1"),
        ("blocks.1.1", "layer3.1"),
        ("blocks.6.0", "layer2.0"),
    ],
}
AT_LEAST_TWO = ("fsp", "kdsvd")


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    options = {"num_classes": CLASSES, "in_channels": 3}
    return create_model("MobileNetV2", **options), create_model("resnet14", **options)


@pytest.fixture(scope="module")
def candidates(networks):
    """The points of student and teacher, by the side of the activation."""
    return {
        side: [find_hint_points(network, IMAGES, activation=side) for network in networks]
        for side in ("pre", "post")
    }


def test_the_losses_in_question():
    assert {"fitnet", "at", "vid", "nst", "sp", "fsp", "ab", "ofd", "afd", "semckd", "reviewkd"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", ["pre", "post"])
def test_takes_its_points_from_any_plan(networks, candidates, name, activation):
    torch.manual_seed(0)
    student, teacher = networks
    batch = Batch(IMAGES, torch.arange(SAMPLES), torch.arange(SAMPLES))
    for title, pairs in PLANS.items():
        if name in AT_LEAST_TWO and len(pairs) < 2:
            continue
        if (
            activation == "pre" and len(pairs) > 3
        ):  # what five pairs have that two have not, maps before have too
            continue
        own, other = zip(*pairs)
        ours, theirs = candidates[activation]
        plan = HintPlan.explicit(theirs, other).with_student(ours, pairing=own)
        distiller = Distiller.build(
            student,
            teacher,
            losses={name: 1.0},
            plan=plan,
            num_classes=CLASSES,
            num_samples=50,
            example=IMAGES,
            labels=torch.arange(50) % CLASSES,
        )
        loss = distiller.loss(name)
        if loss.info.warm_up_only:
            distiller.begin_stage(*distiller.warm_ups()[0])
        student.zero_grad()
        found = distiller(batch)
        assert found.parts[name].isfinite(), title
        found.total.backward()
        gradients = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
        assert gradients, title
        assert all(gradient.isfinite().all() for gradient in gradients), title
        learned = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None for parameter in learned), title
