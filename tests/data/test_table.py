"""The table of data sets, and what the package costs to import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pursuhint.data
from pursuhint._util.registry import resolve
from pursuhint.data import DATASETS, load_dataset
from pursuhint.data.sources import default_root
from pursuhint.errors import PursuhintError


def test_the_table_lists_the_data_sets_of_the_documentation() -> None:
    assert list(DATASETS) == [
        "digits",
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "stl10",
        "tiny-imagenet",
        "imagenet",
        "cub200",
        "folder:PATH",
        "text:PATH",
    ]


@pytest.mark.parametrize("reference", DATASETS.values())
def test_every_entry_exists_and_is_documented(reference: str) -> None:
    assert "Raises" in resolve(reference).__doc__ or reference.endswith("load_digits")


@pytest.mark.parametrize("name", pursuhint.data.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(pursuhint.data, name) is not None


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'pursuhint\.data' has no attribute 'ImagData'"):
        _ = pursuhint.data.ImagData


def test_listing_data_sets_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pursuhint.data import DATASETS, load_dataset; assert DATASETS; "
        "print(sorted({'torch', 'torchvision', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar-100", "no data set named 'cifar-100'; did you mean 'cifar100'"),
        ("Digits", "no data set named 'Digits'; did you mean 'digits'"),
        ("tinyimagenet", "did you mean 'tiny-imagenet'"),
        ("birds", "no data set named 'birds'; there are cifar10, cifar100, cub200, digits"),
        ("imagenet:x", "no data set named 'imagenet:x'; did you mean 'imagenet'"),
        ("folder", "did you mean 'folder:PATH'"),
        ("folder:", "folder: needs the path of a folder with train/ and val/"),
        ("folder:PATH", "folder: needs the path"),
    ],
)
def test_an_unknown_name_is_answered_with_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        load_dataset(name)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_wrong_validation_fraction_is_refused_before_anything_is_read(
    tmp_path: Path, fraction: float
) -> None:
    with pytest.raises(PursuhintError, match="the validation fraction must be at least 0 and below 1"):
        load_dataset("cifar10", root=tmp_path, val_fraction=fraction)


def test_the_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSUHINT_DATA", str(tmp_path / "data"))
    assert default_root() == tmp_path / "data"
    with pytest.raises(PursuhintError, match=f"no cifar10 in {tmp_path / 'data' / 'cifar-10-batches-py'}"):
        load_dataset("cifar10")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PURSUHINT_DATA", "~/elsewhere")
    assert default_root() == tmp_path / "elsewhere"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("PURSUHINT_DATA")
        else:
            monkeypatch.setenv("PURSUHINT_DATA", unset)
        assert default_root() == tmp_path / ".cache" / "pursuhint" / "datasets"


def test_nothing_is_created_by_looking(tmp_path: Path) -> None:
    for name in ("cifar10", "stl10", "tiny-imagenet", "imagenet", "cub200"):
        with pytest.raises(PursuhintError, match=f"no {name} in"):
            load_dataset(name, root=tmp_path / "nothing")
    assert os.listdir(tmp_path) == []
