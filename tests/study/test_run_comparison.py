"""Comparisons from the first run to the last, on a handful of images."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pursuhint.analysis import Analysis
from pursuhint.errors import PursuhintError
from pursuhint.hints.schedules.random_each_epoch import draw
from pursuhint.models import create_model
from pursuhint.report import write_report
from pursuhint.study import DEFAULT_ARMS, Comparison, compare, two_way_interval
from pursuhint.study.run_comparison import _without_hints
from pursuhint.training import RunRecord
from pursuhint.training.recipe.schema import LossConfig
from tests.helpers.study_runs import few_digits, recipe, untrained, write_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"), "resnet20")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, teacher) -> Comparison:
    """All arms over two seeds."""
    return compare(
        recipe(teacher), tmp_path_factory.mktemp("comparison") / "all", seeds=(0, 1), data=data, device="cpu"
    )


def test_settings_of_the_clustering_arms_count(data, teacher, tmp_path):
    hints = {"metric": "debiased-cka", "samples": 100, "seed": 3, "position": "last"}
    compare(
        recipe(teacher, hints=hints), tmp_path, arms=("kmeans", "random"), seeds=(0,), data=data, device="cpu"
    )
    provenance = Analysis.load(tmp_path / "analysis").provenance
    assert (provenance.num_samples, provenance.seed) == (100, 3)
    assert Analysis.load(tmp_path / "analysis").metrics == ("debiased-cka",)


def test_the_analysis_of_the_arms_takes_as_many_images_as_it_needs(data, teacher, tmp_path):
    hints = {"samples": "auto", "max_samples": 120, "stable_at": 0.9}
    options = {"seeds": (0,), "data": data, "device": "cpu"}
    compare(recipe(teacher, hints=hints), tmp_path / "a", arms=("kmeans", "random"), **options)
    auto = Analysis.load(tmp_path / "a" / "analysis").auto
    assert (auto.available, auto.stable_at) == (120, 0.9)
    with pytest.raises(PursuhintError, match="no arm of alone, conventional needs one"):
        compare(recipe(teacher, hints=hints), tmp_path / "b", arms=("alone", "conventional"), **options)
    fixed = recipe(teacher, hints={"max_samples": 120})
    with pytest.raises(PursuhintError, match=r"max_samples has no effect with a fixed number of samples"):
        compare(fixed, tmp_path / "b", arms=("kmeans", "random"), **options)
    assert not (tmp_path / "b").exists()


def test_every_arm_and_seed_has_a_result_in_an_ordinary_run_folder(finished):
    assert [arm.name for arm in finished.arms] == list(DEFAULT_ARMS)
    for arm in finished.arms:
        assert [run.seed for run in arm.runs] == [0, 1]
        for run in arm.runs:
            record = RunRecord.load(finished.path / run.folder)
            assert record.finished
            assert record.recipe.seed == run.seed
            assert record.last["test_top1"] == run.last_top1
            if record.plan is not None:
                assert tuple(p.position for p in record.plan.teacher_points) == run.positions


def test_the_arms_put_their_hints_where_they_say(finished):
    assert finished.arm("alone").positions == ((),)
    assert finished.arm("conventional").positions == ((3, 6, 9),)
    assert finished.arm("centers").positions == ((2, 5, 8),)
    assert len(finished.arm("random").positions) == 2
    for run in finished.arm("random").runs:
        origin = json.loads((finished.path / run.folder / "hints.json").read_text(encoding="utf-8"))["origin"]
        assert origin["seed"] == run.seed or run.same_as


def test_the_student_alone_has_no_teacher_and_the_others_share_all_losses(finished):
    alone = RunRecord.load(finished.path / "arms/alone/seed-0").recipe
    taught = RunRecord.load(finished.path / "arms/conventional/seed-0").recipe
    assert alone.teacher is None
    kd = RunRecord.load(finished.path / "arms/kd/seed-0").recipe
    assert kd.teacher == taught.teacher
    assert kd.hints is None
    weights = [{name: term.weight for name, term in r.losses.items()} for r in (alone, kd, taught)]
    assert weights == [{"ce": 1.0}, {"ce": 1.0, "kd": 0.9}, {"ce": 1.0, "kd": 0.9, "at": 100.0}]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"ce": 1.0, "at": 10.0}, {"ce": 1.0, "kd": 1.0}),
        ({"ce": 0.5, "crd": 0.8, "at": 10.0}, {"ce": 0.5, "crd": 0.8}),
        ({"wsld": 1.0, "at": 10.0}, {"wsld": 1.0}),
    ],
)
def test_the_arm_without_hints_keeps_every_other_loss(losses, expected):
    kept = _without_hints({name: LossConfig(weight=weight) for name, weight in losses.items()}, taught=True)
    assert {name: loss.weight for name, loss in kept.items()} == expected


def test_hits_by_image_give_an_interval_for_other_images(teacher, data, tmp_path):
    """It is that of the images' differences, and it is in the file, the sentence and the page."""
    found = compare(
        recipe(teacher), tmp_path, arms=("alone", "conventional"), seeds=(0, 1, 2), data=data, device="cpu"
    )
    (pair,) = found.against["conventional"]
    hits = [
        np.array([RunRecord.load(found.path / run.folder).load_hits() for run in found.arm(name).runs])
        for name in ("alone", "conventional")
    ]
    assert hits[0].shape == (3, 64)
    points = 100.0 * hits[0] - 100.0 * hits[1]
    assert points.mean(axis=1) == pytest.approx(pair.differences)
    assert pair.new_images == two_way_interval(points)
    assert pair.new_images.high - pair.new_images.low > 0
    assert Comparison.load(tmp_path) == found
    assert "for other test images as well" in found.sentences["conventional"][0]
    (tmp_path / found.arm("alone").runs[0].folder / "correct.json").unlink()
    again = compare(
        recipe(teacher), tmp_path, arms=("alone", "conventional"), seeds=(0, 1, 2), data=data, device="cpu"
    )
    assert again.against["conventional"][0].new_images is None


