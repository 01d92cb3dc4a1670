r"""Statistics of random shards of the samples, accumulated in one pass.

Moments are additive. If those of ten shards are kept separately, the moments of every subsample (half of the
shards, all but one) are sums, exactly and without another pass. All shards have one common shift, so that
their sums are additive without translation. Where features are stored, a shard is a set of rows.

Both classes are filled batch by batch in the order of a `SampleOrder`, on one rank or several, and save their
state, so that an interrupted pass resumes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch import distributed as dist

from pursuhint._util.atomic_files import atomic_path
from pursuhint._util.distributed import rank, world_size
from pursuhint.data.sample_order import SampleOrder, Step
from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.moments import LayerMoments, MomentSums
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures

__all__ = ["MomentShards", "RowShards"]

CHUNK = 512
"""Samples accumulated at a time."""


class MomentShards:
    """Accumulate moments shard by shard.

    A finished shard takes half the memory of a `LayerMoments`, because its second moment is symmetric: 16 MB
    for the 54 blocks of resnet110. Finished shards beyond the memory budget are written to temporary files.

    Args:
        moments: empty moments, used for accumulation.
        order: order of the samples; this rank's batches of it are expected.
        memory_budget: bytes for finished shards.

    Attributes:
        moments: the moments of all samples, after `finish`.
        done: number of batches added.
    """

    def __init__(self, moments: LayerMoments, order: SampleOrder, *, memory_budget: int = 2 << 30) -> None:
        self.moments = moments
        self.done = 0
        self._steps = order.steps(rank(), world_size())
        self._memory_budget = memory_budget
        self._used = 0
        self._temporary: Path | None = None
        self._shards: list[MomentSums | Path | None] = [None] * len(order.sizes)
        self._versions = [0] * len(order.sizes)  # how often the sums of each shard were replaced
        self._current: int | None = None
        self._written: dict[int, str] = {}  # what each finished shard's file is called after the prefix
        self._outdated: list[Path] = []
        self._derived: dict[tuple[Any, bytes], Any] = {}

    def __len__(self) -> int:
        return len(self._shards)

    @classmethod
    def of_rows(cls, shards: RowShards) -> MomentShards:
        """Moments of stored features, with the same shards."""
        rows = shards.rows
        result = cls(
            LayerMoments(rows.widths, names=rows.names, device=rows.device),
            SampleOrder(torch.arange(rows.count), ((1,) * len(shards),), 1),
        )
        for shard in range(len(shards)):
            for chunk in shards.subsample([shard]).rows.split(CHUNK):
                result.moments.update(chunk.split(rows.widths, dim=1))
            result._keep(shard, result.moments.take())
        for shard in range(len(shards)):
            result.moments.add(result._sums(shard))
        result.moments.eps = list(rows.eps)
        return result

    # -- accumulating ----------------------------------------------------------------------------------------

    def update(self, features: Sequence[Tensor], *, samples: Tensor | None = None) -> None:
        """Add the next batch; see `LayerMoments.update`.

        Raises:
            PursuhintError: as `LayerMoments.update`, with the number of the batch counted over all ranks; or
                the batch has another number of samples than the order says.
        """
        step = _next(self._steps, self.done, features)
        if self.moments.shift is None:
            self._agree_on_shift(features)
        start = 0
        for shard, size in step.pieces:
            if shard != self._current:
                self._close()
                self._current = shard
            stop = start + size
            self.moments.update([layer[start:stop] for layer in features], batch=step.number)
            start = stop
        self.done += 1

    def _agree_on_shift(self, features: Sequence[Tensor] | None) -> None:
        """Broadcast the mean of rank 0's first batch as the shift of all ranks (a collective call)."""
        if world_size() == 1:
            return
        shift = torch.zeros(self.moments.total_width, dtype=self.moments.dtype, device=self.moments.device)
        if rank() == 0 and features is not None:
            z = torch.cat([layer.detach().to(shift) for layer in features], dim=1)
            # As in `LayerMoments`: relative to the first sample, so that constant columns become exactly
            # zero.
            shift = z[0] + (z - z[0]).mean(0)
        dist.broadcast(shift, 0)
        self.moments.start_from(shift)

    def _close(self) -> None:
        """Add the sums of the current shard to those of its earlier pieces, if any."""
        if self._current is not None:
            sums = self.moments.take()
            if self._shards[self._current] is not None:
                sums = self._sums(self._current).plus(sums)
            self._keep(self._current, sums)
            self._current = None

    def _keep(self, shard: int, sums: MomentSums) -> None:
        """Store the sums of a shard, in place of those that were there."""
        self._versions[shard] += 1
        if isinstance(there := self._shards[shard], MomentSums):
            self._used -= there.bytes
        if self._used + sums.bytes <= self._memory_budget:
            self._used += sums.bytes
            self._shards[shard] = sums
            return
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="pursuhint-"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        path = self._temporary / f"shard-{shard + 1}.safetensors"
        _write(path, sums)
        self._shards[shard] = path

    def finish(self) -> LayerMoments:
        """Sum each shard over all ranks, then all shards; every rank then has every shard.

        Returns:
            The moments of all samples.
        """
        if len(self) == 1:
            # A single shard was never moved out of `moments`; its shift may differ between ranks.
            self.moments.all_reduce()
            return self.moments
        self.moments.settle()
        self._close()
        if self.moments.shift is None:
            # A rank without batches must take part in the broadcast all the same.
            self._agree_on_shift(None)
        for shard in range(len(self)):
            sums = self._sums(shard)
            if world_size() > 1:
                sums = _reduced(sums, self.moments)
                self._keep(shard, sums)
            self.moments.add(sums)
        return self.moments

    def reopen(self) -> None:
        """Take further batches after `finish`, which may then be called again."""
        self.moments.clear()
        self._derived.clear()
        if rank() > 0:  # the first rank keeps what all ranks have summed up
            self._shards = [None] * len(self)
            self._used = 0

    # -- reading ---------------------------------------------------------------------------------------------

    def _sums(self, shard: int) -> MomentSums:
        sums = self._shards[shard]
        if isinstance(sums, Path):
            return _read(sums)[0]
        return self.moments.empty_like().sums() if sums is None else sums

    def sums(self) -> Iterator[MomentSums]:
        """The sums of every shard, in order; read from files one at a time."""
        return map(self._sums, range(len(self)))

    def once(self, compute: Callable[[MomentShards, Tensor], Any], subsamples: Tensor) -> Any:
        """``compute(self, subsamples)``, cached by both: for work that several metrics share."""
        key = (compute, subsamples.cpu().numpy().tobytes())
        if key not in self._derived:
            self._derived[key] = compute(self, subsamples)
        return self._derived[key]

    def subsample(self, shards: Sequence[int]) -> LayerMoments:
        """Moments of the union of some shards.

        Args:
            shards: their numbers, from 0, each once.
        """
        subsample = self.moments.empty_like()
        self.change(subsample, added=shards)
        return subsample

    def change(
        self, moments: LayerMoments, *, added: Sequence[int] = (), removed: Sequence[int] = ()
    ) -> None:
        """Add shards to the moments of a subsample, or subtract them."""
        for shard in added:
            moments.add(self._sums(shard))
        for shard in removed:
            moments.add(self._sums(shard), sign=-1)

    # -- resuming after an interruption ----------------------------------------------------------------------

    def write(self, prefix: str, slot: Path) -> None:
        """Save the state.

        Finished shards are written once and shared by all states, under another name whenever their sums have
        changed. The rest goes to the folder of one state, so that the state before stays readable
        until this one is complete.

        Args:
            prefix: folder and beginning of the file names of finished shards.
            slot: folder of this state; its file is named after the prefix.
        """
        self.moments.settle()
        for path in self._outdated:  # only the state that this one replaces refers to them
            path.unlink(missing_ok=True)
        self._outdated = []
        for shard, version in enumerate(self._versions):
            name = f"shard-{shard + 1}" + (f"-{version}" if version > 1 else "")
            there = self._shards[shard] is not None
            before = self._written.get(shard)
            if before is not None and not (there and before == name):
                self._outdated.append(_shard_file(prefix, self._written.pop(shard)))
            if there and before != name:
                _write(_shard_file(prefix, name), self._sums(shard))
                self._written[shard] = name
        extra = {} if self.moments.shift is None else {"shift": self.moments.shift}
        state = {
            "done": self.done,
            "current": self._current,
            "finished": [(shard, self._versions[shard], name) for shard, name in self._written.items()],
        }
        _write(_state_file(prefix, slot), self.moments.sums(), extra, state)

    def read(self, prefix: str, slot: Path) -> None:
        """Resume from a saved state; no batch may have been added yet.

        Raises:
            PursuhintError: a file is missing or damaged.
        """
        sums, extra, state = _read(_state_file(prefix, slot))
        if "shift" in extra:
            self.moments.start_from(extra["shift"])
        self.moments.add(sums)
        for shard, version, name in state["finished"]:
            finished = _read(_shard_file(prefix, name))[0]
            self._keep(shard, finished.to(self.moments.device))
            self._versions[shard], self._written[shard] = version, name
        self._current, self.done = state["current"], state["done"]


