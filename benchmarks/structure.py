"""Measure the structure of the package: folders, imports between them, signatures, unexported names.

    python benchmarks/structure.py                     # the working tree
    python benchmarks/structure.py --against c827980   # a revision beside it

Needs git and Python only. Sources are parsed, never imported. An import counts wherever it stands: at the top
of a module, in a function, or under ``TYPE_CHECKING``. The layers are those of the contract in setup.cfg.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import io
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, COMMANDS = "pursuhint", "cli"
TOP = {f"{PACKAGE}.{name}" for name in ("__main__", "_version", "demo", "errors")}
"""What may stand at the top of the package, beside ``__init__``."""
PARAMETERS, POSITIONAL = 6, 3
"""The most parameters of a function, and the most that it takes by position."""


def read_layers(setup_cfg: str) -> list[list[str]]:
    """The layers of import-linter's contract, the highest first; the packages in one do not know each other.

    Args:
        setup_cfg: text of the file.
    """
    settings = configparser.ConfigParser()
    settings.read_string(setup_cfg)
    lines = settings["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[name.strip(" ()") for name in line.split("|")] for line in lines]


def read_folder(root: Path = ROOT) -> dict[str, str]:
    """Source of every module in the working tree, by path from the root."""
    paths = [path for top in (PACKAGE, COMMANDS) for path in (root / top).rglob("*.py")]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def read_revision(revision: str, root: Path = ROOT) -> dict[str, str]:
    """Source of every module in a revision, by path from the root; the working tree is left alone."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", revision, PACKAGE, COMMANDS],
        cwd=root,
        capture_output=True,
    )
    if archive.returncode:
        raise SystemExit(f"git cannot read revision {revision!r}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        return {
            member.name: tar.extractfile(member).read().decode("utf-8")  # type: ignore[union-attr]
            for member in tar.getmembers()
            if member.name.endswith(".py")
        }


@dataclass(frozen=True)
class Signature:
    """A function and how many parameters it has, ``self`` and ``cls`` not counted."""

    name: str
    parameters: int
    positional: int


