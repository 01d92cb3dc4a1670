"""Losses and accuracy of an epoch, summed on the device and read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pursuhint.distillation.terms import Losses

CHECK_EVERY = 50
"""Steps between two checks that all losses are finite; each forces one GPU sync."""

_NEVER = 2**62


class MetricSums:
    """Sums of losses and correct predictions over an epoch.

    `add` is asynchronous; `problem`, `so_far` and `means` force a GPU sync.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums = torch.empty(0)
        self._first_bad = torch.empty(0)

    @torch.no_grad()
    def add(self, step: int, losses: Losses, labels: Tensor) -> None:
        """Add one batch.

        Args:
            step: number of the step in its epoch, from 1.
            losses: what the distiller returned.
            labels: of the batch, (batch,).
        """
        if not self._names:
            names = ("loss", *losses.parts, *losses.extra_metrics)
            self._begin(names, [0.0] * (len(names) + 2), labels.device)
        found = [losses.total.detach(), *losses.parts.values(), *losses.extra_metrics.values()]
        values = torch.stack([value.to(self._sums.dtype) for value in found])
        hits = (losses.logits.argmax(dim=1) == labels).sum()
        size = len(labels)
        self._sums += torch.cat([values * size, hits[None].to(values.dtype), values.new_full((1,), size)])
        bad = ~values.isfinite() & (self._first_bad == _NEVER)
        self._first_bad = self._first_bad.masked_fill(bad, step)

    def _begin(self, names: Sequence[str], sums: Sequence[float], device: torch.device) -> None:
        self._names = tuple(names)
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.tensor(sums, dtype=wide, device=device)
        self._first_bad = torch.full((len(self._names),), _NEVER, device=device)

    def state(self) -> dict[str, Any]:
        """The sums as values that JSON keeps exactly. All losses must have been finite."""
        return {"names": list(self._names), "sums": self._sums.tolist()}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a saved `state`.

        Args:
            state: returned by `state`.
            device: where the batches are.
        """
        self._begin(state["names"], state["sums"], device)

    def problem(self) -> tuple[str, int] | None:
        """Description and step of the first loss that was not finite; None if all were."""
        first_bad = self._first_bad.tolist()
        step = min(first_bad, default=_NEVER)
        if step == _NEVER:
            return None
        terms = [repr(name) for name, bad in zip(self._names, first_bad) if bad == step and name != "loss"]
        if not terms:
            return "the weighted total of the losses", step
        return f"loss term {' and '.join(terms)}", step

    def so_far(self) -> dict[str, float]:
        """Means over this rank's samples: ``loss`` (the weighted total), every term and its extra metrics."""
        *sums, _, samples = self._sums.tolist()
        return {name: value / samples for name, value in zip(self._names, sums)}

    def means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """``train_loss``, ``train_<term>`` for every term (unweighted) and ``train_top1`` in percent.

        Also ``train_<term>_<name>`` for the extra metrics of losses.

        Args:
            reduce: sums a tensor over all ranks.
        """
        *sums, hits, samples = reduce(self._sums).tolist()
        means = {f"train_{name}": value / samples for name, value in zip(self._names, sums)}
        return {**means, "train_top1": 100 * hits / samples, "samples": samples}
