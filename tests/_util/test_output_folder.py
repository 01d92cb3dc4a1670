"""Nothing of the user's is deleted or overwritten by --out."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from pursuhint.cli.main import main, run

from pursuhint._util.atomic_files import remove_halves
from pursuhint._util.output_folder import claim_folder, kind_of, new_folder, remove_leftovers
from pursuhint.analysis import Analysis, analyze
from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.study.settings import StudySettings
from pursuhint.training import Recipe, train
from pursuhint.training.run_folder.checkpoints import StateStore
from tests.helpers.processes import finished

MARKS = {"demo": "demo.json", "study": "settings.json", "run": "recipe.yaml", "analysis": "analysis.json"}
SHORT = Recipe.from_dict({"student": "resnet8", "epochs": 1})
ANALYZE = [
    "analyze", "--teacher", "resnet8", "--random-weights", "--samples", "50", "--no-stability",
    "--device", "cpu", "--out",
]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        run(list(arguments))
    return capsys.readouterr().err


@pytest.mark.parametrize("kind", MARKS)
def test_each_kind_has_folders_of_its_own(kind: str, tmp_path: Path) -> None:
    claim_folder(tmp_path / "missing", kind)
    claim_folder(tmp_path, kind)
    (tmp_path / ".DS_Store").touch()
    claim_folder(tmp_path, kind)  # a file manager's
    (tmp_path / MARKS[kind]).touch()
    (tmp_path / "notes.txt").touch()
    assert kind_of(tmp_path) == kind
    claim_folder(tmp_path, kind)  # one's own may hold notes
    for other in MARKS.keys() - {kind}:
        with pytest.raises(PursuhintError, match="needs a folder of its own"):
            claim_folder(tmp_path, other)


@pytest.mark.parametrize("kind", MARKS)
@pytest.mark.parametrize("name", ["letter.txt", "hints.json", "report.html", ".notes.tmp", "figures"])
def test_a_folder_with_something_else_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(PursuhintError, match=f"holds something else .*{name}"):
        claim_folder(tmp_path, kind)


def test_what_an_interrupted_command_left_is_its_own(tmp_path: Path) -> None:
    for name in ("analysis.npz", "hints.json", ".analysis.json.abcd1234.pursuhint.tmp"):
        (tmp_path / name).touch()
    (tmp_path / "state").mkdir()
    claim_folder(tmp_path, "analysis")
    with pytest.raises(PursuhintError, match="something else"):
        claim_folder(tmp_path, "run")


def test_only_our_temporary_files_are_removed(tmp_path: Path) -> None:
    png = ".a.png.abcd1234.pursuhint.tmp"
    own = [png, f"figures/{png}", "state/0/.b.x9y8z7w6.pursuhint.tmp"]
    others = [".a.tmp", ".a.png.abcd1234.tmp", f"photos/{png}", "figures/.thumbnail.tmp"]
    for name in own + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".a.abcd1234.pursuhint.tmp").touch()
    (tmp_path / "analysis").symlink_to(elsewhere)
    remove_leftovers(tmp_path)
    assert [name for name in own if (tmp_path / name).exists()] == []
    assert [name for name in others if not (tmp_path / name).exists()] == []
    assert (elsewhere / ".a.abcd1234.pursuhint.tmp").exists()


def test_a_file_is_written_over_what_killed_attempts_left_of_it(tmp_path: Path) -> None:
    halves = [".page.html.abcd1234.pursuhint.tmp", ".page.html.x9y8z7w6.pursuhint.tmp"]
    others = [
        ".page.html.abcd1234.tmp",
        ".other.html.abcd1234.pursuhint.tmp",
        ".a.page.html.abcd1234.pursuhint.tmp",
    ]
    for name in halves + others:
        (tmp_path / name).touch()
    remove_halves(tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_killed_export_leaves_nothing_once_it_is_repeated(tmp_path: Path) -> None:
    program = (
        "import os, sys, torch\n"
        "from pursuhint._util.atomic_files import watch_writes\n"
        "from pursuhint.models import create_model\n"
        "from pursuhint.models.export import export_network\n"
        "def kill(path):\n"
        "    if path.name.endswith('.tmp') and len(sys.argv) > 1: os._exit(9)\n"
        "with watch_writes(kill):\n"
        "    network, example = create_model('resnet8', num_classes=2), torch.zeros(1, 3, 8, 8)\n"
        "    export_network(network, 'w.safetensors', format='safetensors', example=example)\n"
    )
    assert finished("-c", program, "kill", cwd=tmp_path).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".pursuhint.tmp")
    assert finished("-c", program, cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_train_touches_nothing_in_a_folder_of_others(tmp_path: Path) -> None:
    for name in ("hints.json", "report.html", ".draft.tmp", "deep/er/.draft.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(PursuhintError, match="holds something else"):
        train(SHORT, tmp_path, device="cpu")
    assert contents(tmp_path) == before


def test_analyze_and_train_refuse_each_others_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(SHORT, tmp_path / "run", device="cpu")
    main.main([*ANALYZE, str(tmp_path / "analysis")], standalone_mode=False)
    before = contents(tmp_path)
    assert "holds a run, and an analysis needs" in failure(capsys, *ANALYZE, str(tmp_path / "run"))
    arguments = ["train", "--student", "resnet8", "--epochs", "1", "--out", str(tmp_path / "analysis")]
    assert "holds an analysis, and a run needs" in failure(capsys, *arguments)
    for command in (["demo"], ["compare", "--student", "resnet8", "--teacher", "resnet8", "--loss", "kd"]):
        for name in ("run", "analysis"):
            failure(capsys, *command, "--out", str(tmp_path / name))
    assert contents(tmp_path) == before


def test_another_networks_analysis_is_replaced_on_request_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "analysis")
    main.main([*ANALYZE, out], standalone_mode=False)
    main.main([*ANALYZE, out, "--metric", "cka", "--k", "2"], standalone_mode=False)  # the same network
    before = contents(tmp_path)
    capsys.readouterr()
    message = failure(capsys, *ANALYZE, out, "--seed", "1")  # other random weights
    assert "holds the analysis of resnet8 on digits, with other weights" in message
    assert "holds the analysis of resnet8" in failure(capsys, *ANALYZE, out, "--teacher", "resnet14")
    assert contents(tmp_path) == before
    main.main([*ANALYZE, out, "--teacher", "resnet14", "--overwrite"], standalone_mode=False)
    assert Analysis.load(out).provenance.network == "resnet14"


def test_python_has_the_same_rule(tmp_path: Path) -> None:
    found = [
        analyze(create_model("resnet8", num_classes=10, in_channels=1), load_dataset("digits"), samples=50,
                stability=False, device="cpu")
        for _ in range(2)
    ]  # fmt: skip
    found[0].save(tmp_path)
    found[0].save(tmp_path)
    with pytest.raises(PursuhintError, match=r"overwrite=True in Python"):
        found[1].save(tmp_path)
    found[1].save(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "entry", [{"recipe": 3}, {"inputs": []}, {"data": 1}, {"arms": None}, {"seeds": "0-2"}]
)
def test_damaged_settings_of_a_study_are_named(entry: dict[str, object], tmp_path: Path) -> None:
    lists = {"arms": ["alone"], "seeds": [0]}
    settings = StudySettings("comparison", SHORT, inputs={}, data=load_dataset("digits"), lists=lists)
    settings.save(tmp_path)
    assert settings.matches(tmp_path)
    values = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps({**values, **entry}))
    with pytest.raises(PursuhintError, match=f"settings.json is damaged: {next(iter(entry))} must be a"):
        settings.matches(tmp_path)


def test_a_state_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "progress.json").write_text("[" * 100_000)
    with pytest.raises(PursuhintError, match=r"progress.json is missing or damaged"):
        StateStore(tmp_path, is_main=True, wait=lambda: None).load()


@pytest.mark.parametrize("there", [True, False])
def test_an_analysis_that_fails_leaves_no_empty_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, there: bool
) -> None:
    out = tmp_path / "new" / "analysis"
    if there:
        out.parent.mkdir()
    assert "cannot choose 40 hint points" in failure(capsys, *ANALYZE, str(out), "--k", "40")
    assert not out.exists()
    assert out.parent.exists() == there


def test_new_folder_removes_what_it_made_and_is_empty_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "there"):
        raise KeyboardInterrupt
    with contextlib.suppress(ValueError), new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "state").mkdir()
        raise ValueError
    with contextlib.suppress(ValueError), new_folder(tmp_path / "c" / "d"):
        (tmp_path / "c" / "d" / "state").mkdir()
        (tmp_path / "c" / "d" / "state" / "0").write_text("kept")
        raise ValueError
    with new_folder(tmp_path / "e"):
        pass
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        "there", "c", "c/d", "c/d/state", "c/d/state/0", "e",
    }  # fmt: skip
