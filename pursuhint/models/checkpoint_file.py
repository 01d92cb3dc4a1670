"""Read the content of a checkpoint file as data, for `pursuhint.models.checkpoint`.

Two formats are read: safetensors, and files of ``torch.save`` (zip archives, and the format before PyTorch
1.6). Their pickles are executed by `pursuhint._util.inert_pickle`, which imports and calls nothing; the
values of a tensor are read on demand, into memory of the size that the file really has.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError

from pursuhint._util.inert_pickle import Call, Name, Persistent, RefusedPickle, read_pickle
from pursuhint._util.input_files import open_regular
from pursuhint._util.pickled_arrays import is_array_name
from pursuhint.errors import PursuhintError
from pursuhint.models.foreign_files import HEAD, foreign_archive, foreign_file
from pursuhint.models.stored_tensor import Storages, StoredTensor, in_memory, storage_of, stored_tensor

LARGEST_NAME = 512  # characters; names of tensors in real networks have fewer than 150
DEEPEST_MAPPING = 4

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first pickle of a file written by PyTorch before 1.6

# What published checkpoints carry beside their tensors. Each name stands for an inert record, never for the
# class or function itself.
_PLAIN_NAMES = frozenset(
    {
        "argparse.Namespace",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "torch._tensor._rebuild_from_type_v2",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "types.SimpleNamespace",
    }
)
_PLAIN_PATTERN = re.compile(
    r"(builtins|__builtin__)\.(set|frozenset|complex|bytearray|bytes|dict|list|tuple|int|float|bool|str|object)"
    r"|(pathlib|pathlib\._local)\.(Pure)?(Posix|Windows)?Path"
    r"|numpy\.(bool_?|u?int\d+|float\d+|complex\d+|str_|dtypes\.\w+DType)"
    r"|torch\.(Size|Tensor|device|dtype|[a-z0-9_]+|\w+Tensor|\w*Storage)"
    r"|torch\.storage\.\w*Storage|torch\._utils\._rebuild_\w+"
)


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[Any]:
    """Open a checkpoint and yield its content.

    Yields:
        Mappings from names to mappings, `StoredTensor` and other values. A `StoredTensor` can be read inside
        the block.

    Raises:
        PursuhintError: the file is missing, no regular file, empty, damaged, of another kind, or names a
            class or function beyond plain values. Nothing in it has been run then, either.
    """
    with open_regular(path, "checkpoint") as file:
        head = file.read(HEAD)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not head:
            raise PursuhintError(f"the checkpoint {path} is empty")
        if head[8:9] != b"{" and (found := foreign_file(head, path.name)):
            raise PursuhintError(f"{path} is not a checkpoint (safetensors or torch.save): it is {found}")
        try:
            # Safetensors first: the length of the header, in front, can look like the other two.
            if head[8:9] == b"{":
                yield _safetensors(path)
            elif head.startswith(b"PK"):
                with zipfile.ZipFile(file) as archive:
                    yield _zipped(archive, path, size)
            elif head.startswith(b"\x80"):
                yield _legacy(file, path, size)
            else:
                raise PursuhintError(f"{path} is not a checkpoint (safetensors or torch.save): it is neither")
        except RefusedPickle as error:
            raise PursuhintError(
                f"refused {path}: loading it would import and call {printable(error.args[0])}, and only "
                "tensors and plain values are loaded; nothing was run (if you trust the file, save its "
                "state_dict() in another)"
            ) from None
        except (ValueError, OSError, SafetensorError, zipfile.BadZipFile, NotImplementedError) as error:
            raise PursuhintError(
                f"the checkpoint {path} is truncated or damaged ({_reason(error)})"
            ) from error


def printable(text: str, *, longest: int = 80) -> str:
    """Text of a file in one line of a message: shortened, without control characters."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: longest + 1])
    return clean if len(clean) <= longest else clean[:longest] + "..."


def _reason(error: Exception) -> str:
    text = printable(" ".join(str(error).split()), longest=160)
    return re.split(r"\. ", text)[0].rstrip(".") or type(error).__name__


