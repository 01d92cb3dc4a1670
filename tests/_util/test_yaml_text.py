from __future__ import annotations

import pytest

from pursuhint._util.yaml_text import parse_yaml
from pursuhint.errors import PursuhintError


def test_plain_documents() -> None:
    text = "a: 1\nb: [x, 2.5, null, true]\nc: {d: e}\nbase: &base {k: 1}\n"
    text += "other: {<<: *base, l: 2}\nlist: [*base, *base]"
    assert parse_yaml(text, "it") == {
        "a": 1, "b": ["x", 2.5, None, True], "c": {"d": "e"}, "base": {"k": 1}, "other": {"k": 1, "l": 2},
        "list": [{"k": 1}, {"k": 1}],
    }  # fmt: skip
    assert parse_yaml("", "it") is None


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "the recipe is too large: more than 20,000 values, aliases expanded"),
        ("a: &a [*a]", r"the recipe refers to itself \(line 1\)"),
        ("a: &a {b: *a}", r"the recipe refers to itself \(line 1\)"),
        ("[" * 100 + "]" * 100, "nested too deeply, expected at most 32 levels"),
        ("[" * 100_000, "nested too deeply|not valid YAML"),
        (
            "data: {name: x}\nepochs: 3\ndata: {root: y}",
            "'data' stands twice, in lines 1 and 3; join the two",
        ),
        ("a:\n  b: 1\n  b: 2", "'b' stands twice, in lines 2 and 3"),
        ("? [a, b]\n: 1", r"a key must be a single value \(line 1\)"),
        ("a: " + "9" * 5000, "holds a value that cannot be read"),
        ("a: 2024-13-45", "holds a value that cannot be read"),
        ("a: !!python/object/apply:os.system [echo]", r"not valid YAML \(line 1\)"),
        ("a: [1", r"not valid YAML \(line 1\)"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        (r'a: ["\ud800"]', r"holds half a character, which no file can \(line 1\)"),
    ],
)
def test_documents_that_are_no_recipes(text: str, message: str) -> None:
    with pytest.raises(PursuhintError, match=message) as caught:
        parse_yaml(text, "the recipe")
    assert "\n" not in str(caught.value)
