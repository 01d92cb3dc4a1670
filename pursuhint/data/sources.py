"""Location of data sets on the disk, and downloads."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pursuhint._util.atomic_files import make_folder
from pursuhint.errors import PursuhintError

ROOT_VARIABLE = "PURSUHINT_DATA"


def default_root() -> Path:
    """``$PURSUHINT_DATA`` if set, else ``~/.cache/pursuhint/datasets``."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pursuhint" / "datasets"


def missing(name: str, folder: Path, expected: str, *, remedy: str) -> PursuhintError:
    """Build the error for a missing data set.

    Args:
        name: of the data set.
        folder: its expected folder.
        expected: its expected files.
        remedy: how to get it.
    """
    return PursuhintError(
        f"no {name} in {folder} (expected {expected}); {remedy}, or set {ROOT_VARIABLE} to the folder that "
        f"holds {folder.name}"
    )


def ensure_downloaded(
    name: str, folder: Path, expected: str, *, download: bool, source: Callable[[], tuple[str, str]]
) -> None:
    """Download a data set unless its folder exists.

    Args:
        name: of the data set, for messages.
        folder: its folder; the archive holds a folder of that name.
        expected: its expected files, for messages.
        download: whether the user allows it.
        source: returns URL and MD5 sum of the archive; called only before a download.

    Raises:
        PursuhintError: the folder is missing and ``download`` is false, or the download failed.
    """
    if folder.is_dir():
        return
    if not download:
        raise missing(name, folder, expected, remedy="fetch it with --download (download=True)")
    url, md5 = source()
    download_archive(name, url=url, md5=md5, root=folder.parent, folder=folder.name)


def require_files(name: str, folder: Path, files: tuple[str, ...]) -> None:
    """Check that the folder of a data set holds all its files.

    Raises:
        PursuhintError: names the missing files.
    """
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise PursuhintError(
            f"{name} in {folder} is incomplete: no {', '.join(absent)}; remove the folder and get it again"
        )


def download_archive(name: str, *, url: str, md5: str, root: Path, folder: str) -> None:
    """Download an archive, check its MD5 sum, and unpack one folder of it into ``root``.

    The folder gets its name only when complete. The archive stays in ``root``; one with the right sum is not
    downloaded again.

    Args:
        name: of the data set, for messages.
        url: of the archive.
        md5: its expected sum, in hexadecimal.
        root: folder for the archive and the unpacked folder.
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
