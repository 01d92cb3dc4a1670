"""Winograd convolutions: 3x3 with fewer multiplications, for teachers on the CPU. Off by default."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["use_winograd"]

_TILES = 128
"""Tiles per chunk: few enough to stay in the cache, many enough for efficient matrix products."""

_MIN_CHANNELS = 128
"""With fewer channels the transforms cost as much as they save (measured on AVX-512)."""

# B^T, G and A^T of F(4x4, 3x3): the matrices of the paper for the interpolation points 0, 1, -1, 2 and -2.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class WinogradConv2d(nn.Module):
    r"""A 3x3 convolution by Winograd's minimal filtering, :math:`F(4 \times 4, 3 \times 3)`, for inference.

    Every input tile :math:`d` of 6x6 pixels yields 4x4 output pixels,

    .. math:: Y = A^\top \left[ (G g G^\top) \odot (B^\top d B) \right] A ,

    with 36 multiplications for each pair of channels instead of 144. It sums in another order: the
    rounding error in float32 is about ten times that of the direct sum, 1e-6 relative to the result. Its
    weights take four times the memory of the convolution's.

    Reference: A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016,
    https://arxiv.org/abs/1509.09308.

    Args:
        conv: 3x3, with a stride of 1, a padding of 1 with zeros, no dilation and one group. Images whose
            sides are not multiples of 4 use this convolution itself.

    Example:
        >>> conv = nn.Conv2d(128, 128, 3, padding=1)
        >>> WinogradConv2d(conv)(torch.zeros(2, 128, 8, 8)).shape
        torch.Size([2, 128, 8, 8])
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        weight = conv.weight.detach().cpu().double()
        g = torch.tensor(_WEIGHT, dtype=torch.float64)
        # G g G^T for every pair of channels, as (36, in_channels, out_channels).
        transformed = torch.einsum("ai,kcij,bj->abck", g, weight, g).flatten(0, 1)
        self.register_buffer("weight", transformed.to(conv.weight).contiguous(), persistent=False)
        for name, rows in (("_inward", _INPUT), ("_outward", _OUTPUT)):
            matrix = torch.tensor(rows).to(conv.weight)
            # vec(M X M^T) = (M kron M) vec(X): both sides of a tile in one product.
            self.register_buffer(name, torch.kron(matrix, matrix), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to channels-last (batch, out_channels, H, W), without gradients."""
        if images.shape[2] % 4 or images.shape[3] % 4:
            return self.conv(images)
        result: Tensor = _convolve(images, self.weight, self.conv.bias, self._inward, self._outward)
        return result


@torch.library.custom_op("pursuhint::winograd", mutates_args=())  # one operation for torch.compile, not many
def _convolve(images: Tensor, weight: Tensor, bias: Tensor | None, inward: Tensor, outward: Tensor) -> Tensor:
    samples, channels, height, width = images.shape
    down, across = height // 4, width // 4
    padded = _padded(images)
    n, row, column, _ = padded.stride()
    # Tiles of 6x6 pixels at a stride of 4 overlap by 2; a view, without a copy.
    overlapping = padded.as_strided(
        (samples, down, across, 6, 6, channels), (n, 4 * row, 4 * column, row, column, 1)
    )
    bias = images.new_zeros(()) if bias is None else bias
    result = images.new_empty(samples, down, 4, across, 4, weight.shape[2])
    for start in range(0, samples, step := max(1, _TILES // (down * across))):
        tiles = overlapping[start : start + step]
        filtered = _filtered(tiles.reshape(-1, 36, channels), weight, inward, outward)
        pixels = filtered.view(*tiles.shape[:3], 4, 4, -1).transpose(2, 3)
        torch.add(pixels, bias, out=result[start : start + step])
    return result.view(samples, height, width, -1).permute(0, 3, 1, 2)


@_convolve.register_fake
def _shape_of_result(
    images: Tensor, weight: Tensor, bias: Tensor | None, inward: Tensor, outward: Tensor
) -> Tensor:
    samples, _, height, width = images.shape
    return images.new_empty(samples, height, width, weight.shape[2]).permute(0, 3, 1, 2)


def _filtered(tiles: Tensor, weight: Tensor, inward: Tensor, outward: Tensor) -> Tensor:
    """Map tiles (count, 36, in_channels) to (count, 16, out_channels), without the bias.

    The pixels of a tile are contiguous, so that every product reads memory sequentially. The layout with one
    row for each of the 36 places takes twice as long when another process uses the shared cache.
    """
    # B^T d B; the sum over input channels of (G g G^T) * (B^T d B), one product per place; A^T [.] A.
    transformed = torch.bmm(inward.expand(len(tiles), -1, -1), tiles)
    products = torch.bmm(transformed.transpose(0, 1), weight)
    return torch.bmm(outward.expand(len(tiles), -1, -1), products.transpose(0, 1))


def _padded(images: Tensor) -> Tensor:
    """(batch, H + 2, W + 2, channels) with a border of zeros; ``pad`` would write the memory twice."""
    samples, channels, height, width = images.shape
    padded = images.new_empty(samples, height + 2, width + 2, channels)
    for border in (padded[:, 0], padded[:, -1], padded[:, :, 0], padded[:, :, -1]):
        border.zero_()
    padded[:, 1:-1, 1:-1] = images.permute(0, 2, 3, 1)
    return padded


def use_winograd(network: nn.Module) -> None:
    """Replace, in place, the convolutions of a network that Winograd makes faster."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and name and _fits(module):
            network.set_submodule(name, WinogradConv2d(module))


def _fits(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.padding in ((1, 1), "same")
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS
        and not conv._forward_hooks
        and not conv._forward_pre_hooks
        and "weight" in conv._parameters
    )
