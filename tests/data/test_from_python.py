"""Data that the user has in Python: arrays, data sets, loaders, iterables and pairs of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision import transforms

from pursuhint.data import DatasetSplit, ImageData, InputData, as_data, make_loader
from pursuhint.data.fingerprint import fingerprint_data
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model, evaluate

COUNT = 24
PIXELS = torch.randint(
    0, 256, (COUNT, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
)
LABELS = torch.arange(COUNT) % 4
STEPS = [transforms.ToTensor(), transforms.Normalize((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))]
NORMALIZED = transforms.Compose(STEPS)
RANDOM = transforms.Compose([transforms.RandomCrop((6, 5), padding=2), *STEPS])


class Pictures(Dataset):
    """As torchvision's data sets are: PIL images, a transform, labels and names."""

    classes = ("ash", "beech", "elm", "oak")

    def __init__(self, transform: Any = None, pixels: Tensor = PIXELS) -> None:
        self.transform, self.pixels, self.targets = transform, pixels, LABELS.tolist()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        if not 0 <= place < len(self):
            raise IndexError(place)
        image = Image.fromarray(self.pixels[place].permute(1, 2, 0).numpy())
        return (image if self.transform is None else self.transform(image)), int(LABELS[place])


class OwnDice(Pictures):
    """Draws random numbers from a generator that no seed of ours reaches."""

    dice = np.random.default_rng(0)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        image, label = super().__getitem__(place)
        return image + float(self.dice.random()), label


def quiet(source: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PursuhintWarning)
        return as_data(source, **options)


def epoch(data: Any, number: int = 0, split: str = "train", **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    options = {"batch_size": 7, "training": True, **options}
    batches = list(make_loader(data, split, **options).epoch(number))
    return (
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.indices for batch in batches]),
    )


def in_order(data: Any, **options: Any) -> Tensor:
    return epoch(data, training=False, **options)[0]


# -- what a source becomes ---------------------------------------------------------------------------------


def test_what_is_complete_already_is_returned_as_it_is() -> None:
    data = ImageData.from_tensors("mine", train=(PIXELS, LABELS), test=(PIXELS, LABELS))
    assert as_data(data) is data


HWC = PIXELS.permute(0, 2, 3, 1).numpy()
SOURCES = {
    "tensors": (PIXELS, LABELS),
    "arrays, channels last": (HWC, LABELS.numpy()),
    "list of labels": (PIXELS.numpy(), LABELS.tolist()),
    "PIL images": ([Image.fromarray(image) for image in HWC], LABELS),
    "mapping": {"images": PIXELS, "labels": LABELS},
    "data set": Pictures(),
    "tensor data set": TensorDataset(PIXELS, LABELS),
    "list of samples": list(zip(PIXELS, LABELS.tolist())),
    "list of mappings": [
        {"image": Image.fromarray(image), "label": int(one)} for image, one in zip(HWC, LABELS)
    ],
    "loader": DataLoader(TensorDataset(PIXELS, LABELS), batch_size=5, shuffle=True),
    "iterable": iter(list(zip(PIXELS, LABELS.tolist()))),
}


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "mapping"])
def test_every_source_of_uint8_images_gives_the_same_batches(kind: str) -> None:
    whole = ImageData.from_tensors("mine", train=(PIXELS, LABELS), test=(PIXELS, LABELS))
    data = quiet(SOURCES[kind])
    assert isinstance(data, ImageData)
    for found, expected in zip(epoch(data, 1), epoch(whole, 1)):
        assert torch.equal(found, expected)


def test_anything_else_is_given_to_the_network_as_it_is() -> None:
    ids = torch.randint(0, 9, (COUNT, 7))
    for source in ((ids, LABELS), ({"ids": ids}, LABELS), {"ids": ids, "labels": LABELS}):
        data = quiet(source)
        assert isinstance(data, InputData)
        assert data.num_classes == 4
    items = [
        {"ids": row.tolist(), "label": int(label)} for row, label in zip(ids, LABELS)
    ]  # as Hugging Face's
    joined = quiet(items).train.inputs
    assert torch.equal(joined["ids"], ids)


