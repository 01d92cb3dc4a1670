"""``--teacher RUN``: the folder of a run stands for the options that load its student as the teacher."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pursuhint.errors import PursuhintError
from pursuhint.models.code_reference import names_code

from .recipe_keys import RECIPE_KEYS, whole_key
from .terminal import say

if TYPE_CHECKING:
    from pursuhint.training import Recipe

_WEIGHTS = "student.safetensors"

_INSTEAD_OF_DATA = ("size", "shape", "classes")
"""Parameters of ``points`` and ``profile`` that say what the data would."""

_OF_TRAINING = frozenset({"teacher_checkpoint", "only_classes", "image_normalize", "exif", "tokenizer"})
"""Parameters that sizes of networks do not depend on."""


def with_teacher_run(command: click.Command, words: Sequence[str], typed: Mapping[str, Any]) -> list[str]:
    """The words of a command line, with the options that the folder of a run stands for in its place.

    What was typed stays as it is: only options that are not there are added. One line on stderr has them.

    Args:
        command: the command; one with ``--teacher``, or with a network as its argument.
        words: what follows its name on the command line.
        typed: the values that these words give (`TypedWords`).

    Raises:
        PursuhintError: the folder is a run without weights or one whose network is code, or its files are
            damaged.
    """
    names = {str(parameter.name): parameter for parameter in command.params}
    role = next((name for name in ("teacher", "network") if name in names), None)
    value = None if role is None else typed.get(role)
    if role is None or not isinstance(value, str) or not (Path(value).expanduser() / "recipe.yaml").is_file():
        return list(words)
    run = _Run.read(Path(value))
    added = [word for option in _options(run, names, typed) for word in option]
    stands_for = [run.network] if role == "network" else ["--teacher", run.network]
    said = shlex.join([*stands_for, *added])
    say(f"{value} is a run: {said}", bool(typed.get("quiet")) or os.environ.get("RANK", "0") != "0")
    return [*_replaced(command, words, value, run.network), *added]


class _Run(NamedTuple):
    """What a run says of its student and of the images that it was trained on."""

    folder: Path
    recipe: Recipe
    images: Mapping[str, Any]

    @property
    def network(self) -> str:
        return self.recipe.student.network

    @classmethod
    def read(cls, folder: Path) -> _Run:
        from pursuhint.training import Recipe
        from pursuhint.training.run_folder.files import read_environment

        place = folder.expanduser()
        recipe = Recipe.read(place / "recipe.yaml")
        if names_code(recipe.student.network):
            raise PursuhintError(
                f"the run {folder} names code that would be imported and run: student.network is "
                f"{recipe.student.network}; if you trust it, type it: --teacher {recipe.student.network} "
                f"--teacher-checkpoint {folder / _WEIGHTS}"
            )
        if not (place / _WEIGHTS).is_file():
            raise PursuhintError(
                f"the run {folder} has no {_WEIGHTS} to teach with; its command, typed again, finishes it"
            )
        return cls(folder, recipe, read_environment(place).get("data") or {})


def _options(
    run: _Run, names: Mapping[str, click.Parameter], typed: Mapping[str, Any]
) -> Iterator[tuple[str, ...]]:
    """The options that load the student and its data, but for those that were typed or that a recipe sets."""
    config, data = run.recipe.student, run.recipe.data
    given = {whole_key(text) for text in typed.get("assignments") or ()}
    taken = given | _data_of_recipe(typed.get("recipe"))

    # 'pursuhint profile' looks at sizes alone, unless steps are taken.
    unused = _OF_TRAINING if "steps" in names and typed.get("steps") is None else frozenset[str]()

    def free(option: str) -> bool:
        there = option in names and option not in unused
        return there and typed.get(option) is None and RECIPE_KEYS[option] not in taken

    if "assignments" in names:
        for key, value in config.options.items():
            if f"teacher.options.{key}" not in given:
                yield "--set", f"teacher.options.{key}={json.dumps(value)}"
    if any(typed.get(name) is not None for name in _INSTEAD_OF_DATA if name in names):
        return
    if free("teacher_checkpoint") and not typed.get("pretrained"):
        yield "--teacher-checkpoint", str(run.folder / _WEIGHTS)
    same_data = free("data")
    if same_data:
        yield "--data", data.name
        if data.root is not None and free("data_root"):
            yield "--data-root", str(data.root)
        if data.classes is not None and free("only_classes"):
            yield "--only-classes", ",".join(map(str, data.classes))
        if data.val_fraction and "val" not in run.images.get("samples", {}) and free("val_fraction"):
            yield "--val-fraction", str(data.val_fraction)  # without which there is nothing for evaluation
        if data.exif is not None and free("exif"):
            yield ("--exif" if data.exif else "--no-exif",)
    if (run.folder.expanduser() / "tokenizer.json").is_file() and free("tokenizer"):
        yield "--tokenizer", str(run.folder)
    for option, value in _image_options(run, same_data=same_data):
        if free(option):
            yield f"--{option.replace('_', '-')}", value


def _image_options(run: _Run, *, same_data: bool) -> Iterator[tuple[str, str]]:
    """Option and value of what the run says of its images.

    For the run's own data what its recipe sets is enough. For others size, channels and normalization are
    those that the student was trained on.
    """
    data, seen = run.recipe.data, run.images.get("preprocessing")
    size, channels, normalize = data.image_size, data.channels, data.normalize
    if not same_data and isinstance(seen, dict):
        size, channels = tuple(seen["size"]), seen["channels"]
        yield "image_normalize", _constants(seen["mean"], seen["std"])
    elif isinstance(normalize, str):
        yield "image_normalize", normalize
    elif normalize is not None:
        yield "image_normalize", _constants(normalize.mean, normalize.std)
    if size is not None:
        sides = (size,) if isinstance(size, int) else size
        yield "image_size", "x".join(map(str, sides))
    if channels in (1, 3):
        yield "image_channels", str(channels)


def _constants(mean: Sequence[float], std: Sequence[float]) -> str:
    return "/".join(",".join(map(repr, values)) for values in (mean, std))


def _data_of_recipe(name: str | None) -> set[str]:
    """Keys of the data that the recipe of a command line sets; a recipe that cannot be read is none."""
    from pursuhint.training.recipe.inheritance import read_recipe

    if name is None:
        return set()
    data = read_recipe(name)[0].get("data") or {}
    given = {"name": data} if isinstance(data, str) else data
    return {f"data.{key}" for key, value in given.items() if value is not None}


def _replaced(command: click.Command, words: Sequence[str], value: str, network: str) -> list[str]:
    """The words with a network's name in the place of the folder, but where it is another option's value."""
    takes_value = {
        text
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for text in parameter.opts
        if text != "--teacher"
    }
    found = [network if word == value else word for word in words]
    for place in range(1, len(words)):
        if words[place - 1] in takes_value:
            found[place] = words[place]
    return [f"--teacher={network}" if word == f"--teacher={value}" else word for word in found]
