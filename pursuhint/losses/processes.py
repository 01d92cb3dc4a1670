"""Statistics of a batch that is spread over several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["mean_over_processes"]


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of a constant over the samples of all processes.

    Args:
        values: one number a sample, (N,); N may differ between processes.

    Returns:
        Scalar without gradient, equal in all processes; the plain mean where there is only one.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values.mean()
    total = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    dist.all_reduce(total)
    return total[0] / total[1]
