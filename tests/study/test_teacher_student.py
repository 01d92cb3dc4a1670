"""How alike teacher and student are, before and after training."""

from __future__ import annotations

import pytest
import torch

from pursuhint.analysis.cross_network import compare_networks
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights
from pursuhint.report import write_report
from pursuhint.study import teacher_student as module
from pursuhint.study.teacher_student import TeacherStudentSimilarity, teacher_student_similarity
from pursuhint.training import RunRecord, train
from tests.helpers.study_runs import few_digits, recipe, write_teacher


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunRecord:
    folder = tmp_path_factory.mktemp("run")
    as_written = {"fuse_batchnorm": False, "channels_last": False}
    settings = recipe(write_teacher(folder), data="digits", batch_size=256, acceleration=as_written)
    return train(settings, folder / "run", device="cpu")


@pytest.fixture(scope="module")
def found(run) -> TeacherStudentSimilarity:
    return teacher_student_similarity(run, samples=200)


def test_after_is_the_trained_student(run, found):
    teacher, student = (create_model(name, num_classes=10, in_channels=1) for name in ("resnet14", "resnet8"))
    load_weights(teacher, run.recipe.teacher.checkpoint)
    load_weights(student, run.path / "student.safetensors")
    fused, as_written = (
        compare_networks(
            teacher, student, run.load_data(), samples=200, fuse_batchnorm=copied, channels_last=copied
        )["cka"].values
        for copied in (True, False)
    )
    assert found.after.values.shape == (6, 3)
    assert torch.equal(found.after.values, as_written), "as the recipe of the run says"
    assert not torch.equal(as_written, fused)
    assert torch.allclose(as_written, fused)
    assert found.after.num_samples == 200


def test_before_is_the_student_that_training_began_with(tmp_path, monkeypatch):
    began = {}

    def remember(recipe, parts, plan):
        began.update({name: tensor.clone() for name, tensor in parts.student.state_dict().items()})
        return build(recipe, parts, plan)

    build = train.__globals__["build_distiller"]
    monkeypatch.setitem(train.__globals__, "build_distiller", remember)
    record = train(recipe(write_teacher(tmp_path), data="digits", batch_size=512), tmp_path / "run")
    compared = []

    def compare(teacher, student, *arguments, **options):
        compared.append({name: tensor.clone() for name, tensor in student.state_dict().items()})
        return compare_networks(teacher, student, *arguments, **options)

    monkeypatch.setattr(module, "compare_networks", compare)
    state = torch.get_rng_state()
    teacher_student_similarity(record, samples=20)
    assert torch.equal(torch.get_rng_state(), state)
    before, after = compared
    assert all(torch.equal(tensor, before[name]) for name, tensor in began.items())
    assert not all(torch.equal(tensor, after[name]) for name, tensor in began.items())


def test_round_trip_and_report(run, found, tmp_path):
    found.save(run.path / "teacher_student")
    loaded = TeacherStudentSimilarity.load(run.path / "teacher_student")
    assert torch.equal(loaded.before.values, found.before.values)
    assert loaded.after.student_points == found.after.student_points
    page = write_report(run.path).read_text(encoding="utf-8")
    assert (run.path / "figures" / "teacher-student-cka.png").stat().st_size > 5000
    assert "Teacher and student, layer by layer" in page
    assert "before training" in page
    assert "teacher layer1.0" in page


def test_losses_that_look_at_different_points(tmp_path):
    losses = {"ofd": 1e-3, "at": {"weight": 1, "hints": {"strategy": "last-map", "activation": "pre"}}}
    run = train(
        recipe(write_teacher(tmp_path), losses=losses, data="digits", batch_size=512),
        tmp_path / "run",
        device="cpu",
    )
    assert run.plan is None
    assert {len(plan) for plan in run.all_plans} == {1, 3}
    found = teacher_student_similarity(run, samples=50)
    assert {point.activation for point in found.after.teacher_points} == {"pre"}
    found.save(run.path / "teacher_student")
    assert "Circles mark the pairs of a hint." in write_report(run.path).read_text(encoding="utf-8")


def test_progress_counts_both_networks(run):
    seen = []
    teacher_student_similarity(run, samples=50, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100)


def test_of_two_different_comparisons(found):
    other = torch.zeros(3, 6, dtype=torch.float64)
    turned = type(found.before)(found.after.student_points, found.after.teacher_points, other, "cka", 5)
    with pytest.raises(PursuhintError, match="before and after training have different teacher points"):
        TeacherStudentSimilarity(turned, found.after)


def test_mistakes(tmp_path):
    alone = train(
        recipe(write_teacher(tmp_path), teacher=None, losses={"ce": 1.0}, data="digits", batch_size=512),
        tmp_path / "alone",
        device="cpu",
    )
    with pytest.raises(PursuhintError, match="has no teacher to compare its student with"):
        teacher_student_similarity(alone)
    own = train(recipe(write_teacher(tmp_path)), tmp_path / "own", data=few_digits(), device="cpu")
    with pytest.raises(PursuhintError, match="passed from Python"):
        teacher_student_similarity(own)
    with pytest.raises(PursuhintError, match="no metric named 'ckaa'; did you mean 'cka'"):
        teacher_student_similarity(own, metric="ckaa")
