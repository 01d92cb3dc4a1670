"""Fine-tuning in one command, and the weights that a student starts from."""

from __future__ import annotations

import json

import pytest
import torch
from torchvision import models

from pursuhint.models import read_state_dict, save_weights
from pursuhint.models.published_weights import weights_file

pytestmark = pytest.mark.filterwarnings("always::pursuhint.errors.PursuhintWarning")

NAME = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Published weights that have been fetched before; a download fails."""
    monkeypatch.setenv("PURSUHINT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("a download began"))
    torch.manual_seed(1)
    network = models.get_model(NAME.partition(":")[2], weights=None)
    save_weights(network, weights_file(NAME))
    return network.state_dict()


TUNE = (
    "train", "--recipe", "finetune", "--student", NAME, "--data", "digits", "--image-size", "32", "--epochs",
    "1", "--train-samples", "20", "--batch-size", "20", "--lr", "1e-20", "--device", "cpu", "--no-report",
)  # fmt: skip


def test_fine_tuning_starts_from_the_published_weights_with_a_new_head(pursuhint, published, tmp_path):
    run = tmp_path / "run"
    done = pursuhint(*TUNE, "--student-pretrained", "--out", run)
    assert done.returncode == 0, done.stderr
    assert "does not fill fc.weight, fc.bias: new and untrained" in done.stderr
    trained = read_state_dict(run / "student.safetensors")
    weights = [name for name in trained if name.endswith("weight") and name != "fc.weight"]
    assert len(weights) > 50
    assert all(torch.equal(trained[name], published[name]) for name in weights)  # at a learning rate of 1e-20
    assert trained["fc.weight"].shape == (10, published["fc.weight"].shape[1])
    recorded = json.loads((run / "environment.json").read_text())["student_weights"]
    assert recorded == {"new": ["fc.weight", "fc.bias"], "unused": ["fc.bias", "fc.weight"]}
    # A second call finds the weights where the first one has put them.
    again = pursuhint(*TUNE, "--student-checkpoint", weights_file(NAME), "--out", run)
    assert again.returncode == 0, again.stderr  # the same run, by another name
    other = pursuhint(*TUNE, "--out", run)
    assert other.returncode == 1
    assert "holds a different run" in other.stderr


def test_a_teacher_takes_published_weights_whole_or_with_a_new_head(pursuhint, published, tmp_path):
    words = ("--teacher", NAME, "--pretrained", "--data", "digits", "--image-channels", "3")
    done = pursuhint("evaluate", *words)
    assert done.returncode == 1  # they name 1,000 classes
    assert "fc.weight (1000, 1024) for (10, 1024)" in done.stderr
    run = ("train", "--student", "resnet8", "--loss", "at", "--epochs", "1", "--train-samples", "20")
    taught = pursuhint(*run, *words, "--new-head", "--out", tmp_path / "r", "--device", "cpu", "--no-report")
    assert taught.returncode == 0, taught.stderr
    assert "does not fill fc.weight, fc.bias: new and untrained" in taught.stderr