def test_a_collate_function_pads_items_that_are_no_images() -> None:
    items = [(torch.arange(1 + place % 3), place % 2) for place in range(6)]

    def pad(batch: list[Any]) -> Any:
        rows, labels = zip(*batch)
        return {
            "ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            "labels": torch.tensor(labels),
        }

    data = quiet(DataLoader(items, batch_size=2, collate_fn=pad))  # type: ignore[arg-type]
    assert data.train.inputs["ids"].shape == (6, 3)
    with pytest.raises(PursuhintError, match="collate_fn"):
        quiet(items)


def test_a_collate_function_makes_the_images_too() -> None:
    def as_tensors(batch: list[Any]) -> Any:
        images, labels = zip(*batch)
        return torch.stack([NORMALIZED(image) for image in images]), torch.tensor(labels)

    data = quiet(DataLoader(Pictures(), batch_size=5, collate_fn=as_tensors))
    assert torch.equal(
        in_order(data), torch.stack([NORMALIZED(Pictures()[place][0]) for place in range(COUNT)])
    )


@pytest.mark.parametrize("kind", ["pair", "mapping", "triple"])
def test_splits_are_told_apart_from_images_and_labels(kind: str) -> None:
    other = (PIXELS[:8], LABELS[:8])
    sources: dict[str, Any] = {
        "pair": (Pictures(), other),
        "mapping": {"train": Pictures(), "validation": other},
        "triple": (Pictures(), other, (PIXELS[:4], LABELS[:4])),
    }
    data = quiet(sources[kind])
    sizes = {role: len(split) for role, split in data.splits.items()}
    assert sizes == ({"train": 24, "val": 8, "test": 4} if kind == "triple" else {"train": 24, "test": 8})


def test_a_share_can_be_held_out_for_the_test() -> None:
    for source in ((PIXELS, LABELS), Pictures(RANDOM), (torch.rand(COUNT, 9), LABELS)):
        data = quiet(source, test_fraction=0.25)
        assert (len(data.train), len(data.test)) == (18, 6)
        assert data.train.indices.tolist() == list(range(18))
    with pytest.raises(PursuhintError, match="test_fraction"):
        as_data((Pictures(), Pictures()), test_fraction=0.2)


def test_names_of_classes_come_from_the_data() -> None:
    assert quiet(Pictures()).class_names == ("ash", "beech", "elm", "oak")
    assert quiet(Subset(Pictures(), range(8))).class_names == ("ash", "beech", "elm", "oak")
    names = np.array(["elm", "oak", "ash", "beech"])[LABELS.numpy()]
    data = quiet((PIXELS, names))
    assert data.class_names == ("ash", "beech", "elm", "oak")
    assert data.train.labels[:4].tolist() == [2, 3, 0, 1]
    assert quiet((PIXELS, LABELS), class_names=["a", "b", "c", "d", "e"]).num_classes == 5


def test_labels_that_skip_numbers_are_classes_in_their_order() -> None:
    with pytest.warns(PursuhintWarning, match="labels 1, 3, 5, 7 are the classes 0 to 3"):
        data = as_data((PIXELS, LABELS * 2 + 1))
    assert data.class_names == ("1", "3", "5", "7")
    assert torch.equal(data.train.labels, LABELS)
    with pytest.raises(PursuhintError, match="test split: label 0 is none of the training labels"):
        quiet(((PIXELS, LABELS * 2 + 1), (PIXELS, LABELS * 2)))
    with pytest.raises(PursuhintError, match="label -1, expected 0 to 3"):
        quiet((PIXELS, LABELS - 1))
    named = quiet((PIXELS, LABELS * 2), class_names=list("abcdefg"))
    assert torch.equal(named.train.labels, LABELS * 2)


