"""Hashes tell settings and tensors apart."""

from __future__ import annotations

import torch

from pursuhint._util.fingerprint import fingerprint_network, fingerprint_values


def test_values_and_tensors_count():
    values = {
        "a": 1,
        "b": [1, "x"],
        "t": torch.arange(3),
        "empty": torch.zeros(0),
        "scalar": torch.tensor(1.0),
    }
    known = {fingerprint_values(values)}
    for change in (
        {"a": 2},
        {"b": [1, "y"]},
        {"c": None},
        {"t": torch.arange(3).flip(0)},
        {"t": torch.arange(3, dtype=torch.int32)},
        {"t": torch.arange(3)[:, None]},
        {"scalar": torch.tensor(2.0)},
    ):
        other = fingerprint_values({**values, **change})
        assert other not in known
        known.add(other)
    assert fingerprint_values({**values, "t": torch.arange(3)}) in known, "equal tensors are equal"
    assert fingerprint_values({"b": [1, "x"], **values}) in known, "the order of plain values does not matter"


def test_a_wrapped_network_is_the_one_inside():
    network, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    assert fingerprint_network(torch.nn.DataParallel(network)) == fingerprint_network(network)
    assert fingerprint_network(torch.nn.DataParallel(network)) != fingerprint_network(other)
