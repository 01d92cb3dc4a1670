"""One pass over the data, sharded over ranks, that resumes after an interruption."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch import distributed as dist

from pursuhint._util.atomic_files import make_folder, remove_halves
from pursuhint._util.distributed import rank, world_size
from pursuhint._util.fingerprint import fingerprint_network, fingerprint_values
from pursuhint._util.timing import CollectSeconds, Stopwatch
from pursuhint._util.two_slots import SavedState, TwoSlots
from pursuhint._util.warn_user import warn_user
from pursuhint.analysis.collection import pooled_batches
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.data.batch import Batch
from pursuhint.data.sample_order import SampleOrder, Step
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint

SAVE_EVERY = 60.0
"""Seconds between two saved states of a pass."""

ACCURACY = "accuracy.json"
"""File of a state folder that keeps the accuracy of the network."""

SHARE_OF_SAVING = 0.05
"""Largest share of the time of a pass that is spent on saving states."""


class Accumulator(Protocol):
    """Statistics that a pass accumulates: `LabeledShards` of the similarity package."""

    @property
    def done(self) -> int: ...

    def update(self, features: Sequence[Tensor], *, samples: Tensor, labels: Tensor) -> None: ...

    def write(self, prefix: str, slot: Path) -> None: ...

    def read(self, prefix: str, slot: Path) -> None: ...


class Looks(Protocol):
    """What a pass asks at the end of each of its stretches but the last."""

    def stable(self) -> bool:
        """Whether the pass may end; a collective call."""

    def state(self) -> dict[str, Any]:
        """What was seen, as plain values that go with a saved state."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""


@dataclass(frozen=True, eq=False)
class SampleSource:
    """The samples of a pass.

    Attributes:
        order: order of the samples of all ranks.
        batches_of: returns the batches of the samples with given indices, in their order and with the batch
            size of ``order``.
    """

    order: SampleOrder
    batches_of: Callable[[Tensor], Iterable[Batch]]


@dataclass(frozen=True)
class StateOptions:
    """Where and how often a pass saves its state.

    Attributes:
        folder: for the states of all ranks.
        save_every: seconds between two states, longer if saving takes more than `SHARE_OF_SAVING` of the
            time; 0 saves after every batch.
        settings: what the result depends on beside the network, its points, the samples and the
            `PassOptions`: tensors, or plain values. A pass resumes from states with equal settings only.
    """

    folder: Path
    save_every: float = SAVE_EVERY
    settings: Mapping[str, Any] = field(default_factory=dict)

    def depending_on(self, **settings: Any) -> StateOptions:
        """The same options with further settings."""
        return replace(self, settings={**self.settings, **settings})


