"""Settings of a study, to tell whether a folder holds the study that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.fingerprint import flatten_keys
from pursuhint._util.output_folder import claim_folder
from pursuhint._util.replace_folder import DifferentResult
from pursuhint.errors import PursuhintError
from pursuhint.training.recipe.renamed import refuse_old_names
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.files import checked_data
from pursuhint.training.run_folder.fingerprint import both_folders, completed, data_difference, describe_data

if TYPE_CHECKING:
    from pursuhint.data import ImageData, InputData
    from pursuhint.training.recipe.schema import Recipe

SETTINGS = "settings.json"
_ADVICE = "choose another folder (--out), or replace it (--overwrite)"
_JSON_NAMES = {dict: "mapping", list: "list"}
_MAY_DIFFER = frozenset(
    {
        "seed",
        "data.root",
        "data.download",
        "data.workers",
        "save_every_steps",
        "trackers",
        "teacher.checkpoint",
    }
)  # where, how fast and how often, not what; the seeds are a list of their own, the teacher is hashed


class StudySettings:
    """What makes a study this one.

    Args:
        what: what the study is called in messages: ``"comparison"``.
        recipe: settings shared by all runs.
        inputs: fingerprints of what the recipe does not contain, by name.
        data: whose classes and fingerprint are kept, so that what differs can be named.
        lists: what can be added to a study but not dropped, by name: its arms, its seeds.
    """

    def __init__(
        self,
        what: str,
        recipe: Recipe,
        *,
        inputs: Mapping[str, str],
        data: ImageData | InputData,
        lists: Mapping[str, Sequence[Any]],
    ) -> None:
        self.what = what
        self.lists = {name: list(entries) for name, entries in lists.items()}
        self.inputs = dict(inputs)
        self.recipe = {key: value for key, value in recipe.to_dict().items() if key != "seed"}
        self.values = {
            "schema": 1,
            **self.lists,
            "recipe": self.recipe,
            "inputs": self.inputs,
            "data": describe_data(data),
        }
        self._data = data

    def save(self, folder: Path) -> None:
        """Write ``settings.json``.

        Raises:
            PursuhintError: it cannot be written.
        """
        write_json(folder / SETTINGS, self.values)

    def matches(self, folder: Path) -> bool:
        """Whether a folder holds this study, perhaps with fewer arms or seeds; False if it holds none.

        Args:
            folder: it need not exist.

        Raises:
            DifferentResult: it holds another study, or arms or seeds that are not asked for now.
            PursuhintError: it holds something else.
        """
        claim_folder(folder, "study")
        path = folder / SETTINGS
        if not path.exists():
            return False
        there = read_json(path, f"settings of the {self.what}")
        if not isinstance(there, dict) or there.get("schema") != 1:
            raise DifferentResult(f"{path} was not written by this version of PursuHint; {_ADVICE}")
        for name, kind in {
            "recipe": dict,
            "inputs": dict,
            "data": dict,
            **dict.fromkeys(self.lists, list),
        }.items():
            if not isinstance(there.get(name, kind()), kind):
                raise PursuhintError(f"{path} is damaged: {name} must be a {_JSON_NAMES[kind]}")
        if not set(self.lists) <= set(there):
            raise PursuhintError(f"{folder} holds a study of another kind; choose another folder (--out)")
        self._check_recipe(folder, there.get("recipe", {}))
        described = checked_data(there.get("data", {}), f"the data in {path}")
        if (change := data_difference(described, self._data)) is not None:
            raise DifferentResult(
                f"{folder} holds another {self.what}: {self._data.name} has changed since: {change}; put the "
                f"data back, or {_ADVICE}"
            )
        for name, value in self.inputs.items():
            if there.get("inputs", {}).get(name) != value:
                raise DifferentResult(
                    f"{folder} holds another {self.what}: the {name} has changed since; {_ADVICE}"
                )
        for name, now in self.lists.items():
            dropped = [str(entry) for entry in there[name] if entry not in now]
            if dropped:
                raise DifferentResult(
                    f"{folder} holds a {self.what} that also has the {name} {', '.join(dropped)}; {name} can "
                    f"be added but not dropped, so name them too or {_ADVICE}"
                )
        return True

    def _check_recipe(self, folder: Path, there: dict[str, Any]) -> None:
        refuse_old_names(there, str(folder / SETTINGS))
        # Both with the keys and hyperparameters that came later than the study.
        old, new = (flatten_keys(completed(Recipe.from_dict(one)).to_dict()) for one in (there, self.recipe))
        for key in dict.fromkeys([*old, *new]):
            # Whether two folders of images differ is seen in the data themselves.
            moved = key == "data.name" and both_folders(old.get(key), new.get(key))
            if key not in _MAY_DIFFER and not moved and old.get(key) != new.get(key):
                raise DifferentResult(
                    f"{folder} holds another {self.what}: {key} is {old.get(key)!r} there and "
                    f"{new.get(key)!r} here; {_ADVICE}"
                )