def test_labels_of_some_classes_do_not_measure_a_network_of_all() -> None:
    some = PIXELS, LABELS * 2 + 1
    seven = create_model("resnet8", num_classes=8)
    with pytest.raises(PursuhintError, match="has 8 classes, and the labels are 1, 3, 5, 7"):
        evaluate(seven, some)
    named = quiet(some, class_names=list("abcdefgh"))
    assert evaluate(seven, named).count == COUNT
    assert evaluate(create_model("resnet8", num_classes=4), some).count == COUNT


def test_what_is_assumed_of_the_same_arrays_is_said_once() -> None:
    def said(source: Any, **options: Any) -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                as_data(source, **options)
        return len(caught)

    images, labels = PIXELS.clone(), LABELS.clone()
    assert said((images, labels)) == 1
    assert said(((images, labels), (images, labels))) == 0
    assert said((images, labels), name="others") == 1
    assert said((images.numpy().copy(), labels)) == 1


# -- normalisation -----------------------------------------------------------------------------------------


def test_floating_point_images_stay_as_they_are() -> None:
    images = torch.randn(COUNT, 3, 6, 5)
    with pytest.warns(PursuhintWarning, match="unknown"):
        data = as_data((images, LABELS))
    assert torch.equal(in_order(data), images)
    assert data.preprocessing.value_range is None
    known = quiet(Pictures(NORMALIZED))
    assert torch.equal(in_order(known)[3], NORMALIZED(Pictures()[3][0]))


def test_the_normalisation_is_read_from_the_transform() -> None:
    data = quiet(Subset(Pictures(NORMALIZED), range(12)))
    assert data.preprocessing.mean == pytest.approx((0.2, 0.3, 0.4))
    assert data.preprocessing.value_range == (0.0, 1.0)
    scaled = quiet(Pictures(transforms.ToTensor()))
    assert (scaled.mean, scaled.std) == ((0.0,) * 3, (1.0,) * 3)
    assert scaled.preprocessing.value_range == (0.0, 1.0)


def test_known_images_can_be_normalised_otherwise() -> None:
    from pursuhint.data.preprocessing import IMAGENET

    data = quiet(Pictures(NORMALIZED)).normalized_with(IMAGENET)
    uint8 = quiet((PIXELS, LABELS)).normalized_with(IMAGENET)
    torch.testing.assert_close(in_order(data), in_order(uint8))


def test_the_caller_says_the_normalisation() -> None:
    images = torch.rand(COUNT, 3, 6, 5)
    data = quiet((images, LABELS), normalization={"mean": 0.5, "std": [0.5, 0.25, 0.5]})
    assert torch.equal(in_order(data), images)
    assert (data.mean, data.preprocessing.value_range) == ((0.5,) * 3, (0.0, 1.0))
    applied = quiet((PIXELS, LABELS), normalization={"mean": 0.5, "std": 0.5})
    torch.testing.assert_close(in_order(applied), (PIXELS / 255 - 0.5) / 0.5)
    with pytest.raises(PursuhintError, match="channels"):
        as_data((images, LABELS), normalization={"mean": [0, 0], "std": [1, 1]})
    with pytest.raises(PursuhintError, match="different ways"):
        as_data((Pictures(NORMALIZED), Pictures(transforms.ToTensor())))


# -- promises ----------------------------------------------------------------------------------------------


def test_random_transforms_follow_seed_and_epoch_in_any_number_of_workers() -> None:
    with pytest.warns(PursuhintWarning, match="drawn from seed, epoch and sample"):
        data = as_data(Pictures(RANDOM))
    assert isinstance(data.train, DatasetSplit)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = epoch(data, 2)
    assert torch.equal(torch.get_rng_state(), before)
    for other in (epoch(data, 2), epoch(data, 2, workers=1)):
        assert all(torch.equal(one, two) for one, two in zip(first, other))
    assert not torch.equal(epoch(data, 3)[0], first[0])
    assert not torch.equal(epoch(data, 2, seed=1)[0], first[0])
    assert fingerprint_data(data) == fingerprint_data(quiet(Pictures(RANDOM)))
    assert fingerprint_data(data) != fingerprint_data(quiet(Pictures(RANDOM, PIXELS.flip(0))))


