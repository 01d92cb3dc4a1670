"""Accuracy of a network on a split, every sample counted exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pursuhint._util.arguments import expect_network
from pursuhint._util.network_input import channels_last
from pursuhint.data import DataLike, Loader, as_data, make_loader
from pursuhint.data.splits import skips_numbers
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating, failing_module_named
from pursuhint.features.logits import LogitsReader
from pursuhint.models.converted_images import images_converted

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


def evaluate(
    network: nn.Module,
    data: Loader | DataLike,
    *,
    split: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Evaluation:
    """Run a network over a split in evaluation mode and in its own precision.

    Args:
        network: images -> scores of shape (batch, classes), or an output that holds them (a tuple, a mapping,
            an object with ``logits``); every module's training flag is restored.
        data: the batches of an evaluation split, on the network's device; or whatever
            `pursuhint.data.as_data` takes: a data set, a loader, (images, labels), `ImageData`. Images of
            another normalisation than the network says that it expects are converted, those of a
            `pursuhint.data.Loader` are not.
        split: ``"test"`` (the default), ``"val"`` or ``"train"`` of the data.
        batch_size: samples in a batch; 256 by default.
        workers: processes that read samples on demand; none by default.
        reduce: sums a tensor over ranks that each hold a shard of the split.

    Raises:
        PursuhintError: the split is empty or missing, the data cannot be used, the network cannot run on
            them, or their labels skip numbers and are fewer than the network's classes.

    Example:
        >>> network = create_model("resnet8", num_classes=10, in_channels=1)
        >>> evaluate(network, load_dataset("digits")).count
        360
    """
    expect_network(network, "the network")
    if hasattr(data, "epoch"):
        if (split, batch_size, workers) != (None, None, None):
            raise PursuhintError("a loader has its split, batch size and workers; leave these options out")
        return _evaluate(network, data, reduce)
    data = as_data(data)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    loader = make_loader(
        data,
        split or "test",
        batch_size=batch_size or 256,
        training=False,
        device=device,
        workers=workers or 0,
    )
    with images_converted(network, data):
        return _evaluate(network, loader, reduce, data.class_names)


@torch.no_grad()
def _evaluate(
    network: nn.Module,
    loader: Loader,
    reduce: Callable[[Tensor], Tensor] | None,
    names: Sequence[str] = (),
) -> Evaluation:
    sums: Tensor | None = None  # cross-entropy, top-1 hits, top-5 hits, samples: read once, at the end
    indices, hits = [], []
    read = LogitsReader(network)
    with evaluating(network):
        for batch in loader.epoch(0):
            with failing_module_named(network, batch.images):
                logits = read(channels_last(batch.images))
            if sums is None and skips_numbers(names) and logits.shape[1] != len(names):
                raise PursuhintError(
                    f"the network has {logits.shape[1]} classes, and the labels are {', '.join(names[:5])}"
                    f"{', ...' if len(names) > 5 else ''}: which classes are they? Give as_data the names of "
                    "all classes of the network (class_names), in the order of its outputs"
                )
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
