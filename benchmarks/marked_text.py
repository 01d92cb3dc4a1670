"""Put what a script measured into a document, between two marks."""

from __future__ import annotations

import re
from pathlib import Path


def write_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of a document.

    Raises:
        ValueError: the document has no such marks.
    """
    before = path.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{path} has no place for the tables ({begin} ... {end})")
    path.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n{end}", before), encoding="utf-8")
