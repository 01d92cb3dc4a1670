"""Hint points in torchdistill."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.integrations import pair_loss
from tests.integrations.conftest import EXAMPLE, changed, network, pair, state

torchdistill = pytest.importorskip("torchdistill", minversion="1.1.5")

from torchdistill.common.main_util import load_ckpt, save_ckpt  # noqa: E402
from torchdistill.core.distillation import get_distillation_box  # noqa: E402


class Rows(torch.utils.data.TensorDataset):
    """Digits as torchdistill takes them: with a third entry for whatever belongs to a sample."""

    def __getitem__(self, index: int) -> Any:
        return *super().__getitem__(index), {}


def make_box(digits: Any, plan: HintPlan, networks: Any, tmp_path: Any, **options: Any) -> Any:
    student, teacher = networks
    teacher.eval()
    text = yaml.safe_dump(plan.to_torchdistill(**options))  # as it stands in a file
    in_order = {"class_or_func": torch.utils.data.SequentialSampler}
    loader = {
        "dataset_id": "digits",
        "sampler": in_order,
        "kwargs": {"batch_size": 40},
        "requires_supp": False,
    }
    config = {
        **yaml.safe_load(text),
        "num_epochs": 1,
        "train_data_loader": loader,
        "val_data_loader": loader,
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.02, "momentum": 0.9}},
    }
    return get_distillation_box(
        teacher, student, {"digits": Rows(*digits)}, config, torch.device("cpu"), [], False, 1
    )


def train(box: Any, epochs: int) -> list[float]:
    found = []
    for epoch in range(epochs):
        box.pre_epoch_process(epoch=epoch)
        for images, labels, rest in box.train_data_loader:
            loss = box.forward_process(images, labels, rest)
            box.post_forward_process(loss=loss)
            found.append(float(loss.detach()))
        box.post_epoch_process()
    return found


def test_the_total_is_that_of_the_features_at_the_points(digits, tmp_path):
    student, teacher, plan = pair()
    images, labels = (values[:40] for values in digits)
    features = [
        FeatureExtractor(each, points)(images)
        for each, points in ((student.train(), plan.student_points), (teacher.eval(), plan.teacher_points))
    ]
    at = pair_loss("at")(plan.student_points[0], plan.teacher_points[0])  # the same formula
    hints = sum(float(at(*maps).detach()) for maps in zip(features[0].maps, features[1].maps))
    expected = float(F.cross_entropy(features[0].logits, labels).detach()) + 7.0 * hints
    student, teacher, _ = pair()
    box = make_box(digits, plan, (student, teacher), tmp_path, weight=7.0)
    assert train(box, 1)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["ATLoss", "SPKDLoss"])
def test_it_trains_resumes_and_saves_the_student(digits, tmp_path, loss):
    student, teacher, plan = pair()
    before, fixed = state(student), state(teacher)
    whole = make_box(digits, plan, (student, teacher), tmp_path, loss=loss)
    train(whole, 2)
    assert changed(before, state(student)) >= {name for name in before if name.endswith("weight")}
    assert not changed(fixed, state(teacher))
    save_ckpt(whole.student_model, whole.optimizer, None, 0.0, None, str(tmp_path / "last.pt"))
    train(whole, 1)

    other, teacher, _ = pair()
    resumed = make_box(digits, plan, (other, teacher), tmp_path, loss=loss)
    load_ckpt(str(tmp_path / "last.pt"), model=resumed.student_model, optimizer=resumed.optimizer)
    train(resumed, 1)
    assert not changed(state(student), state(other))
    plain = network(4, 6, 8, seed=5)
    load_ckpt(str(tmp_path / "last.pt"), model=plain)


def test_points_before_the_activation_are_inputs_of_modules():
    student, teacher, _ = pair()
    points = [find_hint_points(each, EXAMPLE, activation="pre") for each in (teacher, student)]
    config = HintPlan.all_by_depth(*points).to_torchdistill()
    assert config["teacher"]["forward_hook"] == {
        "input": ["units.0.2", "units.1.2", "units.2.2"],
        "output": [],
    }


def test_what_it_cannot_compare_is_refused():
    *_, plan = pair()
    other = find_hint_points(network(4, 6, seed=0), torch.zeros(2, 1, 12, 12))
    sizes = HintPlan.of(plan.teacher_points[:2], {}).with_student(other)
    with pytest.raises(PursuhintError, match="maps of equal size"):
        sizes.to_torchdistill()
    assert "spkd1" in sizes.to_torchdistill("SPKDLoss")["criterion"]["kwargs"]["sub_terms"]
    with pytest.raises(PursuhintError, match="ATLoss"):
        plan.to_torchdistill("ATlos")
