"""Accuracy of a network on a split, every sample counted exactly once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pursuhint._util.arguments import expect, expect_network
from pursuhint._util.network_input import NetworkInput, map_tensors
from pursuhint.data import Loader
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.logits import LogitsReader

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and loss of a network on a split.

    Attributes:
        top1: percent of samples whose label has the highest score.
        top5: percent of samples whose label is among the five highest scores (or all, with fewer classes).
        loss: mean cross-entropy.
        count: samples.
        indices: of the samples that this process evaluated, as in `pursuhint.data.Batch`, int64, (samples,),
            on the CPU.
        hits: whether the label of each has the highest score, bool, (samples,), on the CPU.
    """

    top1: float
    top5: float
    loss: float
    count: int
    indices: Tensor | None = field(default=None, compare=False, repr=False)
    hits: Tensor | None = field(default=None, compare=False, repr=False)


@torch.no_grad()
def evaluate(
    network: nn.Module, loader: Loader, *, reduce: Callable[[Tensor], Tensor] | None = None
) -> Evaluation:
    """Run a network over a split in evaluation mode and in its own precision.

    Args:
        network: images -> scores of shape (batch, classes), or an output that holds them (a tuple, a mapping,
            an object with ``logits``); every module's training flag is restored.
        loader: of an evaluation split, on the network's device.
        reduce: sums a tensor over ranks that each hold a shard of the split.

    Raises:
        PursuhintError: the split is empty.
    """
    expect_network(network, "the network")
    if not hasattr(loader, "epoch"):
        expect(
            loader,
            Loader,
            "the batches",
            advice="make them with make_loader(data, 'test', batch_size=256, training=False)",
        )
    sums: Tensor | None = None  # cross-entropy, top-1 hits, top-5 hits, samples: read once, at the end
    indices, hits = [], []
    read = LogitsReader(network)
    with evaluating(network):
        for batch in loader.epoch(0):
            logits = read(_channels_last(batch.images))
            wide = torch.float32 if logits.device.type == "mps" else torch.float64
            ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.labels[:, None]
            entropy = F.cross_entropy(logits.to(wide), batch.labels, reduction="sum")
            counts = torch.stack([ranked[:, 0].sum(), ranked.sum(), torch.ones_like(batch.labels).sum()])
            terms = torch.cat([entropy[None], counts.to(wide)])
            sums = terms if sums is None else sums + terms
            indices.append(batch.indices)
            hits.append(ranked[:, 0])
    if sums is None:
        raise PursuhintError("cannot evaluate on an empty split")
    loss, top1, top5, count = (reduce(sums) if reduce else sums).tolist()
    return Evaluation(
        top1=100 * top1 / count,
        top5=100 * top5 / count,
        loss=loss / count,
        count=int(count),
        indices=torch.cat(indices).cpu(),
        hits=torch.cat(hits).cpu(),
    )


def _channels_last(images: NetworkInput) -> NetworkInput:
    """Images in the memory layout that convolutions are fastest in; other tensors as they are."""

    def laid_out(values: Tensor) -> Tensor:
        return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values

    return map_tensors(images, laid_out)
