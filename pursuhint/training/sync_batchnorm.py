"""Batch norms whose batch statistics span all ranks, on GPUs and on the CPU.

PyTorch's own refuses CPU tensors. The one for the CPU stays because the tests of several processes need it:
they run without a GPU and prove that ``sync_batchnorm`` gives two ranks the student of a single process.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pursuhint._util.distributed import world_size

Module = TypeVar("Module", bound=nn.Module)


def synchronize_batchnorms(module: Module, device: torch.device) -> Module:
    """Replace every batch norm inside a module by one whose batch statistics span all ranks.

    Parameters and buffers stay the same tensors under the same names, so optimisers, checkpoints and hint
    points need no change.

    Args:
        module: changed in place. It must not itself be a batch norm.
        device: where it will train. On a GPU `torch.nn.SyncBatchNorm` is used, which refuses CPU tensors; on
            the CPU `SynchronizedBatchNorm`.
    """
    kind = SynchronizedBatchNorm if device.type == "cpu" else nn.SyncBatchNorm
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _like(child, kind))
        else:
            synchronize_batchnorms(child, device)
    return module


def _like(norm: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    """A batch norm of another class with the same parameters, buffers and mode."""
    new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(norm, name))
    return new.train(norm.training)


class SynchronizedBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` for the CPU.

    In training mode mean and variance are computed over the samples of all ranks, with gradient; shards may
    differ in size. In evaluation mode, and with one process, it is an ordinary batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) channel by channel."""
        batch_statistics = self.training or self.running_mean is None
        if not batch_statistics or world_size() == 1:
            return super().forward(input)
        shape = (1, -1, *[1] * (input.ndim - 2))
        # (channels, samples x positions), in float64 because E[x^2] - E[x]^2 cancels.
        rows = input.double().transpose(0, 1).flatten(1)
        own = torch.cat([rows.sum(1), (rows * rows).sum(1), rows.new_tensor([rows.shape[1]])])
        total: Tensor = _Sum.apply(own)
        # Sums, sums of squares and the count travel in one reduction; shards may differ in size.
        count = total[-1].detach()
        mean = total[: self.num_features] / count
        variance = (total[self.num_features : -1] / count - mean * mean).clamp_min(0)
        self._remember(mean, variance * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return input * scale.to(input.dtype).view(shape) + shift.to(input.dtype).view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or not self.training:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class _Sum(torch.autograd.Function):
    """All-reduce (sum) of a tensor, with gradient: the gradient of a sum over ranks is summed over ranks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total
