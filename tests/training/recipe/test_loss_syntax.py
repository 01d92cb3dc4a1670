"""Losses as they are typed on the command line."""

from __future__ import annotations

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.training import Recipe, parse_loss, parse_loss_set, parse_losses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=at,kd", ("a", {"at": {"weight": None}, "kd": {"weight": None}})),
        ("a=at=1000:p=2,kd=0.9", ("a", {"at": {"weight": 1000, "p": 2}, "kd": {"weight": 0.9}})),
        (
            "a b=kd:temperature=2,standardize=true,at",
            ("a b", {"kd": {"weight": None, "temperature": 2, "standardize": True}, "at": {"weight": None}}),
        ),
        (
            "r=reviewkd:levels=[h,2],kd",
            ("r", {"reviewkd": {"weight": None, "levels": ["h", 2]}, "kd": {"weight": None}}),
        ),
    ],
)
def test_reads_sets(text, expected):
    assert parse_loss_set(text) == expected


@pytest.mark.parametrize("text", ["a", "a=", "=at", "a=at,at"])
def test_sets_of_another_form_are_refused(text):
    with pytest.raises(PursuhintError):
        parse_loss_set(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at", ("at", {"weight": None})),
        ("at=1000", ("at", {"weight": 1000})),
        ("at=1e3", ("at", {"weight": 1000.0})),
        ("at=1000:p=2,foo=bar", ("at", {"weight": 1000, "p": 2, "foo": "bar"})),
        ("at:p=2", ("at", {"weight": None, "p": 2})),
        ("kd=.9:temperature=4.0,flag=true", ("kd", {"weight": 0.9, "temperature": 4.0, "flag": True})),
        ("vid:eps=1e-5", ("vid", {"weight": None, "eps": 1e-5})),
        (
            "reviewkd:levels=[h, 2, 1],review=no",
            ("reviewkd", {"weight": None, "levels": ["h", 2, 1], "review": False}),
        ),
    ],
)
def test_reads(text, expected):
    assert parse_loss(text) == expected


@pytest.mark.parametrize("text", ["", "=3", "at=", "at=much", "at=true", "at:p", "at:=2", "at=1:p=2,q"])
def test_refuses(text):
    with pytest.raises(PursuhintError, match="write NAME, NAME=WEIGHT or NAME=WEIGHT:key=value"):
        parse_loss(text)


def test_several_make_the_losses_of_a_recipe():
    losses = parse_losses(["ce=0.1", "kd=0.9", "at:p=1"])
    recipe = Recipe.from_dict({"student": "resnet8", "losses": losses})
    assert {name: loss.weight for name, loss in recipe.losses.items()} == {"ce": 0.1, "kd": 0.9, "at": None}
    assert recipe.losses["at"].options == {"p": 1}


def test_a_loss_given_twice_is_an_error():
    with pytest.raises(PursuhintError, match="'at' is given twice"):
        parse_losses(["at=1", "at=2"])


def test_another_name_of_a_loss_becomes_the_name_of_the_table():
    assert get_loss("spherical") is get_loss("skd")
    assert parse_loss("spherical=0.5:temperature=2") == ("skd", {"weight": 0.5, "temperature": 2})
    assert parse_loss_set("s=at:p=2,spherical=1")[1].keys() == {"at", "skd"}
    recipe = Recipe.from_dict({"losses": {"spherical": {"alpha": 0.5}, "at": 1}})
    assert recipe.losses.keys() == {"skd", "at"}
    changed = recipe.override("losses.spherical.temperature=2").losses["skd"]
    assert changed.options == {"alpha": 0.5, "temperature": 2}
    with pytest.raises(PursuhintError, match="another name of 'skd'"):
        Recipe.from_dict({"losses": {"spherical": 1, "skd": 1}})
