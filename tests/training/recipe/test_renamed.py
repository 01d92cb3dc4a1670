"""Old names in recipes are refused with the new ones, wherever the recipe comes from."""

from __future__ import annotations

import re

import pytest
import yaml

from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.training import Recipe, parse_losses
from pursuhint.training.recipe.renamed import RENAMED_KEYS, RENAMED_VALUES
from pursuhint.training.run_folder.fingerprint import check_same_run

SAVED = Recipe.from_dict({"student": "resnet8"}).to_dict()
OLD = [(key, True, f"{key!r} is called {new!r} now") for key, new in RENAMED_KEYS.items()]
OLD += [
    (key, old, f"the value {old!r} of {key!r} is called {new!r} now")
    for (key, old), new in RENAMED_VALUES.items()
]


def nested(key, value):
    """A recipe with one entry at a dotted key; a section is a mapping."""
    for step in reversed(key.split(".")):
        value = {step: value}
    return {"student": "resnet8", **value}


@pytest.mark.parametrize(("key", "value", "message"), OLD)
def test_every_old_name_is_refused_with_the_new_one(key, value, message, tmp_path):
    said = re.escape(message)
    with pytest.raises(PursuhintError, match=f"^the options: .*{said}"):
        Recipe.from_dict(nested(key, value), source="the options")
    with pytest.raises(PursuhintError, match=said):
        Recipe(**nested(key, value))
    with pytest.raises(PursuhintError, match=said):
        Recipe.from_yaml(yaml.safe_dump(nested(key, value)))
    with pytest.raises(PursuhintError, match=said):
        Recipe.from_dict({"student": "resnet8"}).override([f"{key}={value}"])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**SAVED, **nested(key, value)}))
    with pytest.raises(PursuhintError, match=rf"recipe\.yaml: .*{said}"):
        check_same_run(tmp_path, Recipe.from_dict({"student": "resnet8"}), {})


@pytest.mark.parametrize("new", [*RENAMED_KEYS.values(), *(key for key, _ in RENAMED_VALUES)])
def test_every_new_name_exists(new):
    section, *rest = new.split(".")
    if section == "losses":
        assert rest[1] in get_loss(rest[0]).hyperparameters()
    else:
        found = SAVED[section]
        for step in rest:
            found = found[step]


def test_several_old_names_are_named_together():
    with pytest.raises(PursuhintError, match=r"'engine' is called .*; 'engine\.fold_norms' is called"):
        Recipe.from_dict({"student": "resnet8", "engine": {"fold_norms": False}})


def test_an_old_name_of_a_typed_loss_is_refused():
    losses = parse_losses(["cc:relation=neighbours"])
    with pytest.raises(PursuhintError, match="'neighbors'"):
        Recipe.from_dict({"student": "resnet8", "losses": losses})


def test_new_names_and_the_same_word_elsewhere_pass():
    losses = {"cc": {"relation": "neighbors"}, "ipwd": {"standardize": True}}
    values = {"student": {"network": "resnet8", "options": {"engine": 1}}, "losses": losses}
    assert Recipe.from_dict(values).student.options == {"engine": 1}
