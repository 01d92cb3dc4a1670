"""The report of a search: its trials, what mattered, and what the best one is worth on new seeds."""

from __future__ import annotations

from pursuhint._util.text import capital
from pursuhint.report.figures.search_history import Slice, importance_bars, search_history, search_slices
from pursuhint.report.page_model import Card, FigureFolder, Grid, Page, Picture, SearchSection
from pursuhint.report.repeat import repeat_search
from pursuhint.report.text import (
    count,
    data_text,
    environment_rows,
    footer,
    image_rows,
    network_text,
    percent,
    teacher_text,
    teacher_warning,
    toy_limit,
    training_rows,
)
from pursuhint.study.paired_statistics import conclusion
from pursuhint.study.search_result import SearchResult, SearchTrial
from pursuhint.study.search_space import Varied, parse_varied
from pursuhint.training.recipe.schema import Recipe

_PRUNERS = {
    "median": "below the median of the others at the same epoch",
    "hyperband": "not among the best third at a step of successive halving",
    "none": "never",
}


def build_search_page(search: SearchResult, figure_folder: FigureFolder) -> Page:
    """The page of a search.

    Args:
        search: with at least one complete trial.
        figure_folder: where pictures go.
    """
    best, recipe = search.best_trial, Recipe.from_dict(search.recipe)
    teacher = search.teacher
    taught = "" if teacher is None else f", taught by {teacher.name},"
    rows = [("Student", network_text(search.student.name, search.student.parameters))]
    if teacher is not None:
        rows.insert(0, ("Teacher", teacher_text(teacher.name, teacher.parameters, teacher.accuracy)))
    cards = [Card(percent(best.top1), f"the best trial, number {best.number}, on validation images")]
    default = [trial for trial in search.trials if trial.number == search.default]
    if default and default[0].top1 is not None:
        cards.append(Card(percent(default[0].top1), "the recipe's own values, on the same images"))
    return Page(
        title=f"Which values are best for {search.student.name} on {search.data.name}?",
        subtitle=f"A search with PursuHint: {count(len(search.trials), 'trial')}.",
        summary=(*teacher_warning(None if teacher is None else teacher.accuracy), *_findings(search)),
        cards=tuple(cards),
        question=(
            f"{search.student.name}{taught} was trained on {search.data.name} with other values of these "
            "keys of the recipe in every trial, everything else, seed and batches included, being equal:",
        ),
        arms=tuple((varied.key, _range_of(varied)) for varied in map(parse_varied, search.space)),
        setting_title="Networks and data",
        setting=(
            *rows,
            ("Data", data_text(search.data)),
            *image_rows(
                search.data.preprocessing, None if teacher is None else search.data.teacher_normalization
            ),
            *training_rows(recipe),
            ("Trials end early", _PRUNERS[search.pruner]),
        ),
        search=_section(search, figure_folder),
        limits=(
            f"The best of {count(len(search.trials), 'trial')} looks better than it is: part of its lead is "
            "luck on the validation images. Report its accuracy on test images over new seeds.",
            "All trials have one seed. Another seed may prefer other values.",
            "Importances describe the ranges that were searched, and a few trials estimate them roughly.",
            *toy_limit(search.data.name),
        ),
        repeat=("best.yaml in the folder is the recipe with the best values. The search is repeated by:",),
        commands=(repeat_search(search),),
        recipes=(("recipe.yaml of all trials, without what varies", recipe.dump()),),
        environment=environment_rows(search.environment, search.provenance),
        footer=footer(search.environment, search.provenance),
    )