def run_resumable_pass(
    network: nn.Module,
    taps: Mapping[str, tuple[Sequence[HintPoint], Accumulator]],
    source: SampleSource,
    *,
    options: PassOptions,
    states: StateOptions | None = None,
    looks: Looks | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> CollectSeconds:
    """Run a network over this rank's shard of the samples and accumulate its features.

    With a state folder the accumulators are saved periodically, and a pass with the same identity resumes
    from the last state. It receives the remaining batches in the same order, so its result is bit-identical
    to the result of an uninterrupted pass. The state stays until `forget` removes it.

    After a look the first of several ranks holds the sums of all, so the states of the ranks fit together
    only if they were saved between the same looks. All ranks save one right after every look, and wait for
    each other; on resuming they take the newest states that fit.

    Args:
        network: the network, on the device of ``options``.
        taps: by name, which becomes part of file names: points of the network, and their accumulator.
        source: the samples.
        options: how the network is run.
        states: where states are saved; None saves none.
        looks: asked at the end of each stretch of the samples whether the pass may end there.
        on_batch: called after each batch, and on resuming, with the number of this rank's samples so far.

    Returns:
        The time spent, including the time before an interruption.

    Raises:
        PursuhintError: as `pursuhint.analysis.collection.collect`; or a state cannot be written, or all of
            them are damaged.
    """
    seconds = CollectSeconds()
    points = [point for points, _ in taps.values() for point in points]
    order = source.order
    saved = None
    if states is not None:
        identity = _identity(network, points, order, options=options, settings=states.settings)
        saved = _PassStates(states.folder, identity, looks)
    accumulators = {name: accumulator for name, (_, accumulator) in taps.items()}
    done, open_stretch = 0, 0
    if saved is not None:
        done, open_stretch = saved.resume(accumulators, seconds, options.device)
    steps = order.steps(rank(), world_size())
    samples = sum(step.samples for step in steps[:done])
    if done > 0 and on_batch is not None:
        on_batch(samples)
    # How many of this rank's batches there are up to the end of each stretch, from the one that is open on.
    ends = [sum(step.stretch <= stretch for step in steps) for stretch in range(len(order.stretches))]
    batches = _batches(source, steps[done:])
    watch = Stopwatch(seconds, options.device)
    saver = None if saved is None or states is None else _Saver(saved, states.save_every, watch)
    with contextlib.closing(pooled_batches([(network, points)], batches, options, watch=watch)) as stream:
        for end in ends[open_stretch:]:
            for pooled, batch in islice(stream, end - done):
                start = 0
                with watch.measure("accumulate"):
                    for own, accumulator in taps.values():
                        features = pooled[start : start + len(own)]
                        accumulator.update(features, samples=batch.indices, labels=batch.labels)
                        start += len(own)
                samples += len(batch)
                if saver is not None:
                    saver.after_batch(accumulators, seconds, open_stretch)
                if on_batch is not None:
                    on_batch(samples)
            done = end
            open_stretch += 1
            if looks is not None and open_stretch < len(ends):
                watch.settle()
                if looks.stable():
                    break
                watch.restart()
                if saver is not None and world_size() > 1:
                    saver.save(accumulators, seconds, open_stretch)
                    dist.barrier()
    watch.settle()
    return seconds


def _batches(source: SampleSource, steps: Sequence[Step]) -> Iterator[Batch]:
    """The batches of some steps; each stretch is read when the one before it is done."""
    for _, stretch in groupby(steps, key=lambda step: step.stretch):
        yield from source.batches_of(source.order.indices_of(list(stretch)))


def forget(state: Path | str) -> None:
    """Remove this rank's state from a folder, and the folder if nothing else is in it.

    Collective call: barriers ensure that no rank reads or removes the folder while another still uses it.
    """
    folder = Path(state)
    shutil.rmtree(folder / _own_name(), ignore_errors=True)
    together = world_size() > 1
    if together:
        dist.barrier()
    if rank() == 0:
        (folder / ACCURACY).unlink(missing_ok=True)
        remove_halves(folder / ACCURACY)
        with contextlib.suppress(OSError):
            folder.rmdir()
    if together:
        dist.barrier()


def _own_name() -> str:
    return f"process-{rank() + 1}-of-{world_size()}"


class _PassStates(TwoSlots):
    """The folder of one rank: two states, and beside them the shards that are finished."""

    parent_name: ClassVar[str] = "the folder of the interrupted pass"
    restart: ClassVar[str] = "begin the pass again"

    def __init__(self, folder: Path, identity: str, looks: Looks | None = None) -> None:
        super().__init__(make_folder(folder) / _own_name())
        self._identity = identity
        self._looks = looks
        self._foreign = True  # whether the folder's files belong to another pass

    def age(self, progress: Mapping[str, Any]) -> tuple[int, ...]:
        return (int(progress["done"]),)

    def moment(self, progress: Mapping[str, Any]) -> str:
        return f"after batch {progress['done']}"

    def _prefix(self, name: str) -> str:
        return str(self.folder / name)

    def write(
        self, accumulators: Mapping[str, Accumulator], seconds: CollectSeconds, open_stretch: int
    ) -> None:
        """Save a state, of a pass with so many stretches behind it."""
        if self._foreign:
            # A state of another pass must not find this pass's finished shards under the names of its own.
            shutil.rmtree(self.folder, ignore_errors=True)
            self._foreign = False

        def write(slot: Path) -> None:
            for name, accumulator in accumulators.items():
                accumulator.write(self._prefix(name), slot)

        progress = {
            "identity": self._identity,
            "done": _done(accumulators),
            "open_stretch": open_stretch,
            "seconds": asdict(seconds),
        }
        if self._looks is not None:
            progress["looks"] = self._looks.state()
        self.save(progress, write)

    def resume(
        self, accumulators: Mapping[str, Accumulator], seconds: CollectSeconds, device: torch.device | str
    ) -> tuple[int, int]:
        """Read the accumulators and add the time spent.

        Returns:
            How many batches are done, and how many stretches are behind.
        """
        saved = self.load()
        own = self._stretch_of(saved)
        common = _least(own, device)
        if 0 <= common < own:
            saved = self.load(lambda progress: progress.get("open_stretch") == common)
        # All ranks resume or none, because they share the shift of their sums.
        good = _least(int(common >= 0 and self._stretch_of(saved) == common), device) == 1
        if saved is not None and saved.progress.get("identity") != self._identity:
            warn_user(
                f"the state in {self.folder} is of another network, other data or other settings; the "
                "pass begins anew"
            )
        if saved is None or not good:
            return 0, 0
        try:
            for name, accumulator in accumulators.items():
                accumulator.read(self._prefix(name), saved.folder)
        except PursuhintError as error:
            raise PursuhintError(
                f"the state in {self.folder} is damaged ({error}); remove {self.folder} to {self.restart}"
            ) from error
        self._foreign = False
        if self._looks is not None:
            self._looks.restore(saved.progress["looks"])
        for name, spent in saved.progress["seconds"].items():
            setattr(seconds, name, getattr(seconds, name) + spent)
        return _done(accumulators), common

    def _stretch_of(self, saved: SavedState | None) -> int:
        """How many stretches are behind a state; -1 without one of this pass."""
        if saved is None or saved.progress.get("identity") != self._identity:
            return -1
        return int(saved.progress["open_stretch"])


def _least(number: int, device: torch.device | str) -> int:
    """The smallest of the numbers of all ranks."""
    if world_size() == 1:
        return number
    least = torch.tensor(number, device=device)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def _done(accumulators: Mapping[str, Accumulator]) -> int:
    (done,) = {accumulator.done for accumulator in accumulators.values()}
    return done


class _Saver:
    """Saves a state when it is due; saving takes at most `SHARE_OF_SAVING` of the time."""

    def __init__(self, states: _PassStates, save_every: float, watch: Stopwatch) -> None:
        self._states = states
        self._save_every = save_every
        self._watch = watch
        self._last, self._pause = time.perf_counter(), save_every

    def after_batch(
        self, accumulators: Mapping[str, Accumulator], seconds: CollectSeconds, open_stretch: int
    ) -> None:
        if time.perf_counter() - self._last >= self._pause:
            self.save(accumulators, seconds, open_stretch)

    def save(
        self, accumulators: Mapping[str, Accumulator], seconds: CollectSeconds, open_stretch: int
    ) -> None:
        # Finish pending work of the device first, so that its time does not count as saving.
        self._watch.settle()
        began = time.perf_counter()
        self._states.write(accumulators, seconds, open_stretch)
        self._watch.restart()
        self._last = time.perf_counter()
        if self._save_every:  # 0 saves after every batch, at any cost
            self._pause = max(self._save_every, (self._last - began) / SHARE_OF_SAVING)


def _identity(
    network: nn.Module,
    points: Sequence[HintPoint],
    order: SampleOrder,
    *,
    options: PassOptions,
    settings: Mapping[str, Any],
) -> str:
    """Hash of everything that the result of a pass depends on."""
    own = {
        "network": fingerprint_network(network),  # parameters and buffers
        "points": [str(point.to_dict()) for point in points],
        "samples": order.indices,
        "stretches": order.stretches,
        "batch_size": order.batch_size,
        "pooling": str(options.pooling),
        "autocast": options.autocast,
        "fuse_batchnorm": options.fuse_batchnorm,
        "channels_last": options.channels_last,
        "states": 2,  # of versions before, they did not say how many stretches are behind
    }
    return fingerprint_values({**own, **settings})
