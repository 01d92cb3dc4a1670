"""Every example in every ``--help`` and every command and snippet of README and docs runs or resolves."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from pursuhint.cli.main import COMMANDS, main
from pursuhint.cli.teacher_run import with_teacher_run
from pursuhint.cli.typed_words import TypedWords

from pursuhint.data import DATASETS
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.models import create_model
from pursuhint.similarity import get_metric
from pursuhint.study.search_space import parse_varied
from pursuhint.study.search_values import check_space
from pursuhint.training import Recipe
from pursuhint.training.inputs import NO_INPUTS
from pursuhint.training.recipe.resolve import resolve_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LAUNCHER = re.compile(r"^(?:\$ )?(?:(?:accelerate launch|torchrun) .*?-m )?pursuhint (?!\[)")


def commands_in(text: str) -> list[str]:
    """Lines that call the program, without launcher and prompt; those with ``...`` are sketches."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [
        " ".join(LAUNCHER.sub("", line.strip()).split()) for line in lines if LAUNCHER.match(line.strip())
    ]
    return [words for words in found if not words.endswith("...")]


def of_help() -> list[str]:
    main_help = main.get_help(click.Context(main))
    found = commands_in(main_help[main_help.index("Start here") :])
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        found += commands_in((command.epilog or "").replace("\b\n", ""))
    return found


def blocks(page: Path, *kinds: str) -> list[str]:
    """Code blocks of a page whose language is one of these."""
    return [
        text
        for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
        if kind in kinds
    ]


def of_pages() -> list[str]:
    return [
        line
        for page in PAGES
        for text in blocks(page, "", "sh", "bash", "console")
        for line in commands_in(text)
    ]


DIGITS = {"name": "digits", "num_classes": 10, "in_channels": 1, "image_size": [8, 8]}
STUDIES = ("compare", "comparison", "crossed", "landscape", "arms")  # of which examples draw figures

EXAMPLES = list(dict.fromkeys(of_help() + of_pages()))


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The name of a command, which may be two words, and what follows it."""
    number = 2 if " ".join(words[:2]) in COMMANDS else 1
    return " ".join(words[:number]), words[number:]


def test_examples_are_found():
    assert {command_of(words.split())[0] for words in EXAMPLES} == set(COMMANDS)
    assert len(of_help()) > 25
    assert len(of_pages()) > 10


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the examples name: runs, an analysis, recipes."""
    monkeypatch.chdir(tmp_path)
    runs = ("runs/at", "runs/kd", "runs/icd", "runs/resnet20", "runs/student", "runs/bert")
    for name in (*runs, "runs/at-fast", "runs/search", "analysis", "pre", "FOLDER", *STUDIES):
        Path(name).mkdir(parents=True)
    for words in EXAMPLES:
        for file in re.findall(r"--teacher-(?:checkpoint |weights \w+=)(\S+)", words):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).touch()
        for run in re.findall(r"--tokenizer (\S+)", words):
            Path(run).mkdir(parents=True, exist_ok=True)
            Path(run, "tokenizer.json").touch()
    for run in {run for words in EXAMPLES for run in re.findall(r"--teacher ((?:runs/)?teacher)\b", words)}:
        Recipe.load("digits-vanilla").save(Path(run, "recipe.yaml"))
        Path(run, "student.safetensors").touch()
        Path(run, "environment.json").write_text(json.dumps({"data": DIGITS}))
    for words in EXAMPLES:  # those of docs/papers.md; patterns stand for themselves
        runs += tuple(re.findall(r"(?<=\s)papers/[^\s.]+(?=\s)", words))
    for run in runs:
        Path(run).mkdir(parents=True, exist_ok=True)
        Path(run, "recipe.yaml").touch()
    for name in ("photos/val/digit-3", "runs/at/bundle", "bundle"):
        Path(name).mkdir(parents=True)
    for file in (
        "photo.jpg",
        "lines.txt",
        "photos/val/digit-3/519.png",
        "bundle/model.onnx",
        "runs/at/bundle/model.onnx",
        "runs/at/student.onnx",
    ):
        Path(file).touch()
    network, example = create_model("resnet8", num_classes=10, in_channels=1), torch.zeros(1, 1, 8, 8)
    HintPlan.explicit(find_hint_points(network, example), [1, 3]).save("analysis/hints.json")
    HintPlan.explicit(find_hint_points(network, example, activation="pre"), [1, 3]).save("pre/hints.json")
    for recipe, name in (
        ("digits-vanilla", "runs/at-fast/recipe.yaml"),
        ("digits-vanilla", "runs/search/best.yaml"),
        ("cifar100-distpro", "distpro.yaml"),
    ):
        Recipe.load(recipe).save(name)
    for page in PAGES:  # recipes that a page shows, after their name
        for name, text in re.findall(r"`(\w+\.yaml)`:\n\n```yaml\n(.*?)^```", page.read_text(), re.M | re.S):
            Path(name).write_text(text)
    return tmp_path


class Called(Exception):
    """The recipe that a command would train."""


