from __future__ import annotations

import copy

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.negatives import NegativeSampler


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


LABELS = torch.tensor([2, 0, 1, 1, 0, -1, 2, 2, 2, 0, 5, -1])


@pytest.mark.parametrize("number", [1, 4, 6, 9, 40])
def test_draws_trained_samples_of_other_classes(number):
    sampler = NegativeSampler(12, LABELS)
    indices = torch.tensor([0, 1, 2, 10])
    drawn = sampler(indices, number)
    assert drawn.shape == (4, number)
    assert (LABELS[drawn] >= 0).all()
    assert (LABELS[drawn] != LABELS[indices][:, None]).all()


def test_draws_none_twice_unless_more_are_wanted_than_there_are():
    sampler = NegativeSampler(12, LABELS)
    known = LABELS >= 0
    others = {index: known & (LABELS[index] != LABELS) for index in (0, 1, 2, 10)}
    for index, mask in others.items():
        (drawn,) = sampler(torch.tensor([index]), int(mask.sum())).tolist()
        assert sorted(drawn) == mask.nonzero()[:, 0].tolist()
    (drawn,) = sampler(torch.tensor([0]), 300).tolist()
    assert set(drawn) == set(others[0].nonzero()[:, 0].tolist())
    mixed = sampler(torch.tensor([0, 10]), 7)  # 6 and 9 others
    assert len(set(mixed[1].tolist())) == 7


@pytest.mark.parametrize("samples", [2, 3, 10, 1000, 12345])
def test_every_permutation_is_one(samples):
    sampler = NegativeSampler(samples, None, "other_samples")
    (drawn,) = sampler(torch.tensor([1]), samples - 1).tolist()
    assert sorted(drawn) == [index for index in range(samples) if index != 1]


def test_every_other_sample_is_drawn_equally_often():
    labels = torch.arange(200) % 4
    sampler = NegativeSampler(200, labels)
    counts, pairs = torch.zeros(200), torch.zeros(200, 200)
    for _ in range(400):
        sampler.advance()
        drawn = sampler(torch.tensor([8, 16, 20]), 30)
        counts += torch.bincount(drawn.flatten(), minlength=200)
        pairs[drawn[:, 0], drawn[:, 1]] += 1
    assert not counts[labels == 0].any()
    expected = 400 * 3 * 30 / 150
    chi_square = ((counts[labels != 0] - expected) ** 2 / expected).sum()
    assert 90 < chi_square < 210  # 149 degrees of freedom, less what drawing without replacement takes away
    assert pairs.max() <= 4  # of 1200 draws of 22350 pairs


def test_depends_on_the_sample_and_the_key_alone():
    sampler = NegativeSampler(64, torch.arange(64) % 5)
    indices = torch.tensor([3, 60, 7, 21])
    drawn = sampler(indices, 9)
    assert torch.equal(sampler(indices.flip(0), 9).flip(0), drawn)
    assert torch.equal(sampler(indices[1:2], 9), drawn[1:2])
    assert torch.equal(sampler(indices, 4), drawn[:, :4])
    other = NegativeSampler(64, torch.arange(64) % 5)
    assert not torch.equal(other(indices, 9), drawn)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other(indices, 9), drawn)
    sampler.advance()
    assert not torch.equal(sampler(indices, 9), drawn)
    assert torch.equal(copy.deepcopy(sampler)(indices, 9), sampler(indices, 9))


def test_state_is_one_number():
    state = NegativeSampler(64, torch.zeros(64)).state_dict()
    assert list(state) == ["key"]
    assert state["key"].shape == ()


def test_partners_are_of_the_same_class():
    labels = torch.tensor([0, 0, 0, 1, 1, -1, 2])
    sampler = NegativeSampler(7, labels)
    seen = torch.zeros(7, 7)
    for _ in range(200):
        sampler.advance()
        partners = sampler.partners(torch.arange(7))
        assert torch.equal(labels[partners], labels)
        seen[torch.arange(7), partners] += 1
    assert (seen[:3, :3] > 40).all()
    assert seen[5, 5] == 200


def test_many_samples_without_a_table_of_them():
    labels = torch.arange(1_280_000) % 1000
    sampler = NegativeSampler(len(labels), labels)
    drawn = sampler(torch.tensor([5, 1_000_000]), 2000)
    assert drawn.unique().numel() > 3990
    assert (drawn % 1000 != torch.tensor([[5], [0]])).all()


def test_says_what_is_wrong():
    with pytest.raises(PursuhintError, match="needs the classes of the training samples"):
        NegativeSampler(8, None)
    with pytest.raises(PursuhintError, match="7 labels for 8 training samples"):
        NegativeSampler(8, torch.zeros(7))
    with pytest.raises(PursuhintError, match="negatives_from must be one of"):
        NegativeSampler(8, None, "nowhere")
    with pytest.raises(PursuhintError, match="all training samples are of one class"):
        NegativeSampler(8, torch.zeros(8))(torch.tensor([1]), 2)


def test_draws_of_a_sample_do_not_depend_on_the_others_of_its_batch():
    labels = torch.cat([torch.zeros(300), torch.ones(20)]).long()  # 20 and 300 others
    sampler = NegativeSampler(320, labels)
    both = sampler(torch.tensor([0, 310]), 12)
    assert torch.equal(both, torch.cat([sampler(torch.tensor([index]), 12) for index in (0, 310)]))
