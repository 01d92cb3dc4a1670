"""What a crossed comparison found, in few sentences: cells with the same finding share one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from pursuhint._util.text import capital, percent
from pursuhint.study.arms import WITHOUT_HINTS, is_of_sweep
from pursuhint.study.comparison_findings import (
    accuracies_of,
    best_below_alone,
    conclusion_of,
    dominant_terms,
    few_seeds,
)
from pursuhint.study.crossed import CrossedCell, CrossedComparison

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def summary_of(crossed: CrossedComparison) -> tuple[str, ...]:
    """What a reader has to know first, the best arm, and what each comparison found, in sentences.

    Args:
        crossed: a finished one.
    """
    return (
        *_below_alone(crossed),
        *_dominated(crossed),
        *_same_words(crossed),
        *_best_arm(crossed),
        *_results(crossed),
    )


def where(cells: Sequence[CrossedCell], every: Sequence[CrossedCell]) -> str:
    """Some of the cells in words: ``in all 4 comparisons``, ``with loss set at, 4 and 8 epochs``."""
    if len(cells) == len(every) > 1:
        return "in both comparisons" if len(every) == 2 else f"in all {len(every)} comparisons"
    lengths: dict[str, list[int]] = {}
    for cell in cells:
        lengths.setdefault(cell.loss_set, []).append(cell.epochs)
    sets: dict[tuple[int, ...], list[str]] = {}
    for name, own in lengths.items():
        sets.setdefault(tuple(own), []).append(name)
    said = []
    for epochs, names in sets.items():
        noun = "epoch" if epochs == (1,) else "epochs"
        kind = "loss set" if len(names) == 1 else "loss sets"
        said.append(f"{kind} {_listed(names)}, {_listed(epochs)} {noun}")
    return f"with {'; '.join(said)}"


def _below_alone(crossed: CrossedComparison) -> list[str]:
    """One sentence on the cells in which every student with hints ended below the student alone."""
    below = {}
    for cell, comparison in zip(crossed.cells, crossed.comparisons):
        found = best_below_alone(comparison.arms)
        if found is not None:
            below[cell] = found
    if not below:
        return []
    gaps = [alone - best.last.mean for alone, best in below.values()]
    titles = {best.title for _, best in below.values()}
    best = f"the best of them{', ' + titles.pop() + ',' if len(titles) == 1 else ''}"
    return [
        f"{capital(where(list(below), crossed.cells))}: every student with hints ended below the student "
        f"alone on average, {best} by {_span(gaps, 2)} points."
    ]


def _dominated(crossed: CrossedComparison) -> list[str]:
    """One sentence for every loss that makes up nearly the whole sum in some cells."""
    found: dict[str, dict[CrossedCell, tuple[float, tuple[str, ...]]]] = {}
    for cell, comparison in zip(crossed.cells, crossed.comparisons):
        for term in dominant_terms(comparison.arms):
            found.setdefault(term.loss, {})[cell] = (term.share, term.titles)
    sentences = []
    for loss, cells in found.items():
        shares, titles = zip(*cells.values())
        arms = ", ".join(titles[0])
        if len(set(titles)) > 1:
            arms = f"{_span([len(named) for named in titles], 0)} of the arms, named in each report"
        place = capital(where(list(cells), crossed.cells))
        sentences.append(
            f"{place}: the loss {loss} makes up {percent(min(shares))} or more of the weighted sum "
            f"after the first epoch ({arms}), so the other terms hardly count."
        )
    return sentences


def _same_words(crossed: CrossedComparison) -> list[str]:
    """What is said of seeds, once for all cells of which the same is said."""
    said = []
    for cell, comparison in zip(crossed.cells, crossed.comparisons):
        titles = {arm.name: arm.title for arm in comparison.arms}
        ended = () if comparison.sequential is None else (comparison.sequential.sentence(titles),)
        said += [(sentence, cell) for sentence in (*few_seeds(len(comparison.seeds)), *ended)]
    return [
        f"{capital(where(cells, crossed.cells))}: {sentence}." for sentence, cells in _grouped(said).items()
    ]


def _best_arm(crossed: CrossedComparison) -> list[str]:
    """Whether the arm with hints and the highest mean is the same in all cells."""
    best = []
    for cell, comparison in zip(crossed.cells, crossed.comparisons):
        hinted = [a for a in comparison.arms if a.name not in WITHOUT_HINTS and not is_of_sweep(a.name)]
        if hinted:
            best.append((max(hinted, key=lambda arm: arm.last.mean).title, cell))
    arms = _grouped(best)
    if not arms:
        return []
    if len(arms) == 1:
        return [
            f"{capital(next(iter(arms)))} has the highest mean of all arms with hints in every comparison."
        ]
    places = "; ".join(f"{arm} ({where(cells, crossed.cells)})" for arm, cells in arms.items())
    return [
        f"The arm with hints with the highest mean differs between losses and lengths: {places}. That "
        "may be chance; every comparison says which differences are decided."
    ]


def _results(crossed: CrossedComparison) -> list[str]:
    """Every conclusion once, with the accuracies of the cells that have it."""
    drawn = [
        (conclusion_of(comparison.arms, comparison.against), (cell, accuracies_of(comparison.arms)))
        for cell, comparison in zip(crossed.cells, crossed.comparisons)
    ]
    sentences = []
    for drawn_conclusion, found in _grouped(drawn).items():
        ways = dict.fromkeys(way for _, accuracies in found for way in accuracies)
        spans = [
            f"{_span([mean for _, accuracies in found for mean in accuracies.get(way, ())], 1)} % {way}"
            for way in ways
        ]
        ending = f"; {drawn_conclusion}" if drawn_conclusion else ""
        cells = where([cell for cell, _ in found], crossed.cells)
        sentences.append(f"{capital(cells)}: the student reaches {', '.join(spans)}{ending}.")
    return sentences


def _grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    grouped: dict[Key, list[Value]] = {}
    for key, value in pairs:
        grouped.setdefault(key, []).append(value)
    return grouped


def _span(values: Sequence[float], digits: int) -> str:
    """``3.1 to 4.0``, or ``3.1`` where they round to one number."""
    return " to ".join(dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values))))


def _listed(words: Iterable[object]) -> str:
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last