@dataclass(frozen=True)
class Import:
    """An import of one module of the project by another one."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@dataclass
class Structure:
    """What can be read from the sources of the project.

    Attributes:
        sources: by path from the root.
        layers: of packages, the highest first.
    """

    sources: Mapping[str, str]
    layers: Sequence[Sequence[str]]
    trees: dict[str, ast.Module] = field(init=False)
    folders: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.trees, self.folders = {}, set()
        for path, source in sorted(self.sources.items()):
            parts = path.removesuffix(".py").split("/")
            if parts[-1] == "__init__":
                parts.pop()
                self.folders.add(".".join(parts))
            self.trees[".".join(parts)] = ast.parse(source, path)

    # -- modules and packages -----------------------------------------------------------------------------

    @cached_property
    def top_modules(self) -> list[str]:
        """Modules beside the package's ``__init__``."""
        return [name for name in self.trees if _depth(name) == 2 and name not in self.folders]

    @cached_property
    def first_level(self) -> list[str]:
        """The folders in the package."""
        return [name for name in self.trees if _depth(name) == 2 and name in self.folders]

    def unit(self, module: str) -> str:
        """What a module belongs to: the command line, a folder of the package, or itself at the top."""
        return COMMANDS if module.split(".")[0] == COMMANDS else ".".join(module.split(".")[:2])

    def folder(self, module: str) -> str:
        """As `unit`, but modules at the top, except those of a house with rooms, belong to one folder."""
        unit = self.unit(module)
        return PACKAGE if unit in self.top_modules and unit not in TOP else unit

    # -- imports -------------------------------------------------------------------------------------------

    @cached_property
    def imports(self) -> list[Import]:
        """All imports within the project."""
        return [
            Import(module, imported, line)
            for module, tree in self.trees.items()
            for imported, line in self._imports_of(module, tree)
        ]

    def _imports_of(self, module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                names = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                name = name.replace(f"{PACKAGE}.{COMMANDS}", COMMANDS, 1)
                if name.split(".")[0] in (PACKAGE, COMMANDS):
                    yield self._module(name), node.lineno

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """The module that ``from ... import`` names, with leading dots resolved."""
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        up = node.level - 1 if module in self.folders else node.level
        return ".".join(parts[: len(parts) - up] + ([node.module] if node.module else []))

    def _module(self, name: str) -> str:
        """The longest beginning of a dotted name that is a module."""
        while name and name not in self.trees:
            name = name.rpartition(".")[0]
        return name

    def arrows(self, *, folders: bool = False) -> set[tuple[str, str]]:
        """Pairs (importer, imported) of different units, or folders, without the package's ``__init__``."""
        owner = self.folder if folders else self.unit
        inner = [edge for edge in self.imports if edge.importer != PACKAGE and edge.imported != PACKAGE]
        pairs = {(owner(edge.importer), owner(edge.imported)) for edge in inner}
        return {(importer, imported) for importer, imported in pairs if importer != imported}

    @cached_property
    def arrows_up(self) -> list[Import]:
        """Imports that the layers forbid: of a higher package, of one beside it, or of the package itself.

        The package's ``__init__`` exports names of all layers, so that only the command line may import it. A
        module in no layer may import anything, and nobody may import it.
        """
        floor = {name: number for number, layer in enumerate(self.layers) for name in layer}
        forbidden = []
        for edge in self.imports:
            importer, imported = self.unit(edge.importer), self.unit(edge.imported)
            if importer != imported and importer in floor:
                allowed = (
                    importer == COMMANDS if imported == PACKAGE else floor.get(imported, -1) > floor[importer]
                )
                if not allowed:
                    forbidden.append(edge)
        return forbidden

    @cached_property
    def is_layered(self) -> bool:
        """Whether every folder and top module, but for the entry points, has a place in the layers."""
        known = {name for layer in self.layers for name in layer}
        return {self.unit(name) for name in self.trees} - known <= {PACKAGE, f"{PACKAGE}.__main__"}

    @cached_property
    def floors(self) -> int:
        """Length of the longest chain of units that import each other, units of one cycle counted once."""
        arrows = self.arrows()
        group = {name: min(cycle) for cycle in find_cycles(arrows) for name in cycle}
        below: dict[str, set[str]] = {}
        for importer, imported in arrows:
            first, second = group.get(importer, importer), group.get(imported, imported)
            if first != second:
                below.setdefault(first, set()).add(second)
        height: dict[str, int] = {}

        def measure(name: str) -> int:
            if name not in height:
                height[name] = 1 + max((measure(other) for other in below.get(name, ())), default=0)
            return height[name]

        return max(measure(name) for name in below)

    @cached_property
    def cycles(self) -> list[list[str]]:
        """Folders that import each other, directly or through others."""
        return find_cycles(self.arrows(folders=True))

    # -- names ---------------------------------------------------------------------------------------------

    @cached_property
    def exported(self) -> dict[str, set[str]]:
        """The names that the package and each of its folders export."""
        return {
            package: {
                alias.asname or alias.name
                for node in _type_checking(self.trees[package])
                for alias in node.names
            }
            for package in (PACKAGE, *self.first_level)
        }

    @cached_property
    def tabled(self) -> dict[str, set[str]]:
        """The names that the package and each of its folders have in a table, as ``module:name``."""
        return {
            package: {
                node.value.rpartition(":")[2]
                for node in ast.walk(self.trees[package])
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
                if node.value.startswith(f"{PACKAGE}.") and ":" in node.value
            }
            for package in (PACKAGE, *self.first_level)
        }

    @cached_property
    def unexported(self) -> dict[str, list[str]]:
        """Names in ``__all__`` of a module that its package does not export, by module.

        Its package is its folder of the first level. Left out are the commands, private modules and folders,
        which begin with ``_``, and what may stand at the top.
        """
        missing = {}
        for module, tree in self.trees.items():
            parts = module.split(".")
            if parts[0] == COMMANDS or any(part.startswith("_") for part in parts) or module == PACKAGE:
                continue
            package = self.unit(module) if self.unit(module) in self.first_level else PACKAGE
            names = sorted(_listed(tree) - self.exported[package] - self.tabled[package])
            if names and module not in TOP and module not in self.first_level:
                missing[module] = names
        return missing

    @cached_property
    def named_as_modules(self) -> list[str]:
        """Exports that have the name of a module beside them: which one is found depends on the imports."""
        return [
            f"{package}.{name}"
            for package, names in self.exported.items()
            for name in sorted(names)
            if f"{package}.{name}" in self.trees
        ]

    # -- signatures ----------------------------------------------------------------------------------------

    @cached_property
    def signatures(self) -> list[Signature]:
        """All functions of the package; commands, whose parameters are options, are left out."""
        return [
            Signature(f"{module}.{name}", *_count(node))
            for module, tree in self.trees.items()
            if not module.startswith(COMMANDS)
            for name, node in _functions(tree)
        ]


def find_cycles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Strongly connected groups of more than one name, sorted.

    Args:
        arrows: pairs (from, to).
    """
    reached: dict[str, set[str]] = {}
    for first, second in arrows:
        reached.setdefault(first, set()).add(second)
        reached.setdefault(second, set())
    for middle in reached:  # Warshall's closure: paths whose inner names are those seen so far
        for name in reached:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    groups = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in reached}
    return sorted(list(group) for group in groups if len(group) > 1)


def _depth(module: str) -> int:
    return module.count(".") + 1 if module.split(".")[0] == PACKAGE else 0


def _type_checking(tree: ast.Module) -> Iterator[ast.ImportFrom]:
    """The imports for type checkers: the public names of a package."""
    for block in tree.body:
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING":
            yield from (node for node in block.body if isinstance(node, ast.ImportFrom))


def _listed(tree: ast.Module) -> set[str]:
    """The names in a module's ``__all__``."""
    return {
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Tuple)
        if [getattr(target, "id", "") for target in node.targets] == ["__all__"]
        for name in ast.literal_eval(node.value)
    }


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods with their dotted names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        yield from _functions(node, f"{prefix}{node.name}." if named else prefix)


