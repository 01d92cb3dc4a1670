"""Checks of typed names and files that run before PyTorch is imported, so that a mistake costs no time.

Each is a click callback: it gets the value of one option or argument, raises `PursuhintError` or returns the
value. What only the library can know (weights, network code, data) is checked there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pursuhint.errors import PursuhintError


def early(check: Callable[[Any], None]) -> Callable[..., Any]:
    """A callback that calls ``check`` with a value, or with each of several; not for what was not given."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if not context.resilient_parsing and value is not None:
            for one in value if isinstance(value, tuple) else (value,):
                check(one)
        return value

    return callback


def network(name: str) -> None:
    from pursuhint.models import MODELS
    from pursuhint.models.names import check_network_name

    check_network_name(name, MODELS)


def data_set(name: str) -> None:
    from pursuhint.data import check_dataset_name

    check_dataset_name(name)


def tokenizer(text: str) -> None:
    place = Path(text).expanduser()
    file = place / "tokenizer.json" if place.is_dir() else place
    if not file.is_file() and (place.exists() or text.startswith((".", "/", "~")) or text.count("/") != 1):
        raise PursuhintError(f"no tokenizer {file}; name a tokenizer.json, a folder with one, or OWNER/NAME")


def metric(name: str) -> None:
    from pursuhint._util.registry import check_name
    from pursuhint.similarity import METRICS

    check_name("metric", METRICS, name)


def loss(text: str) -> None:
    from pursuhint._util.registry import check_name
    from pursuhint.losses import LOSSES
    from pursuhint.training.recipe.loss_syntax import parse_loss

    check_name("loss", LOSSES, parse_loss(text)[0])


def loss_set(text: str) -> None:
    from pursuhint._util.registry import check_name
    from pursuhint.losses import LOSSES
    from pursuhint.training.recipe.loss_syntax import parse_loss_set

    for name in parse_loss_set(text)[1]:
        check_name("loss", LOSSES, name)


def method(text: str) -> None:
    if text != "all" and not text.strip().startswith("recipe:"):
        for term in text.split("+"):
            name = term.partition("=")[0].partition(":")[0].strip()
            if name.isidentifier():  # a + may also stand in a number, as 1e+3
                loss(name)
    elif text != "all":
        recipe(text.strip().removeprefix("recipe:"))


def cross_task_method(text: str) -> None:
    name, at, points = text.partition("@")
    if at:
        hints(points)
    if name.partition("-")[0] != "refilled":
        method(name)


def arm(name: str) -> None:
    from pursuhint.study.arms import find_arm

    find_arm(name)


def recipe(name: str) -> None:
    from pursuhint.training.recipe.inheritance import read_recipe

    read_recipe(name)


def grid(name: str) -> None:
    from pursuhint.published import find_grid

    find_grid(name)


def hints(text: str) -> None:
    from pursuhint._util.input_files import open_regular
    from pursuhint.training.recipe.hints_syntax import parse_hints

    if (file := parse_hints(text).get("file")) is not None:
        open_regular(file, "hint plan").close()


def checkpoint(path: Path) -> None:
    from pursuhint._util.input_files import open_regular

    open_regular(path, "checkpoint").close()


def lines(path: Path) -> None:
    from pursuhint._util.input_files import open_regular

    open_regular(path, "file of texts").close()


def run_folder(path: Path) -> None:
    if not (path / "recipe.yaml").exists():
        raise PursuhintError(f"{path} is not a run folder: it has no recipe.yaml")


def predictor(path: Path) -> None:
    if not any((path / name).is_file() for name in ("recipe.yaml", "model.onnx")) and (
        path.is_dir() or path.suffix.lower() != ".onnx"
    ):
        raise PursuhintError(
            f"{path} is neither a run folder (recipe.yaml), nor a bundle (model.onnx), nor an .onnx file"
        )


def pooling(name: str) -> None:
    from pursuhint.features.pooling import get_pooling

    get_pooling(name)


def varied(text: str) -> None:
    from pursuhint.study.search_space import parse_varied

    parse_varied(text)


def figure(name: str) -> None:
    from pursuhint._util.registry import lookup
    from pursuhint.report import FIGURES

    lookup("figure", FIGURES, name)
