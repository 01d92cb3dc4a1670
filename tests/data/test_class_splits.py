"""Overlapping classes of teacher and student."""

from __future__ import annotations

import pytest

from pursuhint.data import class_order, class_split
from pursuhint.data.class_splits import ORDERS
from pursuhint.errors import PursuhintError

# A few places of CIFAR-100's 100 names in the order of their labels, which is alphabetical.
CIFAR_FS_FIRST = [
    "apple",
    "aquarium_fish",
    "bear",
    "bee",
    "bottle",
    "bowl",
]  # baby, beaver and bed are not trained on


def cifar_names() -> list[str]:
    from pursuhint.data import class_splits as module

    parts = (module._FEW_SHOT_TRAIN, module._FEW_SHOT_VAL, module._FEW_SHOT_TEST)
    return sorted(name for part in parts for name in part.split())


def by_hand(order, size, shared):
    """As the authors' loader: the classes at the places n to n + size - 1."""
    places = {label: place for place, label in enumerate(order)}
    n = size - shared
    return {label for label in order if n <= places[label] < n + size}


@pytest.mark.parametrize("count", [4, 9, 10, 100, 200])
def test_the_student_slides_over_the_order(count):
    order = list(reversed(range(count)))
    half = count // 2
    for shared in range(half + 1):
        split = class_split(order, shared / half)
        assert split.teacher == tuple(order[:half])
        assert set(split.student) == by_hand(order, half, shared)
        assert len(split.shared) == len(set(split.teacher) & set(split.student)) == shared
        assert split.overlap == pytest.approx(shared / half)
    assert class_split(order, 1).student == class_split(order, 1).teacher


def test_published_overlaps_are_whole_numbers():
    assert [len(class_split(range(100), r / 100).shared) for r in range(0, 101, 20)] == [
        0,
        10,
        20,
        30,
        40,
        50,
    ]
    assert [len(class_split(range(200), r / 100).shared) for r in range(0, 101, 25)] == [0, 25, 50, 75, 100]
    assert class_split(range(200), 0.25).student == tuple(range(75, 175))


def test_tasks_of_three_classes_of_nine():
    for typed, shared in ((0.33, 1), (0.67, 2), (2 / 3, 2)):
        split = class_split(range(9), typed, size=3)
        assert (len(split.shared), split.overlap) == (shared, shared / 3)
    assert class_split(range(9), 0, size=3).student == (3, 4, 5)


@pytest.mark.parametrize(
    ("count", "overlap", "size"),
    [(10, 0.3, None), (10, 1.2, None), (10, -0.2, None), (3, 1, None), (10, 1, 6), (10, 1, 1)],
    ids=["fraction", "above", "below", "three-classes", "too-many", "one-class"],
)
def test_impossible_splits_are_refused(count, overlap, size):
    with pytest.raises(PursuhintError):
        class_split(range(count), overlap, size=size)


def test_the_published_order_of_cifar100():
    names = cifar_names()
    order = class_order("cifar100", names)
    assert sorted(order) == list(range(100))
    parts = order[:64], order[64:80], order[80:]
    assert all(list(part) == sorted(part) for part in parts)
    assert [names[label] for label in order[:6]] == CIFAR_FS_FIRST
    # The superclass "people" is cut as in CIFAR-FS: children are trained on, adults and babies are not.
    where = {name: next(n for n, part in enumerate(parts) if names.index(name) in part) for name in names}
    assert [where[name] for name in ("boy", "girl", "baby", "man", "woman")] == [0, 0, 2, 2, 2]
    assert [where[name] for name in ("beaver", "otter", "lamp", "whale")] == [1, 1, 1, 2]


def test_orders_of_other_data():
    names = [f"class {label}" for label in range(20)]
    assert class_order("cub200", names) == list(range(20))
    assert class_order("cifar100", names, order="labels") == list(range(20))
    drawn = class_order("any", names, order="seed", seed=1)
    assert sorted(drawn) == list(range(20))
    assert drawn == class_order("other", names, order="seed", seed=1)
    assert drawn != class_order("any", names, order="seed", seed=2)
    with pytest.raises(PursuhintError, match="'apple'"):
        class_order("cifar100", names)
    with pytest.raises(PursuhintError, match="published, labels, seed"):
        class_order("any", names, order="random")
    assert set(ORDERS) == {"published", "labels", "seed"}