def _count(function: ast.FunctionDef) -> tuple[int, int]:
    """How many parameters a function has, and how many of them may be given by position."""
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if positional[:1] in (["self"], ["cls"]):
        positional.pop(0)
    return len(positional) + len(arguments.kwonlyargs), len(positional)


def measure(structure: Structure) -> dict[str, str]:
    """The rows of the table."""
    signatures = structure.signatures
    widest = max(signatures, key=lambda signature: signature.parameters)
    longest = max(signatures, key=lambda signature: signature.positional)
    cycles = structure.cycles
    return {
        "modules at the top of the package": str(len(structure.top_modules)),
        "folders in the package": str(len(structure.first_level)),
        "floors: the longest chain of imports": str(structure.floors),
        "arrows between folders and top modules": str(len(structure.arrows())),
        "imports that go up": str(len(structure.arrows_up)) if structure.is_layered else "no layers",
        "cycles of folders": f"{len(cycles)}" + (f" (of {max(map(len, cycles))})" if cycles else ""),
        "modules with a public name that no package exports": str(len(structure.unexported)),
        "widest signature": f"{widest.parameters}: `{_short(widest.name)}`",
        f"functions with more than {PARAMETERS} parameters": str(
            sum(signature.parameters > PARAMETERS for signature in signatures)
        ),
        "most parameters by position": f"{longest.positional}: `{_short(longest.name)}`",
        f"functions with more than {POSITIONAL} by position": str(
            sum(signature.positional > POSITIONAL for signature in signatures)
        ),
    }


def _short(name: str) -> str:
    """The last two parts of a dotted name."""
    return ".".join(name.split(".")[-2:])


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A Markdown table.

    Args:
        columns: heading to measurements.
    """
    rows = next(iter(columns.values()))
    lines = [["", *columns], ["---", *("--:" for _ in columns)]]
    lines += [[row, *(column[row] for column in columns.values())] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print the table and, for the working tree, everything that the contract forbids."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", metavar="REV", help="a revision to measure beside the working tree")
    arguments = parser.parse_args()
    layers = read_layers((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    columns = {}
    if arguments.against:
        columns[arguments.against] = measure(Structure(read_revision(arguments.against), layers))
    here = Structure(read_folder(), layers)
    columns["working tree"] = measure(here)
    print(table(columns))
    for edge in here.arrows_up:
        print(f"arrow up: {edge}")
    for cycle in here.cycles:
        print(f"cycle: {', '.join(cycle)}")
    for module, names in here.unexported.items():
        print(f"not exported: {module}: {', '.join(names)}")


if __name__ == "__main__":
    main()
