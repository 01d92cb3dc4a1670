"""What a recipe from a file may not do by itself: name code to run, or start a download."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintError
from pursuhint.models.code_reference import names_code

if TYPE_CHECKING:
    from pursuhint.training.recipe.schema import Recipe


@dataclass(frozen=True, eq=False)
class Origin:
    """The file that a recipe was read from, as long as the user has not said that it is trusted.

    All are equal: recipes that ask for the same training are, wherever they come from.

    Attributes:
        source: what to call the file in a message; None for a recipe that was written in Python.
        code: networks of the form ``package.module:factory`` that the file names.
    """

    source: str | None = None
    code: frozenset[str] = frozenset()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return 0


def read_from(recipe: Recipe, source: str) -> Origin:
    """The origin of a recipe that a file gave."""
    configs = (recipe.student, recipe.teacher)
    code = {config.network for config in configs if config is not None and names_code(config.network)}
    return Origin(source, frozenset(code))


def check_origin(recipe: Recipe) -> None:
    """Refuse to build networks that only an untrusted file has named.

    Raises:
        PursuhintError: the recipe was read from a file, as that of a `RunRecord` is, and still has a network
            of code that the file names. Nothing was imported.
    """
    origin = recipe.origin
    if origin.source is not None:
        roles = {"student": recipe.student, "teacher": recipe.teacher}
        named = {role: config.network for role, config in roles.items() if config is not None}
        if found := [f"{role}.network is {name}" for role, name in named.items() if name in origin.code]:
            raise _refused(origin.source, found)


def _refused(source: str, found: list[str]) -> PursuhintError:
    return PursuhintError(
        f"{source} names code that would be imported and run: {', '.join(found)}; nothing was run. If you "
        "trust it, say --trust-code (in Python, trust_code=True)"
    )


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
        raise _refused(source, found)
    warn_user(f"{source} is trusted to run code: {', '.join(found)}")


def without_download(recipe: Recipe, source: str) -> Recipe:
    """The recipe without ``data.download``, with a warning if it was set: only the user starts downloads."""
    if not recipe.data.download:
        return recipe
    warn_user(f"data.download of {source} does not count; say --download to fetch data that are not there")
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"download": False})})
