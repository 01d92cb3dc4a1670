"""A recipe or run folder that somebody sent runs no code and downloads nothing by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pursuhint.cli.main import main, run

from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model
from pursuhint.study.teacher_student import teacher_student_similarity
from pursuhint.training import Recipe, RunRecord, train
from pursuhint.training.recipe.received import check_code
from tests.helpers.processes import finished

MODULE = "received_networks"
OWN = """
from pathlib import Path
Path({mark!r}).touch()
from torch import nn

def linear(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once the module on the path has been imported."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(OWN.format(mark=str(tmp_path / "imported")))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return tmp_path / "imported"


def recipe_file(folder: Path, role: str, network: str) -> Path:
    path = folder / "recipe.yaml"
    other = "" if role == "student" else "student: resnet8\nlosses: {kd: 1}\n"
    path.write_text(f"{other}{role}: {{network: '{network}'}}\nepochs: 1\ndata: digits\n")
    return path


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(list(arguments))
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("command", ["train", "compare", "profile", "pathways"])
def test_a_recipe_imports_nothing(
    command: str, role: str, mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe_file(tmp_path, role, f"{MODULE}:linear")
    out = [] if command == "profile" else ["--out", str(tmp_path / "out")]
    error = failure(capsys, command, "--recipe", str(file), *out)
    assert f"{role}.network is {MODULE}:linear" in error
    assert "--trust-code" in error
    assert error.count("\n") == 1
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_a_trusted_recipe_runs_and_its_run_needs_trust_again(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = recipe_file(tmp_path, "student", f"{MODULE}:linear"), tmp_path / "run"
    options = [
        "train",
        "--recipe",
        str(file),
        "--trust-code",
        "--out",
        str(out),
        "--device",
        "cpu",
        "--no-report",
    ]
    with pytest.warns(PursuhintWarning, match=f"is trusted to run code: student.network is {MODULE}:linear"):
        assert main.main(options, standalone_mode=False) is None
    assert mark.exists()
    mark.unlink()
    del sys.modules[MODULE]
    for command in (["evaluate", str(out)], ["export", str(out), "--out", str(tmp_path / "x.onnx")]):
        assert "--trust-code" in failure(capsys, *command)
    assert not mark.exists()
    main.main(["report", str(out)], standalone_mode=False)  # a report builds no network
    assert not mark.exists()
    with pytest.warns(PursuhintWarning, match="trusted"):
        main.main(["evaluate", str(out), "--trust-code", "--device", "cpu"], standalone_mode=False)
    assert "top-1" in capsys.readouterr().out
    assert mark.exists()


def test_a_run_folder_names_no_teacher_to_import(mark: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    record = train(Recipe.from_dict({"student": "resnet8", "epochs": 1}), out, device="cpu")
    text = (out / "recipe.yaml").read_text()
    assert "teacher: null" in text
    (out / "recipe.yaml").write_text(text.replace("teacher: null", f"teacher: {MODULE}:linear"))
    received = RunRecord.load(record.path)
    with pytest.raises(PursuhintError, match=r"teacher\.network is .*trust_code"):
        teacher_student_similarity(received, samples=10, device="cpu")
    assert not mark.exists()
    received.load_student()  # its own network is one of ours


def test_names_typed_by_the_user_are_run(mark: Path, tmp_path: Path) -> None:
    file = recipe_file(tmp_path, "student", "os:system")
    out = tmp_path / "run"
    typed = ["--student", f"{MODULE}:linear", "--device", "cpu", "--no-report"]
    main.main(["train", "--recipe", str(file), *typed, "--out", str(out)], standalone_mode=False)
    assert mark.exists()
    assert RunRecord.load(out).recipe.student.network == f"{MODULE}:linear"


def test_python_needs_the_argument_too(tmp_path: Path) -> None:
    file = recipe_file(tmp_path, "student", f"{MODULE}:linear")
    with pytest.raises(PursuhintError, match="names code"):
        Recipe.load(file)
    with pytest.warns(PursuhintWarning, match="trusted"):
        assert Recipe.load(file, trust_code=True).student.network == f"{MODULE}:linear"


def test_the_recipe_of_a_received_run_is_not_trained_without_trust(mark: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(Recipe.from_dict({"student": "resnet8", "epochs": 1}), out, device="cpu")
    text = (out / "recipe.yaml").read_text()
    (out / "recipe.yaml").write_text(text.replace("network: resnet8", f"network: {MODULE}:linear"))
    received = RunRecord.load(out).recipe
    for recipe in (received, received.override("epochs=2"), received.model_copy(update={"seed": 1})):
        with pytest.raises(PursuhintError, match=r"student\.network is .*trust_code=True"):
            train(recipe, tmp_path / "again", device="cpu")
    assert not mark.exists()
    assert not (tmp_path / "again").exists()
    assert received == Recipe.from_dict(received.to_dict())  # where it is from is no part of what it asks for
    train(received.override("student.network=resnet8"), tmp_path / "ours", device="cpu")
    assert not mark.exists()
    with pytest.warns(PursuhintWarning, match="trusted"):
        trusted = Recipe.load(out / "recipe.yaml", trust_code=True)
    train(trusted, tmp_path / "trusted", device="cpu")
    assert mark.exists()


@pytest.mark.parametrize(
    "network", ["resnet8", "wrn_16_1", "torchvision:resnet18", "timm:resnet18", "python:Net"]
)
def test_names_that_are_no_code_need_no_trust(network: str) -> None:
    check_code(Recipe.from_dict({"student": network}), "it", trust_code=False)


@pytest.mark.parametrize("reference", ["os:system", "subprocess:call", "builtins:exec", "os.path:join"])
def test_the_standard_library_builds_no_networks(reference: str, tmp_path: Path) -> None:
    options = {"command": f"touch {tmp_path / 'ran'}"} if reference == "os:system" else {}
    with pytest.raises(PursuhintError, match="standard library, which builds no networks; nothing was run"):
        create_model(reference, num_classes=2, **options)
    assert not (tmp_path / "ran").exists()


def test_trust_without_anything_to_trust_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "needs --recipe FILE" in failure(capsys, "train", "--student", "resnet8", "--trust-code", *out)
    assert "needs a run folder" in failure(capsys, "evaluate", "--teacher", "resnet8", "--trust-code")


def test_a_file_starts_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "pursuhint.data.cifar.load_cifar10", lambda root, download: asked.append(download) or 1 / 0
    )
    file, root = tmp_path / "recipe.yaml", tmp_path / "data"
    file.write_text(f"student: resnet8\ndata: {{name: cifar10, root: {root}, download: true}}\n")
    arguments = ["train", "--recipe", str(file), "--out", str(tmp_path / "out")]
    for more in ([], ["--download"]):
        with pytest.warns(PursuhintWarning, match="say --download"), pytest.raises(ZeroDivisionError):
            main.main([*arguments, *more], standalone_mode=False)
    assert asked == [False, True]


def test_a_run_does_not_store_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_dataset("digits")
    monkeypatch.setattr("pursuhint.data.cifar.load_cifar10", lambda root, download: digits)
    recipe = Recipe.from_dict(
        {"student": "resnet8", "epochs": 1, "data": {"name": "cifar10", "download": True}}
    )
    assert train(recipe, tmp_path / "run", device="cpu").recipe.data.download is False


STARTS = (["-m", "pursuhint"], ["-P", "-c", "from pursuhint.cli.main import run; run()"])


@pytest.mark.parametrize("start", STARTS, ids=["module", "script"])
def test_a_network_in_the_current_folder_is_not_imported(start: list[str], tmp_path: Path) -> None:
    (tmp_path / "lying_here.py").write_text("raise SystemExit('imported')")
    (tmp_path / "weights.pth").write_bytes(b"not read before the network is built")
    words = [*start, "evaluate", "--teacher", "lying_here:net", "--teacher-checkpoint", "weights.pth"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = finished(*words, cwd=tmp_path, environment=environment)
    assert done.returncode == 1
    assert "cannot import 'lying_here'" in done.stderr
    assert "imported" in finished(*words, cwd=tmp_path, environment=environment | {"PYTHONPATH": "."}).stderr


@pytest.mark.parametrize("start", STARTS, ids=["module", "script"])
def test_the_current_folder_is_not_on_the_path(start: list[str], tmp_path: Path) -> None:
    """In a fresh interpreter, which has yet to import libraries."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('the wrong yaml')")
    (tmp_path / "mine.yaml").write_text("extends: there-is-none")
    words = [sys.executable, *start, "train", "--recipe", "mine.yaml", "--out", "out"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for given, expected in (({}, "there-is-none"), ({"PYTHONPATH": "."}, "the wrong yaml")):
        done = subprocess.run(
            words, cwd=tmp_path, env=environment | given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert expected in done.stderr