def test_a_resumed_epoch_has_the_remaining_batches() -> None:
    loader = make_loader(quiet(Pictures(RANDOM)), "train", batch_size=7, training=True)
    whole, rest = list(loader.epoch(1)), list(loader.epoch(1, start=2))
    assert [torch.equal(a.images, b.images) for a, b in zip(whole[2:], rest)] == [True, True]


def test_private_random_numbers_break_the_promise_and_it_is_said() -> None:
    with pytest.warns(PursuhintWarning, match="equal seeds do not give equal runs"):
        data = as_data(OwnDice(NORMALIZED))
    assert data.train.private
    assert any("resumed" in note for note in data.notes)
    assert fingerprint_data(data) == fingerprint_data(data)


def test_an_iterable_is_read_once() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(zip(PIXELS, LABELS.tolist()))

    for source in (Stream(), DataLoader(Stream(), batch_size=5)):
        with pytest.warns(PursuhintWarning, match="read once"):
            data = as_data(source)
        assert isinstance(data.train, MemorySplit)
        assert torch.equal(data.train.images, PIXELS)


def test_a_sampler_draws_the_training_samples_by_seed_and_epoch() -> None:
    weights = [float(place < 6) for place in range(COUNT)]
    sampler = WeightedRandomSampler(weights, 50)
    data = quiet(DataLoader(TensorDataset(PIXELS, LABELS), sampler=sampler))
    indices = epoch(data, 1)[2]
    assert len(indices) == 50
    assert set(indices.tolist()) == set(range(6))
    assert torch.equal(epoch(data, 1)[2], indices)
    assert not torch.equal(epoch(data, 2)[2], indices)
    assert in_order(data).shape[0] == COUNT  # evaluation sees every sample once
    own = WeightedRandomSampler(weights, 50, generator=torch.Generator())
    with pytest.warns(PursuhintWarning, match="random numbers of its own"):
        as_data(DataLoader(TensorDataset(PIXELS, LABELS), sampler=own))


def test_a_large_data_set_is_read_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    from pursuhint.data import python_sources

    small = quiet(Pictures())
    monkeypatch.setattr(python_sources, "IN_MEMORY", 100)
    large = quiet(Pictures())
    assert isinstance(large.train, DatasetSplit)
    for one, other in zip(epoch(large, 1), epoch(small, 1)):
        assert torch.equal(one, other)
    with pytest.raises(PursuhintError, match="map-style"):
        as_data(iter(list(zip(PIXELS, LABELS.tolist()))))


