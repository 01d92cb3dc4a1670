"""Sizes that are known, and times that add up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.study.profile import PARTS, count_flops, profile_networks, profile_steps
from tests.helpers.study_runs import few_digits, recipe, untrained, write_teacher


def test_flops_of_layers_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))
    convolution, linear = 2 * 16 * 8 * 3 * 9, 2 * 8 * 16 * 10
    layers.train()
    assert count_flops(layers, torch.zeros(1, 3, 4, 4)) == convolution + linear
    assert layers.training


@pytest.mark.parametrize(
    ("name", "parameters", "millions"),
    # Parameters: Table 7 of the PURSUhInT paper. FLOPs: twice the multiply-adds, which He et al. (2016) and
    # those who count them after them give as 40.8 M, 69 M and 253 M for these depths.
    [("resnet20", 278_324, 81.6), ("resnet32", 472_756, 138.3), ("resnet110", 1_736_564, 506.3)],
)
def test_known_networks(name, parameters, millions):
    network = create_model(name, num_classes=100)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert count_flops(network, torch.zeros(1, 3, 32, 32)) / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_student_beside_its_teacher():
    student, teacher = create_model("resnet20", num_classes=100), create_model("resnet110", num_classes=100)
    profile = profile_networks(student, teacher, (3, 32, 32), batch_sizes=(1,), repeats=3)
    assert profile.compression == pytest.approx(84.0, abs=0.05)  # Table 7
    assert profile.fewer_flops == pytest.approx(506.3 / 81.6, abs=0.01)
    assert profile.speed_up[1] > 1.5
    assert profile.teacher.latency[1] == pytest.approx(profile.speed_up[1] * profile.student.latency[1])


def test_alone_or_beside_itself():
    network = untrained("resnet8")
    alone = profile_networks(network, None, (1, 8, 8), batch_sizes=(2, 4), repeats=2)
    assert alone.compression is None
    assert alone.speed_up == {}
    assert list(alone.student.latency) == [2, 4]
    same = profile_networks(
        network, untrained("resnet8"), (1, 8, 8), repeats=2, batch_sizes=(8,), names=("a", "a")
    )
    assert same.compression == 0
    assert same.teacher.name == "a (teacher)"
    with pytest.raises(PursuhintError, match="must be at least 1, got 0"):
        profile_networks(network, None, (1, 8, 8), repeats=0)


@pytest.mark.parametrize("losses", [{"at": 10, "kd": 1}, {"jacobian": 1}, {"fitnet": {"two_stages": True}}])
def test_parts_of_a_training_step(tmp_path, losses):
    path = write_teacher(tmp_path, "resnet8")
    before = torch.get_rng_state()
    taken = profile_steps(recipe(path, losses=losses), steps=2, device="cpu", data=few_digits())
    assert torch.equal(torch.get_rng_state(), before)
    assert tuple(taken.seconds) == PARTS
    measured = set(PARTS) - {"teacher"} if "jacobian" in losses or "fitnet" in losses else set(PARTS)
    assert all(taken.seconds[part] > 0 for part in measured)
    assert taken.total == pytest.approx(sum(taken.seconds.values()))
    assert taken.samples_per_second == pytest.approx(64 / taken.total)
    assert list(tmp_path.iterdir()) == [path]


def test_a_student_without_a_teacher():
    from pursuhint.training import Recipe

    alone = Recipe.from_dict({"student": "resnet8", "batch_size": 32})
    taken = profile_steps(alone, steps=1, device="cpu", data=few_digits())
    assert taken.seconds["teacher"] == 0
    with pytest.raises(PursuhintError, match="at least 1 step must be measured, got 0"):
        profile_steps(alone, steps=0)


class Embedded(torch.nn.Module):
    """A network of texts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(30, width)
        self.classifier = torch.nn.Linear(width, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.classifier((self.embedding(input_ids) * attention_mask[..., None]).mean(1))


def test_texts():
    """Operations and latency of networks of text; a shape that a network cannot take is one line."""
    profile = profile_networks(Embedded(8), Embedded(16), (5,), batch_sizes=(2,), repeats=1)
    assert profile.student.flops == 2 * 8 * 4
    assert profile.fewer_flops == 2
    assert set(profile.speed_up) == {2}
    with pytest.raises(PursuhintError, match=r"student does not take \(1, 3, 8, 8\)"):
        profile_networks(Embedded(8), None, (3, 8, 8), batch_sizes=(1,), repeats=1)
    with pytest.raises(PursuhintError, match="student does not take input_ids"):
        profile_networks(torch.nn.Conv2d(3, 1, 1), None, (5,), batch_sizes=(1,), repeats=1)
