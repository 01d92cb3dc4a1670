"""Validation splits, subsets and the randomness that must never change."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pursuhint._util.seeds import derived_generator, derived_seed, stable_permutation
from pursuhint.data.image_data import ImageData
from pursuhint.data.loader import sample_indices
from pursuhint.data.splits import MemorySplit, check_labels, hold_out
from pursuhint.errors import PursuhintError


def labels_of(*counts: int) -> torch.Tensor:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


def data_with(labels: torch.Tensor) -> ImageData:
    images = torch.arange(len(labels)).remainder(256).to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return ImageData.from_tensors("toy", train=(images, labels), test=(images, labels))


def test_a_permutation_is_the_same_on_every_version() -> None:
    assert stable_permutation(10, seed=0).tolist() == [9, 4, 6, 1, 8, 0, 5, 3, 2, 7]
    assert stable_permutation(10, seed=1).tolist() == [0, 6, 9, 5, 1, 2, 4, 7, 8, 3]
    assert torch.equal(stable_permutation(1000, seed=5).sort().values, torch.arange(1000))


def test_a_permutation_sorts_the_outputs_of_splitmix64() -> None:
    state, keys = derived_seed("permutation", 11), []
    for _ in range(50):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        keys.append(z ^ (z >> 31))
    assert stable_permutation(50, seed=11).tolist() == sorted(range(50), key=keys.__getitem__)


def test_a_permutation_looks_random() -> None:
    order = stable_permutation(20_000, seed=3).double()
    place = torch.arange(20_000).double()
    assert abs(float(torch.corrcoef(torch.stack([order, place]))[0, 1])) < 4 / 20_000**0.5


def test_derived_seeds_differ_with_every_part_and_stay_the_same() -> None:
    assert derived_seed("order", 0, 1) == 4473484566461243327
    seeds = {derived_seed(word, a, b) for word in ("order", "x") for a in range(20) for b in range(20)}
    assert len(seeds) == 800
    assert (
        torch.rand(3, generator=derived_generator(1)).tolist()
        != torch.rand(3, generator=derived_generator(2)).tolist()
    )


def test_hold_out_divides_every_class_in_proportion() -> None:
    labels = labels_of(100, 40, 7, 253)
    kept, held_out = hold_out(labels, 80, seed=0)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(400))
    assert torch.bincount(labels[held_out]).tolist() == [20, 8, 1, 51]  # 20, 8, 1.4 and 50.6
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(held_out, held_out.sort().values)


@pytest.mark.parametrize("count", [1, 2, 5, 17, 60, 96])
def test_hold_out_gives_exactly_the_count_and_leaves_every_class_a_sample(count: int) -> None:
    labels = labels_of(1, 2, 50, 47, 1)
    kept, held_out = hold_out(labels, count, seed=0)
    assert len(held_out) == count
    assert set(labels[kept].tolist()) == {0, 1, 2, 3, 4}


def test_hold_out_skips_labels_that_do_not_occur() -> None:
    labels = labels_of(10, 0, 10)
    kept, held_out = hold_out(labels, 4, seed=0)
    assert torch.bincount(labels[held_out], minlength=3).tolist() == [2, 0, 2]
    assert len(kept) == 16


def test_hold_out_depends_on_the_seed_alone() -> None:
    labels = labels_of(50, 50)
    torch.manual_seed(0)
    first = hold_out(labels, 20, seed=4)[1]
    torch.manual_seed(1)
    assert torch.equal(first, hold_out(labels, 20, seed=4)[1])
    assert not torch.equal(first, hold_out(labels, 20, seed=5)[1])


@pytest.mark.parametrize("count", [0, 8])
def test_hold_out_refuses_too_few_and_too_many(count: int) -> None:
    with pytest.raises(PursuhintError, match=f"cannot hold out {count} of 10 samples: .* at most 7"):
        hold_out(labels_of(5, 3, 2), count, seed=0)


def test_validation_samples_come_from_training_and_keep_their_indices() -> None:
    labels = labels_of(30, 30, 40)
    whole = data_with(labels)
    data = whole.with_validation(0.2, seed=7)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (80, 20, 100)
    assert data.num_samples == whole.num_samples == 100
    both = torch.cat([data.train.indices, data.val.indices])
    assert torch.equal(both.sort().values, torch.arange(100))
    for split in (data.train, data.val):
        assert isinstance(split, MemorySplit)
        assert torch.equal(split.labels, labels[split.indices])
        assert torch.equal(split.images[:, 0, 0, 0].long(), split.indices)
    assert torch.bincount(data.val.labels).tolist() == [6, 6, 8]


def test_a_second_validation_split_is_refused() -> None:
    data = data_with(labels_of(10, 10)).with_validation(0.5)
    with pytest.raises(PursuhintError, match="toy already has a validation split of 10 samples"):
        data.with_validation(0.1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(PursuhintError, match="the validation fraction must be above 0 and below 1"):
        data_with(labels_of(10, 10)).with_validation(fraction)


def test_a_missing_or_unknown_split_says_what_to_do() -> None:
    data = data_with(labels_of(10, 10))
    with pytest.raises(PursuhintError, match="toy has no validation split; ask for one with --val-fraction"):
        data.split("val")
    with pytest.raises(PursuhintError, match="no split named 'dev'; there are train, val and test"):
        data.split("dev")
    assert data.split("test") is data.test


def test_sample_indices_are_a_seeded_draw_of_training_samples() -> None:
    data = data_with(labels_of(100, 100)).with_validation(0.1)
    drawn = sample_indices(data, 50, seed=3)
    assert len(drawn.unique()) == 50
    assert torch.isin(drawn, data.train.indices).all()
    assert torch.equal(drawn, drawn.sort().values)
    assert torch.equal(drawn, sample_indices(data, 50, seed=3))
    assert not torch.equal(drawn, sample_indices(data, 50, seed=4))


@pytest.mark.parametrize("count", [180, 181, 10_000])
def test_sample_indices_are_all_when_there_are_no_more(count: int) -> None:
    data = data_with(labels_of(100, 100)).with_validation(0.1)
    assert torch.equal(sample_indices(data, count), data.train.indices)


def test_sample_indices_needs_a_count() -> None:
    with pytest.raises(PursuhintError, match="at least 1 sample must be drawn, got 0"):
        sample_indices(data_with(labels_of(5, 5)), 0)


def test_labels_out_of_range_name_the_first_sample() -> None:
    with pytest.raises(PursuhintError, match=r"here: sample 2 has label 3, expected 0 to 2 \(3 classes\)"):
        check_labels(torch.tensor([0, 2, 3, -1]), 3, "here")
    with pytest.raises(PursuhintError, match="here: sample 3 has label -1"):
        check_labels(torch.tensor([0, 2, 1, -1]), 3, "here")
    with pytest.raises(PursuhintError, match="sample 1 has label 0, expected 1 to 3"):
        check_labels(torch.tensor([1, 0, 3]), 3, "here", first=1)


def test_image_data_checks_that_its_parts_fit_together() -> None:
    data = data_with(labels_of(5, 5))
    for change, message in (
        ({"class_names": ("a",)}, "2 classes but 1 class names"),
        ({"mean": (0.1, 0.2, 0.3)}, "1 channels but mean has 3 values"),
        ({"std": (0.0,)}, "std must be above 0 in every channel"),
        ({"num_classes": 1, "class_names": ("a",)}, "train split: sample . has label 1, expected 0 to 0"),
    ):
        with pytest.raises(PursuhintError, match=message):
            dataclasses.replace(data, **change)


def test_splits_print_as_counts_not_as_pixels() -> None:
    assert "train=MemorySplit(10 samples)" in repr(data_with(labels_of(5, 5)))