class RowShards:
    """Store the features of all samples, and the shard of each sample.

    Args:
        rows: empty storage.
        order: order of the samples; this rank's batches of it are expected.

    Attributes:
        rows: the features of all samples, after `finish`.
        done: number of batches added.
    """

    def __init__(self, rows: PooledFeatures, order: SampleOrder) -> None:
        self.rows = rows
        self.done = 0
        world = world_size()
        steps = [order.steps(other, world) for other in range(world)]
        self._steps = steps[rank()]
        self._shards = len(order.sizes)
        self._written: list[int] = []  # how many rows are in each file
        self._first = 1  # number of the first of these files
        # `PooledFeatures.all_reduce` concatenates the rows of all ranks in rank order, after every stretch.
        pieces = [
            piece
            for stretch in range(len(order.stretches))
            for share in steps
            for step in share
            if step.stretch == stretch
            for piece in step.pieces
        ]
        self._groups = torch.tensor([shard for shard, _ in pieces]).repeat_interleave(
            torch.tensor([size for _, size in pieces])
        )

    def __len__(self) -> int:
        return self._shards

    @property
    def groups(self) -> Tensor:
        """Shard of each sample, from 0, shape (samples,), after `finish`."""
        return self._groups[: self.rows.count]

    def update(self, features: Sequence[Tensor], *, samples: Tensor | None = None) -> None:
        """Add the next batch; see `PooledFeatures.update`.

        Raises:
            PursuhintError: as `PooledFeatures.update`, with the number of the batch counted over all ranks;
                or the batch has another number of samples than the order says.
        """
        step = _next(self._steps, self.done, features)
        self.rows.update(features, batch=step.number, samples=samples)
        self.done += 1

    @property
    def prefer_moments(self) -> bool:
        """Whether metrics on second moments cost less from `MomentShards.of_rows` than from the rows."""
        return self.rows.total_width <= self.rows.count

    def finish(self) -> PooledFeatures:
        """Gather the rows of all ranks on every rank."""
        self.rows.all_reduce()
        return self.rows

    def reopen(self) -> None:
        """Take further batches after `finish`, which may then be called again."""
        if rank() > 0:  # the first rank keeps the rows of all
            self.rows = PooledFeatures(self.rows.widths, names=self.rows.names, device=self.rows.device)
            # The state before this one still needs the files.
            self._first, self._written = self._first + len(self._written), []

    def subsample(self, shards: Sequence[int]) -> PooledFeatures:
        """Features of the union of some shards."""
        chosen = torch.isin(self.groups, torch.tensor(list(shards)))
        return self.rows.select(chosen.nonzero().flatten())

    def write(self, prefix: str, slot: Path) -> None:
        """Save the state; see `MomentShards.write`."""
        self.rows.settle()
        start = sum(self._written)
        if start < self.rows.count:
            tensors = {
                "rows": self.rows.rows[start:].cpu().contiguous(),
                "numbers": self.rows.numbers[start:].contiguous(),
            }
            path = Path(f"{prefix}.rows-{self._first + len(self._written)}.safetensors")
            with atomic_path(path) as temporary:
                save_file(tensors, temporary, metadata={"state": "{}"})
            self._written.append(self.rows.count - start)
        state = {
            "done": self.done,
            "written": self._written,
            "first": self._first,
            "eps": self.rows.eps,
        }
        with atomic_path(_state_file(prefix, slot)) as temporary:
            save_file({}, temporary, metadata={"state": json.dumps(state)})

    def read(self, prefix: str, slot: Path) -> None:
        """Resume from a saved state; no batch may have been added yet.

        Raises:
            PursuhintError: a file is missing or damaged.
        """
        _, state = _load(_state_file(prefix, slot))
        first = state.get("first", 1)
        for number in range(first, first + len(state["written"])):
            tensors, _ = _load(Path(f"{prefix}.rows-{number}.safetensors"))
            features = tensors["rows"].split(self.rows.widths, dim=1)
            self.rows.update(features, samples=tensors["numbers"])
        self.rows.eps = state["eps"]
        self._written, self._first, self.done = state["written"], first, state["done"]


