"""Students of a teacher of other classes: what is trained, measured, refused and resumed."""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from pursuhint import crosstask
from pursuhint._util.seeds import derived_seed
from pursuhint.analysis import Analysis
from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.hints import HintPlan
from pursuhint.losses import get_loss
from pursuhint.losses.refilled_stage2 import relative_confidence
from pursuhint.models import create_model, load_weights
from pursuhint.study import CrossTaskRequest, CrossTaskResult, StudyOptions
from pursuhint.study.cross_task_methods import cross_task_methods, refilled_settings
from pursuhint.study.cross_task_result import published_accuracy
from pursuhint.training import GroupStep, Recipe, RunRecord
from tests.helpers.interrupted_runs import Interrupted
from tests.helpers.processes import launched

REQUEST = CrossTaskRequest(overlaps=(0.5,), methods=("refilled", "at@chosen"), seeds=(0,), task_classes=4)


def recipe(**changes) -> Recipe:
    values = {
        "student": "resnet8",
        "teacher": {"network": "resnet8"},
        "data": {"name": "digits", "train_samples": 80},
        "epochs": 1,
        "batch_size": 20,
    }
    return Recipe.from_dict(values | changes)


def options(watch=None) -> StudyOptions:
    return StudyOptions(torch.device("cpu"), None, False, watch)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> CrossTaskResult:
    return crosstask(recipe(), tmp_path_factory.mktemp("cross") / "out", REQUEST, options=options())


def test_losses_of_ones_own_are_methods(study, tmp_path):
    """Attention transfer from Python trains the student that the table's trains."""
    request = replace(REQUEST, methods=("at=10",))
    mine = {"mine": (get_loss("at"), 10.0)}
    found = crosstask(recipe(), tmp_path / "out", request, options=options(), losses=mine)
    assert [cell.method for cell in found.overlaps[0].cells] == ["alone", "at=10", "mine"]
    table, own = (
        RunRecord.load_finished(found.path / found.cell(50, name).folders[0]).load_student()
        for name in ("at=10", "mine")
    )
    assert all(torch.equal(one, other) for one, other in zip(table.parameters(), own.parameters()))


def folder_of(study, method):
    return study.path / study.cell(50, method).folders[0]


def test_the_classes_are_in_every_run(study):
    teacher = RunRecord.load_finished(study.path / "teacher")
    assert teacher.recipe.data.classes == (0, 1, 2, 3)
    assert study.teacher_top1 == teacher.last["test_top1"]
    for method in ("alone", "refilled", "at@chosen"):
        record = RunRecord.load_finished(folder_of(study, method))
        assert record.recipe.data.classes == (2, 3, 4, 5)
        assert record.environment["data"]["class_names"] == ["2", "3", "4", "5"]
        accuracy = record.teacher_accuracy
        assert (accuracy is None) == (method == "alone")
        assert accuracy is None or (accuracy.top1 is None and "it knows 2" in accuracy.reason)


def test_points_are_chosen_once_in_the_foreign_teacher_on_the_students_images(study):
    folder = study.path / "points/overlap-50/at_chosen"
    plan, analysis = HintPlan.load(folder / "hints.json"), Analysis.load(folder / "analysis")
    assert plan.origin["strategy"] == "chosen"
    assert plan.provenance is not None
    assert (len(analysis.samples), analysis.provenance.accuracy.top1) == (80, None)
    assert "it knows 2" in analysis.provenance.accuracy.reason
    run = RunRecord.load(folder_of(study, "at@chosen"))
    assert run.plan.teacher_points == plan.teacher_points
    assert run.plan.pairs == plan.pairs
    assert plan.teacher_points[0].module in study.cell(50, "at@chosen").taps["at"]
    before = (folder / "hints.json").stat().st_mtime_ns
    again = crosstask(recipe(), study.path, REQUEST, options=options())
    assert (folder / "hints.json").stat().st_mtime_ns == before
    assert again == study


