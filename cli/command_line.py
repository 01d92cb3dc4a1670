"""The running command with absolute paths, so that a result can say how it was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from pursuhint._util.command_line import running_command
from pursuhint.models.names import absolute_network

from .interruption import remember_folder

_PATHS_OF_DATA = ("folder:", "text:")
_GIVEN_POINTS = "hints:"
_RECIPE = "recipe:"
_KEYS_OF_PATHS = (
    "data.root",
    "teacher.checkpoint",
    "student.checkpoint",
    "hints.file",
    "data.text.tokenizer",
)


def record_command() -> None:
    """Let the results of the running command say what was typed, until the command ends."""
    context = click.get_current_context()
    remember_folder(context)
    context.with_resource(running_command(pasteable(context)))


def pasteable(context: click.Context) -> str:
    """The command of a context as a line for a shell in any folder: every path is absolute.

    Args:
        context: of a command whose arguments were parsed.
    """
    words = ["pursuhint", *str(context.info_name).split()]
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            words += _words(parameter, context.params[name])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> Iterator[str]:
    if not isinstance(parameter, click.Option):
        for each in value if parameter.nargs == -1 else (value,):
            yield _absolute(str(parameter.name), each)
        return
    for each in value if parameter.multiple else (value,):
        if parameter.is_flag:
            yield (parameter.opts if each else parameter.secondary_opts)[0]
        else:
            yield parameter.opts[0]
            yield _absolute(str(parameter.name), each)


def _absolute(name: str, value: Any) -> str:
    """The text of a value, with an absolute path where it names a file or folder."""
    if isinstance(value, Path):
        return _from_root(value)
    if isinstance(value, Mapping):  # --image-normalize MEAN/STD
        return "/".join(",".join(map(repr, numbers)) for numbers in value.values())
    if isinstance(value, tuple | list):  # a size, as in 256x128
        return "x".join(map(str, value))
    text = str(value)
    if name in ("data", "targets") and text.startswith(_PATHS_OF_DATA):
        kind, colon, path = text.partition(":")
        return kind + colon + _from_root(Path(path).expanduser())
    if name == "tokenizer" and Path(text).expanduser().exists():
        return _from_root(Path(text).expanduser())
    if name in ("teacher", "student", "network"):
        return absolute_network(text)
    if name == "arms" and text.startswith(_GIVEN_POINTS):
        return _GIVEN_POINTS + _if_file(text.removeprefix(_GIVEN_POINTS))
    if name == "methods" and text.startswith(_RECIPE):
        return _RECIPE + _recipe(text.removeprefix(_RECIPE))
    if name == "hints":
        return _if_file(text)
    if name == "recipe":
        return _recipe(text)
    if name == "assignments":
        key, equals, path = text.partition("=")
        if key.strip() in _KEYS_OF_PATHS and path.strip() not in ("null", "none", "~", ""):
            return f"{key}{equals}{_from_root(path.strip())}"
        if key.strip() == "data.name":
            return f"{key}{equals}{_absolute('data', path.strip())}"
    return text


def _from_root(path: str | Path) -> str:
    return str(Path(path).absolute())


def _if_file(text: str) -> str:
    return _from_root(text) if Path(text).is_file() else text


def _recipe(text: str) -> str:
    """A recipe by name stays; of FILE and FILE:VARIANT the file becomes absolute."""
    from pursuhint.recipes import is_recipe

    file, colon, variant = text.rpartition(":")
    if is_recipe(text) or (colon and is_recipe(file)):
        return text
    if Path(text).is_file() or not colon:
        return _from_root(text)
    return f"{_from_root(file)}:{variant}"
