"""How commands end when they are interrupted, lose their terminal, or are given places that do not exist."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pursuhint.cli.main import run

from pursuhint._util.end_signals import EndedBySignal, raise_on_signals
from tests.helpers.processes import Process

LONG = "n" * 300
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background processes ignore it
from pursuhint.cli.main import run
run(sys.argv[1:])
"""
ON_ITS_TERMINAL = """
import fcntl, os, signal, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
os.setsid()
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
"""
TRAIN = "train --student resnet8x4 --train-samples 60 --epochs 1 --device cpu --out"

# The command, and the function in which Ctrl-C reaches it.
INTERRUPTED = {
    "train --student resnet8x4 --out out": "pursuhint.training.train",
    "analyze --teacher resnet8x4 --random-weights --out out": "pursuhint.training.loaders.load_data",
    "evaluate --teacher resnet8x4 --teacher-checkpoint file": "pursuhint.training.loaders.load_data",
    "compare --student resnet8x4 --teacher resnet8x4 --teacher-checkpoint file --out out": (
        "pursuhint.study.compare"
    ),
    "profile --student resnet8x4 --data digits": "pursuhint.training.loaders.load_images",
    "pathways --recipe cifar100-distpro --data digits --out file.yaml": (
        "pursuhint.study.pathway_search.search_process"
    ),
    "report folder": "pursuhint.report.write_report",
    "demo --out out": "pursuhint.demo.demo",
}


def start(words: str, folder: Path, **streams: int) -> Process:
    return Process("-c", PROGRAM, *words.split(), cwd=folder, **streams)


def ended(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, list[str]]:
    """Exit status and the lines on stderr of a command in this process."""
    with pytest.raises(SystemExit) as stopped:
        run(words.split())
    return stopped.value.code, capsys.readouterr().err.splitlines()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").write_text("something")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", INTERRUPTED)
