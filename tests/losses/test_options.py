"""What holds for every loss holds for every option of every loss, too."""

from __future__ import annotations

import copy
import types
import typing

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.testing.loss_contract import LossCase, couples
from pursuhint.testing.loss_setting import (
    SAMPLES,
    chosen_features,
    chosen_samples,
    make_batch,
    student_features,
    teacher_features,
    tensors,
)
from tests.losses.test_contract import build

EQUAL_WIDTHS_ONLY = {
    ("ega", "projection"): "never",
    ("norm", "transform"): "none",
    ("crcd", "embedder"): "none",
    ("crcd", "gradient"): "cosine",
    ("mgd", "align"): False,
}
NUMBERS = {  # forms that are chosen by a number
    "fitnet": ({"maxout_pieces": 2}, {"maxout_pieces": 3, "norm": False, "relu": False}),
    "at": ({"p": 1}, {"p": 3, "absolute": True}),
    "ft": ({"power": 3}, {"difference_power": 2}, {"difference_power": 3, "absolute": True}),
    "itrd": ({"mutual_weight": 0.0}, {"alpha": 1.01}),
    "kdsvd": ({"vectors": 3},),
    "ofd": ({"kernel_size": 3},),
    "reviewkd": (
        {"mid_channels": 3},
        {"levels": ("h", "h-1", "h/2", 1)},
        {"residual_output": "output", "fusion": "sum"},
    ),
    "rrd": ({"queue_size": 5}, {"queue_size": 7, "variant": "fifo"}, {"queue_size": 2}),
    "crd": ({"negatives": 1}, {"momentum": 0.0}, {"negatives": 100}),
    "cc": ({"relation": "gaussian", "order": 5},),
    "mgd": ({"mask_ratio": 0.0}, {"mask_ratio": 0.65, "masked": "positions"}),
    "srd": ({"power": 2.0}, {"variant": "correlation", "eps": 1e-3}),
    "ofa": ({"gamma": 1.5, "final_gamma": 1.0}, {"temperature": 2.0}),
    "wkd-f": ({"grid": 2}, {"mean_weight": 0.0}),
    "cat-kd": ({"resolution": 1},),
    "sdd": ({"scales": (1, 2), "complementary_weight": 1.0},),
    "mlkd": ({"temperatures": (2.0,), "standardize": True},),
    "rld": ({"alpha": 0.0}, {"beta": 0.0}),
}


def choices(annotation) -> tuple:
    """The values of a literal or a switch; none for anything else."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(value for part in typing.get_args(annotation) for value in choices(part))
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return (False, True) if annotation is bool else ()


def alternatives(name: str) -> list[dict]:
    kind = get_loss(name)
    hints = typing.get_type_hints(kind.__init__)
    found = [
        {hyperparameter: value}
        for hyperparameter, default in kind.hyperparameters().items()
        for value in choices(hints[hyperparameter])
        if value not in (default, EQUAL_WIDTHS_ONLY.get((name, hyperparameter)))
    ]
    return [*found, *NUMBERS.get(name, ())]


CASES = [(name, options) for name in LOSSES for options in alternatives(name)]


def described(case) -> str:
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


@pytest.mark.parametrize(("name", "option"), EQUAL_WIDTHS_ONLY)
def test_what_needs_equal_widths_says_so(name, option):
    with pytest.raises(PursuhintError, match=r"equal width|widths must be equal|needs a projection"):
        build(name, **{option: EQUAL_WIDTHS_ONLY[name, option]})


@pytest.mark.parametrize(("name", "options"), CASES, ids=list(map(described, CASES)))
def test_every_choice_of_a_loss(name, options):
    torch.manual_seed(0)
    loss = build(name, **options)
    original = copy.deepcopy(loss)
    if loss.info.warm_up_only and loss.stages():
        loss.begin_stage(loss.stages()[0].name)
    student, batch = student_features(), make_batch()
    value = loss.compute(student, teacher_features(), batch)
    assert value.shape == ()
    value.backward()
    reached = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    learned = {
        name: parameter
        for name, parameter in loss.named_parameters()
        if parameter.requires_grad and not name.startswith("classifier.")  # that is the student's
    }
    assert all(gradient.isfinite().all() and gradient.any() for gradient in reached)
    assert reached
    assert {name for name, parameter in learned.items() if parameter.grad is None} == set(
        loss.info.no_grad_parameters
    )

    if not LossCase(get_loss(name)).in_order:
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
        inputs = [make(dtype=torch.float64) for make in (student_features, teacher_features)]
        batch, loss = make_batch(torch.float64), copy.deepcopy(original).double()
        torch.testing.assert_close(
            copy.deepcopy(loss).compute(*inputs, batch),
            loss.compute(
                *[chosen_features(features, order) for features in inputs], chosen_samples(batch, order)
            ),
        )
    assert couples(original) == original.info.batch_coupled


CONDITIONAL = [
    (name, *entry)
    for name in LOSSES
    for entry in get_loss(name).info.only_with
    if {*entry[:2]} <= get_loss(name).hyperparameters().keys()
]


def another(default):
    """A value of the same type, in the option's range, that is not the default."""
    if isinstance(default, tuple):
        return default[:1]
    if isinstance(default, bool):
        return not default
    return {"attention": "sum", "fused": "output"}[default] if isinstance(default, str) else default * 2 + 1


@pytest.mark.parametrize(
    ("name", "option", "other", "value"),
    CONDITIONAL,
    ids=["-".join(map(str, one)) for one in CONDITIONAL],
)
def test_an_option_that_another_leaves_without_effect_is_refused(name, option, other, value):
    kind = get_loss(name)
    known = kind.hyperparameters()
    without = next(one for one in choices(typing.get_type_hints(kind.__init__)[other]) if one != value)
    needed = {entry[1]: entry[2] for entry in kind.info.only_with if entry[0] == option}
    given = {option: another(known[option])}
    with pytest.raises(PursuhintError, match=f"{option} has no effect with {other}="):
        kind.checked({**needed, **given, other: without})
    assert kind.checked({**needed, **given})[option] == given[option]
    assert kind.checked({other: without, option: known[option]})  # a resolved recipe writes defaults out
