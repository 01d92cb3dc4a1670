"""The test images that a run classifies correctly, packed into bits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pursuhint.errors import PursuhintError
from pursuhint.training.run_folder.image_hits import HITS, load_hits, save_hits


@pytest.mark.parametrize("images", [1, 7, 8, 9, 952])
def test_what_is_read_is_what_was_written(images, tmp_path):
    hits = np.random.default_rng(images).random(images) < 0.7
    save_hits(tmp_path, hits, epoch=3)
    assert np.array_equal(load_hits(tmp_path), hits)
    assert json.loads((tmp_path / HITS).read_text())["samples"] == images


def test_ten_thousand_images_take_less_than_two_kilobytes(tmp_path):
    save_hits(tmp_path, np.ones(10_000, dtype=bool), epoch=1)
    assert (tmp_path / HITS).stat().st_size < 2000


def test_a_run_of_an_older_version_has_none(tmp_path):
    assert load_hits(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": "AAAA"}, "expected 9 of them, got 3 bytes"),
        ({"bits": "%%%"}, "expected base64"),
        ({"samples": 0}, "samples"),
        ({"schema": 2}, "has schema 2"),
    ],
)
def test_a_damaged_file_is_one_line(change, message, tmp_path):
    save_hits(tmp_path, np.ones(9, dtype=bool), epoch=1)
    values = json.loads((tmp_path / HITS).read_text()) | change
    (tmp_path / HITS).write_text(json.dumps(values))
    with pytest.raises(PursuhintError, match=message):
        load_hits(tmp_path)
