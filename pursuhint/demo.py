"""The demo: teacher, analysis, hints, students and report on a small data set, in minutes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.devices import choose_device
from pursuhint._util.fingerprint import fingerprint_network
from pursuhint._util.output_folder import claim_folder, remove_leftovers
from pursuhint._util.replace_folder import DifferentResult, check_replaceable, remove_result
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.report import write_report
from pursuhint.study.arms import DEFAULT_ARMS
from pursuhint.study.comparison import Comparison
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.run_comparison import compare
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.run_training import train
from pursuhint.training.signals import share_stop

__all__ = ["DEMO_FILE", "DemoResult", "demo"]

DEMO_FILE = "demo.json"
STUDENT_IMAGES = 150
"""Training images of the students, of the 1,437 that the teacher sees."""

METRICS = ("cka", "r2cca")
"""What the demo's analysis measures; the first one chooses."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        path: its folder.
        teacher: the run that trained the teacher.
        analysis: of the teacher's layers, with both metrics.
        comparison: of the students.
        report: the HTML page.
        seconds: how long this call took.
    """

    path: Path
    teacher: RunRecord
    analysis: Analysis
    comparison: Comparison
    report: Path
    seconds: float


@share_stop()
def demo(
    out: Path | str = "pursuhint-demo",
    *,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    teacher_epochs: int = 20,
    student_epochs: int = 30,
    device: torch.device | str | None = None,
    on_event: Watcher | None = None,
    overwrite: bool = False,
) -> DemoResult:
    """Show the whole method on scikit-learn's 1,797 digits; nothing is downloaded.

    A resnet32 is trained as the teacher (``OUT/teacher``), its 15 blocks are compared by linear CKA and R2CCA
    (``OUT/analysis``), and resnet8 students learn from it by attention transfer and soft targets, with hints
    at every kind of position and several seeds (``OUT/compare``). ``OUT/report.html`` tells the story. The
    same call resumes from whatever is there.

    The teacher sees all 1,437 training images, the students 150 of them: with all images a student knows the
    digits as well as the teacher without any help, and nothing is left for hints to add.

    Args:
        out: folder of the demo.
        arms: ways of placing the hints; see `pursuhint.study.ARMS`.
        seeds: runs of every arm.
        teacher_epochs: passes over the digits for the teacher.
        student_epochs: epochs of every student.
        device: where to run; None for the best there is.
        on_event: receives the events of the demo, of the comparison and of every run.
        overwrite: replace what a demo of other settings, or of another version, has left in the folder; the
            same one continues, and files of others are never removed.

    Raises:
        PursuhintError: the folder cannot be written, or holds something else.
    """
    started = time.perf_counter()
    out = Path(out)
    watch: Watcher = (lambda event: None) if on_event is None else on_event
    where = choose_device(device)
    _check_folder(out, overwrite=overwrite)
    make_folder(out)
    write_json(out / DEMO_FILE, {"schema": 1})

    with _one_thread():
        teacher, analysis = _train_teacher(
            out, teacher_epochs, device=where, watch=watch, overwrite=overwrite
        )
        watch(PhaseStarted("comparison", f"training resnet8 students, {len(arms)} ways x {len(seeds)} seeds"))
        comparison = compare(
            student_recipe(student_epochs, teacher.path / "student.safetensors"),
            out / "compare",
            arms=arms,
            seeds=seeds,
            device=where,
            analysis=analysis,
            on_event=watch,
            overwrite=overwrite,
        )
        watch(PhaseStarted("report", "writing the report"))
        report = write_report(out)
    return DemoResult(out, teacher, analysis, comparison, report, time.perf_counter() - started)


def _train_teacher(
    out: Path, epochs: int, *, device: torch.device, watch: Watcher, overwrite: bool
) -> tuple[RunRecord, Analysis]:
    """The trained teacher and the analysis of its layers; what ``out`` holds of them is reused."""
    watch(PhaseStarted("teacher", f"training the teacher, a resnet32, for {epochs} epochs"))
    teacher = train(
        teacher_recipe(epochs), out / "teacher", device=device, on_event=watch, overwrite=overwrite
    )
    network = teacher.load_student()

    watch(PhaseStarted("analysis", "comparing the teacher's layers"))
    folder = out / "analysis"
    if (folder / "analysis.json").exists():
        analysis = Analysis.load(folder)
        if analysis.provenance.network_fingerprint == fingerprint_network(network):
            return teacher, analysis
    analysis = analyze(
        network,
        teacher.load_images(),
        metrics=METRICS,
        device=device,
        network_name=teacher.recipe.student.network,
        progress=False,
    )
    analysis.save(folder, overwrite=overwrite)
    return teacher, analysis


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one CPU core: on 8x8 images a second one gains little, and loses much where it is shared.

    It also makes the demo's numbers independent of how many cores there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def teacher_recipe(epochs: int) -> Recipe:
    """How the demo's teacher is trained."""
    return Recipe.from_dict(
        {
            "student": "resnet32",
            "data": "digits",
            "optimizer": {"lr": 0.05, "nesterov": True},
            "schedule": "one-cycle",
            "epochs": epochs,
        }
    )


def student_recipe(epochs: int, teacher: Path) -> Recipe:
    """How the demo's students are trained, but for the place of the hints: on few of the images.

    Args:
        epochs: passes over the few digits.
        teacher: weights of a resnet32.
    """
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet32", "checkpoint": str(teacher.resolve())},
            "data": {"name": "digits", "train_samples": STUDENT_IMAGES},
            "losses": {"ce": 1.0, "kd": 1.0, "at": 200.0},
            "optimizer": {"lr": 0.05, "nesterov": True},
            "schedule": "one-cycle",
            "epochs": epochs,
            "batch_size": 32,
        }
    )


def _check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but a demo; remove what a killed one left half written.

    Raises:
        PursuhintError: it does.
    """
    marker = out / DEMO_FILE
    if marker.exists():
        found = read_json(marker, "demo")
        if not isinstance(found, dict) or found.get("schema") != 1:
            if not overwrite:
                raise DifferentResult(
                    f"{marker} was not written by this version of PursuHint; choose another folder (--out), "
                    "or replace it (--overwrite)"
                )
            check_replaceable(out, "demo")
            remove_result(out, "demo")
    claim_folder(out, "demo")
    remove_leftovers(out)
