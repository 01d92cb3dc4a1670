"""Linear classifiers on frozen students of the digits."""

from __future__ import annotations

import gzip
import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

import pursuhint
from pursuhint._util.seeds import derived_generator
from pursuhint.data import make_loader
from pursuhint.errors import PursuhintError
from pursuhint.report import write_report
from pursuhint.study import LinearAccuracy, TransferResult, TransferSettings
from pursuhint.study.linear_classifiers import FrozenStudent
from pursuhint.training import Recipe, RunRecord, train
from tests.helpers.image_folders import write_folder
from tests.helpers.study_runs import few_digits

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds of a recipe, and one with another learning rate."""
    root = tmp_path_factory.mktemp("runs")
    values = {
        "student": "resnet8", "data": {"name": "digits", "train_samples": 300}, "epochs": 2, "batch_size": 64,
        "schedule": "constant",
    }  # fmt: skip
    for name, changes in {
        "a0": {},
        "a1": {"seed": 1},
        "a2": {"seed": 2},
        "b": {"optimizer": {"lr": 0.01}},
    }.items():
        train(Recipe.from_dict({**values, **changes}), root / name, device="cpu")
    return root


@pytest.fixture
def photos(tmp_path):
    """Colour images of three classes that brightness distinguishes."""
    return f"folder:{write_folder(tmp_path / 'photos', count=20)}"


def quick(**changes):
    return TransferSettings(**{"epochs": 5, **changes})


def frozen(runs, data, name="a0"):
    return FrozenStudent(RunRecord.load(runs / name).load_student(), data, CPU)


def test_colour_images_of_other_classes_become_the_students_input(runs, photos):
    result = pursuhint.transfer([runs / "a0"], [photos], settings=quick(epochs=30), device="cpu")
    (run,) = result.runs
    assert [one.classifier for one in run.accuracies] == ["sgd", "logistic"]
    for one in run.accuracies:
        assert one.count == 30
        assert one.top1 > 60  # chance is 33 %
        assert one.low < one.top1 <= one.high
    assert [one.lr for one in run.accuracies] == [0.05, None]
    (images,) = result.preprocessing[photos]
    assert images["channels"] == 1
    assert images["size"] == [8, 8]
    digits = RunRecord.load(runs / "a0").environment["data"]["preprocessing"]
    assert images["mean"] != digits["mean"]  # the target's own


def test_fashion_mnist_at_the_size_of_the_digits(runs, tmp_path):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
    settings = quick(data_root=tmp_path)
    # The digits are built in, so the root is that of the other target.
    result = pursuhint.transfer([runs / "a0"], ["fashion-mnist", "digits"], settings=settings, device="cpu")
    assert [one.count for one in result.runs[0].accuracies] == [20, 20, 360, 360]
    assert result.preprocessing["fashion-mnist"][0]["size"] == [8, 8]
    assert result.settings["data_root"] == str(tmp_path)
    json.dumps(result.to_dict(), allow_nan=False)


def test_sgd_is_momentum_sgd_on_the_input_of_the_classifier(runs):
    data = few_digits()
    student = frozen(runs, data)
    seen = []
    hook = student.network.fc.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].double())
    )
    batch = next(iter(make_loader(data, "train", batch_size=128, training=False).epoch(0)))
    with torch.no_grad():
        student.network(batch.images)
        for images in make_loader(data, "test", batch_size=64, training=False).epoch(0):
            student.network(images.images)
    hook.remove()
    train_features, test_features = seen
    weight = torch.empty(10, train_features.shape[1])
    weight = weight.normal_(0, 0.01, generator=derived_generator("linear classifier", 3)).double()
    weight = torch.cat([weight, torch.zeros(10, 1, dtype=torch.double)], dim=1)
    velocity = torch.zeros_like(weight)
    extended = torch.cat([train_features, torch.ones(128, 1, dtype=torch.double)], dim=1)
    for epoch in range(4):
        order = torch.randperm(128, generator=derived_generator("order", 3, epoch))
        for part in order.split(64):
            scores = (extended[part] @ weight.T).softmax(dim=1) - F.one_hot(batch.labels[part], 10)
            velocity = 0.9 * velocity + scores.T @ extended[part] / len(part) + 5e-4 * weight
            weight = weight - 0.05 * velocity
    expected = (test_features @ weight[:, :-1].T + weight[:, -1]).argmax(dim=1)
    assert len(set(expected.tolist())) > 3
    assert torch.equal(student.sgd(quick(epochs=4, seed=3), 0.05), expected)


def test_drift_and_augmentation_change_the_classifier_and_not_the_student(runs):
    student = frozen(runs, few_digits(test=300))
    before = {name: value.clone() for name, value in student.network.state_dict().items()}
    usual = student.sgd(quick(), 0.05)
    again = student.sgd(quick(), 0.05)
    assert torch.equal(usual, again)
    for changes in ({"drift": True}, {"augment": True}, {"seed": 1}):
        assert not torch.equal(student.sgd(quick(**changes), 0.05), usual), changes
    assert not torch.equal(student.sgd(quick(), 0.001), usual)
    after = student.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in student.network.modules())


def test_drift_is_what_leaving_the_network_in_training_mode_does(runs):
    """The test images are then seen with running statistics that have moved to the target."""
    data = few_digits()
    student = frozen(runs, data)
    expected = RunRecord.load(runs / "a0").load_student()
    head = expected.fc = torch.nn.Linear(expected.fc.in_features, 10)
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=derived_generator("linear classifier", 0))
        head.bias.zero_()
    for parameter in expected.parameters():
        parameter.requires_grad = parameter is head.weight or parameter is head.bias
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loader = make_loader(data, "train", batch_size=64, training=True, augment=True)
    expected.train()
    for epoch in range(2):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(expected(batch.images), batch.labels).backward()
            optimizer.step()
    (batch,) = make_loader(data, "test", batch_size=64, training=False).epoch(0)
    predicted = expected.eval()(batch.images).argmax(dim=1)
    assert torch.equal(student.sgd(quick(epochs=2, drift=True, augment=True), 0.05), predicted)


def test_small_networks_learn_at_the_authors_lower_rate(tmp_path):
    values = {"student": "MobileNetV2", "data": {"name": "digits", "train_samples": 40}, "epochs": 1}
    train(Recipe.from_dict({**values, "batch_size": 40}), tmp_path / "run", device="cpu")
    settings = quick(epochs=1, classifiers=("sgd",))
    result = pursuhint.transfer([tmp_path / "run"], [few_digits(64, 16)], settings=settings, device="cpu")
    assert result.runs[0].accuracies[0].lr == 0.01


@pytest.mark.parametrize("hits", [0, 7, 30])
def test_intervals_are_wilsons(hits):
    one = LinearAccuracy.of("photos", "sgd", hits, 30)
    z, share = stats.norm.ppf(0.975), hits / 30
    center = (share + z**2 / 60) / (1 + z**2 / 30)
    half = z / (1 + z**2 / 30) * math.sqrt(share * (1 - share) / 30 + z**2 / 3600)
    assert (one.low, one.high) == pytest.approx((100 * (center - half), 100 * (center + half)), abs=1e-9)


def test_runs_that_differ_by_their_seed_are_averaged(runs):
    folders = [runs / "a0", runs / "b", runs / "a1", runs / "a2"]
    settings = quick(classifiers=("logistic",))
    result = pursuhint.transfer(folders, [few_digits()], settings=settings, device="cpu")
    assert [run.group for run in result.runs] == [0, 1, 0, 0]
    table = result.table()
    seeds = [str(runs / name) for name in ("a0", "a1", "a2")]
    names = [row[0] for row in table.rows]
    assert names == [*seeds, f"mean of 3 seeds of {seeds[0]}", str(runs / "b")]
    values = [run.accuracies[0].top1 for run in result.runs if run.group == 0]
    half = stats.t.ppf(0.975, 2) * statistics.stdev(values) / math.sqrt(3)
    mean = statistics.fmean(values)
    assert table.rows[3][1] == f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def test_a_saved_result_is_read_again_and_has_a_page(runs, tmp_path):
    folders = [runs / "a0", runs / "a1", runs / "b"]
    settings = quick(classifiers=("logistic",))
    result = pursuhint.transfer(folders, [few_digits()], settings=settings, device="cpu")
    out = tmp_path / "transfer"
    result.save(out)
    assert TransferResult.load(out) == result
    assert result.provenance.network == "resnet8"
    assert (result.provenance.data, bool(result.provenance.ended)) == ("few-digits", True)
    page = write_report(out).read_text()
    for run in result.runs:
        assert f"{run.accuracies[0].top1:.2f} [" in page
    mean = statistics.fmean(run.accuracies[0].top1 for run in result.runs[:2])
    assert f"{mean:.2f}\N{NO-BREAK SPACE}%" in page
    assert f"| {result.runs[2].run} |" in (out / "table.md").read_text()
    assert (out / "figures" / "transfer.png").exists()
    result.save(out)  # of the same runs, again
    other = replace(result, runs=result.runs[:2])
    with pytest.raises(PursuhintError, match="transfer of other runs or to other data"):
        other.save(out)
    (out / "notes.txt").write_text("dear")
    with pytest.raises(PursuhintError, match=r"holds notes\.txt, which is not of a transfer"):
        other.save(out, overwrite=True)
    (out / "notes.txt").unlink()
    other.save(out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["transfer.json"]
    result.save(out, overwrite=True)
    with pytest.raises(PursuhintError, match="holds a run, and a transfer needs a folder of its own"):
        result.save(runs / "a0")


def test_what_cannot_be_measured_is_one_line(runs, photos, tmp_path):
    def refused(message, folders=(runs / "a0",), to=(photos,), **settings):
        with pytest.raises(PursuhintError, match=message):
            pursuhint.transfer(folders, to, settings=TransferSettings(**settings), device="cpu")

    refused("must be a list of run folders", folders=str(runs / "a0"))
    refused("named twice", folders=(runs / "a0", runs / "a0"))
    refused("named twice", to=(photos, photos))
    refused("is not a run folder", folders=(tmp_path,))
    refused("did you mean 'digits'", to=("digts",))
    refused("leave data.root", to=("digits",), data_root=tmp_path)
    refused("diverged", lr=1e38, epochs=3)
    refused("did you mean 'logistic'", classifiers=("logistc",))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for file in ("recipe.yaml", "environment.json"):
        (unfinished / file).write_bytes((runs / "a0" / file).read_bytes())
    refused("is not finished", folders=(unfinished,))
