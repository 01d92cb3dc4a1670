"""Checks and centering of representation matrices, common to all metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint._util.arrays import as_tensor
from pursuhint.errors import PursuhintError

RELATIVE_EIGENVALUE = 1e-10
"""A direction counts towards the rank if its eigenvalue exceeds this fraction of the largest one (a singular
value of 1e-5 of the largest) and the noise floor."""


def noise_floor(mean_square: Tensor, count: int, eps: float) -> float:
    r"""The largest eigenvalue that rounding of the features alone explains.

    A number :math:`x` stored with relative spacing :math:`\epsilon` is off by an error that is uniform on an
    interval of width :math:`\epsilon |x|`, of variance :math:`\epsilon^2 x^2 / 12`. Over :math:`N` samples a
    direction of the centred scatter matrix :math:`X_c^\top X_c` therefore collects up to about
    :math:`(\epsilon^2/12)\, N \max_c \overline{x_c^2}`, and the floor is four times that.

    Args:
        mean_square: mean over samples of the squared (uncentred) features, shape (features,).
        count: number of samples.
        eps: relative spacing of the floating-point type in which the features were computed.
    """
    return 4.0 * eps**2 / 12.0 * count * float(mean_square.max())


def above_rounding(energies: Tensor, floor: float) -> Tensor:
    """Which eigenvalues of a scatter matrix count towards the rank, given its `noise_floor`."""
    return energies > max(RELATIVE_EIGENVALUE * float(energies.max()), floor)


def _checked(name: str, features: Tensor) -> Tensor:
    if features.ndim != 2 or features.shape[1] == 0:
        raise PursuhintError(
            f"{name} must be of shape (samples, features), got {tuple(features.shape)}; "
            "average feature maps over space first (pursuhint.features.MeanPooling)"
        )
    if len(features) < 2:
        raise PursuhintError(f"similarity needs at least 2 samples, got {len(features)}")
    if not features.is_floating_point():
        raise PursuhintError(f"{name} must hold floating-point numbers, got {features.dtype}")
    if not bool(torch.isfinite(features).all()):
        raise PursuhintError(f"{name} holds NaN or infinity")
    features = features.detach().to(torch.float64)
    return scaled_to_one(features)


def scaled_to_one(features: Tensor) -> Tensor:
    """Features scaled by a power of two so that the largest magnitude is in [0.5, 1).

    Metrics are invariant to a common scale. A power of two changes no digit, and fourth powers then stay
    inside the range of float64.
    """
    _, exponent = torch.frexp(features.detach().abs().max())
    return torch.ldexp(features, -exponent)


def _centered(features: Tensor) -> Tensor:
    # Relative to the first sample, a constant column is exactly zero. Relative to its computed mean it may be
    # off by a rounding error, which the CCA family would scale up to a direction.
    shifted = features - features[0]
    return shifted - shifted.mean(0)


def centered_pair(x: Tensor, y: Tensor) -> tuple[list[Tensor], list[float]]:
    """Check two representation matrices and subtract their column means.

    Args:
        x: tensor or NumPy array of shape (samples, features), any floating-point type.
        y: the same of shape (samples, other features).

    Returns:
        Both centred, in float64 and scaled by a power of two to values below 2; the `noise_floor` of each.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, or
            there are fewer than two samples.
    """
    x, y = as_tensor(x, "the values of x"), as_tensor(y, "the values of y")
    matrices = (_checked("x", x), _checked("y", y))
    if len(x) != len(y):
        raise PursuhintError(f"x and y must hold the same samples, got {len(x)} and {len(y)}")
    if x.device != y.device:
        raise PursuhintError(f"x and y must be on the same device, got {x.device} and {y.device}")
    floors = [
        noise_floor(matrix.square().mean(0), len(matrix), torch.finfo(features.dtype).eps)
        for matrix, features in zip(matrices, (x, y))
    ]
    return [_centered(matrix) for matrix in matrices], floors


def rotated(centered: Tensor) -> Tensor:
    """The same features in no more coordinates than there are samples, for metrics that ignore rotation.

    Args:
        centered: shape (samples, features).

    Returns:
        (samples, min(samples, features)), with the same inner products between samples.
    """
    samples, width = centered.shape
    if width <= samples:
        return centered
    return torch.linalg.qr(centered.T, mode="r").R.T
