"""Which runs differ by their seed alone."""

from __future__ import annotations

import re
from typing import Any

from pursuhint.training import RunRecord


def setting_of(run: RunRecord) -> dict[str, Any]:
    """A run's recipe without its seed, equal for runs that differ by their seed alone.

    In the file of the teacher's weights, ``seed-N`` with the run's own seed counts as the seed, since a grid
    of runs may have a teacher for every seed (``pursuhint table run``).
    """
    values = {key: value for key, value in run.recipe.to_dict().items() if key != "seed"}
    if values["teacher"] is not None and values["teacher"]["checkpoint"] is not None:
        file = re.sub(rf"\bseed-{run.recipe.seed}\b", "seed-*", values["teacher"]["checkpoint"])
        values["teacher"] = {**values["teacher"], "checkpoint": file}
    return values
