"""Fixtures for the tests of studies."""

from __future__ import annotations

import pytest

from tests.helpers.study_runs import few_digits, write_teacher


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"), "resnet8")
