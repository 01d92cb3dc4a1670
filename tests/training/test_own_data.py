"""Runs on data that the user has in Python, and what their files say about these."""

from __future__ import annotations

import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision import transforms

import pursuhint
from pursuhint.data import as_data, load_dataset
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model
from pursuhint.training import Recipe, RunRecord, RunStopped, StepDone, train

DIGITS = load_dataset("digits")
PIXELS, LABELS = DIGITS.train.images[:96, 0].numpy(), DIGITS.train.labels[:96].tolist()
STEPS = [transforms.ToTensor(), transforms.Normalize((0.3,), (0.4,))]
RANDOM = transforms.Compose([transforms.RandomCrop(8, padding=1), *STEPS])


class Digits(Dataset):
    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def __init__(self, transform: Any = None) -> None:
        self.transform, self.targets = transform or transforms.Compose(STEPS), LABELS

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(PIXELS[place])), LABELS[place]


def recipe(**more: Any) -> Recipe:
    return Recipe.from_dict(
        {"student": "resnet8", "losses": {"ce": 1}, "epochs": 2, "batch_size": 32, **more}
    )


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PursuhintWarning)
        yield


def weights(record: RunRecord) -> list[torch.Tensor]:
    return list(record.load_student("last").state_dict().values())


def test_a_stopped_run_with_random_transforms_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    data = (DataLoader(Digits(RANDOM), batch_size=5, shuffle=True), Digits())
    whole = train(recipe(), tmp_path / "whole", data=data, device="cpu")

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped):
        train(recipe(), tmp_path / "parts", data=data, device="cpu", on_event=stop)
    parts = train(recipe(), tmp_path / "parts", data=data, device="cpu")
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(parts)))
    described = json.loads((tmp_path / "parts/environment.json").read_text())
    assert described["data"]["class_names"] == list(Digits.classes)
    assert described["data"]["preprocessing"]["mean"] == [0.3]
    assert "transforms samples at random" in " ".join(described["data"]["notes"])
    with pytest.raises(PursuhintError, match="different run"):
        train(recipe(), tmp_path / "parts", data=(Digits(), Digits()), device="cpu")


def test_one_split_is_not_enough_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(PursuhintError, match="test_fraction"):
        train(recipe(), tmp_path / "run", data=Digits())
    held_out = as_data(Digits(), test_fraction=0.25)
    record = train(recipe(epochs=1), tmp_path / "run", data=held_out, device="cpu")
    assert record.load_student().fc.out_features == 10


def test_a_cached_teacher_needs_images_that_stay_the_same(tmp_path: Path) -> None:
    cached = recipe(losses={"kd": 1}, acceleration={"cache_teacher": True}, data={"name": "x", "augment": []})
    teacher = create_model("resnet8", num_classes=10, in_channels=1)
    with pytest.raises(PursuhintError, match="cache_teacher"):
        train(cached, tmp_path / "run", data=(Digits(RANDOM), Digits()), teacher=teacher, device="cpu")


def test_columns_of_hugging_face_are_read() -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=list(Digits.classes))
    features = datasets.Features({"image": datasets.Image(), "label": names})
    columns = {"image": [Image.fromarray(image) for image in PIXELS], "label": LABELS}
    pictures = datasets.Dataset.from_dict(columns, features=features)
    data = as_data(datasets.DatasetDict({"train": pictures, "validation": pictures}))
    assert data.class_names == Digits.classes
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(PIXELS))
    assert data.test.labels.tolist() == LABELS


def test_a_comparison_on_own_data_is_repeated_from_its_folder(tmp_path: Path) -> None:
    teacher = create_model("resnet8", num_classes=10, in_channels=1)
    of_arms = recipe(losses={"at": 100}, epochs=1, hints={"samples": 40})
    options: dict[str, Any] = {"arms": ["alone", "first"], "seeds": (0,), "device": "cpu", "teacher": teacher}
    first = pursuhint.compare(of_arms, tmp_path, data=(Digits(RANDOM), Digits()), **options)
    assert first.data.preprocessing is not None
    assert first.data.preprocessing.mean == (0.3,)
    notes = json.loads((tmp_path / "settings.json").read_text())["data"]["notes"]
    assert any("at random" in note for note in notes)
    again = pursuhint.compare(of_arms, tmp_path, data=(Digits(RANDOM), Digits()), **options)
    assert again.arms == first.arms
    with pytest.raises(PursuhintError, match="another comparison"):
        pursuhint.compare(of_arms, tmp_path, data=(Digits(), Digits()), **options)


def test_a_last_batch_of_one_drawn_sample_is_left_out(tmp_path: Path) -> None:
    sampler = WeightedRandomSampler([1.0] * len(PIXELS), 33)
    loader = DataLoader(Digits(), sampler=sampler)
    record = train(recipe(epochs=1), tmp_path / "run", data=(loader, Digits()), device="cpu")
    assert record.finished


