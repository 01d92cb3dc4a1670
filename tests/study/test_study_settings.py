"""Settings of a study: whether a folder holds the study that is asked for."""

from __future__ import annotations

import json

import pytest

from pursuhint import PursuhintError, load_dataset
from pursuhint.study.settings import SETTINGS, StudySettings
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.recipe.schema import Recipe


def settings(**fitnet: object) -> StudySettings:
    values = {"student": "resnet8", "teacher": "resnet14", "losses": {"fitnet": fitnet}}
    recipe = resolve_recipe(Recipe.from_dict(values))
    lists = {"arms": ["alone"], "seeds": [0]}
    return StudySettings("comparison", recipe, inputs={}, data=load_dataset("digits"), lists=lists)


def test_a_study_older_than_a_hyperparameter_has_its_default(tmp_path):
    settings().save(tmp_path)
    values = json.loads((tmp_path / SETTINGS).read_text())
    del values["recipe"]["losses"]["fitnet"]["connector"]
    (tmp_path / SETTINGS).write_text(json.dumps(values))
    assert settings().matches(tmp_path)
    with pytest.raises(PursuhintError, match="connector is 'convolution' there and 'orthogonal' here"):
        settings(connector="orthogonal").matches(tmp_path)
