"""Check the content of JSON files against pydantic models."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from pursuhint.errors import PursuhintError

__all__ = ["checked", "validated"]

File = TypeVar("File", bound=BaseModel)


def validated(model: type[File], values: Any, what: str, *, older: str = "") -> File:
    """Check the content of a JSON file against its model.

    Args:
        model: a model with a field ``schema_version: Literal[N]``, called ``schema`` in the file.
        values: the content of the file.
        what: which file, for the message ("the hint plan hints.json").
        older: what to do about a file with a lower schema version, for the message.

    Raises:
        PursuhintError: the file has no schema version or another one, or does not fit; the message names the
            first entry that does not.
    """
    (known,) = get_args(model.model_fields["schema_version"].annotation)
    if isinstance(values, dict) and "schema" not in values:
        raise PursuhintError(f"{what} is not valid: it has no schema version (schema: {known})")
    schema = values.get("schema") if isinstance(values, dict) else None
    if isinstance(schema, int) and schema != known:
        todo = f"; {older}" if older and schema < known else ""
        raise PursuhintError(
            f"{what} has schema {schema}; this version of PursuHint reads schema {known}{todo}"
        )
    return checked(model, values, what)


def checked(model: type[File], values: Any, what: str) -> File:
    """Check plain values against a model that has no schema version.

    Raises:
        PursuhintError: they do not fit; the message names the first entry that does not.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PursuhintError(f"{what} is not valid: {where}: {first['msg']}") from None
    except PursuhintError as error:  # from a dataclass that the model holds
        raise PursuhintError(f"{what} is not valid: {error}") from None
