"""What a recipe from a file may not do by itself: name code to run, or start a download."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models.code_reference import names_code

if TYPE_CHECKING:
    from pursuhint.training.recipe.schema import Recipe


def check_code(recipe: Recipe, source: str, *, trust_code: bool, typed: Collection[str | None] = ()) -> None:
    """Refuse networks that a file names as ``package.module:factory``, unless the user trusts the file.

    Args:
        recipe: of the file.
        source: what to call the file in the message.
        trust_code: accept them; a warning then says what will be imported.
        typed: names that the user gave himself, and which therefore are no matter of trust.

    Raises:
        PursuhintError: the file names code, and ``trust_code`` is False. Nothing was imported.
    """
    named = {"student": recipe.student, "teacher": recipe.teacher}
    found = [
        f"{role}.network is {config.network}"
        for role, config in named.items()
        if config is not None and names_code(config.network) and config.network not in typed
    ]
    if not found:
        return
    if not trust_code:
        raise PursuhintError(
            f"{source} names code that would be imported and run: {', '.join(found)}; nothing was run. If "
            "you trust it, say --trust-code (trust_code=True in Python)"
        )
    warnings.warn(f"{source} is trusted to run code: {', '.join(found)}", PursuhintWarning, stacklevel=3)


def without_download(recipe: Recipe, source: str) -> Recipe:
    """The recipe without ``data.download``, with a warning if it was set: only the user starts downloads."""
    if not recipe.data.download:
        return recipe
    warnings.warn(
        f"data.download of {source} does not count; say --download to fetch data that are not there",
        PursuhintWarning,
        stacklevel=3,
    )
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"download": False})})
