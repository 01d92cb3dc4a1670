"""Results on stdout: for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pursuhint._util.text import printable, ranges
from pursuhint._util.text_tables import aligned_within
from pursuhint.hints.rules import RULES

from .terminal import columns, echo

if TYPE_CHECKING:
    from pursuhint.analysis.result import Analysis
    from pursuhint.analysis.storage import StoredAnalysis
    from pursuhint.analysis.ways import ChoiceAgreement
    from pursuhint.clustering.stability import SelectionStability
    from pursuhint.hints.plan import HintPlan
    from pursuhint.study import Comparison, CrossedComparison, CrossTaskResult, DemoResult, MethodComparison
    from pursuhint.training import Recipe, RunRecord


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a plain table: first column left, the others right. Names that no screen holds are cut.

    A table that is wider than the terminal comes as blocks of columns below each other.
    """
    header, *rows = [tuple(printable(cell, longest=120) for cell in row) for row in (header, *rows)]
    return aligned_within([header, *rows], columns())


def _positions(plan: HintPlan) -> str:
    return ", ".join(str(point.position) for point in plan.teacher_points)


def print_plan(plan: HintPlan, *, as_json: bool) -> None:
    """The hint positions of a plan and how they were chosen."""
    if as_json:
        points = [point.to_dict() for point in plan.teacher_points]
        click.echo(json.dumps({"origin": plan.origin, "hint_points": points}))
        return
    echo(f"hint positions {_positions(plan)} ({_origin(plan.origin)})")
    for point in plan.teacher_points:
        echo(f"  {point}")


def _origin(origin: dict[str, Any]) -> str:
    words = [str(origin["strategy"])] if str(origin.get("strategy")) in RULES else []
    words += [str(origin[key]) for key in ("metric", "algorithm") if key in origin]
    words += [f"k = {origin['k']}"] if "k" in origin else []
    words += [f"{origin['position']} of each cluster"] if "position" in origin else []
    return ", ".join(words) or str(origin.get("strategy", "chosen by hand"))


def print_selection(
    analysis: StoredAnalysis, plan: HintPlan, stability: SelectionStability | None, *, as_json: bool
) -> None:
    """Positions chosen anew from an analysis, the reason for their number, and what other ways choose."""
    agreement = analysis.choice_agreement(plan)
    sentence = None
    if stability is not None:
        sentence = stability.sentence([point.position for point in analysis.candidates])
    if as_json:
        points = [point.to_dict() for point in plan.teacher_points]
        frequency = None if stability is None else analysis.frequencies(stability)
        found = {"sentence": sentence, "frequency": frequency}
        values = {"origin": plan.origin, "hint_points": points, "stability": found}
        click.echo(json.dumps({**values, "agreement_of_ways": agreement and agreement.values()}))
        return
    print_plan(plan, as_json=False)
    _print_reason(analysis, plan)
    if plan.origin["metric"] in analysis.robustness.too_few_samples:
        echo(f"note: {analysis.robustness.too_few_samples[plan.origin['metric']].sentence()}")
    if sentence is not None:
        echo(sentence)
    _print_agreement(agreement)


def _print_reason(analysis: Analysis | StoredAnalysis, plan: HintPlan) -> None:
    """Inertia and silhouette over k, and the reason for k, if k was chosen automatically."""
    if "k_reason" not in plan.origin:
        return
    metric, algorithm = plan.origin["metric"], plan.origin["algorithm"]
    if metric in analysis.clusters.curves and analysis.clusters.normalize == plan.origin["normalize"]:
        inertias = analysis.clusters.curves[metric][algorithm]
        silhouettes = analysis.clusters.silhouettes[metric][algorithm]
        rows = [(str(k), f"{inertias[k]:.4f}", f"{silhouettes[k]:.3f}") for k in inertias]
        for line in table(("k", "inertia", "silhouette"), rows):
            echo(line)
    echo(plan.origin["k_reason"])


def _print_agreement(agreement: ChoiceAgreement | None) -> None:
    """How many ways of choosing lead to each hint position, and whether a better partition exists."""
    if agreement is None:
        return
    if agreement.better is not None:
        echo(agreement.better.sentence())
    for line in table(agreement.heads(), agreement.table()):
        echo(line)
    echo(agreement.sentence())