# -- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "load_dataset"),
        ("number", "of type"),
        ("no labels", "must be \\(input, label\\)"),
        ("no label key", "none of them is a label"),
        ("float labels", "whole number"),
        ("sizes", "one size"),
        ("raises", "ValueError: broken"),
        ("splits", "in the same way"),
        ("empty", "no samples"),
    ],
)
def test_what_cannot_be_used_gets_one_line(kind: str, words: str) -> None:
    class Broken(Pictures):
        def __getitem__(self, place: int) -> tuple[Any, int]:
            if place == 5:
                raise ValueError("broken")
            return super().__getitem__(place)

    sources: dict[str, Any] = {
        "text": "cifar10",
        "number": 3,
        "no labels": [(PIXELS[0],)],
        "no label key": [{"image": PIXELS[0]}],
        "float labels": [(PIXELS[0], 0.5)],
        "sizes": [(PIXELS[0], 0), (PIXELS[0, :, :4], 1)],
        "raises": Broken(),
        "splits": (Pictures(), Pictures(NORMALIZED)),
        "empty": [],
    }
    with pytest.raises(PursuhintError, match=words):
        quiet(sources[kind])


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        pytest.param([0.0, 1.0, 0.0, 1.0], r"float64 such as 0.0.*\.long\(\)", id="whole floats"),
        pytest.param([0, 1, 2.5, 1], r"sample 2 has 2.5", id="fractions"),
        pytest.param([0, float("nan"), 1, 1], r"sample 1 has nan", id="nan"),
        pytest.param([True, False, True, True], r"bool such as True", id="booleans"),
        pytest.param([0, None, 1, 1], r"'None' \(NoneType\) as sample 1", id="none"),
        pytest.param([0, 1, "oak", 1], r"'oak' \(str\) as sample 2, where sample 0 has '0'", id="mixed"),
        pytest.param([0, 10**30, 1, 1], "more than 64 bits", id="large"),
        pytest.param(np.eye(2)[[0, 1, 0, 1]], r"of shape \(4, 2\).*argmax", id="one-hot"),
    ],
)
def test_labels_that_are_no_labels_are_named_in_every_kind_of_source(labels: Any, found: str) -> None:
    pictures = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in PIXELS[:4]]
    sources = {
        "tensor": (PIXELS[:4], labels),
        "pictures": (pictures, labels),
        "items": list(zip(PIXELS[:4], labels)),
        "train": {"train": (PIXELS[:4].numpy(), labels), "test": (PIXELS[:4].numpy(), labels)},
    }
    for kind, source in sources.items():
        with pytest.raises(PursuhintError, match=f"labels must be one whole number or text .*{found}"):
            pytest.fail(f"{kind}: {quiet(source)}")
    assert quiet((PIXELS[:4], [torch.tensor(1), 0, np.int8(0), 1])).train.labels.tolist() == [1, 0, 0, 1]
    assert quiet((pictures, ["oak", "elm", "oak", "elm"])).class_names == ("elm", "oak")


def test_pictures_of_16_bits_are_scaled_and_deeper_ones_refused() -> None:
    values = np.arange(4 * 64, dtype=np.uint16).reshape(4, 8, 8) * 257
    with pytest.warns(PursuhintWarning, match="images of 16 bits are scaled to 8"):
        data = as_data(([Image.fromarray(each) for each in values], [0, 1, 0, 1]))
    assert isinstance(data.train, MemorySplit)
    assert data.train.images.flatten().tolist() == list(range(256))
    deep = [Image.fromarray(each.astype(np.float32)) for each in values]
    with pytest.raises(PursuhintError, match="sample 0 of arrays has more than 16 bits a pixel"):
        quiet((deep, [0, 1, 0, 1]))
    with pytest.raises(PursuhintError, match="images of 16 bits have no known range"):
        quiet((values, [0, 1, 0, 1]))
    tokens = quiet((values[:, 0], [0, 1, 0, 1]))  # two axes: no images
    assert isinstance(tokens, InputData)


def test_pictures_of_several_sizes_are_resized_when_asked_for() -> None:
    uneven = [(Image.new("RGB", (8 + place, 9)), place % 2) for place in range(4)]
    with pytest.raises(PursuhintError, match="image_size"):
        as_data(uneven)
    assert quiet(uneven, image_size=(6, 7)).image_size == (6, 7)
    assert quiet(uneven, image_size=8).with_channels(1).in_channels == 1


@pytest.mark.filterwarnings("ignore::pursuhint.PursuhintWarning")
def test_a_network_that_cannot_take_the_arrays_is_named_with_their_shape() -> None:
    network = create_model("resnet8", num_classes=3, in_channels=1)
    labels = np.arange(6) % 3
    images = np.random.default_rng(0).random((6, 8, 8), np.float32)
    assert evaluate(network, (images[:, None], labels)).count == 6
    with pytest.raises(
        PursuhintError, match=r"cannot run on input of shape \(2, 8, 8\) \(in its module 'conv1'\)"
    ):
        evaluate(network, (images, labels))  # without an axis of channels
