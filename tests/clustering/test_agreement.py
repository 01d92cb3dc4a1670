"""Agreement of two clusterings and of two similarities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from pursuhint.clustering.agreement import Agreement, rand_index, rank_correlation
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import positive


def test_rand_index_equals_scikit_learn():
    generator = np.random.default_rng(0)
    for _ in range(50):
        layers = int(generator.integers(1, 15))
        first, second = generator.integers(0, 4, (2, layers))
        assert rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)


def test_rand_index_of_equal_and_of_unrelated_clusterings():
    assert rand_index([0, 0, 1, 2], [7, 7, 3, 1]) == 1
    assert rand_index([0, 1, 2], [0, 1, 2]) == 1
    assert rand_index([0, 0, 0], [0, 0, 0]) == 1
    assert rand_index([0, 0, 0, 0], [0, 1, 2, 3]) == 0
    assert rand_index([0, 0, 1, 1], [0, 1, 0, 1]) < 0
    with pytest.raises(PursuhintError, match="cannot compare clusterings of 2 and 3 layers"):
        rand_index([0, 1], [0, 1, 1])


def test_rank_correlation_equals_scipy():
    first, second = positive(9, 0), positive(9, 1)
    above = np.triu_indices(9, 1)
    expected = spearmanr(first.numpy()[above], second.numpy()[above]).statistic
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert rank_correlation(first, first**3) == pytest.approx(1), "only the order counts"


def test_rank_correlation_where_there_is_none():
    assert rank_correlation(positive(2, 0), positive(2, 1)) is None
    assert rank_correlation(torch.eye(5), positive(5, 1)) is None
    with pytest.raises(PursuhintError, match="cannot compare similarities of 3 and 4 layers"):
        rank_correlation(torch.eye(3), torch.eye(4))


def test_in_words():
    agreement = Agreement("cka", "r2cca", 0.5, 0.876, (3, 8, 13), (4, 8, 13))
    assert agreement.shared == (8, 13)
    assert agreement.sentence() == (
        "cka and r2cca: 2 of 3 positions in common (8, 13), adjusted Rand index 0.50, rank correlation 0.88"
    )
    nothing = Agreement("cka", "r2cca", 0.5, None, (3,), (4,))
    assert nothing.sentence() == "cka and r2cca: 0 of 1 positions in common (none), adjusted Rand index 0.50"