def test_what_is_in_the_file_is_what_was_returned(finished):
    assert Comparison.load(finished.path) == finished
    assert 0 <= finished.teacher.top1 <= 100
    assert finished.teacher.parameters > finished.student.parameters > 70_000
    assert (finished.data.train, finished.data.test) == (128, 64)


def test_a_second_call_trains_nothing_and_changes_nothing(finished, data, teacher):
    file = finished.path / "compare.json"
    before, events = file.read_bytes(), []
    again = compare(
        recipe(teacher), finished.path, seeds=(0, 1), data=data, device="cpu", on_event=events.append
    )
    names = Counter(type(event).__name__ for event in events)
    assert set(names) == {"ArmFinished", "TeacherMeasured"}
    assert {event.source for event in events if hasattr(event, "source")} <= {"found", "same"}
    assert again == finished
    assert file.read_bytes() == before


def test_an_interrupted_comparison_goes_on(finished, data, teacher, tmp_path):
    events = []
    options = {"arms": ("alone", "conventional"), "seeds": (0, 1), "data": data, "device": "cpu"}

    def stop(event):
        if type(event).__name__ == "ArmsStarted" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(recipe(teacher), tmp_path / "c", on_event=stop, **options)
    assert not (tmp_path / "c" / "compare.json").exists()
    result = compare(recipe(teacher), tmp_path / "c", on_event=events.append, **options)
    done = [event.source for event in events if type(event).__name__ == "ArmFinished"]
    assert done == ["found", "found", "trained", "trained"]
    for arm in ("alone", "conventional"):
        assert result.arm(arm).last.values == finished.arm(arm).last.values


def test_a_teacher_of_other_classes_is_refused_before_the_student_alone_is_trained(data, tmp_path):
    teacher = create_model("resnet14", num_classes=5, in_channels=1)
    with pytest.raises(PursuhintError, match="teacher has 5 classes, student 10"):
        compare(recipe(write_teacher(tmp_path)), tmp_path / "c", data=data, teacher=teacher, device="cpu")
    assert not (tmp_path / "c").exists()


