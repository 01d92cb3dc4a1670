"""A teacher's outputs on disk, epoch by epoch: what is there is read, the rest is computed and written.

Every output of an epoch is one safetensors file with the rows of the epoch in the order of training, and the
indices of its samples. It is written batch by batch and gets its name once the epoch is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pursuhint._util.atomic_files import atomic_path
from pursuhint.distillation.teacher import TeacherOutputs
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import ReducedTap

_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
_BY_NAME = {str(kind).removeprefix("torch."): kind for kind in _TYPES}

LOGITS, EMBEDDING, SECOND_LOGITS = "logits", "embedding", "second-logits"


def output_names(outputs: TeacherOutputs) -> tuple[str, ...]:
    """Names of outputs in a recording: ``logits``, ``embedding``, one for each hint point, ``second-logits``.

    The last one is for the logits of a second view.
    """
    names = [LOGITS] * outputs.logits + [EMBEDDING] * outputs.embedding
    return (*names, *map(_point_name, outputs.points), *[SECOND_LOGITS] * outputs.second_view)


def _point_name(point: HintPoint) -> str:
    """Name of the tensor at a point: two points with the same tap are the same tensor."""
    tap = point.tap
    reduced = ["reduced"] * isinstance(tap, ReducedTap)
    text = json.dumps([tap.module, tap.kind, tap.call, tap.axes, tap.grid, *reduced])
    return f"map-{point.position}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


class RecordedTeacher:
    """Outputs of a frozen teacher in a folder, by epoch and step.

    What is not there is computed, and written if the epoch is followed from its first step to its last. The
    values come back as they were computed, in the memory layout that they had.

    Args:
        folder: of the recording; it exists.
        samples: in an epoch.
        batch_size: samples in a batch; the last one may have fewer.
        stored: type in which values are stored; None for the one in which they are computed. Values that it
            does not hold exactly must have been rounded before.
        writes: whether to write what is not there.
    """

    def __init__(
        self,
        folder: Path,
        samples: int,
        batch_size: int,
        *,
        stored: torch.dtype | None = None,
        writes: bool = True,
    ) -> None:
        self.folder = folder
        self.samples = samples
        self.batch_size = batch_size
        self.stored = stored
        self.writes = writes
        self._epoch = 0
        self._readers: dict[str, _Reader] = {}
        self._writers: dict[str, _Writer] = {}

    def path(self, epoch: int, output: str) -> Path:
        """The file of an output in an epoch, from 1."""
        return self.folder / f"epoch-{epoch}" / f"{output}.safetensors"

    def has(self, epoch: int, outputs: TeacherOutputs) -> bool:
        """Whether everything that is wanted of an epoch is recorded."""
        return all(self.path(epoch, name).exists() for name in output_names(outputs))

    def __call__(
        self,
        position: tuple[int, int],
        indices: Tensor,
        outputs: TeacherOutputs,
        compute: Callable[[], Features],
    ) -> Features:
        """The outputs for a batch.

        Args:
            position: epoch and step, both from 1.
            indices: of the batch's samples, (N,).
            outputs: those wanted, without ``input_gradients``.
            compute: runs the teacher on the batch, for these outputs.

        Raises:
            PursuhintError: a file of the recording is damaged or has other samples, or a value is too large
                for the type in which it is stored.
        """
        names = output_names(outputs)
        epoch, step = position
        if epoch != self._epoch:
            self.close()
            self._epoch = epoch
        start = (step - 1) * self.batch_size
        rows = slice(start, start + len(indices))
        for name in names:
            if name not in self._readers and name not in self._writers:
                self._open(name, first=start == 0)
        found = {name: self._readers[name].read(rows, indices) for name in names if name in self._readers}
        if len(found) < len(set(names)):
            computed = dict(zip(names, _parts(compute())))
            found = computed | found
            self._write({name: computed[name] for name in names if name not in self._readers}, rows, indices)
        maps = names[outputs.logits + outputs.embedding : len(names) - outputs.second_view]
        return Features(
            found[LOGITS] if outputs.logits else None,
            found[EMBEDDING] if outputs.embedding else None,
            tuple(found[name] for name in maps),
            found[SECOND_LOGITS] if outputs.second_view else None,
        )

    def close(self) -> None:
        """Close all files; an epoch that is not complete is not kept."""
        for writer in self._writers.values():
            writer.abandon()
        self._readers, self._writers = {}, {}

    # -- inner workings ------------------------------------------------------------------------------------

    def _open(self, name: str, *, first: bool) -> None:
        path = self.path(self._epoch, name)
        if path.exists():
            self._readers[name] = _Reader(path, self.samples)
        elif self.writes and first:
            self._writers[name] = _Writer(path, self.samples, self.stored)

    def _write(self, computed: Mapping[str, Tensor], rows: slice, indices: Tensor) -> None:
        for name, writer in list(self._writers.items()):
            if name not in computed or writer.rows != rows.start:  # a step was left out
                writer.abandon()
                del self._writers[name]
            elif writer.add(computed[name], indices):
                del self._writers[name]


def _parts(features: Features) -> list[Tensor]:
    parts = (features.logits, features.embedding, *features.maps, features.second_logits)
    return [part for part in parts if part is not None]


class _Reader:
    """The rows of one output of one epoch, mapped into memory."""

    def __init__(self, path: Path, samples: int) -> None:
        self.path = path
        try:
            file = safe_open(str(path), framework="pt")
            metadata = file.metadata() or {}
            self._values = file.get_slice("values")
            self._indices = file.get_tensor("indices")
            self._type = _BY_NAME[metadata["computed"]]
            self._channels_last = metadata["layout"] == "channels_last"
        except (OSError, SafetensorError, KeyError) as error:
            raise self._damaged(str(error)) from None
        if self._values.get_shape()[0] != samples or self._indices.shape != (samples,):
            raise self._damaged(f"it has {len(self._indices)} samples, and an epoch has {samples}")

    def _damaged(self, why: str) -> PursuhintError:
        return PursuhintError(
            f"the recording of the teacher {self.path} is damaged ({why}); remove the file, and the teacher "
            "runs again"
        )

    def read(self, rows: slice, indices: Tensor) -> Tensor:
        if not torch.equal(self._indices[rows], indices.cpu()):
            raise self._damaged("its samples are not those of this step")
        values = self._values[rows].to(indices.device, self._type)
        return values.contiguous(memory_format=torch.channels_last) if self._channels_last else values


class _Abandoned(Exception):
    """Ends the writing of a file that will not be complete."""


@dataclass
class _Writer:
    """Writes the rows of one output of one epoch, batch by batch, in the format of safetensors."""

    path: Path
    samples: int
    stored: torch.dtype | None
    rows: int = 0
    _file: IO[bytes] | None = None
    _exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _indices: list[Tensor] = field(default_factory=list)

    def add(self, values: Tensor, indices: Tensor) -> bool:
        """Write the rows of a batch. Returns whether the file is complete now."""
        stored = values.detach().to("cpu", self.stored or values.dtype).contiguous()
        if not torch.isfinite(stored).all():
            self.abandon()
            raise PursuhintError(
                f"the teacher's {self.path.stem} is not finite in {str(stored.dtype).removeprefix('torch.')}"
                "; store it with more range (acceleration.teacher_rounding=bf16) or as it is computed (none)"
            )
        with self._writing():
            if self._file is None:
                self._begin(values, stored)
            assert self._file is not None
            self._file.write(stored.view(torch.uint8).numpy().data)
            self._indices.append(indices.cpu())
            self.rows += len(indices)
            if self.rows < self.samples:
                return False
            self._file.write(torch.cat(self._indices).numpy().data)
            self._file.close()
        self._exits.close()  # flushes and renames
        return True

    def abandon(self) -> None:
        """Remove what was written."""
        error = _Abandoned()
        with contextlib.suppress(_Abandoned):
            self._exits.__exit__(type(error), error, None)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abandon()
            raise PursuhintError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _begin(self, values: Tensor, stored: Tensor) -> None:
        temporary = self._exits.enter_context(atomic_path(self.path))
        self._file = self._exits.enter_context(temporary.open("wb"))
        self._file.write(_header(self.path.stem, values, stored, self.samples))


def _header(name: str, values: Tensor, stored: Tensor, samples: int) -> bytes:
    """The header of a safetensors file with ``values`` and the ``indices`` of their samples."""
    size = samples * stored[0].numel() * stored.element_size()
    last = values.ndim == 4 and not values.is_contiguous()
    last = last and values.is_contiguous(memory_format=torch.channels_last)
    header: dict[str, Any] = {
        "__metadata__": {
            "output": name,
            "computed": str(values.dtype).removeprefix("torch."),
            "layout": "channels_last" if last else "contiguous",
        },
        "values": {
            "dtype": _TYPES[stored.dtype],
            "shape": [samples, *stored.shape[1:]],
            "data_offsets": [0, size],
        },
        "indices": {"dtype": "I64", "shape": [samples], "data_offsets": [size, size + 8 * samples]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
