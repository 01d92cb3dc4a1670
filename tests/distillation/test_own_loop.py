"""Hint losses in loops of other programs: detectors, segmentation, and the page about it."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from pursuhint import Batch, Distiller, HintPlan, find_hint_points, load_dataset
from pursuhint.errors import PursuhintError, PursuhintWarning

SIDE, COUNT = 32, 8


def stage(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())


class Segmenter(nn.Module):
    """A class for every pixel: digit or background."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(stage(1, width), stage(width, 2 * width))
        self.head = nn.Conv2d(2 * width, 11, 1)

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.head(self.encoder(images)), size=images.shape[-2:], mode="bilinear")


def backbone_of(width: int) -> nn.Sequential:
    backbone = nn.Sequential(stage(3, width), stage(width, 2 * width))
    backbone.out_channels = 2 * width  # type: ignore[assignment]
    return backbone


def fcos(width: int) -> FCOS:
    """Without proposals: every place of the map is a class and a box."""
    anchors = AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),))
    return FCOS(backbone_of(width), 11, min_size=SIDE, max_size=SIDE, anchor_generator=anchors)


def faster_rcnn(width: int) -> FasterRCNN:
    """With proposals, which a second stage pools and classifies."""
    backbone, pool = backbone_of(width), MultiScaleRoIAlign(["0"], output_size=4, sampling_ratio=1)
    return FasterRCNN(
        backbone,
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),)),
        box_roi_pool=pool,
        box_head=TwoMLPHead(2 * width * 16, 64),
        box_predictor=FastRCNNPredictor(64, 11),
    )


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Digits at several places of a canvas, their boxes and labels."""
    digits = load_dataset("digits").train
    canvas, boxes = torch.zeros(COUNT, 1, SIDE, SIDE), []
    for place in range(COUNT):
        top, left = 2 * place, 14 - 2 * place
        enlarged = F.interpolate(digits.images[place : place + 1].float() / 255, size=16)
        canvas[place, :, top : top + 16, left : left + 16] = enlarged[0]
        boxes.append([left, top, left + 16, top + 16])
    return canvas, torch.tensor(boxes, dtype=torch.float32), digits.labels[:COUNT]


def hints_between(student: nn.Module, teacher: nn.Module, example: Tensor, **losses: float) -> Distiller:
    points, own = find_hint_points(teacher, example), find_hint_points(student, example)
    plan = HintPlan.all_by_depth(points, own)
    assert len(plan.pairs) == 2
    return Distiller.build(student, teacher, losses=losses, plan=plan, example=example)


@pytest.mark.parametrize("detector", [fcos, faster_rcnn], ids=lambda build: build.__name__)
def test_a_detector_learns_its_task_and_the_hints(
    detector: Callable[[int], FCOS | FasterRCNN], pictures: tuple[Tensor, Tensor, Tensor]
) -> None:
    torch.manual_seed(0)
    canvas, boxes, labels = pictures
    teacher, student = detector(32), detector(16)
    hints = hints_between(student.backbone, teacher.backbone, torch.zeros(2, 3, SIDE, SIDE), fitnet=1.0)
    assert list(hints.losses) == ["fitnet"]  # no cross-entropy is added
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.Adam([*student.parameters(), *hints.losses.parameters()], lr=0.01)
    targets = [{"boxes": box[None], "labels": label[None]} for box, label in zip(boxes, labels + 1)]
    student.train()
    seen_losses = []
    for _ in range(12):
        with hints.watch() as seen:
            task = sum(student(list(canvas.expand(-1, 3, -1, -1)), targets).values())
        losses = seen.losses()
        optimizer.zero_grad()
        (task + losses.total).backward()
        optimizer.step()
        seen_losses.append((task.item(), losses.total.item()))
    (first_task, first_hint), (last_task, last_hint) = seen_losses[0], seen_losses[-1]
    assert last_task < 0.8 * first_task
    assert last_hint < 0.8 * first_hint
    assert student.backbone[0][1].num_batches_tracked == 12  # the backbone ran once a step
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_what_is_watched_equals_what_the_distiller_computes(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    canvas, _, labels = pictures
    teacher, student = Segmenter(16), Segmenter(8)
    hints = hints_between(student.encoder, teacher.encoder, canvas[:2], at=1.0, nst=0.5)
    hints.eval()
    with hints.watch() as seen:
        logits = student(canvas)
    watched, own = seen.losses(), hints(Batch(canvas, labels, labels))
    torch.testing.assert_close(watched.total, own.total)
    assert watched.total > 0
    (F.cross_entropy(logits, labels[:, None, None].expand(-1, SIDE, SIDE)) + watched.total).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", ["kd", "ce", "crd", "srrl", "simkd"])
def test_losses_of_a_classifier_are_refused(name: str, pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    with pytest.raises(PursuhintError, match=f"loss '{name}' looks at"):
        hints_between(Segmenter(8).encoder, Segmenter(16).encoder, pictures[0], **{name: 1.0})


def test_one_pass_is_watched_at_a_time(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    student = Segmenter(8)
    hints = hints_between(student.encoder, Segmenter(16).encoder, pictures[0], at=1.0)
    for times in (0, 2):
        with hints.watch() as seen:
            for _ in range(times):
                student(pictures[0])
        with pytest.raises(PursuhintError, match=f"ran {times} times"):
            seen.losses()


PAGE = Path(__file__).parents[2] / "docs" / "own-loop.md"


@pytest.mark.filterwarnings("ignore::pursuhint.errors.PursuhintWarning")
def test_the_blocks_of_the_page_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    script = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    names = vars(script)
    found = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(found) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PursuhintWarning)
        for block in found:
            exec(compile(block, str(PAGE), "exec"), names)
    assert (tmp_path / "own" / "student.pt").exists()
    assert [len(arm.runs) for arm in names["comparison"].arms] == [3, 3, 3]
    assert names["comparison"].student.name == "__main__:small"
    assert names["record"].finished
    assert "python:gap" in names["record"].recipe.losses
    example = next(block for block in found if "optimizer.step()" in block).splitlines()
    assert len([line for line in example if line.strip()]) <= 21