def _print_stability(analysis: Analysis) -> None:
    """The stability of the choices under resampling of images, and the errors of the similarities."""
    if analysis.robustness.no_stability:
        echo(f"stability under resampling of images was not estimated: {analysis.robustness.no_stability}")
    for metric in analysis.robustness.stability:
        echo(f"{metric}: {analysis.stability_sentence(metric)}")
        error = analysis.similarities[metric].standard_error
        if error is not None and len(error) > 1:
            off = error[~error.new_ones(error.shape).bool().tril()]
            echo(
                f"{metric}: standard error of a similarity {float(off.median()):.1g} (median over pairs), "
                f"{float(off.max()):.1g} at most"
            )
    for agreement in analysis.robustness.agreements:
        echo(agreement.sentence())


def _print_clusters(analysis: Analysis) -> None:
    """The clusters by every metric and algorithm, and k-means beside the best contiguous partition."""
    rows = [
        (
            metric,
            name,
            f"{clustering.inertia:.4f}",
            "yes" if clustering.contiguous else "no",
            " | ".join(ranges(members, to="-") for members in analysis.positions_of(clustering)),
        )
        for metric, algorithms in analysis.clusters.clusterings.items()
        for name, clustering in algorithms.items()
    ]
    for line in table(("metric", "algorithm", "inertia", "contiguous", "clusters (positions)"), rows):
        echo(line)
    for metric in analysis.metrics:
        if metric in analysis.robustness.too_few_samples:
            echo(f"note: {analysis.robustness.too_few_samples[metric].sentence()}")
            continue
        gap, found = analysis.gap(metric), analysis.clusters.clusterings[metric]
        torn = "" if found["kmeans"].contiguous else ", and is not contiguous"
        if gap is None:
            echo(
                f"{metric}: the best contiguous partition has an inertia of {found['segments'].inertia:.3g}, "
                f"so the distance of k-means from it cannot be a fraction of it{torn}"
            )
            continue
        where = f"{abs(gap):.1%} {'above' if gap > 0 else 'below'}" if abs(gap) > 1e-9 else "at"
        echo(f"{metric}: k-means ends {where} the best contiguous partition{torn}")


def print_analysis(analysis: Analysis, *, as_json: bool) -> None:
    """An analysis: its clusters, hint positions and their stability."""
    if as_json:
        click.echo(json.dumps(analysis.summary()))
        return
    source, seconds = analysis.provenance, analysis.seconds
    stability = sum(seconds.stability.values())
    echo(
        f"{len(analysis.candidates)} layers of {source.network} on {source.num_samples:,} images of "
        f"{source.data}: {analysis.images_per_second:,.0f} images/s; similarity and clustering took "
        f"{seconds.over_forward:.2g} times as long as the forward pass"
        + (f", {stability:.2f} s of it for stability" if seconds.stability else "")
    )
    if analysis.auto is not None:
        echo(analysis.auto.sentence())
    for point in analysis.layers.excluded:
        echo(f"left out, since its features do not vary: {point}")
    _print_clusters(analysis)
    _print_stability(analysis)
    print_plan(analysis.plan, as_json=False)
    _print_reason(analysis, analysis.plan)
    _print_agreement(analysis.choice_agreement(analysis.plan))


def print_run(record: RunRecord, *, as_json: bool) -> None:
    """How a training run ended."""
    if as_json:
        numbers = {"last": record.last, "best": {**record.best, "chosen_on": record.chosen_on}}
        click.echo(json.dumps({"run": str(record.path), **numbers}))
        return
    last, best = record.last, record.best
    echo(
        f"last epoch ({last['epoch']}): test top-1 {last['test_top1']:.2f} %, top-5 {last['test_top5']:.2f} %"
    )
    echo(
        f"best epoch ({best['epoch']}, chosen on {record.chosen_on}): test top-1 {best['test_top1']:.2f} %"
        + (
            ""
            if record.chosen_on == "val"
            else "; chosen on the test images themselves, so a little too good: use --val-fraction"
        )
    )
    _echo_published(record.recipe)


def _echo_published(recipe: Recipe, *, methods: bool = True) -> None:
    """What papers publish for the same data and networks, if they do."""
    from pursuhint.study.published_figures import published_line

    line = published_line(recipe, methods=methods)
    if line is not None:
        echo(line)