def resolve(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command up to its training, and complete the recipe that it would train."""
    import pursuhint.study
    import pursuhint.study.pathway_search
    import pursuhint.training

    def call(recipe: Recipe, *more: Any, **_: Any) -> None:
        raise Called(recipe, *more)

    for module, name in (
        (pursuhint.training, "train"),
        (pursuhint.study, "compare"),
        (pursuhint.study, "compare_methods"),
        (pursuhint.study, "compare_crossed"),
        (pursuhint.study, "search"),
        (pursuhint.study, "crosstask"),
        (pursuhint.study.pathway_search, "search_process"),
    ):
        monkeypatch.setattr(module, name, call)
    published = "pursuhint.models.published_weights.fetch_weights"  # would ask the network
    monkeypatch.setattr(published, lambda name, **_: Path("published.safetensors"))
    if words[0] == "pathways":
        Path("distpro.yaml").unlink()  # which others read, and this one writes
    with pytest.raises(Called) as found:
        main.main(args=words, standalone_mode=False)
    recipe = found.value.args[0]
    if words[0] != "crosstask" and ("--method" not in words or words[0] == "pathways"):  # their own losses
        resolve_recipe(recipe, for_arms=words[0] == "compare")
    if words[0] == "search":
        check_space(recipe, [parse_varied(text) for text in found.value.args[2]], NO_INPUTS, recorded=False)


def check(name: str, values: dict[str, Any]) -> None:
    """Look up the names that the words of a command hold."""
    for key in ("teacher", "network"):
        if values.get(key) is not None:
            with torch.device("meta"):
                create_model(values[key], num_classes=10)
    for metric in values.get("metrics") or ():
        get_metric(metric)
    if values.get("data") is not None:
        assert values["data"].partition(":")[0] in {*DATASETS, "folder", "text"}
    if values.get("recipe") is not None:
        Recipe.read(values["recipe"])


@pytest.mark.parametrize("words", EXAMPLES)
def test_it_resolves(words, folder, monkeypatch):
    if "hf:" in words or "--tokenizer" in words:
        pytest.importorskip("transformers")
    name, rest = command_of(shlex.split(words, comments=True))
    if name in ("train", "compare", "crosstask", "pathways", "search"):
        resolve([name, *rest], monkeypatch)
        return
    command = main.get_command(click.Context(main), name)
    assert command is not None
    rest = with_teacher_run(command, rest, TypedWords.of(command, rest).values)
    with command.make_context(name, rest) as context:  # refuses unknown options and values
        check(name, context.params)


def test_a_wrong_example_would_be_found(folder, monkeypatch):
    with pytest.raises(click.UsageError):
        test_it_resolves("points resnet110 --dta cifar100", folder, monkeypatch)
    with pytest.raises(Exception, match="resnet11"):
        test_it_resolves("analyze --teacher resnet11x --out a", folder, monkeypatch)
    with pytest.raises(Exception, match="rrk"):
        test_it_resolves("train --student resnet8 --teacher resnet8 --loss rrk --out a", folder, monkeypatch)


def test_snippets_run(folder, monkeypatch):
    """Those of README in order, then that of the analysis on its files."""
    names: dict[str, Any] = {}
    for text in blocks(ROOT / "README.md", "python"):
        exec(compile(text, "README.md", "exec"), names)
    assert names["taught"].last["test_top1"] > names["alone"].last["test_top1"]  # the teacher helped
    names["analysis"].save("FOLDER")
    own = ("own-loop.md", "folder-to-onnx.md", "other-libraries.md")  # which have tests of their own
    pages = [page for page in PAGES[1:] if page.name not in own]
    others = [(page, text) for page in pages for text in blocks(page, "python")]
    for page, text in others:
        exec(compile(text, page.name, "exec"), names)
    assert names["similarity"].shape == (6, 6) == tuple(names["analysis"].similarities["cka"].values.shape)
    assert [page.name for page, _ in others] == ["analysis.md", "notebook.md", "statistics.md"]


def test_from_a_folder_of_images_to_onnx(tmp_path, monkeypatch, capsys):
    """The blocks of that page one after the other, with an epoch in place of twenty."""
    monkeypatch.chdir(tmp_path)
    page, names = (ROOT / "docs" / "folder-to-onnx.md").read_text(encoding="utf-8"), {}
    for kind, text in re.findall(r"^```(python|bash)\n(.*?)^```", page, re.M | re.S):
        if kind == "python":
            exec(compile(text, "folder-to-onnx.md", "exec"), names)
            continue
        for words in commands_in(text):
            assert "--epochs" not in words or "--epochs 20" in words
            fewer = words.replace("--epochs 20", "--epochs 1 --train-samples 100")
            main.main(args=shlex.split(fewer), standalone_mode=False)
    last = capsys.readouterr().out.splitlines()[-1]
    predicted = json.loads(predict(["bundle", "photos/val/digit-3/519.png"], capsys))
    assert last == predicted["predictions"][0]["classes"][0]


def predict(words, capsys):
    main.main(args=["predict", *words, "--json"], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_of_pages_are_recipes(page, folder):
    for number, text in enumerate(blocks(page, "yaml")):
        file = folder / f"{number}.yaml"
        file.write_text(text)
        resolve_recipe(Recipe.load(file))
        for variant in re.findall(r"^variants:\n  (\w+):", text, re.M):
            resolve_recipe(Recipe.load(f"{file}:{variant}"))
