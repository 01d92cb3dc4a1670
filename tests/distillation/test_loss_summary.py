"""Summaries of losses agree with the losses."""

from __future__ import annotations

import pytest

from pursuhint.distillation.loss_summary import summarize_losses
from pursuhint.losses import LOSSES, get_loss

# What these learn is there only where shapes of student and teacher differ.
WHERE_SHAPES_DIFFER = ("cwd", "pkd", "aml", "ega", "ab", "fsp", "kdsvd")


@pytest.fixture(scope="module")
def summaries():
    return {summary.name: summary for summary in summarize_losses()}


@pytest.mark.parametrize("name", LOSSES)
def test_says_that_it_learns_if_and_only_if_it_does(summaries, name):
    assert bool(summaries[name].info.learns) == (
        summaries[name].parameters > 0 or name in WHERE_SHAPES_DIFFER
    )


@pytest.mark.parametrize("name", LOSSES)
def test_stages_and_weights_are_those_of_the_loss(summaries, name):
    summary, kind = summaries[name], get_loss(name)
    assert summary.info.default_weight == kind.info.default_weight
    assert summary.ce_weight == (None if kind.info.contains_classification else kind.info.default_ce_weight)
    assert set(summary.options) == set(kind.hyperparameters())
    if "warm_up_epochs" in summary.options and name != "fitnet":  # whose stage is an option
        assert [stage.epochs for stage in summary.stages] == [summary.options["warm_up_epochs"]]


def test_memory_of_banks_grows_with_the_samples_and_that_of_a_queue_does_not(summaries):
    with_banks = {name for name, summary in summaries.items() if summary.bytes_per_sample}
    assert with_banks == {"crd", "crcd", "wcord"}
    assert summaries["crd"].bytes_per_sample == 2 * 128 * 4 + 3 * 8  # two banks; places for the draws
    assert summaries["rrd"].fixed_bytes == 16384 * 128 * 4 + 8
    (half,) = summarize_losses(["wcord"], options={"bank_precision": "half"})
    assert summaries["wcord"].bytes_per_sample - half.bytes_per_sample == 128 * 2
