"""Measure the accuracy of a teacher before it teaches or is analyzed, and whether it is near chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.distributed import rank, world_size
from pursuhint._util.fingerprint import fingerprint_network
from pursuhint._util.network_input import NetworkInput, first_samples
from pursuhint.data import make_loader
from pursuhint.data.fingerprint import fingerprint_data
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.logits import LogitsReader
from pursuhint.models.evaluation import evaluate
from pursuhint.models.teacher_accuracy import TeacherAccuracy

if TYPE_CHECKING:
    from pursuhint.data import ImageData, InputData

__all__ = ["measure_teacher"]

LEVEL = 0.01
"""Probability below which an accuracy is not put down to chance."""


def measure_teacher(
    network: nn.Module,
    data: ImageData | InputData,
    *,
    name: str,
    device: torch.device | str,
    workers: int = 0,
    keep: Path | None = None,
) -> TeacherAccuracy:
    """Run a teacher over the test split, and warn if it is near chance. Collective call: ranks share it.

    The accuracy is not measured if the network returns no scores of the data's classes: it has no
    classifier, or one of other classes.

    Args:
        network: moved to ``device``, and otherwise left as it was.
        data: whose test split is used.
        name: what messages call the network.
        device: where to run.
        workers: processes that decode image files.
        keep: file that keeps the accuracy, which is measured again only for another network or other data.

    Returns:
        The accuracy, or why it was not measured.
    """
    key = "" if keep is None else f"{fingerprint_network(network)} {fingerprint_data(data)}"
    found = None if keep is None else _kept(keep, key)
    if world_size() > 1:
        dist.barrier()  # every rank has looked for the file before one of them writes
    if found is None:
        found = _measure(network.to(device), data, name, torch.device(device), workers)
        if keep is not None and rank() == 0:
            write_json(keep, {"key": key, "accuracy": found.to_dict()})
    found.warn()
    return found


def _kept(path: Path, key: str) -> TeacherAccuracy | None:
    """The accuracy in a file, if it is of the network and data that the key names."""
    if not path.exists():
        return None
    values = read_json(path, "accuracy of the teacher")
    if not isinstance(values, dict) or values.get("key") != key:
        return None
    return TeacherAccuracy.from_dict(values.get("accuracy", {}))


def _measure(
    network: nn.Module, data: ImageData | InputData, name: str, device: torch.device, workers: int
) -> TeacherAccuracy:
    shard = (rank(), world_size()) if len(data.test) >= world_size() else (0, 1)
    shared = shard[1] > 1

    def total(sums: Tensor) -> Tensor:
        dist.all_reduce(sums)
        return sums

    def loader(shard: tuple[int, int]) -> Any:
        size = max(256, shard[1])
        return make_loader(
            data, "test", batch_size=size, training=False, device=device, workers=workers, shard=shard
        )

    why = _why_not(network, first_samples(next(iter(loader((0, 1)).epoch(0))).images, 2), data)
    if why is not None:
        return TeacherAccuracy(name, data.name, reason=why)
    result = evaluate(network, loader(shard), reduce=total if shared else None)
    return accuracy_of(name, data, correct=round(result.top1 * result.count / 100))


def accuracy_of(network: str, data: ImageData | InputData, *, correct: int) -> TeacherAccuracy:
    """From the number of test samples whose class has the highest score, whether that is near chance."""
    samples = len(data.test)
    share = int(torch.bincount(data.test.labels.cpu()).max()) / samples
    near = _probability_of_at_least(correct, samples, share) > LEVEL
    return TeacherAccuracy(network, data.name, 100 * correct / samples, samples, 100 * share, near)


def _why_not(network: nn.Module, images: NetworkInput, data: ImageData | InputData) -> str | None:
    """Why a network's accuracy cannot be measured; None if it can."""
    try:
        with evaluating(network), torch.no_grad():
            width = LogitsReader(network)(images).shape[1]
    except PursuhintError:
        return "it returns no scores of classes"
    if width == data.num_classes:
        return None
    return f"it returns {width} numbers an image, and {data.name} has {data.num_classes} classes"


def _probability_of_at_least(correct: int, samples: int, share: float) -> float:
    """Upper tail of the binomial distribution: at least so many successes of probability ``share``."""
    from scipy.special import bdtrc

    return float(bdtrc(correct - 1, samples, share))
