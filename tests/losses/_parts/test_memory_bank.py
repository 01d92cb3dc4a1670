from __future__ import annotations

import copy
import gc

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts import memory_bank
from pursuhint.losses._parts.memory_bank import MemoryBank


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("number", [2, 50])  # gathered, and multiplied with the whole bank
@pytest.mark.parametrize("at_once", [2**24, 40])
def test_products(monkeypatch, number, at_once):
    monkeypatch.setattr(memory_bank, "_AT_ONCE", at_once)
    bank = MemoryBank(33, 6).double()
    queries = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    indices = torch.randint(33, (5, number))
    products = bank.products(queries, indices)
    expected = torch.stack([bank.vectors[row] @ query for row, query in zip(indices, queries)])
    torch.testing.assert_close(products, expected)
    weights = torch.randn_like(products)
    (gradient,) = torch.autograd.grad((weights * products).sum(), queries)
    (wanted,) = torch.autograd.grad((weights * expected).sum(), queries)
    torch.testing.assert_close(gradient, wanted)
    assert torch.autograd.gradcheck(lambda values: bank.products(values, indices), queries)


@pytest.mark.parametrize("number", [2, 50])
def test_gradient_is_of_what_was_read_then(number):
    bank = MemoryBank(33, 6).double()
    queries = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    indices = torch.randint(33, (5, number))
    (expected,) = torch.autograd.grad(bank.products(queries, indices).sum(), queries)
    products = bank.products(queries, indices)
    for some in ([3, 5, 3], list(range(33)), [4, 5]):
        bank.update(torch.tensor(some), torch.randn(len(some), 6, dtype=torch.float64), momentum=0.5)
    later = bank.vectors.clone()
    (gradient,) = torch.autograd.grad(products.sum(), queries)
    assert torch.equal(gradient, expected)
    assert torch.equal(bank.vectors, later)
    del products
    gc.collect()
    assert not bank._readings


def test_vectors_are_about_as_long_as_1_at_the_start():
    bank = MemoryBank(1000, 128)
    assert bank.vectors.abs().max() <= (3 / 128) ** 0.5
    torch.testing.assert_close(bank.vectors.norm(dim=1).mean(), torch.tensor(1.0), atol=0.01, rtol=0)


@pytest.mark.parametrize("precision", ["full", "half"])
def test_update_moves_and_normalises(precision):
    bank = MemoryBank(9, 4, precision=precision)
    before = bank.vectors.clone()
    new = torch.randn(3, 4)
    bank.update(torch.tensor([7, 2, 4]), new, momentum=0.25)
    for index, vector in zip((7, 2, 4), new):
        mixed = 0.25 * before[index].float() + 0.75 * vector
        tolerance = {"atol": 1e-3, "rtol": 0} if precision == "half" else {}
        torch.testing.assert_close(bank.vectors[index].float(), mixed / mixed.norm(), **tolerance)
    assert torch.equal(bank.vectors[[0, 1, 3, 5, 6, 8]], before[[0, 1, 3, 5, 6, 8]])


def test_of_a_sample_that_occurs_twice_the_last_vector_counts():
    bank, new = MemoryBank(9, 4), torch.randn(4, 4)
    other = copy.deepcopy(bank)
    bank.update(torch.tensor([3, 5, 3, 3]), new, momentum=0.5)
    other.update(torch.tensor([5, 3]), new[[1, 3]], momentum=0.5)
    assert torch.equal(bank.vectors, other.vectors)


def test_follows_the_loss_as_far_as_it_is_asked_to():
    assert MemoryBank(9, 4).double().vectors.dtype == torch.float64
    assert MemoryBank(9, 4).to("meta").vectors.device.type == "meta"
    half = MemoryBank(9, 4, precision="half")
    assert half.vectors.dtype == half.double().vectors.dtype == half.float().vectors.dtype == torch.float16
    assert half.to("meta").vectors.device.type == "meta"
    host = MemoryBank(9, 4, on_host=True)
    assert host.to("meta", torch.float64).vectors.device.type == "cpu"
    assert host.vectors.dtype == torch.float64


def test_half_precision_is_used_as_it_is_stored():
    bank = MemoryBank(9, 4, precision="half")
    queries = torch.randn(2, 4, dtype=torch.float64)
    indices = torch.tensor([[1, 5, 3], [8, 8, 0]])
    expected = (bank.vectors[indices].double() @ queries[:, :, None])[:, :, 0]
    torch.testing.assert_close(bank.products(queries, indices), expected)
    other = MemoryBank(9, 4, precision="half")
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.vectors, bank.vectors)


def test_refuses_other_precisions():
    with pytest.raises(PursuhintError, match="precision must be one of full, half; got 'quarter'"):
        MemoryBank(9, 4, precision="quarter")
