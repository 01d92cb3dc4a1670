"""Multi-level logit distillation against a slow transcription, and facts of the method."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.mlkd import MultiLevelLoss
from tests.losses.test_nkd import LABELS, logits, softmax

TEMPERATURES = (4.0, 3.0, 5.0, 2.0, 6.0)


def at_temperature(rows, temperature):
    return [softmax([z / temperature for z in row]) for row in rows]


def gram(rows):
    return [[sum(a * b for a, b in zip(first, second)) for second in rows] for first in rows]


def squared_distances(first, second):
    return [sum((a - b) ** 2 for a, b in zip(*rows)) for rows in zip(first, second)]


def as_standardized(rows):
    return [
        [(z - statistics.fmean(row)) / (statistics.stdev(row) + 1e-7) for z in row] for row in rows.tolist()
    ]


def slow(student, teacher, temperatures=TEMPERATURES, confidence="all", standardize=False):
    own, other = student.tolist(), teacher.tolist()
    scaled = (as_standardized(student), as_standardized(teacher)) if standardize else (own, other)
    sure = at_temperature(other, 1)
    sample_sure, class_sure = [max(row) for row in sure], [sum(column) for column in zip(*sure)]
    samples, classes = (
        [float(value <= statistics.median(values)) for value in values]
        for values in (sample_sure, class_sure)
    )
    if confidence == "all":
        samples, classes = [1.0] * len(samples), [1.0] * len(classes)
    elif confidence == "share":
        samples, classes = ([statistics.fmean(values)] * len(values) for values in (samples, classes))
    found = [0.0, 0.0, 0.0]
    for temperature in temperatures:
        q, p = (at_temperature(rows, temperature) for rows in scaled)
        divergences = [sum(a * math.log(a / b) for a, b in zip(*rows)) for rows in zip(p, q)]
        found[0] += temperature**2 * sum(map(math.prod, zip(samples, divergences))) / len(samples)
        q, p = (at_temperature(rows, temperature) for rows in (own, other))
        found[1] += sum(map(math.prod, zip(samples, squared_distances(gram(p), gram(q))))) / len(samples)
        columns = [list(zip(*rows)) for rows in (p, q)]
        distances = squared_distances(gram(columns[0]), gram(columns[1]))
        found[2] += sum(map(math.prod, zip(classes, distances))) / len(classes)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"confidence": "unsure"},
        {"confidence": "share"},
        {"temperatures": (1.0,)},
        {"standardize": True, "temperatures": (2.0, 3.0)},
    ],
    ids=["paper", "unsure", "share", "one", "standardized"],
)
def test_is_the_formula(options):
    found = MultiLevelLoss(**options).terms(*logits(), LABELS)
    assert list(found) == ["instance", "batch", "class"]
    assert [term.item() for term in found.values()] == pytest.approx(slow(*logits(), **options), rel=1e-11)


def other_view():
    """Logits of a second view of both networks."""
    return [torch.sin(2 * one) for one in logits()]


@pytest.mark.parametrize("confidence", ["all", "unsure", "share"])
@pytest.mark.parametrize("second_terms", ["all", "instance", "published"])
def test_a_second_view_adds_its_terms(second_terms, confidence):
    """As in the authors' code: from the fourth temperature on, the first view's logits; and no mask."""
    options = {"confidence": confidence, "second_terms": second_terms}
    found = MultiLevelLoss(**options).terms(*logits(), LABELS, *other_view())
    expected = slow(*logits(), confidence=confidence)
    if second_terms == "all":
        expected = [sum(both) for both in zip(expected, slow(*other_view(), confidence=confidence))]
    elif second_terms == "instance":
        expected[0] += slow(*other_view())[0]
    else:
        expected[0] += slow(*other_view(), TEMPERATURES[:3])[0] + slow(*logits(), TEMPERATURES[3:])[0]
    assert [term.item() for term in found.values()] == pytest.approx(expected, rel=1e-11)


def test_half_a_second_view_is_refused():
    with pytest.raises(PursuhintError, match="a second view of one network; give both, or neither"):
        MultiLevelLoss().terms(*logits(), LABELS, logits()[0])
    for second_terms in ("instance", "published"):
        with pytest.raises(PursuhintError, match=f"second_terms={second_terms} .*there is none"):
            MultiLevelLoss(second_terms=second_terms).terms(*logits(), LABELS)


def test_unsure_samples_alone_are_taught_their_predictions():
    student, teacher = (one.clone() for one in logits())
    student.requires_grad_()
    MultiLevelLoss(confidence="unsure").terms(student, teacher)["instance"].backward()
    sure = teacher.softmax(1).amax(1)
    assert torch.equal(student.grad.any(1), sure <= sure.quantile(0.5))


def test_standardized_predictions_do_not_depend_on_the_scale_of_logits():
    student, teacher = logits()
    loss = MultiLevelLoss(standardize=True)
    terms = [loss.terms(factor * student + 3, teacher)["instance"] for factor in (1, 7)]
    torch.testing.assert_close(*terms, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "options", [{"temperatures": ()}, {"temperatures": (1.0, 0.0)}], ids=["none", "zero"]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match="temperatures"):
        MultiLevelLoss(**options)
