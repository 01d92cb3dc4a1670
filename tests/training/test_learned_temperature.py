"""A run with a learned temperature: it is trained, logged, and restored when the run resumes."""

from __future__ import annotations

import pytest
import torch

from pursuhint.models import create_model
from pursuhint.training import EpochFinished, Recipe, RunRecord, train

RECIPE = Recipe.from_dict(
    {
        "student": "resnet8",
        "teacher": "resnet8",
        "data": {"name": "digits", "train_samples": 120},
        "losses": {"kd": {"weight": 0.9, "temperature": "learned"}},
        "epochs": 2,
    }
)


def run(folder, **options):
    torch.manual_seed(0)
    return train(
        RECIPE, teacher=create_model("resnet8", num_classes=10, in_channels=1), out=folder, **options
    )


def test_a_run_resumes_to_the_same_temperature(tmp_path):
    def stop(event):
        if isinstance(event, EpochFinished):
            raise KeyboardInterrupt

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", on_event=stop)
    run(tmp_path / "stopped")
    whole, stopped = (RunRecord.load(tmp_path / name).metrics for name in ("whole", "stopped"))
    found = [line["train_kd_temperature"] for line in whole]
    assert found == [line["train_kd_temperature"] for line in stopped]
    assert found[0] != found[1]
    weights = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