def test_an_interrupted_command_ends_with_one_line_and_130(words, here, monkeypatch, capsys) -> None:
    def interrupt(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(INTERRUPTED[words], interrupt)
    status, lines = ended(words, capsys)
    assert status == 130
    assert [line for line in lines if line.startswith("pursuhint: ")] == lines[-1:]
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder"]


def test_the_line_says_what_is_kept(here, monkeypatch, capsys) -> None:
    def interrupt(*given: object, **named: object) -> None:
        (here / "out" / "state").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("pursuhint.study.compare", interrupt)
    _, lines = ended(next(words for words in INTERRUPTED if words.startswith("compare")), capsys)
    assert "saved in out is kept" in lines[-1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_a_command_with_one_line_and_their_status(
    number, status, here, monkeypatch, capsys
) -> None:
    def end(*given: object, **named: object) -> None:
        (here / "out" / "state").mkdir(parents=True)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("pursuhint.study.compare", end)
    before = signal.signal(number, signal.SIG_DFL)  # ignored under nohup
    try:
        found, lines = ended(next(words for words in INTERRUPTED if words.startswith("compare")), capsys)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert found == status
    said = f"pursuhint: ended by {signal.Signals(number).name}; what was saved in out is kept"
    assert [line.startswith(said) for line in lines if line.startswith("pursuhint: ")] == [True]


def test_a_forked_child_of_a_command_ends_by_default() -> None:
    """Workers that read images are ended by SIGTERM, and say nothing."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with raise_on_signals():
            if (child := os.fork()) == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
            with pytest.raises(EndedBySignal):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_training_that_is_ended_by_sigterm_saves_its_step(here, capsys, monkeypatch) -> None:
    """The command's own handler gives way to that of the run."""

    def end(progress: object, event: object) -> None:
        if type(event).__name__ == "StepDone":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("pursuhint.cli.progress.TrainingProgress.__call__", end)
    found, lines = ended(f"{TRAIN} out --no-report --epochs 3", capsys)
    assert found == 143
    assert "stopped by SIGTERM" in lines[-1]


def test_an_interrupt_in_the_middle_of_an_analysis_leaves_nothing(tmp_path: Path) -> None:
    words = "analyze --teacher resnet110 --random-weights --samples 1500 --device cpu --out out"
    with start(words, tmp_path) as child:
        assert child.stderr is not None
        while not child.stderr.readline().startswith("note: the teacher"):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        said = child.stderr.read().splitlines()
    assert child.returncode == 130
    assert said[-1].startswith("pursuhint: interrupted")
    assert "Traceback" not in "\n".join(said)
    assert not list(tmp_path.iterdir())


def test_training_goes_on_without_the_reader_of_stderr(tmp_path: Path) -> None:
    with start(f"{TRAIN} out --json", tmp_path) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert "training" in child.stderr.readline()
        child.stderr.close()
        said = child.stdout.read()
    assert child.returncode == 0
    assert said.startswith("{")
    assert (tmp_path / "out" / "report.html").is_file()


def test_without_the_reader_of_stdout_a_finished_run_ends_quietly(tmp_path: Path) -> None:
    with start(f"{TRAIN} out --no-report", tmp_path) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        said = child.stderr.read()
    assert child.returncode == 141
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert (tmp_path / "out" / "result.json").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is full")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full, start("list models", tmp_path, stdout=full.fileno()) as child:
        assert child.stderr is not None
        said = child.stderr.read()
    assert child.returncode == 1
    assert said == "pursuhint: cannot write to stdout: No space left on device\n"


def test_a_closed_stderr_is_not_taken_by_the_next_file(tmp_path: Path) -> None:
    program = (
        "import os\nfrom pursuhint.cli.standard_streams import patient_streams\n"
        "with patient_streams(): print(os.open('file', os.O_CREAT | os.O_WRONLY))"
    )
    shell = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    done = subprocess.run(shell, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) > 2


@pytest.mark.parametrize("place", [LONG, "file/inside", f"folder/{LONG}"])
@pytest.mark.parametrize(
    "words",
    [
        "train --student resnet8x4 --out {}",
        "train --student resnet8x4 --recipe {} --out out",
        "train --student resnet8x4 --hints {} --out out",
        "analyze --teacher resnet8x4 --random-weights --samples 20 --out {}",
        "analyze --teacher resnet8x4 --random-weights --data folder:{} --out out",
        "evaluate --teacher resnet8x4 --teacher-checkpoint {}",
        "demo --out {}",
        "report {}",
    ],
)
def test_places_that_cannot_be_are_one_line(words, place, here, capsys) -> None:
    status, lines = ended(words.format(place), capsys)
    assert status == (2 if words.startswith("report") else 1)
    assert place in lines[-1]
    assert sorted(path.name for path in here.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("words", [["--out=~/hints.json"], ["--out", "~/hints.json"]], ids=["bash", "quoted"])
def test_a_tilde_that_the_shell_left_is_the_users_folder(words, here, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(here / "folder"))
    with pytest.raises(SystemExit) as stopped:
        run(["points", "resnet8", "--size", "8", "--rule", "even", *words])
    assert not stopped.value.code, capsys.readouterr().err
    assert (here / "folder" / "hints.json").is_file()
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder"]


def test_a_deleted_working_folder_is_one_line(tmp_path: Path) -> None:
    shell = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m pursuhint list models']
    done = subprocess.run([*shell, sys.executable], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "working folder" in done.stderr


def test_control_an_error_of_the_system_that_names_no_file_keeps_its_traceback(here, monkeypatch) -> None:
    def fail(*given: object, **named: object) -> None:
        raise OSError(5, "a bug")

    monkeypatch.setattr("pursuhint.report.write_report", fail)
    with pytest.raises(OSError, match="a bug"):
        run(["report", "folder"])


def test_a_run_whose_terminal_is_closed_is_saved(tmp_path: Path) -> None:
    words = "train --student resnet8x4 --train-samples 60 --epochs 2000 --device cpu --out out"
    ours, theirs = pty.openpty()
    program = ON_ITS_TERMINAL + PROGRAM
    with Process("-c", program, *words.split(), cwd=tmp_path, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        while b"epoch 2 of" not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        assert child.wait(120) == 129
    assert (tmp_path / "out" / "state" / "latest").exists()
    assert not (tmp_path / "out" / "result.json").exists()