def test_evaluate_takes_data(tmp_path: Path) -> None:
    network = create_model("resnet8", num_classes=10, in_channels=1)
    found = pursuhint.evaluate(network, Digits())
    assert found.count == len(PIXELS)
    assert pursuhint.evaluate(network, DataLoader(Digits(), batch_size=7)) == found
    images = torch.stack([Digits()[place][0] for place in range(len(PIXELS))])
    network.eval()
    with torch.no_grad():
        hits = network(images).argmax(1) == torch.tensor(LABELS)
    assert found.top1 == pytest.approx(100 * hits.float().mean().item())
    with pytest.raises(PursuhintError, match="validation split"):
        pursuhint.evaluate(network, Digits(), split="val")


def test_images_are_converted_for_a_network_that_expects_others() -> None:
    network = create_model("resnet8", num_classes=10, in_channels=1).eval()
    network.default_cfg = {"mean": (0.5,), "std": (0.25,)}
    half = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.25,))])
    with pytest.warns(PursuhintWarning, match="are converted"):
        found = pursuhint.evaluate(network, Digits())
    expected = pursuhint.evaluate(network, Digits(half))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    left = pursuhint.evaluate(network, as_data(Digits(), normalization="data"))
    assert left.loss != pytest.approx(expected.loss, rel=1e-5)
    assert not network._forward_pre_hooks

    options: dict[str, Any] = {"samples": 60, "stability": False, "device": "cpu"}
    one = pursuhint.analyze(network, Digits(), **options)
    same = pursuhint.analyze(network, Digits(half), **options)
    torch.testing.assert_close(one.similarities["cka"].values, same.similarities["cka"].values)
    assert one.provenance.preprocessing is not None
    assert one.provenance.preprocessing.mean == (0.5,)
    between = pursuhint.compare_networks(network, network, Digits(), samples=60, device="cpu")
    torch.testing.assert_close(between["cka"].values, one.similarities["cka"].values)


class Reader(torch.nn.Module):
    """Classifies short texts by the mean of their words' vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(12, width)
        self.layers = torch.nn.Sequential(*(Block(width) for _ in range(3)))
        self.classifier = torch.nn.Linear(width, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found = self.layers(self.words(input_ids))
        mask = attention_mask[:, :, None].to(found.dtype)
        return self.classifier((found * mask).sum(1) / mask.sum(1))


class Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.activation = torch.nn.Linear(width, width), torch.nn.ReLU()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.activation(self.linear(values))


def texts(seed: int, count: int = 60) -> dict[str, torch.Tensor]:
    """Class 1 if one of the words is number 3."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(4, 12, (count, 6), generator=generator)
    labels = torch.arange(count) % 2
    words[labels == 1, 0] = 3
    mask = (torch.arange(6) < 4).expand(count, 6).long()
    return {"input_ids": words, "attention_mask": mask, "labels": labels}


def test_networks_of_named_tensors_are_trained_and_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = Reader(16), Reader(8)
    data = (texts(0), texts(1))
    of_text = recipe(losses={"fitnet": 1}, hints={"strategy": "even", "k": 2}, epochs=8, batch_size=10)
    record = train(of_text, tmp_path / "run", data=data, teacher=teacher, student=student, device="cpu")
    first, last = record.metrics[0], record.last
    assert last["train_fitnet"] < first["train_fitnet"]
    assert last["test_top1"] > max(first["test_top1"], 80)
    assert record.environment["data"]["image_size"] is None
    again = train(of_text, tmp_path / "run", data=data, teacher=teacher, student=student, device="cpu")
    assert again.metrics == record.metrics
    with pytest.raises(PursuhintError, match="different run"):
        train(of_text, tmp_path / "run", data=(texts(2), texts(1)), teacher=teacher, student=student)
    with pytest.raises(PursuhintError, match="takes images"):
        train(recipe(), tmp_path / "named", data=data)
    with pytest.raises(PursuhintError, match="no images"):
        train(recipe(data={"name": "x", "augment": "cutmix"}), tmp_path / "mixed", data=data, student=student)
    assert pursuhint.evaluate(student, data).count == 60


def test_data_of_the_recipes_name_and_another_size_are_not_loaded_for_the_run(tmp_path: Path) -> None:
    record = train(
        recipe(epochs=1, data={"name": "digits"}),
        tmp_path / "run",
        data=load_dataset("digits", image_size=12, train_samples=64),
        device="cpu",
    )
    with pytest.raises(PursuhintError, match="12x12 with 1 channels, and digits loads as 8x8 with 1"):
        RunRecord.load(record.path).load_data()
    same = train(
        recipe(epochs=1, data={"name": "digits", "image_size": 12, "train_samples": 64}),
        tmp_path / "same",
        device="cpu",
    )
    assert RunRecord.load(same.path).load_data().preprocessing.size == (12, 12)
