"""Accuracy of networks by plain PyTorch and by PursuHint: do they see the images that they were trained on?

A teacher is trained by plain PyTorch: torchvision's ImageFolder and transforms, the constants of ImageNet, or
those of timm's ``pretrained_cfg``. ``pursuhint evaluate`` has to find its accuracy, to the digit. A student
is then trained, exported to ONNX, and evaluated by a script that has only the file (run_exported.py).

    python benchmarks/preprocessing.py IMAGES --epochs 3

IMAGES holds train/ and val/ with one folder a class. Exit status 1 if any two accuracies differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NETWORKS = ("torchvision:resnet18", "timm:test_resnet")
"""One that was trained with the constants of ImageNet, one whose ``pretrained_cfg`` says 0.5."""


def build(name: str, classes: int) -> tuple[nn.Module, tuple[Sequence[float], Sequence[float]]]:
    """A network with random weights, by the package that it is from, and mean and deviation of its images."""
    source, _, which = name.partition(":")
    if source == "torchvision":
        return models.get_model(which, weights=None, num_classes=classes), IMAGENET
    import timm

    network = timm.create_model(which, pretrained=False, num_classes=classes)
    return network, (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])


def train_plainly(name: str, images: Path, *, size: int, epochs: int, file: Path) -> float:
    """Train a network without PursuHint and save its weights.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        images: holds ``train/`` and ``val/``.
        size: side in pixels.
        epochs: passes over the training images.
        file: where the weights go.

    Returns:
        Accuracy on ``val/`` in percent.
    """
    torch.manual_seed(0)
    network, (mean, std) = build(name, len(ImageFolder(str(images / "train")).classes))
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    train, val = (ImageFolder(str(images / split), transform) for split in ("train", "val"))
    loader = DataLoader(train, batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        for batch, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), labels).backward()
            optimizer.step()
    torch.save(network.state_dict(), file)
    network.eval()
    with torch.no_grad():
        correct = sum(
            int((network(batch).argmax(1) == labels).sum())
            for batch, labels in DataLoader(val, batch_size=256)
        )
    return 100 * correct / len(val)


def command(*words: object) -> str:
    """What a command of PursuHint prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pursuhint", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Comparison:
    """One network by plain PyTorch and by PursuHint.

    Attributes:
        name: of the network, see `NETWORKS`.
        images: holds ``train/`` and ``val/``.
        out: a folder for weights and runs.
        size: side in pixels.
        pursuhint: runs a command and returns what it prints.
    """

    name: str
    images: Path
    out: Path
    size: int
    pursuhint: Callable[..., str] = command

    def teacher(self, epochs: int) -> dict[str, float]:
        """Accuracies of the network, trained by plain PyTorch, by plain PyTorch and by PursuHint."""
        weights = self.out / "teacher.pth"
        found = {
            "plain PyTorch": train_plainly(
                self.name, self.images, size=self.size, epochs=epochs, file=weights
            )
        }
        for title, more in (("", ()), (", the data's constants", ("--image-normalize", "data"))):
            printed = self.pursuhint("evaluate", *self._teacher(), *more, "--json")
            found[f"pursuhint evaluate{title}"] = json.loads(printed)["top1"]
        return found

    def student(self) -> dict[str, float]:
        """Accuracies of a student of that teacher, trained for one epoch, before and after export."""
        run = self.out / "run"
        student = (
            "--student",
            self.name,
            "--loss",
            "kd",
            "--epochs",
            1,
            "--lr",
            0.02,
            "--no-report",
            "--quiet",
        )
        self.pursuhint("train", *student, *self._teacher(), "--out", run)
        found = {"student, pursuhint evaluate": json.loads(self.pursuhint("evaluate", run, "--json"))["top1"]}
        for who, more in (("reader", ()), ("file", ("--include-normalization",))):
            file = self.out / f"{who}.onnx"
            self.pursuhint("export", run, "--format", "onnx", *more, "--out", file)
            found[f"student in ONNX, normalised by the {who}"] = run_exported(file, self.images / "val")[
                "top1"
            ]
        return found

    def _teacher(self) -> tuple[object, ...]:
        """Teacher and data; images in RGB and not turned by EXIF orientation, as ImageFolder reads them."""
        reading = (
            "--data",
            f"folder:{self.images}",
            "--image-size",
            self.size,
            "--image-channels",
            3,
            "--no-exif",
        )
        return ("--teacher", self.name, "--teacher-checkpoint", self.out / "teacher.pth", *reading)


def run_exported(file: Path, folder: Path) -> Any:
    """What run_exported.py finds, in a process of its own."""
    script = Path(__file__).with_name("run_exported.py")
    done = subprocess.run([sys.executable, script, file, folder], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def equal(found: dict[str, float]) -> bool:
    """Whether accuracies that have to be equal are, to the second digit behind the point."""
    shown = {title: f"{value:.2f}" for title, value in found.items()}
    teacher = {shown["plain PyTorch"], shown["pursuhint evaluate"]}
    return len(teacher) == 1 and len({value for title, value in shown.items() if "student" in title}) <= 1


def main() -> int:
    """Compare all networks; 1 if accuracies differ that have to be equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path, help="holds train/ and val/, one folder a class")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    good = True
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            comparison = Comparison(name, arguments.images.resolve(), Path(folder), arguments.size)
            found = comparison.teacher(arguments.epochs) | comparison.student()
        good &= equal(found)
        print(f"{name}: {'equal' if equal(found) else 'DIFFERENT'}")
        for title, value in found.items():
            print(f"  {value:6.2f} %  {title}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
