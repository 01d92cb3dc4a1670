"""The hint plan of a run that only a look at the teacher's features can choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint.analysis.by_rule import TrainingImages, plan_by_rule
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES
from pursuhint.training.pairing import pair_with_student
from pursuhint.training.prepare_training import rule_source
from pursuhint.training.recipe.resolve import needs_hints
from pursuhint.training.run_folder.environment import ENVIRONMENT, stored_provenance
from pursuhint.training.run_folder.files import read_environment

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.training.prepare_training import Parts
    from pursuhint.training.recipe.schema import Recipe


def final_plan(folder: Path, recipe: Recipe, parts: Parts, accelerator: Accelerator) -> HintPlan:
    """The hint plan of the run, written to ``hints.json``; chosen by an analysis on request."""
    path = folder / "hints.json"
    if parts.plan is not None:
        if accelerator.is_main_process:
            parts.plan.save(path)
        return parts.plan
    hints, teacher = recipe.hints, parts.teacher
    assert hints is not None
    assert hints.activation is not None  # resolved
    assert teacher is not None
    chosen, analyzed = path.exists(), (folder / "analysis" / "analysis.json").exists()
    accelerator.wait_for_everyone()  # all ranks check for the files before one of them writes
    if not chosen:
        rule = RULES.get(str(hints.strategy))
        analysis = Analysis.load(folder / "analysis") if analyzed else None
        # An older version may have been interrupted after an analysis without the curve.
        lacks = analysis is not None and rule is not None and rule.curve not in ("", *analysis.curves)
        if lacks or (analysis is None and (rule is None or rule.analysis)):
            analysis = _analyze(folder, recipe, parts, accelerator)
        if accelerator.is_main_process:
            if rule is not None:
                plan = _by_rule(recipe, parts, analysis, accelerator)
                if (folder / ENVIRONMENT).exists():
                    plan = replace(plan, provenance=stored_provenance(read_environment(folder)))
            else:
                assert analysis is not None
                plan = analysis.plan
            pair_with_student(plan, hints, parts.student, parts.example).save(path)
        teacher.to("cpu")
    accelerator.wait_for_everyone()
    return HintPlan.load(path).bind(teacher, parts.example, student_network=parts.student)


def _analyze(folder: Path, recipe: Recipe, parts: Parts, accelerator: Accelerator) -> Analysis:
    """The analysis of the teacher that ``chosen`` and the rules on similarities need, saved to the folder."""
    hints = recipe.hints
    assert hints is not None
    selection = hints.selection if hints.strategy == "chosen" else SelectionOptions(normalize=hints.normalize)
    analysis = analyze_teacher(
        recipe,
        parts,
        metrics=(hints.metric,),
        selection=selection,
        device=accelerator.device,
        class_quality=(rule := RULES.get(str(hints.strategy))) is not None and rule.curve == "quality",
        accuracy=parts.accuracy,
        state=folder / "analysis" / "state",
    )
    if accelerator.is_main_process:
        analysis.save(folder / "analysis")
    return analysis


def analyze_teacher(
    recipe: Recipe,
    parts: Parts,
    *,
    metrics: Sequence[str],
    selection: SelectionOptions,
    device: torch.device,
    class_quality: bool = False,
    accuracy: TeacherAccuracy | None,
    state: Path | None = None,
) -> Analysis:
    """Analyze the teacher of a recipe as its hints say. Collective call: ranks shard the samples.

    Args:
        recipe: resolved, with hints.
        parts: teacher and data.
        metrics: similarity metrics; the first one chooses.
        selection: how points are chosen.
        device: where to run.
        class_quality: compute the knowledge quality of the layers as well.
        accuracy: of the teacher, if it has been measured.
        state: folder of a resumable pass; None for one that begins anew.
    """
    hints, network = recipe.hints, recipe.teacher
    assert hints is not None
    assert hints.activation is not None  # resolved
    assert parts.teacher is not None
    return analyze(
        parts.teacher,
        parts.data,
        metrics=metrics,
        samples=hints.analyzed_samples,
        seed=hints.seed,
        activation=hints.activation,
        **asdict(selection),
        device=device,
        fuse_batchnorm=recipe.acceleration.fuse_batchnorm,
        channels_last=recipe.acceleration.channels_last,
        class_quality=class_quality,
        workers=recipe.data.workers,
        state=state,
        network_name=network.network if network is not None else None,
        checkpoint=network.checkpoint if network is not None else None,
        accuracy=accuracy,
        progress=False,  # the caller shows one
    )


def _by_rule(recipe: Recipe, parts: Parts, analysis: Analysis | None, accelerator: Accelerator) -> HintPlan:
    """The points that a rule of `pursuhint.hints.RULES` chooses."""
    hints, teacher = recipe.hints, parts.teacher
    assert hints is not None
    assert hints.activation is not None
    assert teacher is not None
    name = "" if recipe.teacher is None else recipe.teacher.network
    looking = [loss for loss, config in recipe.losses.items() if config.hints is None and needs_hints([loss])]
    points = find_hint_points(teacher, parts.example, activation=hints.activation)
    source = rule_source(hints, points, name, looking, analysis=analysis)
    images = TrainingImages(parts.data, hints.most_samples, accelerator.device, recipe.data.workers)
    return plan_by_rule(str(hints.strategy), source, teacher, images)