def embeddings(network, classes, split):
    """Images of each class one by one, as the network describes them."""
    data = load_dataset("digits", classes=classes, train_samples=80 * len(classes) // 4)
    read = FeatureExtractor(network.eval(), logits=False, embedding=True)
    found = defaultdict(list)
    part = data.split(split)
    images = (part.images.float() / 255 if part.images.dtype == torch.uint8 else part.images) - torch.tensor(
        data.mean
    )[:, None, None]
    images = images / torch.tensor(data.std)[:, None, None]
    with torch.no_grad():
        for row, label in zip(read(images).embedding, part.labels.tolist()):
            found[classes[label]].append(row)
    return found


def nearest(train, test, candidates, classes):
    """Accuracy in percent of the nearest direction of a class mean, image by image."""
    centers = {c: torch.stack(train[c]).mean(0) for c in candidates}
    hits = total = 0
    for label in classes:
        for row in test[label]:
            scores = {c: float(row @ center / center.norm()) for c, center in centers.items()}
            hits += max(scores, key=scores.get) == label
            total += 1
    return 100 * hits / total


@pytest.mark.parametrize("method", ["alone", "refilled"])
def test_measures_equal_a_slow_reference(study, method):
    (measures,) = study.cell(50, method).measures
    record = RunRecord.load(folder_of(study, method))
    joint, mine = (0, 1, 2, 3, 4, 5), (2, 3, 4, 5)
    train, test = (embeddings(record.load_student(), joint, split) for split in ("train", "test"))
    assert measures.nearest_mean == pytest.approx(nearest(train, test, mine, mine))
    assert measures.nearest_mean_of_test == pytest.approx(nearest(test, test, mine, mine))
    old, current = nearest(train, test, joint, (0, 1, 2, 3)), nearest(train, test, joint, (4, 5))
    assert (measures.joint_old, measures.joint_current) == (pytest.approx(old), pytest.approx(current))
    assert measures.joint_mean == pytest.approx(2 * old * current / (old + current))
    if method == "alone":
        assert measures.nearest_mean_after_matching is measures.kept_epoch is None
    else:
        assert measures.kept_epoch == 1
        first = record.load_student("matching")
        train, test = (embeddings(first, joint, split) for split in ("train", "test"))
        assert measures.nearest_mean_after_matching == pytest.approx(nearest(train, test, mine, mine))


def test_the_student_after_matching_is_kept_with_an_untrained_classifier(study):
    record = RunRecord.load(folder_of(study, "refilled"))
    before, after = record.load_student("matching"), record.load_student()
    alone = RunRecord.load(folder_of(study, "alone")).load_student()
    torch.manual_seed(derived_seed(0, "student"))
    initial = create_model("resnet8", num_classes=4, in_channels=1)
    assert torch.equal(before.fc.weight, initial.fc.weight)
    assert not torch.equal(before.fc.weight, after.fc.weight)
    assert not torch.equal(before.conv1.weight, alone.conv1.weight)
    with pytest.raises(PursuhintError, match="'last' or 'best'"):
        RunRecord.load(folder_of(study, "alone")).load_student("matching")


def test_weights_tell_known_classes_as_a_loop_does(study):
    network = create_model("resnet8", num_classes=4, in_channels=1)
    load_weights(network, study.path / "teacher/student.safetensors")
    data = load_dataset("digits", classes=(2, 3, 4, 5), train_samples=80)
    images = (
        data.train.images.float() / 255 if data.train.images.dtype == torch.uint8 else data.train.images
    ) - torch.tensor(data.mean)[:, None, None]
    with torch.no_grad():
        logits = network.eval()(images / torch.tensor(data.std)[:, None, None])
    sure = logits.softmax(1).amax(1).tolist()
    pairs = [
        (a > b) + (a == b) / 2
        for a, known in zip(sure, data.train.labels < 2)
        for b, other in zip(sure, data.train.labels < 2)
        if known and not other
    ]
    found = study.overlaps[0].weights["teacher_max_prob"]
    assert found.auc == pytest.approx(sum(pairs) / len(pairs), abs=1e-4)
    assert (sum(found.seen), sum(found.unseen)) == (40, 40)
    assert relative_confidence(logits).min().item() == pytest.approx(2 / (1 + math.e))
    relative = study.overlaps[0].weights["teacher_relative_confidence"]
    assert sum(relative.seen[:10]) + sum(relative.unseen[:10]) == 0  # none below 0.5


@pytest.mark.parametrize("step", [2, 6], ids=["first-stage", "main-stage"])
def test_a_stopped_study_resumes_to_the_same_result(study, tmp_path, step):
    seen = 0

    def watch(event):
        nonlocal seen
        seen += isinstance(event, GroupStep)
        if seen == step:
            raise Interrupted

    request = CrossTaskRequest(**{**vars(REQUEST), "methods": ("refilled",)})
    changes = {"save_every_steps": 1}
    with pytest.raises(Interrupted):
        crosstask(recipe(**changes), tmp_path / "out", request, options=options(watch))
    again = crosstask(recipe(**changes), tmp_path / "out", request, options=options())
    for method in ("alone", "refilled"):
        assert again.cell(50, method).measures == study.cell(50, method).measures
        assert again.cell(50, method).last.values == study.cell(50, method).last.values


@pytest.mark.parametrize(
    ("changes", "request_", "message"),
    [
        ({}, {"overlaps": (0.3,)}, "no whole number of 5 classes"),
        ({}, {"overlaps": (0.2, 0.2)}, "each once"),
        ({}, {"task_classes": 6}, "at most 5"),
        ({}, {"methods": ("kd",)}, "needs a teacher of the same classes"),
        ({}, {"methods": ("refilled-embed",)}, "refilled"),
        ({}, {"methods": ("refilled@even",)}, "no hint points"),
        ({}, {"settings": "thesis"}, "supplement or conference"),
        ({}, {"keep_matching": "best"}, "first stage of refilled"),
        ({}, {"methods": ("refilled",), "keep_matching": "last", "score_every": 2}, "leave one of them out"),
        ({}, {"methods": ("rkd", "at@1,7")}, "method 'at@1,7': "),
        ({"teacher": None}, {}, "needs a teacher"),
        ({"losses": {"kd": 1}}, {}, "names losses"),
        ({"data": {"name": "digits", "classes": "0-3"}}, {}, "data.classes"),
    ],
    ids=[
        "fraction",
        "twice",
        "too-many",
        "kd",
        "variant",
        "hints",
        "settings",
        "keep-without-refilled",
        "interval-of-last",
        "unfit",
        "teacher",
        "losses",
        "classes",
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, changes, request_, message):
    request = CrossTaskRequest(**{"overlaps": (0.0,), "methods": ("rkd",), "seeds": (0,), **request_})
    with pytest.raises(PursuhintError, match=message):
        crosstask(recipe(**changes), tmp_path / "out", request, options=options())
    assert not (tmp_path / "out").exists()


def test_a_folder_keeps_its_classes(study):
    other = CrossTaskRequest(**{**vars(REQUEST), "order": "seed"})
    with pytest.raises(PursuhintError, match="another teacher classes"):
        crosstask(recipe(), study.path, other, options=options())
    with pytest.raises(PursuhintError, match="holds a run"):
        crosstask(recipe(), study.path / "teacher", REQUEST, options=options())


def test_overwrite_replaces_a_study_of_other_classes_and_leaves_files_of_others(study, tmp_path):
    old = shutil.copytree(study.path, tmp_path / "old")
    other = CrossTaskRequest(**{**vars(REQUEST), "order": "seed"})
    how = StudyOptions(torch.device("cpu"), None, False, stop_at_once, overwrite=True)
    notes = old / "teacher" / "notes.txt"
    notes.write_text("dear")
    with pytest.raises(PursuhintError, match=r"holds teacher/notes\.txt, which is not of a cross-task study"):
        crosstask(recipe(), old, other, options=how)
    notes.unlink()
    with pytest.raises(Interrupted):
        crosstask(recipe(), old, other, options=how)
    assert [path.name for path in old.iterdir()] == ["crosstask-plan.json"]


def stop_at_once(event):
    raise Interrupted


def test_kd_is_a_method_where_the_teacher_knows_all_classes():
    (method,) = cross_task_methods(("kd",), settings="supplement", matching={}, whole=True)
    assert set(method.losses) == {"kd"}


def test_names_stand_for_the_variants_of_the_papers():
    names = ("refilled", "refilled-minus", "refilled-emb", "refilled-k5", "refilled-lambda0.5", "rkd")
    methods = cross_task_methods(names, settings="supplement", matching={"matching_epochs": 7}, whole=False)
    found = [method.losses["refilled"].options for method in methods[:5]]
    assert {one["matching_epochs"] for one in found} == {7}
    assert [one["strength"] for one in found] == [1, 1, 0, 1, 0.5]
    assert [one["k_hat"] for one in found] == ["fewest", "fewest", "fewest", 5, "fewest"]
    assert [one["weighting"] == "constant" for one in found] == [False, True, False, False, False]
    matching = {"keep_matching": None, "score_every": 5}
    (plain,) = cross_task_methods(("refilled",), settings="conference", matching=matching, whole=False)
    assert plain.losses["refilled"].options == {"keep_matching": "best", "score_every": 5}


def test_all_negatives_are_a_variant():
    matching = {"keep_matching": None}
    (found,) = cross_task_methods(("refilled-kall",), settings="supplement", matching=matching, whole=False)
    assert found.losses["refilled"].options["k_hat"] is None
    assert found.title == "REFILLED, all negatives"


def test_variants_of_refilled_are_found_by_their_setting():
    own = ("refilled", "refilled-k5", "refilled-kall", "refilled-k1", "refilled-k10")
    names = ("alone", "rkd", *own, "refilled-emb", "refilled-lambda0.5")
    found = refilled_settings(names, "supplement")
    labels = {name: label for label, name in found["k_hat"].items()}
    assert list(labels) == ["refilled", "refilled-k1", "refilled-k5", "refilled-k10", "refilled-kall"]
    assert list(labels.values()) == ["fewest", "1", "5", "10", "all"]
    assert list(refilled_settings(("refilled-k5", "refilled"), "conference")["k_hat"]) == ["5", "all"]
    assert list(found["strength"].items()) == [("0.5", "refilled-lambda0.5"), ("1", "refilled")]
    assert list(refilled_settings(names, "conference")["strength"]) == ["0.5", "2"]


def test_published_figures_stand_beside():
    wide, small = ("WRN-40-2", "WRN-16-2"), ("MobileNet-1", "MobileNet-0.5")
    assert published_accuracy("cifar100", wide, "refilled", overlap=60.0) == 76.66
    assert published_accuracy("cifar100", wide, "alone", overlap=0.0) == 78.94
    assert published_accuracy("cub200", small, "refilled-minus", overlap=25.0) == 72.33
    assert published_accuracy("cifar100", wide, "at", overlap=60.0) is None
    assert published_accuracy("digits", wide, "refilled", overlap=60.0) is None


def test_two_processes_make_one_study(tmp_path):
    out = tmp_path / "out"
    words = "--data digits --train-samples 80 --teacher resnet8 --student resnet8 --epochs 1 --batch-size 20"
    more = "--seeds 0 --device cpu --method refilled --overlap 40 --quiet --out"
    for done in launched("-m", "pursuhint", "crosstask", *words.split(), *more.split(), out):
        assert done.returncode == 0, done.stderr[-3000:]
    joint = CrossTaskResult.load(out)
    for method in ("alone", "refilled"):
        record = RunRecord.load_finished(out / joint.cell(40, method).folders[0])
        assert record.environment["processes"] == 2
    assert joint.cell(40, "refilled").measures[0].nearest_mean_after_matching is not None
