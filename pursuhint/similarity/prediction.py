r"""What the similarities of all samples will be, predicted from some of them.

The similarity :math:`\theta_n` of n samples has a bias of about c/n and a variance of about v/n. Both follow
from the similarities :math:`\theta_{(s)}` with each of S shards left out (the grouped jackknife of Quenouille
and Tukey):

.. math:: \hat b = (S - 1) (\bar\theta - \theta_n), \qquad
    \hat\sigma^2 = \frac{S - 1}{S} \sum_s (\theta_{(s)} - \bar\theta)^2 .

N samples in all contain these n, so that a share :math:`1 - n/N` of both is still to come:

.. math:: \theta_N \approx \theta_n - \left(1 - \frac nN\right) \hat b
    + \sqrt{1 - \frac nN} \; \hat\sigma \, t ,

with t Student's with S - 1 degrees of freedom, because the S shards only estimate the variance. All pairs of
layers are predicted at once, with the covariances that the shards show.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pursuhint.clustering.inertia import Matrix, Similarity, as_array
from pursuhint.errors import PursuhintError

__all__: list[str] = []


def predictions(
    whole: Similarity, left_out: Similarity, *, share: float, count: int, seed: int
) -> Iterator[Matrix]:
    """Draw similarities of all samples from their predictive distribution.

    Args:
        whole: similarities on the samples so far, (layers, layers).
        left_out: with each shard of these left out, (shards, layers, layers).
        share: these samples as a fraction of all, above 0 and at most 1; at 1 nothing is left to predict.
        count: how many draws.
        seed: of the draws.

    Raises:
        PursuhintError: there are fewer than two shards, or ``share`` is out of range.
    """
    now, parts = as_array(whole), as_array(left_out)
    shards = len(parts)
    if shards < 2 or not 0 < share <= 1:
        raise PursuhintError(
            f"a prediction takes two shards or more and a share in (0, 1], got {shards}, {share}"
        )
    mean = parts.mean(axis=0)
    center = now - (1 - share) * (shards - 1) * (mean - now)
    deviations = (parts - mean) * np.sqrt((1 - share) * (shards - 1) / shards)
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = generator.standard_normal((count, shards))
    # A normal number over the root of an independent mean of squares is Student's.
    weights *= np.sqrt((shards - 1) / generator.chisquare(shards - 1, (count, 1)))
    for draw in weights:
        yield center + np.tensordot(draw, deviations, 1)
