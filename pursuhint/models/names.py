"""Check and suggest names of networks without importing PyTorch."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

from pursuhint._util.registry import check_name, closest, did_you_mean, plugins
from pursuhint.errors import PursuhintError

__all__: list[str] = []

_WIDE_RESNET_NAME = re.compile(r"wrn_\d+_\d+", re.IGNORECASE)
_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n|    .*\n|\).*\n)*def (\w+)\(", re.MULTILINE)
_PACKAGES = ("torchvision", "timm")


def check_network_name(name: str, table: Mapping[str, str]) -> None:
    """Make sure that a network may have this name: a listed or registered one, or one with a colon.

    Whether torchvision, timm or a package of the user has it is found out when the network is built.

    Args:
        name: what was typed.
        table: the built-in networks.

    Raises:
        PursuhintError: it is none of these; the message suggests names of all sources.
    """
    source, colon, rest = name.partition(":")
    if colon and (source.endswith(".py") or "/" in source):
        module = Path(source).stem
        raise PursuhintError(
            f"{name!r} is a file; write the module and put its folder on PYTHONPATH: "
            f"PYTHONPATH={Path(source).parent} pursuhint ... {module}:{rest or 'FUNCTION'}"
        )
    if source == "hf":
        _check_transformers(rest)
    if colon or _WIDE_RESNET_NAME.fullmatch(name):
        return
    known = {listed.lower(): listed for listed in table}.get(name.lower(), name)
    registered = {plugin.name for plugin in plugins("network")}
    if known in table or name in registered:
        check_name("network", table, known)
        return
    if (Path(name).expanduser() / "config.json").is_file():
        raise PursuhintError(f"no network named {name!r}; did you mean 'hf:{name}'?")
    folder = Path(name).expanduser()
    if (folder / "recipe.yaml").is_file():
        raise PursuhintError(
            f"no network is named {name!r}, and only --teacher takes a run: give its network, and as its "
            f"checkpoint {folder / 'student.safetensors'} (in Python, RunRecord.load(RUN).load_student())"
        )
    if folder.is_dir():
        raise PursuhintError(
            f"the folder {name!r} is no run (it has no recipe.yaml), and no network has its name"
        )
    if "." in name:
        raise PursuhintError(
            f"no network named {name!r}; for a function of your own write package.module:function"
        )
    raise PursuhintError(f"no network named {name!r}; {_suggestion(name, [*table, *registered])}")


def _check_transformers(name: str) -> None:
    """Make sure that there may be a network ``hf:NAME``; transformers is not imported.

    Raises:
        PursuhintError: no name, no such folder, or one without a network.
    """
    folder = Path(name).expanduser()
    if not name:
        raise PursuhintError("hf: needs a folder of save_pretrained, a type such as hf:vit, or OWNER/NAME")
    if (name.startswith((".", "/", "~")) or folder.is_dir()) and not (folder / "config.json").is_file():
        raise PursuhintError(f"hf:{name} is no folder of save_pretrained: it has no config.json")
    if find_spec("transformers") is None:
        raise PursuhintError(f"hf:{name} needs transformers: pip install 'pursuhint[hf]'")


def _suggestion(name: str, known: Collection[str]) -> str:
    """The name in another package, else close names of ours, else close names of the packages."""
    elsewhere = {package: registered_names(package) for package in _PACKAGES}
    exact = [f"{package}:{name.lower()}" for package in _PACKAGES if name.lower() in elsewhere[package]]
    if exact:
        return did_you_mean(name, exact, choices=exact)
    if not closest(name, known):
        close = [f"{package}:{one}" for package in _PACKAGES for one in closest(name, elsewhere[package])[:1]]
        if close:
            return did_you_mean(name, close, choices=close)
    return did_you_mean(name, known)


def absolute_network(name: str) -> str:
    """The name with an absolute path, if it is that of a folder (``hf:FOLDER``)."""
    source, _, rest = name.partition(":")
    folder = Path(rest).expanduser()
    return f"{source}:{folder.absolute()}" if source == "hf" and folder.is_dir() else name


@functools.cache
def registered_names(package: str) -> frozenset[str]:
    """Networks that torchvision or timm registers, as their source says; nothing is imported."""
    spec = find_spec(package)
    folders = (
        [] if spec is None else [Path(place) / "models" for place in spec.submodule_search_locations or ()]
    )
    files = [file for folder in folders for file in folder.glob("*.py")]
    return frozenset(
        name
        for file in files
        for name in _REGISTERED.findall(file.read_text(encoding="utf-8", errors="replace"))
    )
