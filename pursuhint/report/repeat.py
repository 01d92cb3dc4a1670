"""The commands of "How to repeat it": lines that can be pasted into a shell in any folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pursuhint._util.command_line import as_shell_line
from pursuhint._util.provenance import BaseProvenance
from pursuhint.analysis.auto_samples import AutoSamples
from pursuhint.analysis.result import Analysis
from pursuhint.models.code_reference import names_code
from pursuhint.recipes import is_recipe
from pursuhint.report.text import passed_from_python
from pursuhint.study.arms import GIVEN
from pursuhint.study.comparison import Comparison
from pursuhint.study.crossed import CrossedComparison
from pursuhint.study.equality import MARGIN
from pursuhint.study.method_comparison import MethodComparison, MethodResult
from pursuhint.study.search_result import SearchResult
from pursuhint.training.recipe.hint_keys import keys_without_effect
from pursuhint.training.recipe.hints_syntax import STRATEGIES
from pursuhint.training.recipe.schema import HintsConfig, Recipe
from pursuhint.training.run_folder.record import RunRecord

_AGAIN = "runs/again"
_RECIPE = "recipe:"
_PRINTING = frozenset({"--quiet", "--json", "--overwrite", "--no-report"})  # flags that change no result
# Options of analyze that decide the same in train.
_OF_TEACHER_AND_DATA = (
    "--teacher", "--teacher-checkpoint", "--checkpoint-key", "--data", "--data-root", "--image-size",
    "--image-channels", "--image-normalize", "--val-fraction", "--tokenizer", "--set",
)  # fmt: skip
_FLAGS_OF_TEACHER_AND_DATA = ("--pretrained", "--new-head", "--download", "--exif", "--no-exif")


def repeat_run(run: RunRecord) -> str:
    """The command, or the call from Python, that repeats a run by its ``recipe.yaml``."""
    file, passed = run.path.absolute() / "recipe.yaml", passed_from_python(run.recipe)
    if passed:
        return _call("train", file, "", passed)
    options = [*_trust(run.recipe), *_on_the_cpu(run.environment)]
    return shlex.join(["pursuhint", "train", "--recipe", str(file), *options, "--out", _AGAIN])


def repeat_comparison(comparison: Comparison, recipe: Recipe) -> str:
    """The command, or the call from Python, that repeats a comparison by its ``recipe.yaml``.

    Arms with given points take them from the run folders, since a ``hints.json`` may be gone.

    Args:
        comparison: with its folder.
        recipe: settings that all arms share.
    """
    folder = comparison.path.absolute()
    arms = [
        f"{GIVEN}{folder / arm.runs[0].folder / 'hints.json'}" if arm.name.startswith(GIVEN) else arm.name
        for arm in comparison.arms
    ]
    seeds = _first_seeds(comparison)
    passed = passed_from_python(recipe)
    if passed:
        asked = f", arms={arms}, seeds={list(seeds)}{_in_python(comparison)}"
        return _call("compare", folder / "recipe.yaml", asked, passed)
    words = [word for arm in arms for word in ("--arm", arm)]
    return _compare(folder, recipe, comparison.environment, [*words, *_seeds(seeds), *_verdicts(comparison)])


def repeat_crossed(crossed: CrossedComparison) -> str:
    """The recorded command of a crossed comparison with another folder, or how it was made from Python."""
    words = [] if crossed.provenance is None else _words(crossed.provenance)
    if words[:1] == ["pursuhint"]:
        return shlex.join(_with_out(words, _AGAIN))
    return f"pursuhint.study.compare_crossed(recipe, {_AGAIN!r}, crossing, request=request, options=options)"


def repeat_search(search: SearchResult) -> str:
    """The recorded command of a search with another folder, or the call from Python."""
    words = [] if search.provenance is None else _words(search.provenance)
    if words[:1] == ["pursuhint"]:
        return shlex.join(_with_out(words, _AGAIN))
    vary = ", ".join(map(repr, search.space))
    return f"pursuhint.study.search(recipe, {_AGAIN!r}, [{vary}])"


def repeat_methods(study: MethodComparison, recipe: Recipe) -> str:
    """The command, or the call from Python, that repeats a study of methods by its ``recipe.yaml``.

    Args:
        study: with its folder.
        recipe: settings that all methods share.
    """
    folder = study.path.absolute()
    names = [_method(method, folder) for method in study.methods if method.name != "alone"]
    passed = passed_from_python(recipe)
    if passed:
        asked = f", methods={names}, seeds={list(_first_seeds(study))}{_in_python(study)}"
        return _call("compare_methods", folder / "recipe.yaml", asked, passed)
    words = [word for name in names for word in ("--method", name)]
    words += [*_hints(recipe.hints), *_seeds(_first_seeds(study)), *_verdicts(study)]
    return _compare(folder, recipe, study.environment, words)


def repeat_analysis(analysis: Analysis) -> str:
    """The command, or the call from Python, that repeats an analysis; that of the run which made it."""
    made = analysis.provenance
    words = _words(made)
    if words[:1] == ["pursuhint"]:
        out = "analysis-again" if words[1] == "analyze" else _AGAIN
        return shlex.join(_with_out(words, out))
    arguments = dict(made.arguments)
    if isinstance(auto := arguments.get("samples"), Mapping):
        arguments["samples"] = AutoSamples(**auto)
    more = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return f"pursuhint.analyze(network, data{more})"


def train_with(analysis: Analysis, folder: Path) -> str | None:
    """The command that trains a student with the hints of an analysis; None if it needs what nobody recorded.

    Args:
        analysis: of a teacher.
        folder: where it is.
    """
    words = _words(analysis.provenance)
    if words[:2] != ["pursuhint", "analyze"] or not {"--teacher-checkpoint", "--pretrained"} & {*words}:
        return None
    kept: list[str] = []
    for word, following in zip(words, [*words[1:], ""]):
        if word in _OF_TEACHER_AND_DATA:
            kept += [word, following]
        elif word in _FLAGS_OF_TEACHER_AND_DATA:
            kept.append(word)
    student = ["--student", analysis.provenance.network, "--hints", str(folder.absolute() / "hints.json")]
    return shlex.join(
        ["pursuhint", "train", *kept, *student, "--loss", "kd", "--loss", "at", "--out", "runs/student"]
    )


def _call(function: str, recipe: Path, arguments: str, passed: Sequence[str]) -> str:
    """The call from Python for a stored recipe whose networks or data were passed as objects.

    Args:
        function: of pursuhint.
        recipe: its file.
        arguments: further ones, each after a comma.
        passed: keywords of the objects, which have to be there under these names.
    """
    objects = "".join(f", {name}={name}" for name in passed)
    return f"pursuhint.{function}(pursuhint.Recipe.load({str(recipe)!r}), {_AGAIN!r}{arguments}{objects})"


def _compare(folder: Path, recipe: Recipe, environment: Mapping[str, Any], words: Sequence[str]) -> str:
    start = ["pursuhint", "compare", "--recipe", str(folder / "recipe.yaml"), *_trust(recipe)]
    return shlex.join([*start, *words, *_on_the_cpu(environment), "--out", _AGAIN])


def _method(method: MethodResult, folder: Path) -> str:
    """The name of a method; for the recipe of a file, which may be gone, the one that a run stored."""
    file = method.name.removeprefix(_RECIPE)
    if file == method.name or is_recipe(file):
        return method.name
    return f"{_RECIPE}{folder / method.runs[0].folder / 'recipe.yaml'}"


def _first_seeds(study: Comparison | MethodComparison) -> tuple[int, ...]:
    """The seeds that a study began with."""
    return study.seeds if study.sequential is None else study.seeds[: study.sequential.first]


def _seeds(seeds: Sequence[int]) -> list[str]:
    return ["--seeds", ",".join(map(str, seeds))]


def _verdicts(study: Comparison | MethodComparison) -> list[str]:
    """The options for the margin, if it is not the usual one, and for adding seeds until decided."""
    words = [] if study.margin in (None, MARGIN) else ["--margin", f"{study.margin:g}"]
    if study.sequential is not None:
        words += ["--until-decided", "--max-seeds", str(study.sequential.most)]
    return words


def _in_python(study: Comparison | MethodComparison) -> str:
    """The same as arguments of the call from Python."""
    text = "" if study.margin in (None, MARGIN) else f", margin={study.margin!r}"
    if study.sequential is not None:
        text += f", max_seeds={study.sequential.most}"
    return text


def _trust(recipe: Recipe) -> list[str]:
    """The option without which a recipe that names code is refused."""
    named = (recipe.student, recipe.teacher)
    return ["--trust-code"] if any(config and names_code(config.network) for config in named) else []


def _on_the_cpu(environment: Mapping[str, Any]) -> list[str]:
    """The option for the device of a result from the CPU, which a machine with a GPU would not take."""
    return ["--device", "cpu"] if str(environment.get("device", "")).startswith("cpu") else []


def _hints(hints: HintsConfig | None) -> list[str]:
    """The options for the hint points that all methods share; ``--method`` takes none from a recipe."""
    if hints is None:
        return []
    chosen = hints.file or (hints.strategy if hints.strategy in STRATEGIES else ",".join(hints.points))
    if not chosen:
        return []
    defaults = HintsConfig(strategy="conventional")
    skipped = {"file", "strategy", "points", *keys_without_effect(hints.model_dump())}
    changed = {
        key: value
        for key, value in hints.model_dump().items()
        if key not in skipped and value != getattr(defaults, key) and not (key == "k" and hints.points)
    }
    words = ["--hints", str(chosen)]
    for key, value in changed.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        words += ["--set", f"hints.{key}={text}"]
    return words


def _words(made: BaseProvenance) -> list[str]:
    """The recorded command, word by word; none if it is no line of a shell."""
    try:
        return shlex.split(as_shell_line(made.command))
    except ValueError:
        return []


def _with_out(words: Sequence[str], out: str) -> list[str]:
    """A command that writes into another folder and prints what it prints by default."""
    kept = [word for word in words if word not in _PRINTING]
    if "--out" in kept:
        place = kept.index("--out")
        del kept[place : place + 2]
    return [*kept, "--out", out]
