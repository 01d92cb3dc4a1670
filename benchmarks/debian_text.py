"""A labelled corpus of short texts: descriptions of Debian packages, and the section that each package is in.

    python benchmarks/debian_text.py /var/lib/apt/lists --out debian

The argument is a list of packages (``Packages``, also compressed) or a folder with such lists, as every
machine with Debian has them. OUT gets train.tsv, val.tsv and test.tsv, for ``--data text:OUT``.

Sections that are named by a language or by what a file is (libs, python, doc) are left out: the description
says it. Of the packages that are built from one source one is kept, and of those with one description, too,
so that no text is in two splits. Which split a source is in depends on its name alone.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import lzma
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SECTIONS = (
    "admin", "devel", "games", "gnome", "graphics", "kde", "mail", "math", "net", "science", "sound", "text",
    "utils", "video", "web", "x11",
)  # fmt: skip
_HELPERS = ("-dev", "-doc", "-data", "-dbg", "-dbgsym", "-common", "-l10n", "-examples")
_READERS = {".gz": gzip.decompress, ".xz": lzma.decompress}


class Package(NamedTuple):
    """What a list says of a package."""

    name: str
    source: str
    section: str
    description: str


def read_lists(path: Path) -> list[Package]:
    """The packages of a list, or of all lists in a folder."""
    files = sorted(path.glob("*_Packages*")) if path.is_dir() else [path]
    if not files:
        raise SystemExit(f"{path} holds no lists of packages (*_Packages)")
    return [package for file in files for package in parse(text_of(file))]


def text_of(file: Path) -> str:
    """The text of a list, which may be compressed; lz4 is read by apt's own helper."""
    helper = Path("/usr/lib/apt/apt-helper")
    if file.suffix == ".lz4":
        program = [str(helper), "cat-file"] if helper.exists() else [shutil.which("lz4cat") or "lz4cat"]
        content = subprocess.run([*program, str(file)], capture_output=True, check=True).stdout
    else:
        content = _READERS.get(file.suffix, bytes)(file.read_bytes())
    return content.decode("utf-8", "replace")


def parse(text: str) -> Iterator[Package]:
    """The packages of a list: paragraphs of ``Key: value`` lines."""
    for paragraph in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if line[:1] not in " \t")
        if "Package" in fields and "Section" in fields and fields.get("Description"):
            name = fields["Package"]
            source = fields.get("Source", name).partition(" ")[0]
            section = fields["Section"].rpartition("/")[2]
            yield Package(name, source, section, " ".join(fields["Description"].split()))


def choose(packages: Sequence[Package], most: int) -> dict[str, list[Package]]:
    """One package a source and a description, at most so many a section, by split."""
    sources: set[str] = set()
    texts: set[str] = set()
    count: Counter[str] = Counter()
    splits: dict[str, list[Package]] = defaultdict(list)
    kept = [p for p in packages if p.section in SECTIONS and not p.name.endswith(_HELPERS)]
    for package in sorted(kept, key=lambda p: (_hash(p.source), p.name)):
        text = package.description.lower()
        if package.source in sources or text in texts or count[package.section] >= most:
            continue
        sources.add(package.source)
        texts.add(text)
        count[package.section] += 1
        splits[split_of(package.source)].append(package)
    return splits


def split_of(source: str) -> str:
    """60 % of the sources train, 15 % validate, 25 % test."""
    share = int(_hash(source)[-8:], 16) / 16**8
    return "train" if share < 0.6 else "val" if share < 0.75 else "test"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(splits: dict[str, list[Package]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, packages in splits.items():
        lines = ["label\ttext", *(f"{package.section}\t{package.description}" for package in packages)]
        (out / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lists", type=Path, help="a list of packages, or a folder with lists")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--most", type=int, default=500, help="packages a section at most (500)")
    options = parser.parse_args(arguments)
    splits = choose(read_lists(options.lists), options.most)
    write(splits, options.out)
    for name, packages in splits.items():
        sections = Counter(package.section for package in packages)
        print(f"{name}: {len(packages)} texts, " + ", ".join(f"{s} {n}" for s, n in sorted(sections.items())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