def _accepts(name: str) -> bool:
    if name in _PLAIN_NAMES or is_array_name(name) or _PLAIN_PATTERN.fullmatch(name):
        return True
    # What the caller allows torch.load to read is inert here, too.
    allowed = torch.serialization.get_safe_globals()
    return name in {
        entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"
        for entry in allowed
    }


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        return {_name(name): in_memory(tensor) for name, tensor in safetensors.torch.load_file(path).items()}
    except KeyError as error:  # a type that this version of the library does not know
        raise ValueError(f"unknown type {error}") from error


def _zipped(archive: zipfile.ZipFile, path: Path, size: int) -> Any:
    """Content of a zip archive of ``torch.save``: ``NAME/data.pkl`` and one entry per storage."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    programs = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if found := foreign_archive(entries.keys()):
        raise PursuhintError(f"{path} is not a checkpoint (safetensors or torch.save): it is {found}")
    if len(programs) != 1:
        raise ValueError("no data.pkl in it")
    folder = programs[0].removesuffix("data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise PursuhintError(
            f"refused {path}: its entries are compressed, which torch.save never does; nothing was run"
        )
    if sum(entry.file_size for entry in entries.values()) > size:
        raise ValueError("its entries overlap")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") == b"big":
        raise PursuhintError(f"{path} was written on a big-endian machine; save it again on another")
    data = f"{folder}data/"
    sizes = {
        name.removeprefix(data): entry.file_size for name, entry in entries.items() if name.startswith(data)
    }
    program = archive.read(programs[0])
    content = read_pickle(io.BytesIO(program), size=len(program), accepts=_accepts, text="utf-8")
    return _tree(content, Storages(sizes, lambda key: bytearray(archive.read(data + key))))


def _legacy(file: BinaryIO, path: Path, size: int) -> Any:
    """Content of a file of PyTorch before 1.6: five pickles, then every storage with its length before it."""

    def program() -> Any:
        return read_pickle(file, size=size, accepts=_accepts, text="utf-8")

    if program() != _MAGIC_NUMBER:
        raise PursuhintError(
            f"{path} is not a checkpoint (safetensors or torch.save): it is a pickle that torch.save did not "
            "write; save its tensors with torch.save"
        )
    program()  # version of the protocol
    system = program()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise PursuhintError(f"{path} was written on a big-endian machine; save it again on another")
    content, keys = program(), program()
    widths = _itemsizes(content)
    places: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else []:
        key = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        length = int.from_bytes(file.read(8), "little") * widths.get(key, 1)
        start = file.tell()
        if start + length > size:
            raise ValueError("a storage is truncated")
        places[key] = (start, length)
        file.seek(start + length)

    def read(key: str) -> bytearray:
        start, length = places[key]
        file.seek(start)
        return bytearray(file.read(length))

    return _tree(content, Storages({key: length for key, (_, length) in places.items()}, read))


def _itemsizes(content: Any) -> dict[str, int]:
    """Bytes per element of every storage that a pickle refers to."""
    widths: dict[str, int] = {}
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        match value:
            case Persistent():
                storage = storage_of(value)
                widths[storage.key] = storage.dtype.itemsize
            case Name():
                pass
            case dict():
                waiting.extend(value.values())
            case list() | tuple():
                waiting.extend(value)
            case Call():
                waiting += [value.arguments, value.state, value.items, value.elements]
    return widths


def _tree(content: Any, storages: Storages) -> Any:
    """Turn a pickle's records into mappings of named values, at most `DEEPEST_MAPPING` deep."""
    made: dict[tuple[int, int], Any] = {}  # a mapping referred to many times is converted once per depth

    def convert(value: Any, depth: int) -> Any:
        items = value.items if isinstance(value, Call) and value.items else value
        if not isinstance(items, dict):
            return stored_tensor(value, storages)
        if depth == DEEPEST_MAPPING:
            return {}
        if (id(items), depth) not in made:
            made[id(items), depth] = {
                _name(name): convert(inner, depth + 1)
                for name, inner in items.items()
                if isinstance(name, str)
            }
        return made[id(items), depth]

    return convert(content, 0)


def _name(name: str) -> str:
    if len(name) > LARGEST_NAME:
        raise ValueError(f"a name of {len(name):,} characters, {printable(name, longest=20)}")
    if not name.isprintable():
        raise ValueError(f"a name with control characters, {printable(name, longest=20)}")
    return name
