"""What a command would write over is replaced with ``--overwrite`` only, in every command that writes."""

from __future__ import annotations

import json

import click
import pytest
from pursuhint.cli.main import COMMANDS, main

from pursuhint.errors import PursuhintError

# Made anew from results whenever it is asked for: a page and pictures that hold nothing of their own.
DRAWN_ANEW = {"report"}

# Words of commands that write one file, with {out} for it. A command that writes folders has its own tests.
FILES = {
    "select": "{analysis} --k 2 --out {out}",
    "points": "resnet14 --rule even --out {out}",
    "export": "{run} --format safetensors --out {out}",
    "table": "--paper icd --table 3 --out {out}",
    "transfer": "{run} --to digits --classifier sgd --epochs 1 --quiet --out {out}",
    "pathways": "--student resnet8 --teacher resnet14 --teacher-checkpoint {teacher} --loss distpro "
    "--epochs 1 --search-epochs 1 --train-samples 60 --batch-size 30 --quiet --out {out}",
}
FOLDERS = {"train", "search", "compare", "crosstask", "analyze", "demo", "table run"}


def written(command: str) -> set[str]:
    """Options of a command that say where its results go."""
    parameters = main.get_command(click.Context(main), command).params
    return {parameter.opts[0] for parameter in parameters} & {"--out", "--save"}


def options(command: str) -> set[str]:
    return {parameter.opts[0] for parameter in main.get_command(click.Context(main), command).params}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_can_replace(command):
    writes = bool(written(command)) and command not in DRAWN_ANEW
    assert writes == ("--overwrite" in options(command))
    assert writes == (command in FOLDERS or command in FILES)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """An analysis, a run of 60 images and its weights as a teacher's."""
    import torch

    from pursuhint.models import create_model
    from pursuhint.models.checkpoint import save_weights

    folder = tmp_path_factory.mktemp("overwrite")
    torch.manual_seed(0)
    save_weights(create_model("resnet14", num_classes=10, in_channels=1), folder / "teacher.safetensors")
    analyze = f"--teacher resnet14 --random-weights --samples 60 --no-stability --out {folder / 'a'} --quiet"
    main.main(args=["analyze", *analyze.split()], standalone_mode=False)
    train = f"--student resnet8 --epochs 1 --train-samples 60 --no-report --out {folder / 'run'} --quiet"
    main.main(args=["train", *train.split()], standalone_mode=False)
    return {"analysis": folder / "a", "run": folder / "run", "teacher": folder / "teacher.safetensors"}


@pytest.mark.parametrize("command", FILES)
def test_a_file_is_replaced_on_request_only(command, places, tmp_path, capsys):
    out = tmp_path / "result"
    words = [*command.split(), *FILES[command].format(out=out, **places).split()]
    out.write_text("mine")
    with pytest.raises(PursuhintError, match=r"result is there already.*--overwrite"):
        main.main(args=words, standalone_mode=False)
    assert out.read_text() == "mine"
    main.main(args=[*words, "--overwrite"], standalone_mode=False)
    assert out.read_bytes() != b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_the_same_choice_of_hints_is_written_again(places, tmp_path, capsys):
    """A script that is run again does not stop there; another choice needs the option."""
    out = tmp_path / "hints.json"
    words = ["select", str(places["analysis"]), "--out", str(out)]
    main.main(args=[*words, "--k", "2"], standalone_mode=False)
    main.main(args=[*words, "--k", "2"], standalone_mode=False)
    with pytest.raises(PursuhintError, match="is there already"):
        main.main(args=[*words, "--k", "3"], standalone_mode=False)
    assert len(json.loads(out.read_text())["pairs"]) == 2
    main.main(args=[*words, "--k", "3", "--overwrite"], standalone_mode=False)
    assert len(json.loads(out.read_text())["pairs"]) == 3
