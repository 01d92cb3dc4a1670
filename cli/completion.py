"""Completion of names by the shell, from the tables of the package. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from pursuhint._util.registry import resolve

from .titles import title_of

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names_of(table: str, *more: str, aliases: str | None = None) -> Completer:
    """A callback that completes the names of a table, each with its title where the table has references.

    Args:
        table: ``package.module:TABLE``, a mapping by name.
        *more: further beginnings that are offered, such as ``torchvision:``.
        aliases: ``package.module:TABLE``, a mapping from other names to those of the table.
    """

    def complete(context: click.Context, parameter: click.Parameter, beginning: str) -> list[CompletionItem]:
        known = resolve(table)
        if aliases is not None:
            known = {**known, **{name: known[entry] for name, entry in resolve(aliases).items()}}
        names: Iterable[str] = [*known, *more]
        return [
            CompletionItem(name, help=_about(known.get(name)))
            for name in names
            if name.lower().startswith(beginning.lower())
        ]

    return complete


def _about(entry: object) -> str | None:
    """What a table says of a name: the text itself, or the title of what it refers to."""
    if not isinstance(entry, str):
        return None
    module, colon, _ = entry.partition(":")
    return title_of(entry) if colon and module.startswith("pursuhint.") else entry


network = names_of("pursuhint.models:MODELS", "torchvision:", "timm:", "hf:")


def teacher(context: click.Context, parameter: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Names of networks; where none begins so, folders, which the shell completes: one may be a run."""
    return network(context, parameter, beginning) or [CompletionItem(beginning, type="dir")]


data_set = names_of("pursuhint.data:DATASETS")
loss = names_of("pursuhint.losses:LOSSES", aliases="pursuhint.losses:ALIASES")
method = names_of("pursuhint.losses:LOSSES", "all", "recipe:", aliases="pursuhint.losses:ALIASES")
metric = names_of("pursuhint.similarity:METRICS")
recipe = names_of("pursuhint.recipes:RECIPES")
pooling = names_of("pursuhint.features.pooling:POOLINGS")
arm = names_of("pursuhint.study.arms:ARMS")
figure = names_of("pursuhint.report:FIGURES")
paper = names_of("pursuhint.published:PAPERS")