def test_seeds_can_be_added_but_not_dropped(data, teacher, tmp_path):
    out, arms = tmp_path / "c", ("alone", "conventional")
    compare(recipe(teacher), out, arms=arms, seeds=(0,), data=data, device="cpu")
    more = compare(recipe(teacher), out, arms=arms, seeds=(0, 5), data=data, device="cpu")
    assert more.seeds == (0, 5)
    before = (out / "compare.json").read_bytes()
    with pytest.raises(PursuhintError, match="also has the seeds 5; seeds can be added but not dropped"):
        compare(recipe(teacher), out, arms=arms, seeds=(0,), data=data, device="cpu")
    assert (out / "compare.json").read_bytes() == before


def test_another_comparison_is_refused_by_what_differs(finished, data, teacher, tmp_path):
    before = sorted(str(path) for path in finished.path.rglob("*"))
    with pytest.raises(PursuhintError, match=r"losses\.at\.weight is 100\.0 there and 500\.0 here"):
        compare(
            recipe(teacher, losses={"ce": 1.0, "kd": 0.9, "at": 500.0}),
            finished.path,
            seeds=(0, 1),
            data=data,
            device="cpu",
        )
    with pytest.raises(PursuhintError, match="few-digits has changed since: the train split had"):
        compare(recipe(teacher), finished.path, seeds=(0, 1), data=few_digits(100), device="cpu")
    assert sorted(str(path) for path in finished.path.rglob("*")) == before


def test_a_run_folder_is_not_overwritten(finished, data, teacher):
    run = finished.path / "arms/alone/seed-0"
    before = (run / "recipe.yaml").read_bytes()
    with pytest.raises(PursuhintError, match="holds a run, and a comparison needs a folder of its own"):
        compare(recipe(teacher), run, data=data, device="cpu")
    assert (run / "recipe.yaml").read_bytes() == before


def test_another_teacher_of_the_same_name_is_refused(data, tmp_path):
    arms = ("alone", "conventional")
    teacher = untrained("resnet14", seed=1)
    values = recipe(write_teacher(tmp_path))
    compare(values, tmp_path / "c", arms=arms, seeds=(0,), data=data, teacher=teacher, device="cpu")
    with pytest.raises(PursuhintError, match="the teacher has changed since"):
        compare(
            values,
            tmp_path / "c",
            arms=arms,
            seeds=(0,),
            data=data,
            teacher=untrained("resnet14", seed=2),
            device="cpu",
        )


def test_arms_with_equal_positions_share_their_runs(data, tmp_path):
    """A resnet8 has one block a stage, so that every arm with three hints takes all of them."""
    events = []
    result = compare(
        recipe(write_teacher(tmp_path, "resnet8")),
        tmp_path / "c",
        seeds=(3,),
        data=data,
        device="cpu",
        on_event=events.append,
    )
    sources = {event.arm: event.source for event in events if type(event).__name__ == "ArmFinished"}
    assert sources == {
        "alone": "trained",
        "kd": "trained",
        "conventional": "trained",
        "centers": "same",
        "kmeans": "same",
        "segments": "same",
        "random": "same",
    }
    assert sorted(path.name for path in (tmp_path / "c" / "arms").iterdir()) == [
        "alone",
        "conventional",
        "kd",
    ]
    assert result.arm("kmeans").runs[0].same_as == "conventional"
    assert set(result.sentences.values()) == {()}
    assert "1 seed gives no intervals" in result.findings[-1]
    assert sum("one and the same set of runs" in note for note in result.notes) == 4


