"""One check for the JSON files that carry a schema version."""

import json

import pytest

from pursuhint.analysis.storage import read_analysis
from pursuhint.errors import PursuhintError
from pursuhint.hints import HintPlan
from pursuhint.study import Comparison, MethodComparison

READERS = {
    "hints.json": lambda folder: HintPlan.load(folder / "hints.json"),
    "analysis.json": read_analysis,
    "compare.json": Comparison.load,
    "methods.json": MethodComparison.load,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is not valid: it has no schema version"),
        ({"schema": 99}, "has schema 99; this version of PursuHint reads schema "),
        ({"schema": None}, "is not valid: schema: "),
        ([], "is not valid: the file: "),
    ],
)
def test_every_file_names_a_missing_or_other_schema_in_the_same_words(name, content, message, tmp_path):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(PursuhintError, match=message):
        READERS[name](tmp_path)
