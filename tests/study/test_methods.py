"""Studies of methods, on a handful of images."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from pursuhint.acceleration.options import Acceleration
from pursuhint.data import Batch
from pursuhint.distillation import Distiller, Term
from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES
from pursuhint.losses.ce import CrossEntropyLoss
from pursuhint.report import write_report
from pursuhint.report.method_table import markdown_table, method_grid
from pursuhint.report.sections.methods import findings
from pursuhint.study import MethodComparison, compare_methods
from pursuhint.study.method import Method, all_methods, parse_methods
from pursuhint.study.paired_statistics import summarize
from pursuhint.study.published_figures import beside_published
from pursuhint.study.step_memory import step_memory
from pursuhint.training import RunRecord, train
from tests.helpers.study_runs import few_digits, recipe, write_teacher

METHODS = ("kd", "at", "crd+kd", "ab:warm_up_epochs=1")


@pytest.fixture(scope="module")
def data():
    return few_digits(96, 32)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, teacher) -> MethodComparison:
    return compare_methods(
        recipe(teacher, losses={}),
        tmp_path_factory.mktemp("study") / "m",
        methods=METHODS,
        seeds=(0, 1),
        data=data,
        device="cpu",
    )


def test_the_student_alone_comes_first_and_every_run_is_an_ordinary_folder(finished):
    assert [method.name for method in finished.methods] == ["alone", *METHODS]
    for method in finished.methods:
        for run in method.runs:
            record = RunRecord.load(finished.path / run.folder)
            assert record.finished
            assert record.recipe.seed == run.seed
            assert record.last["test_top1"] == run.last_top1
            weights = {name: term.weight for name, term in record.recipe.losses.items()}
            assert weights == method.weights
            assert (record.plan is not None) == method.hints


def test_methods_have_the_losses_that_their_names_say(finished):
    weights = {method.name: method.weights for method in finished.methods}
    assert weights["alone"] == {"ce": 1.0}
    assert weights["kd"] == {"ce": 0.1, "kd": 0.9}
    assert set(weights["crd+kd"]) == {"ce", "crd", "kd"}
    assert finished.method("crd+kd").title == "CRD + KD"
    assert len(finished.method("ab:warm_up_epochs=1").runs[0].modules) == 3


def test_a_run_of_a_study_is_the_one_that_it_would_have_been_alone(finished, data, teacher, tmp_path):
    own = RunRecord.load(finished.path / finished.method("at").runs[1].folder)
    again = train(recipe(teacher, losses={"at": None}, seed=1), tmp_path / "at", data=data, device="cpu")
    assert again.recipe == own.recipe
    weights = [run.path.joinpath("student.safetensors").read_bytes() for run in (own, again)]
    assert weights[0] == weights[1]


def test_every_method_is_compared_with_the_student_alone_and_with_kd(finished):
    assert [pair.arm for pair in finished.against["alone"]] == list(METHODS)
    assert [pair.arm for pair in finished.against["kd"]] == ["alone", *METHODS[1:]]
    pair = finished.difference("at", "kd")
    expected = [a - b for a, b in zip(finished.method("at").last.values, finished.method("kd").last.values)]
    assert list(pair.differences) == pytest.approx(expected)
    assert finished.difference("kd", "kd") is None


def test_methods_with_their_own_optimizer_and_temperature_have_names(data, teacher, tmp_path):
    found = compare_methods(
        recipe(teacher, losses={}, optimizer={"name": "dot"}),
        tmp_path / "m",
        methods=("kd", "kd:temperature=learned", "dkd:standardize=true"),
        seeds=(0,),
        data=data,
        device="cpu",
    )
    titles = [method.title for method in found.methods]
    assert titles == ["student alone", "KD + DOT", "CTKD + DOT", "DKD + LS + DOT"]
    rows = beside_published([found.path]).rows
    assert [row[0] for row in rows] == ["vanilla", "KD+DOT", "CTKD+DOT", "DKD+LS+DOT"]
    folders = [found.path / method.runs[0].folder for method in found.methods[:2]]
    assert [RunRecord.load(folder).recipe.optimizer.name for folder in folders] == ["sgd", "dot"]
    page = write_report(folders[1]).read_text()
    assert "KD+DOT" in page


def test_what_is_in_the_file_is_what_was_returned(finished):
    assert MethodComparison.load(finished.path) == finished
    assert 0 <= finished.teacher.top1 <= 100
    assert not finished.failed


def test_costs_are_those_of_the_methods(finished):
    memory = {method.name: method.memory for method in finished.methods}
    assert memory["alone"] < memory["kd"] < memory["crd+kd"]  # CRD has two banks of vectors
    assert all(method.seconds > 0 for method in finished.methods)


def test_memory_counts_weights_gradients_momentum_and_what_autograd_keeps():
    """Cross-entropy keeps the log-probabilities and a linear layer its input, here the batch itself."""
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
    distiller = Distiller(
        student, {"ce": Term(CrossEntropyLoss(), 1.0)}, acceleration=Acceleration(channels_last=False)
    )
    batch = Batch(torch.rand(8, 3, 2, 2), torch.arange(8), torch.arange(8))
    weights, log_probabilities = 4 * (12 * 10 + 10), 4 * 8 * 10
    for optimizer, copies in (("sgd", 3), ("adamw", 4)):
        found = step_memory(distiller, batch, optimizer=optimizer)
        assert weights * copies + log_probabilities <= found < weights * copies + log_probabilities + 64


def test_a_second_call_trains_nothing_and_more_seeds_are_added(finished, data, teacher):
    events = []
    options = {"methods": METHODS, "data": data, "device": "cpu", "on_event": events.append}
    again = compare_methods(recipe(teacher, losses={}), finished.path, seeds=(0, 1), **options)
    assert again == finished
    assert {type(event).__name__ for event in events} == {"ArmFinished", "TeacherMeasured"}
    assert {event.source for event in events if hasattr(event, "source")} == {"found"}
    with pytest.raises(PursuhintError, match="also has the methods kd, at"):
        compare_methods(
            recipe(teacher, losses={}), finished.path, methods=["ega"], seeds=(0, 1), data=data, device="cpu"
        )


def test_a_failing_method_is_reported_and_stops_nobody(data, teacher, tmp_path):
    events = []
    study = compare_methods(
        recipe(teacher, losses={}),
        tmp_path / "m",
        methods=["kd", "at=1e+30"],
        seeds=(0,),
        data=data,
        device="cpu",
        on_event=events.append,
    )
    assert [method.name for method in study.methods] == ["alone", "kd"]
    assert "seed 0: " in study.failed["at=1e+30"]
    assert "is not finite" in study.failed["at=1e+30"]
    ends = Counter(event.source for event in events if type(event).__name__ == "ArmFinished")
    assert ends == {"trained": 2, "failed": 1}
    page = write_report(study.path).read_text(encoding="utf-8")
    assert "was not trained" in page


def test_a_method_that_does_not_fit_is_refused_if_it_was_named(data, teacher, tmp_path):
    with pytest.raises(PursuhintError, match="method 'reviewkd': "):
        compare_methods(
            recipe(teacher, losses={}, hints={"strategy": "explicit", "points": ["layer1.0", "layer9"]}),
            tmp_path / "m",
            methods=["kd", "reviewkd"],
            data=data,
            device="cpu",
        )
    assert not (tmp_path / "m").exists()


def test_the_report_and_the_table_have_every_method(finished):
    page = write_report(finished.path).read_text(encoding="utf-8")
    table = markdown_table(finished)
    for method in finished.methods:
        assert method.title in page
        assert f"| {method.last.mean:.2f} ± " in table
    rows = method_grid(finished).rows
    means = [float(row[3].split()[0]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert len(table.splitlines()) == len(METHODS) + 3
    assert json.loads((finished.path / "methods.json").read_text())["schema"] == 1


def test_the_table_prints_the_taps(finished):
    taps = {method.name: method.taps for method in finished.methods}
    ends = ", ".join(finished.method("at").runs[0].modules)
    assert taps["alone"] == {}
    assert taps["kd"] == {"kd": "logits"}
    assert taps["at"] == {"at": f"{ends} (post)"}
    assert taps["ab:warm_up_epochs=1"] == {"ab": f"{ends} (pre)"}
    assert taps["crd+kd"] == {"crd": "embedding", "kd": "logits"}
    assert {row[2] for row in method_grid(finished).rows} == {
        "–", "logits", f"{ends} (post)", f"{ends} (pre)", "crd: embedding; kd: logits",
    }  # fmt: skip


def test_only_markdown_escapes_the_marks_of_significance(finished):
    first = finished.against["alone"][0]
    surely = replace(first, mean=2.0, low=1.0, high=3.0, p_value=0.01, adjusted_p_value=0.01)
    study = finished.model_copy(update={"against": {"alone": (surely,)}})
    (cell,) = [row[4] for row in method_grid(study).rows if row[4].endswith("]**")]
    assert "\\" not in cell
    assert cell.replace("*", "\\*") in markdown_table(study)


def test_all_methods_are_the_table_of_losses():
    assert {"ce", *all_methods()} == set(LOSSES)


def test_names_are_read_as_losses_are():
    method = Method.parse("at=1e+3:p=1 + kd")
    assert {name: (term.weight, term.options) for name, term in method.losses.items()} == {
        "at": (1000.0, {"p": 1}),
        "kd": (None, {}),
    }
    assert method.name == "at=1e+3:p=1+kd"
    assert set(method.folder) <= set("at_1e+3p_kd")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "at least one, and each once, got none"),
        (("kd", "kd"), "each once, got kd"),
        (("kdd",), "no loss named 'kdd'"),
        (("kd+kd",), "kd"),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(PursuhintError, match=message):
        parse_methods(names)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"losses": {"kd": 1.0}}, {}, r"the recipe names losses \(kd\)"),
        ({"teacher": None}, {}, "needs a teacher"),
        ({"hints": {"strategy": "chosen"}}, {}, "choose the points first"),
        ({}, {"seeds": ()}, "at least one seed"),
    ],
)
def test_wrong_studies_are_refused_before_anything_happens(
    changes, options, message, teacher, data, tmp_path
):
    with pytest.raises(PursuhintError, match=message):
        compare_methods(
            recipe(teacher, **{"losses": {}, **changes}),
            tmp_path / "m",
            methods=["kd"],
            **{"data": data, "device": "cpu", **options},
        )
    assert not (tmp_path / "m").exists()


def test_few_seeds_and_methods_below_the_student_alone_are_said_first(finished):
    assert any("2 seeds give no intervals" in line for line in findings(finished))
    assert not any("significantly different" in line for line in findings(finished))
    alone = finished.method("alone").model_copy(update={"last": summarize([100.0, 100.0])})
    methods = tuple(alone if method.name == "alone" else method for method in finished.methods)
    first = findings(finished.model_copy(update={"methods": methods}))[0]
    assert first.startswith("Every method ended below the student alone (100.00 %")


def test_a_term_that_makes_up_the_loss_is_named_in_the_report(finished):
    def with_term(name, share):
        method = finished.method(name)
        changes = {"dominant_term": None if share is None else "at", "dominant_share": share}
        return method.model_copy(
            update={"runs": tuple(run.model_copy(update=changes) for run in method.runs)}
        )

    named = {"at": 0.97}
    methods = tuple(with_term(method.name, named.get(method.name)) for method in finished.methods)
    study = finished.model_copy(update={"methods": methods})
    (line,) = [line for line in findings(study) if "makes up" in line]
    assert line == (
        "The loss at makes up 97 % or more of the weighted sum after the first epoch (AT), so the other "
        "terms hardly count."
    )
    plain = tuple(with_term(method.name, None) for method in finished.methods)
    assert not any("makes up" in line for line in findings(finished.model_copy(update={"methods": plain})))


def test_equality_without_an_interval_has_its_mark_in_the_table(finished):
    first = finished.against["alone"][0]
    same = replace(
        first, mean=0.0, std=0.0, low=None, high=None, p_value=None, margin=0.5, equality_p_value=0.004,
        adjusted_equality_p_value=0.01,
    )  # fmt: skip
    study = finished.model_copy(update={"against": {"alone": (same,)}})
    assert [row[4] for row in method_grid(study).rows if row[4] != "–"] == ["0.00 =="]
