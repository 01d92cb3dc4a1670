"""Did distillation make the student more like its teacher, layer by layer?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.devices import choose_device
from pursuhint.analysis.cross_network import compare_networks
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import Activation, HintPoint, find_hint_points
from pursuhint.similarity import get_metric
from pursuhint.similarity.network_similarity import NetworkSimilarity

if TYPE_CHECKING:
    from pursuhint.training import RunRecord

__all__ = ["TeacherStudentSimilarity", "teacher_student_similarity"]


@dataclass(frozen=True)
class TeacherStudentSimilarity:
    """Similarity of every layer of a teacher to every layer of its student.

    Attributes:
        before: with the weights that the student began with.
        after: with the student's weights of its last epoch.

    Raises:
        PursuhintError: the two are about different layers or by different metrics.
    """

    before: NetworkSimilarity
    after: NetworkSimilarity

    def __post_init__(self) -> None:
        for name in ("teacher_points", "student_points", "metric"):
            if getattr(self.before, name) != getattr(self.after, name):
                raise PursuhintError(
                    f"the similarities before and after training have different {name.replace('_', ' ')}"
                )

    @property
    def metric(self) -> str:
        """By which it was measured."""
        return self.before.metric

    def save(self, folder: Path | str) -> None:
        """Write ``before.npz`` and ``after.npz``.

        Raises:
            PursuhintError: the folder cannot be written.
        """
        folder = make_folder(folder)
        self.before.save(folder / "before.npz")
        self.after.save(folder / "after.npz")

    @classmethod
    def load(cls, folder: Path | str) -> TeacherStudentSimilarity:
        """Read what `save` wrote.

        Raises:
            PursuhintError: a file is missing or damaged, or the two do not fit.
        """
        folder = Path(folder)
        return cls(*(NetworkSimilarity.load(folder / f"{moment}.npz") for moment in ("before", "after")))


def teacher_student_similarity(
    run: RunRecord,
    *,
    metric: str = "cka",
    samples: int = 1000,
    device: torch.device | str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    trust_code: bool = False,
) -> TeacherStudentSimilarity:
    """Compare the layers of a run's teacher and student, before and after training.

    The student's initial weights are made again from the recipe and its seed. Both times the networks see the
    same training images. Layers are read before the activation if all losses look there, else after it.

    Args:
        run: of a student that had a teacher.
        metric: a name of `pursuhint.similarity.METRICS`.
        samples: how many images to draw; all if there are fewer.
        device: where to run; None for the best there is.
        on_progress: called after each batch with the number of images done and the number in all.
        trust_code: import and call the networks that the run names as ``package.module:factory``.

    Raises:
        PursuhintError: the run names code without ``trust_code``, it has no teacher or no finished epoch, a
            network or the data were passed from Python, or as `pursuhint.analysis.compare_networks`.
    """
    from pursuhint._util.random_state import keep_random_state
    from pursuhint.training.prepare_training import prepare
    from pursuhint.training.recipe.received import check_code

    get_metric(metric)
    device = choose_device(device)
    if run.recipe.teacher is None:
        raise PursuhintError(f"the run in {run.path} has no teacher to compare its student with")
    assert run.last  # a run without an epoch has no trained student, and says so
    check_code(run.recipe, f"the run {run.path}", trust_code=trust_code)
    with keep_random_state(device):
        parts = prepare(run.recipe)
        students = {"before": parts.student, "after": run.load_student(trust_code=trust_code)}
    assert parts.teacher is not None
    sides = {point.activation for plan in run.all_plans for point in plan.teacher_points}
    activation: Activation = "pre" if sides == {"pre"} else "post"  # losses may look at both
    example = parts.example
    teacher_points = find_hint_points(parts.teacher, example, activation=activation)
    points = {
        moment: find_hint_points(student, example, activation=activation)
        for moment, student in students.items()
    }
    # A loss may add to the student what inference needs; what both have is what was trained.
    known = {point.module for point in points["before"]} & {point.module for point in points["after"]}
    common = [point for point in points["before"] if point.module in known]
    found: dict[str, NetworkSimilarity] = {}
    for number, (moment, student) in enumerate(students.items()):

        def progress(done: int, total: int, number: int = number) -> None:
            if on_progress is not None:
                on_progress(number * total + done, len(students) * total)

        own = _named(points[moment], [point.module for point in common])
        compared = compare_networks(
            parts.teacher,
            student,
            parts.data,
            metrics=(metric,),
            samples=samples,
            teacher_points=teacher_points,
            student_points=own,
            device=device,
            fuse_batchnorm=run.recipe.acceleration.fuse_batchnorm,
            channels_last=run.recipe.acceleration.channels_last,
            on_progress=progress,
        )[metric]
        found[moment] = NetworkSimilarity(
            teacher_points, tuple(common), compared.values, metric, compared.num_samples
        )
    return TeacherStudentSimilarity(found["before"], found["after"])


def _named(points: tuple[HintPoint, ...], modules: list[str]) -> tuple[HintPoint, ...]:
    by_name = {point.module: point for point in points}
    return tuple(by_name[module] for module in modules)