def print_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """The arms of a comparison, and the findings."""
    from pursuhint.training import Recipe

    if as_json:
        click.echo(comparison.model_dump_json(by_alias=True))
        return
    rows = []
    for arm in comparison.arms:
        spread = (
            f"{arm.last.mean:.2f} ± {arm.last.std:.2f}"
            if arm.last.std is not None
            else f"{arm.last.mean:.2f}"
        )
        rows.append((arm.title, arm.positions_text, spread, *comparison.verdicts(arm.name).values()))
    echo(
        f"{comparison.student.name} taught by {comparison.teacher.name} on {comparison.data.name}, "
        f"{len(comparison.seeds)} seeds; {comparison.outcome}"
    )
    heads = ("hints", "teacher positions", "mean ± std")
    for line in table((*heads, *(f"against {name}" for name in comparison.against)), rows):
        echo(line)
    if comparison.margin is not None:
        echo(f"equal: shown to differ by less than {comparison.margin:g} points (--margin)")
    for finding in comparison.findings:
        echo(finding)
    echo(comparison.result)
    for sentences in comparison.sentences.values():
        for sentence in sentences:
            echo(sentence)
    for note in comparison.notes:
        echo(f"note: {note}")
    _echo_published(Recipe.from_dict(comparison.recipe, source=str(comparison.path)), methods=False)


def print_crossed(crossed: CrossedComparison, *, as_json: bool) -> None:
    """The mean accuracy of every arm in every cell."""
    from pursuhint.study.crossed_summary import summary_of

    comparisons = crossed.comparisons
    if as_json:
        cells = [
            {
                **cell.model_dump(),
                "result": comparison.result,
                "findings": comparison.findings,
                "arms": {arm.name: arm.last.mean for arm in comparison.arms},
            }
            for cell, comparison in zip(crossed.cells, comparisons)
        ]
        click.echo(json.dumps({"cells": cells}))
        return
    rows = [
        (arm.title, *(f"{comparison.arm(arm.name).last.mean:.2f}" for comparison in comparisons))
        for arm in comparisons[0].arms
    ]
    for line in table(("arm", *(cell.title for cell in crossed.cells)), rows):
        echo(line)
    for sentence in summary_of(crossed):
        echo(sentence)


def print_cross_task(result: CrossTaskResult, *, as_json: bool) -> None:
    """Accuracies by method and overlap, and all other measures."""
    if as_json:
        click.echo(result.model_dump_json(by_alias=True))
        return
    for found in (result.table(), result.measure_table()):
        echo(found.title)
        for line in table(found.heads, found.rows):
            echo(line)


def print_methods(study: MethodComparison, *, as_json: bool) -> None:
    """The methods of a study, the most accurate first, and the findings."""
    from pursuhint.report.method_table import method_grid
    from pursuhint.report.sections.methods import findings

    if as_json:
        click.echo(study.model_dump_json(by_alias=True))
        return
    echo(
        f"{study.student.name} taught by {study.teacher.name} on {study.data.name}, "
        f"{len(study.seeds)} seeds; {study.outcome}"
    )
    grid = method_grid(study)
    for line in table(grid.heads, grid.rows):
        echo(line)
    for sentence in findings(study):
        echo(sentence)
    for name, why in study.failed.items():
        echo(f"note: {name} was not trained: {why}")


def print_demo(result: DemoResult, *, as_json: bool) -> None:
    """The demo's teacher, analysis and comparison."""
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(result.path),
                    "report": str(result.report),
                    "teacher_top1": result.teacher.last["test_top1"],
                    "hint_positions": [point.position for point in result.analysis.plan.teacher_points],
                    "comparison": result.comparison.model_dump(mode="json", by_alias=True),
                    "seconds": result.seconds,
                }
            )
        )
        return
    teacher = result.teacher
    echo(f"teacher: {teacher.recipe.student.network}, test top-1 {teacher.last['test_top1']:.2f} %")
    echo("")
    print_analysis(result.analysis, as_json=False)
    _print_matrix(result.analysis)
    echo("")
    print_comparison(result.comparison, as_json=False)
    echo("")
    echo(f"In one sentence: {result.comparison.result}")
    echo(f"With pictures: {result.report}", fold=False)


def _print_matrix(analysis: Analysis) -> None:
    """The similarity matrix, where it fits a terminal."""
    similarity = analysis.similarities[analysis.metrics[0]]
    if len(similarity.points) > 18:
        return
    rows = [
        (f"{point.position} {point.module}", *(f"{value:.2f}" for value in row))
        for point, row in zip(similarity.points, similarity.values.tolist())
    ]
    echo(f"similarity ({similarity.metric})")
    for line in table(("", *(str(point.position) for point in similarity.points)), rows):
        echo(line)
