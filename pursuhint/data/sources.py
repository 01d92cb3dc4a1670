"""Where data sets lie on the disk, and how those that may be downloaded get there."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

from pursuhint._util.atomic_files import make_folder
from pursuhint.errors import PursuhintError

ROOT_VARIABLE = "PURSUHINT_DATA"


def default_root() -> Path:
    """What the environment variable ``PURSUHINT_DATA`` says, else ``~/.cache/pursuhint/datasets``."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pursuhint" / "datasets"


def missing(name: str, folder: Path, expected: str, *, remedy: str) -> PursuhintError:
    """The error for a data set that is not there.

    Args:
        name: the data set.
        folder: where it should be.
        expected: the files that were expected.
        remedy: how to get it.
    """
    return PursuhintError(
        f"no {name} in {folder} (expected {expected}); {remedy}, or set {ROOT_VARIABLE} to the folder that "
        f"holds {folder.name}"
    )


def require_files(name: str, folder: Path, files: tuple[str, ...]) -> None:
    """Check that every file of a data set that was found is there.

    Raises:
        PursuhintError: names the files that are not.
    """
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise PursuhintError(
            f"{name} in {folder} is incomplete: no {', '.join(absent)}; remove the folder and get it again"
        )


def download_archive(name: str, *, url: str, md5: str, root: Path, folder: str) -> None:
    """Download an archive, check its MD5 sum, and unpack one folder of it into ``root``.

    The folder appears under its name only when it is complete. The archive stays in ``root``; one that is
    already there and has the right sum is not downloaded again.

    Args:
        name: the data set, for messages.
        url: the archive.
        md5: its expected sum, in hexadecimal.
        root: where to put both.
        folder: the folder inside the archive.

    Raises:
        PursuhintError: no connection, wrong sum, damaged archive, or ``root`` cannot be written.
    """
    import tarfile

    from torchvision.datasets.utils import download_url, extract_archive

    make_folder(root)
    archive = root / url.rpartition("/")[2]
    try:
        download_url(url, root, archive.name, md5)
        with tempfile.TemporaryDirectory(prefix=f".{folder}.", dir=root) as temporary:
            extract_archive(archive, temporary)
            (Path(temporary) / folder).rename(root / folder)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise PursuhintError(f"cannot download {name} from {url}: {error}") from error
