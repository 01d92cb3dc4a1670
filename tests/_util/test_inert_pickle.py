from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import PurePosixPath
from typing import Any

import pytest

from pursuhint._util.inert_pickle import Call, DamagedPickle, RefusedPickle, read_pickle


def _read(program: bytes, **options: Any) -> Any:
    return read_pickle(io.BytesIO(program), size=len(program), **{"accepts": lambda name: True, **options})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2**70,
        1.5,
        "ä\n",
        [1, [2]],
        (),
        (1,),
        (1, 2, 3, 4),
        {"a": (1, {}), 2: None, (1, "x"): 3},
    ],
)
def test_plain_values_are_what_was_pickled(protocol: int, value: Any) -> None:
    assert _read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_are_records_of_the_calls_that_would_make_them(protocol: int) -> None:
    ordered = _read(pickle.dumps(OrderedDict(b=1, a=2), protocol))
    assert isinstance(ordered, Call)
    assert ordered.name == "collections.OrderedDict"
    assert list(ordered.items.items()) == [("b", 1), ("a", 2)]
    path = _read(pickle.dumps(PurePosixPath("a/b"), protocol))
    assert path.arguments[-2:] == ("a", "b") or path.name == "copy_reg._reconstructor"


def test_names_that_are_not_accepted_end_the_reading() -> None:
    program = pickle.dumps(print, 2)
    with pytest.raises(RefusedPickle, match=r"^(__builtin__|builtins)\.print$"):
        _read(program, accepts=lambda name: False)
    assert _read(program).text.endswith(".print")


def test_strings_of_python_2() -> None:
    program = b"\x80\x02U\x03caf(U\x01\xe9t\x86."
    assert _read(program) == (b"caf", (b"\xe9",))
    assert _read(program, text="utf-8") == ("caf", (b"\xe9",))


@pytest.mark.parametrize(
    "program", [b"", b".", b"0.", b"\x80\x02K", b"(.", b"\x80\x02h\x00.", b"NNs.", b"NNR."]
)
def test_malformed_programs(program: bytes) -> None:
    with pytest.raises(DamagedPickle):
        _read(program)


def test_the_file_is_left_behind_the_pickle() -> None:
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
    assert [read_pickle(file, size=99, accepts=bool) for _ in range(2)] == [1, "two"]
    assert file.read() == b"rest"