def test_all_arms_of_a_seed_start_from_the_same_weights_and_see_the_same_batches(data, teacher, tmp_path):
    """With next to no learning rate weights stay as they began, and batch statistics tell the batches."""
    still = recipe(teacher, optimizer={"lr": 1e-12, "weight_decay": 0.0, "momentum": 0.0})
    result = compare(
        still, tmp_path / "c", arms=("alone", "conventional", "kmeans"), seeds=(0, 1), data=data, device="cpu"
    )

    def weights(arm: str, seed: int) -> dict[str, torch.Tensor]:
        run = next(run for run in result.arm(arm).runs if run.seed == seed)
        return load_file(result.path / run.folder / "student.safetensors")

    for arm in ("conventional", "kmeans"):
        for seed in (0, 1):
            alone = weights("alone", seed)
            for name, value in weights(arm, seed).items():
                torch.testing.assert_close(value, alone[name], rtol=1e-6, atol=1e-7, msg=name)
    first, second = weights("alone", 0), weights("alone", 1)
    assert not torch.allclose(first["conv1.weight"], second["conv1.weight"])


def test_leaves_the_callers_random_numbers_alone(finished, data, teacher):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    compare(recipe(teacher), finished.path, seeds=(0, 1), data=data, device="cpu")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ("alone", "kmean")}, "no arm named 'kmean'; did you mean 'kmeans'"),
        ({"arms": ("alone",)}, "at least two arms, each named once, got alone"),
        ({"arms": ("alone", "alone")}, "each named once, got alone, alone"),
        ({"seeds": ()}, r"at least one seed, and each once, got \[\]"),
        ({"seeds": (1, 1)}, r"at least one seed, and each once, got \[1, 1\]"),
    ],
)
def test_wrong_arms_and_seeds_are_refused_before_anything_happens(options, message, data, teacher, tmp_path):
    with pytest.raises(PursuhintError, match=message):
        compare(recipe(teacher), tmp_path / "c", **{"data": data, "device": "cpu", **options})
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"kd": 0.9}}, r"no loss of the recipe looks at hint points \(ce, kd\)"),
        ({"hints": {"strategy": "explicit", "points": ["layer1.0"]}}, "the arms of a comparison choose them"),
        ({"hints": {"k": 40}}, "40"),
        ({"hints": {"k": 5}}, "the student has 3 candidate points, fewer than the 5 hint points"),
        ({"losses": {"at": 1.0, "skd": 1.0, "ce": 1.0}}, "ce"),
        ({"teacher": None}, "needs a teacher"),
        ({"student": "resnet9"}, "resnet9"),
    ],
)
def test_recipes_that_cannot_be_compared_are_refused_before_anything_happens(
    changes, message, data, teacher, tmp_path
):
    with pytest.raises(PursuhintError, match=message):
        compare(recipe(teacher, **changes), tmp_path / "c", data=data, device="cpu")
    assert not (tmp_path / "c").exists()


def test_arms_by_rules_and_single_layers_in_one_comparison(data, tmp_path_factory):
    """Rules, a named clustering, a reversed pairing, published positions and every layer alone."""
    rules = ("even", "reverse", "all-to-one", "influence", "gradnorm", "quality", "probe", "ablation")
    arms = ("conventional", *rules, "r2cca:segments:last", "sweep")
    tmp_path = tmp_path_factory.mktemp("rules")
    teacher = write_teacher(tmp_path_factory.mktemp("teacher"), "resnet14")
    result = compare(recipe(teacher), tmp_path, arms=arms, seeds=(0,), data=data, device="cpu")
    assert all(len(result.arm(rule).positions[0]) == 3 for rule in rules)
    where = {arm.name: arm.positions[0] for arm in result.arms}
    assert where["even"] == where["reverse"] == (2, 4, 6)
    assert where["all-to-one"] == (3, 3, 3)
    assert [where[f"sweep:{layer}"] for layer in range(1, 7)] == [(layer,) for layer in range(1, 7)]
    plans = {
        name: RunRecord.load(tmp_path / f"arms/{name}/seed-0").plan for name in ("conventional", "reverse")
    }
    assert [point.position for point in plans["reverse"].student_points] == [3, 2, 1]
    assert [point.position for point in plans["conventional"].student_points] == [1, 2, 3]
    assert set(Analysis.load(tmp_path / "analysis").metrics) == {"cka", "r2cca"}
    assert not any(pair.arm.startswith("sweep") for pairs in result.against.values() for pair in pairs)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Every layer alone" in page
    assert (tmp_path / "figures" / "landscape.png").exists()