def _findings(search: SearchResult) -> tuple[str, ...]:
    best = search.best_trial
    values = ", ".join(f"{key} = {value}" for key, value in best.values.items())
    lines = [
        f"The best trial has {values}: {percent(best.top1)} of the validation images after the last epoch."
    ]
    if search.best == search.default:
        lines.append("These are the recipe's own values; no trial was better.")
    if search.confirmation is not None:
        lines.append(f"On seeds that the search has not seen: {conclusion(search.confirmation.comparison)}.")
    elif search.best != search.default:
        lines.append("This was not confirmed on other seeds (--confirm-seeds).")
    if search.importances:
        key = max(search.importances, key=lambda name: search.importances[name])  # type: ignore[index]
        lines.append(f"Of the variance of the results, {search.importances[key]:.0%} are due to {key}.")
    if not search.finished:
        lines.append("The search is not finished; the same command resumes it.")
    return tuple(lines)


def _range_of(varied: Varied) -> str:
    """What was tried, in words."""
    if varied.choices:
        return ", ".join(varied.choices)
    low, high = varied.ends
    return f"{low} to {high}{', on a logarithmic scale' if varied.log else ''}"


def _section(search: SearchResult, figure_folder: FigureFolder) -> SearchSection:
    numbers = [place for place, text in enumerate(search.space, 1) if not parse_varied(text).choices]
    heads = ("Trial", *(text.partition("=")[0] for text in search.space), "Validation", "Outcome")
    ranked = sorted(search.trials, key=lambda trial: (-(trial.top1 or -1.0), trial.number))
    confirmation = None
    if (found := search.confirmation) is not None:
        confirmation = Grid(
            ("Seed", "Best trial", "Recipe's own values"),
            tuple(
                (str(seed), percent(one), percent(other))
                for seed, one, other in zip(found.seeds, found.best, found.default)
            ),
            frozenset({1, 2}),
        )
    return SearchSection(
        design="Every trial is a run in the folder trials. It is judged by its validation accuracy after the "
        "last epoch; the test images are not looked at.",
        pictures=tuple(_pictures(search, figure_folder)),
        table=Grid(heads, tuple(_row(trial) for trial in ranked), frozenset([*numbers, len(heads) - 2])),
        confirmation=confirmation,
    )


def _row(trial: SearchTrial) -> tuple[str, ...]:
    outcome: str = trial.state
    if trial.state == "pruned":
        outcome = f"ended after epoch {trial.epochs[-1]}" if trial.epochs else "ended early"
    shown = trial.top1 if trial.top1 is not None else (trial.curve[-1] if trial.curve else None)
    return (str(trial.number), *trial.values.values(), percent(shown) if shown is not None else "", outcome)


def _pictures(search: SearchResult, figure_folder: FigureFolder) -> list[tuple[str, Picture]]:
    complete = [trial for trial in search.trials if trial.top1 is not None]
    results = {trial.number: trial.top1 for trial in complete if trial.top1 is not None}
    pruned = {trial.number: trial.curve[-1] for trial in search.of_state("pruned") if trial.curve}
    history = figure_folder.add(
        "history",
        search_history(results, pruned),
        "Validation accuracy of every trial in their order",
        "Trials in the order in which they began. Those that ended early are drawn at their last accuracy.",
    )
    found = [("Trials in order", history)]
    slices = []
    for text in search.space:
        varied = parse_varied(text)
        values = [trial.values[varied.key] for trial in complete]
        shown: list[float | str] = [value if varied.choices else float(value) for value in values]
        slices.append(Slice(varied.key, tuple(shown), varied.log))
    best = next(place for place, trial in enumerate(complete) if trial.number == search.best)
    picture = figure_folder.add(
        "slices",
        search_slices(slices, list(results.values()), best),
        "Validation accuracy against every value that varied",
        "Complete trials only. The diamond is the best one. In each panel the other values differ too.",
    )
    found.append(("Accuracy against each value", picture))
    if search.importances:
        picture = figure_folder.add(
            "importances",
            importance_bars(search.importances),
            "Importance of every value that varied",
            "Share of the variance of the results that each value explains by itself and with others "
            "(functional ANOVA on a random forest).",
        )
        found.append(("What matters", picture))
    return [(capital(title), picture) for title, picture in found]
