"""Recognise the kind of a result folder by its files, and load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pursuhint._util.output_folder import kind_of
from pursuhint.errors import PursuhintError
from pursuhint.study.comparison import Comparison
from pursuhint.study.cross_task_result import CrossTaskResult
from pursuhint.study.crossed import CrossedComparison
from pursuhint.study.method_comparison import METHODS_FILE, MethodComparison
from pursuhint.study.search_result import SearchResult
from pursuhint.study.transfer_result import TransferResult
from pursuhint.training.run_folder.record import RunRecord

if TYPE_CHECKING:
    from pursuhint.analysis.result import Analysis
    from pursuhint.study.teacher_student import TeacherStudentSimilarity

Kind = Literal[
    "demo", "comparison", "crossed", "methods", "run", "analysis", "transfer", "search", "crosstask"
]


@dataclass(frozen=True)
class Contents:
    """A folder's results.

    Attributes:
        folder: where they are.
        kind: what the folder is.
        analysis: of the teacher's layers.
        run: the one run of a run folder.
        teacher_student: of that run's teacher and student, if it was measured.
        teacher: the run that trained a demo's teacher.
        comparison: of the students.
        arms: the runs of the comparison, by arm, one a seed.
        methods: a study of methods.
        crossed: a comparison with several sets of losses or lengths.
        transfer: frozen students on other data.
        search: trials with other values of a recipe.
        crosstask: students of a teacher of other classes.
    """

    folder: Path
    kind: Kind
    analysis: Analysis | None = None
    run: RunRecord | None = None
    teacher_student: TeacherStudentSimilarity | None = None
    teacher: RunRecord | None = None
    comparison: Comparison | None = None
    arms: dict[str, tuple[RunRecord, ...]] | None = None
    methods: MethodComparison | None = None
    crossed: CrossedComparison | None = None
    transfer: TransferResult | None = None
    search: SearchResult | None = None
    crosstask: CrossTaskResult | None = None

    @classmethod
    def of(cls, folder: Path | str) -> Contents:
        """Recognise and read a folder.

        Raises:
            PursuhintError: it does not exist, holds nothing that PursuHint wrote, or something unfinished or
                damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise PursuhintError(f"no folder {folder} to report on")
        if (folder / "demo.json").exists():
            return cls._of_demo(folder)
        if (folder / CrossTaskResult.FILE).exists():
            return cls(folder, "crosstask", crosstask=CrossTaskResult.load(folder))
        if (folder / METHODS_FILE).exists():
            return cls(folder, "methods", methods=MethodComparison.load(folder))
        if (folder / CrossedComparison.FILE).exists():
            return cls(folder, "crossed", crossed=CrossedComparison.load(folder))
        if (folder / TransferResult.FILE).exists():
            return cls(folder, "transfer", transfer=TransferResult.load(folder))
        if (folder / SearchResult.FILE).exists():
            return cls._of_search(folder)
        if (folder / "settings.json").exists():
            return cls._of_comparison(folder)
        if (folder / "recipe.yaml").exists():
            run = RunRecord.load(folder)
            if not run.metrics:
                raise PursuhintError(
                    f"the run in {folder} has no finished epoch; there is nothing to report yet"
                )
            return cls(
                folder,
                "run",
                run=run,
                analysis=_analysis(folder / "analysis"),
                teacher_student=_teacher_student(folder / "teacher_student"),
            )
        if (folder / "analysis.json").exists():
            return cls(folder, "analysis", analysis=_analysis(folder))
        if kind_of(folder) == "grid":
            raise PursuhintError(
                f"{folder} holds a grid of runs: 'pursuhint table {folder}' shows their results; give "
                "one of its runs for a report"
            )
        raise PursuhintError(
            f"{folder} holds no analysis, run, comparison, transfer or demo (looked for analysis.json, "
            "recipe.yaml, settings.json, transfer.json and demo.json); give the folder that a command "
            "wrote to"
        )

    @classmethod
    def _of_comparison(cls, folder: Path) -> Contents:
        if not (folder / "compare.json").exists():
            raise PursuhintError(
                f"the comparison in {folder} is not finished; run the same command again to resume it"
            )
        comparison = Comparison.load(folder)
        arms = {
            arm.name: tuple(RunRecord.load(folder / run.folder) for run in arm.runs)
            for arm in comparison.arms
        }
        analysis = _analysis(folder / "analysis")
        return cls(folder, "comparison", analysis=analysis, comparison=comparison, arms=arms)

    @classmethod
    def _of_search(cls, folder: Path) -> Contents:
        search = SearchResult.load(folder)
        if search.best is None:
            raise PursuhintError(
                f"no trial of the search in {folder} is complete; run the same command again to resume it"
            )
        return cls(folder, "search", search=search)

    @classmethod
    def _of_demo(cls, folder: Path) -> Contents:
        for part in ("teacher/result.json", "analysis/analysis.json", "compare/compare.json"):
            if not (folder / part).exists():
                raise PursuhintError(
                    f"the demo in {folder} is not finished (no {part}); run the same command again to "
                    "resume it"
                )
        compared = cls._of_comparison(folder / "compare")
        return cls(
            folder,
            "demo",
            analysis=_analysis(folder / "analysis"),
            teacher=RunRecord.load(folder / "teacher"),
            comparison=compared.comparison,
            arms=compared.arms,
        )


def _analysis(folder: Path) -> Analysis | None:
    """An analysis, if there is one."""
    from pursuhint.analysis.result import Analysis

    return Analysis.load(folder) if (folder / "analysis.json").exists() else None


def _teacher_student(folder: Path) -> TeacherStudentSimilarity | None:
    """Similarity of teacher and student, if it was measured."""
    from pursuhint.study.teacher_student import TeacherStudentSimilarity

    return TeacherStudentSimilarity.load(folder) if (folder / "after.npz").exists() else None