def test_a_metric_that_is_added_later_is_analyzed_too(data, teacher, tmp_path):
    for arms in (("conventional", "kmeans"), ("conventional", "kmeans", "r2cca:kmeans:first")):
        compare(recipe(teacher), tmp_path, arms=arms, seeds=(0,), data=data, device="cpu")
    analysis = Analysis.load(tmp_path / "analysis")
    assert analysis.metrics == ("cka", "r2cca")
    # As older versions wrote it, without class curves: an arm that needs them analyzes again.
    old = dataclasses.replace(analysis, class_curves=None)
    old.save(tmp_path / "analysis")
    with pytest.raises(PursuhintError, match="curve 'probe', which the analysis does not have"):
        compare(recipe(teacher), tmp_path / "b", arms=("probe", "even"), seeds=(0,), data=data, analysis=old)
    assert not (tmp_path / "b").exists()
    arms = (*arms, "probe", "quality")
    found = compare(recipe(teacher), tmp_path, arms=arms, seeds=(0,), data=data, device="cpu")
    chosen = analysis.select_by_rule("probe", k=3).teacher_points
    assert found.arm("probe").positions[0] == tuple(point.position for point in chosen)
    again = Analysis.load(tmp_path / "analysis")
    assert (again.metrics, again.class_curves.probe) == (("cka", "r2cca"), analysis.class_curves.probe)
    chosen = again.select_by_rule("quality", k=3).teacher_points
    assert found.arm("quality").positions[0] == tuple(point.position for point in chosen)


def test_an_arm_that_is_drawn_for_every_epoch_is_no_other_arm(data, teacher, tmp_path):
    """Runs of a strategy of their own, with other draws for every seed, beside arms whose points stay."""
    arms, layers = ("conventional", "random", "random-each-epoch"), 9
    changed = recipe(teacher, epochs=2, hints={"k": 2})
    for _ in range(2):  # the second time, everything is found
        found = compare(changed, tmp_path, arms=arms, seeds=(0, 1), data=data, device="cpu")
    for run in found.arms[2].runs:
        record = RunRecord.load(tmp_path / run.folder)
        assert run.same_as is None
        assert record.recipe.hints.strategy == "random-each-epoch"
        assert (record.recipe.hints.k, record.recipe.hints.seed) == (2, run.seed)
        teachers = [
            tuple(record.plan.pairs[pair].teacher.position - 1 for pair in pairs)
            for pairs in record.plan.schedule.epochs
        ]
        assert teachers == [draw(layers, 2, seed=run.seed, epoch=epoch) for epoch in range(2)]
        assert run.positions == tuple(sorted({layer + 1 for epoch in teachers for layer in epoch}))
    assert "in place" not in " ".join(found.notes)


def test_a_curriculum_is_an_arm_of_all_layers_and_its_keys_need_it(data, teacher, tmp_path):
    changed = recipe(teacher, epochs=3, hints={"curriculum": {"threshold": 1.0, "cap": 1}})
    options = {"seeds": (0,), "data": data, "device": "cpu"}
    with pytest.raises(PursuhintError, match="no arm has one; add --arm curriculum"):
        compare(changed, tmp_path, arms=("alone", "even"), **options)
    found = compare(changed, tmp_path, arms=("even", "curriculum"), **options)
    (run,) = found.arms[1].runs
    record = RunRecord.load(tmp_path / run.folder)
    assert run.positions == (3, 6, 9)  # of nine layers, as many as there are epochs
    assert record.recipe.hints.curriculum == changed.hints.curriculum
    assert [line["train_at_target"] for line in record.metrics] == [1, 2, 3]
    assert not found.notes
