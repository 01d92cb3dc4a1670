"""Arrays with a JSON header in one ``.npz`` file, without pickled objects."""

from __future__ import annotations

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pursuhint._util.atomic_files import atomic_path
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_archive", "write_archive"]


def write_archive(
    path: Path | str, header: Mapping[str, Any], arrays: Mapping[str, Tensor | NDArray[Any] | None]
) -> None:
    """Write arrays or tensors and a JSON text ``header``; those that are None are left out.

    Raises:
        PursuhintError: the file cannot be written.
    """
    given = {
        name: array if isinstance(array, np.ndarray) else array.cpu().numpy()
        for name, array in arrays.items()
        if array is not None
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **given, header=np.array(json.dumps(header)))  # type: ignore[arg-type]


@contextlib.contextmanager
def read_archive(
    path: Path | str, what: str, schema: int
) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
    """Read the header and the arrays that `write_archive` wrote; needs no torch.

    Errors inside the ``with`` block are reported as a damaged file too.

    Args:
        path: the file.
        what: kind of content, for messages: ``"layer similarity"``.
        schema: required ``schema`` entry of the header.

    Raises:
        PursuhintError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):  # NumPy would take it for a pickle, and say how to run that
                raise ValueError("it is no archive of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                header = json.loads(str(arrays["header"]))
                found = {name: arrays[name] for name in arrays if name != "header"}
        if header["schema"] != schema:
            raise ValueError(
                f"it has schema {header['schema']}; this version of PursuHint reads schema {schema}"
            )
        yield header, found
    except FileNotFoundError:
        raise PursuhintError(f"no {what} at {path}; the file does not exist") from None
    except OSError as error:
        raise PursuhintError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except (
        EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error, PursuhintError
    ) as error:  # fmt: skip
        raise PursuhintError(f"{path} is not a {what} of PursuHint, or damaged: {error}") from error
