"""What every finished study has: a folder, a JSON file in it, the settings of all runs, parts by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint._util.provenance import BaseProvenance
from pursuhint.errors import PursuhintError

OUTCOME = "test accuracy (top-1, percent) after the last epoch"
"""The one number by which the ways of training are compared, fixed before anything is trained."""


class StudyModel(BaseModel):
    """A part of what a study writes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class StudyFile(StudyModel):
    """The JSON file of a study's folder.

    Attributes:
        FILE: name of the file.
        KIND: what messages call the study.
        path: its folder.
    """

    FILE: ClassVar[str]
    KIND: ClassVar[str]

    schema_version: Literal[1] = Field(default=1, alias="schema")
    path: Path = Field(exclude=True)

    def save(self) -> None:
        """Write the JSON file into the study's folder.

        Raises:
            PursuhintError: it cannot be written.
        """
        write_json(self.path / self.FILE, self.model_dump(mode="json", by_alias=True))

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a study's folder.

        Raises:
            PursuhintError: it holds no finished study of this kind, or one that is damaged or has another
                schema.
        """
        path = Path(folder) / cls.FILE
        values = read_json(path, cls.KIND)
        if isinstance(values, dict):
            values = {**values, "path": path.parent}
        return validated(cls, values, f"the {cls.KIND} {path}")


class FinishedStudy(StudyFile):
    """A finished study of several ways of training.

    Attributes:
        path: its folder.
        outcome: the number by which the ways of training are compared.
        recipe: settings shared by all runs; its seed does not apply.
        seeds: in the order in which every way of training lists its runs.
        margin: the smallest difference that matters, in points, for the verdict "equal"; None in studies of
            older versions.
        provenance: command, teacher and data that it comes from; None in files of older versions.
    """

    outcome: str = OUTCOME
    recipe: dict[str, Any]
    seeds: tuple[int, ...]
    margin: float | None = None
    provenance: BaseProvenance | None = None


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)


def find_by_name(parts: Sequence[_Part], name: str, what: str) -> _Part:
    """The part of a study that has a name.

    Args:
        parts: to search.
        name: of the part.
        what: what messages call a part: ``"arm"``.

    Raises:
        PursuhintError: no part has the name.
    """
    for part in parts:
        if part.name == name:
            return part
    raise PursuhintError(f"no {what} {name!r}; there are {', '.join(part.name for part in parts)}")