def _shard_file(prefix: str, name: str) -> Path:
    return Path(f"{prefix}.{name}.safetensors")


def _state_file(prefix: str, slot: Path) -> Path:
    return slot / f"{Path(prefix).name}.safetensors"


def _next(steps: Sequence[Step], done: int, features: Sequence[Tensor]) -> Step:
    if done >= len(steps):
        raise PursuhintError(f"more batches than the {len(steps)} that were expected")
    step = steps[done]
    if len(features[0]) != step.samples:
        raise PursuhintError(
            f"expected {step.samples} samples in batch {step.number}, got {len(features[0])}"
        )
    return step


def _reduced(sums: MomentSums, moments: LayerMoments) -> MomentSums:
    """The sums of one shard, summed over all ranks."""
    # Sorted by name: collective calls must be in the same order on all ranks, and a shard that was read from
    # a file may list its tensors in another order.
    tensors = {name: sums.tensors[name].to(moments.device, copy=True) for name in sorted(sums.tensors)}
    total = replace(sums, tensors=tensors)
    counts = torch.tensor([total.count, total.batches], device=moments.device)
    eps = torch.tensor(total.eps, dtype=moments.dtype, device=moments.device)
    for tensor in (*total.tensors.values(), counts):
        dist.all_reduce(tensor)
    dist.all_reduce(eps, dist.ReduceOp.MAX)
    count, batches = counts.tolist()
    return replace(total, count=count, batches=batches, eps=tuple(eps.tolist()))


def _write(
    path: Path,
    sums: MomentSums,
    extra: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    tensors = {f"sums.{name}": tensor.cpu().contiguous() for name, tensor in sums.tensors.items()}
    tensors |= {f"extra.{name}": tensor.cpu().contiguous() for name, tensor in (extra or {}).items()}
    header = {"count": sums.count, "batches": sums.batches, "eps": sums.eps, "state": state or {}}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(header)})


def _read(path: Path) -> tuple[MomentSums, dict[str, Tensor], dict[str, Any]]:
    """The inverse of `_write`: sums, further tensors, and state."""
    tensors, header = _load(path)
    kinds: dict[str, dict[str, Tensor]] = {"sums": {}, "extra": {}}
    for name, tensor in tensors.items():
        kind, _, own = name.partition(".")
        kinds[kind][own] = tensor
    sums = MomentSums(header["count"], header["batches"], tuple(header["eps"]), kinds["sums"])
    return sums, kinds["extra"], header["state"]


def _load(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Tensors and header of a safetensors file.

    Raises:
        PursuhintError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["state"])
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise PursuhintError(f"cannot read {path}: {error}") from error
