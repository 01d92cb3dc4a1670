"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR10

from pursuhint.data import load_dataset
from pursuhint.data.sources import download_archive
from pursuhint.errors import PursuhintError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder, the address that it is served under, and the requests that were made."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        server.requests = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}", server.requests  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def make_archive(folder: Path, kind: str) -> tuple[str, str]:
    """An archive holding pets/train.txt; its name and MD5 sum."""
    content = folder / "content" / "pets"
    content.mkdir(parents=True)
    (content / "train.txt").write_text("ant bee cat")
    archive = folder / f"pets.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(content / "train.txt", "pets/train.txt")
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(content, "pets")
    return archive.name, hashlib.md5(archive.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_fetched_checked_and_unpacked(
    kind: str, served: tuple[Path, str, list[str]], tmp_path: Path
) -> None:
    name, md5 = make_archive(served[0], kind)
    root = tmp_path / "new" / "root"
    download_archive("pets", url=f"{served[1]}/{name}", md5=md5, root=root, folder="pets")
    assert (root / "pets" / "train.txt").read_text() == "ant bee cat"
    assert sorted(entry.name for entry in root.iterdir()) == ["pets", name]


def test_an_archive_that_is_there_is_not_fetched_again(
    served: tuple[Path, str, list[str]], tmp_path: Path
) -> None:
    name, md5 = make_archive(served[0], "zip")
    root = tmp_path / "root"
    root.mkdir()
    (served[0] / name).rename(root / name)
    download_archive("pets", url=f"{served[1]}/{name}", md5=md5, root=root, folder="pets")
    assert (root / "pets" / "train.txt").is_file()
    assert served[2] == []


def test_a_wrong_sum_or_a_missing_file_leaves_no_data(
    served: tuple[Path, str, list[str]], tmp_path: Path
) -> None:
    name, _ = make_archive(served[0], "zip")
    root = tmp_path / "root"
    for file in (name, "absent.zip"):
        with pytest.raises(PursuhintError, match=rf"^cannot download pets from {served[1]}/{file}: .*\Z"):
            download_archive("pets", url=f"{served[1]}/{file}", md5="0" * 32, root=root, folder="pets")
    assert not (root / "pets").exists()


def test_an_archive_without_the_folder_leaves_no_data(
    served: tuple[Path, str, list[str]], tmp_path: Path
) -> None:
    name, md5 = make_archive(served[0], "zip")
    root = tmp_path / "root"
    with pytest.raises(PursuhintError, match="cannot download dogs from"):
        download_archive("dogs", url=f"{served[1]}/{name}", md5=md5, root=root, folder="dogs")
    assert [entry.name for entry in root.iterdir()] == [name]


def test_a_data_set_is_downloaded_only_on_request(
    served: tuple[Path, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = served[0] / "content" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"")
    archive = served[0] / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(CIFAR10, "url", f"{served[1]}/cifar.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    root = tmp_path / "root"
    with pytest.raises(PursuhintError, match="no cifar10 in"):
        load_dataset("cifar10", root=root)
    assert served[2] == []
    with pytest.raises(PursuhintError, match=r"cifar10 in .* is incomplete: no data_batch_2, "):
        load_dataset("cifar10", root=root, download=True)
    assert "/cifar.tar.gz" in served[2]
