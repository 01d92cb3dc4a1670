"""Tensors of a checkpoint: checked descriptions that are read from the file on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pursuhint._util.inert_pickle import Call, Name, Persistent
from pursuhint._util.pickled_arrays import array_of, is_array

LARGEST_EXPANSION = 1 << 24
"""Most elements of a tensor with stride 0, which can claim 10^12 elements in a storage of one."""

_STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8,
    "QUInt2x4Storage": torch.uint8,
}

_UNUSUAL = {
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch.nested._internal.nested_tensor._rebuild_njt": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor of the meta device, which has no values",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a subclass, such as a distributed one",
}

_DENSE = (
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
)

_WRAPPERS = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_device_tensor_from_numpy",
)


class Storages:
    """The storages of a checkpoint, read on demand and once each.

    Args:
        sizes: bytes of each storage in the file, by key.
        read: reads a storage's bytes from the file.
    """

    def __init__(self, sizes: Mapping[str, int], read: Callable[[str], bytearray]) -> None:
        self.sizes = sizes
        self._read = read
        self._bytes: dict[str, bytearray] = {}

    def read(self, key: str) -> bytearray:
        """The bytes of a storage."""
        if key not in self._bytes:
            self._bytes[key] = self._read(key)
        return self._bytes[key]


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Shape and type of a tensor in a file, and a function that reads its values.

    Attributes:
        shape: its sizes; empty for an unusual tensor.
        dtype: its type; None for an unusual tensor.
        read: returns the values, on the CPU.
        unusual: what it is instead of a dense tensor; None for a dense tensor.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    read: Callable[[], Tensor]
    unusual: str | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


def in_memory(tensor: Tensor) -> StoredTensor:
    """Describe a tensor that has been read already."""
    return StoredTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def stored_tensor(value: Any, storages: Storages) -> StoredTensor | None:
    """The tensor or array that a value of a checkpoint's pickle describes; None if it is neither.

    Raises:
        ValueError: the description is not consistent, or reaches beyond its storage.
    """
    while isinstance(value, Call):
        if value.name in _UNUSUAL:
            return StoredTensor((), None, _unreadable, _UNUSUAL[value.name])
        if value.name in _DENSE:
            return _dense(value, storages)
        if is_array(value):
            array = array_of(value)
            return in_memory(torch.from_numpy(array.astype(array.dtype.newbyteorder("="))))
        match value:
            case Call(name=name, arguments=(inner, *_)) if name in _WRAPPERS:
                value = inner
            case Call(
                name="torch._tensor._rebuild_from_type_v2",
                arguments=(Name() as function, Name(), tuple() as arguments, _),
            ):  # a tensor with Python attributes, which are left out
                value = Call(function.text, arguments)
            case _:
                return None
    return None


def _unreadable() -> Tensor:
    raise ValueError("not a dense tensor")


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    elements: int
    start: int = 0


def storage_of(persistent: Any) -> _Storage:
    """Read a storage's persistent identity: ("storage", type, key, device, number of elements[, view]).

    Raises:
        ValueError: it is not of this form.
    """
    identity = persistent.identity if isinstance(persistent, Persistent) else None
    match identity:
        case ("storage" | b"storage", Name(text=kind), str() | bytes() as key, _, int() as elements, *view):
            dtype = _STORAGE_TYPES.get(kind.rpartition(".")[2])
            if dtype is None or elements < 0:
                raise ValueError(f"a storage of unknown type {kind[:60]}")
            key = key if isinstance(key, str) else key.decode("latin-1")
            match view:
                case [] | [None]:
                    return _Storage(key, dtype, elements)
                case [(_, int() as start, int() as length)] if start >= 0 and 0 <= length <= elements - start:
                    return _Storage(key, dtype, elements, start)  # PyTorch before 0.4
    raise ValueError("a tensor without a storage")


def _dense(call: Call, storages: Storages) -> StoredTensor:
    match call.arguments:
        case (persistent, int() as offset, sizes, tuple() as strides, *rest):
            storage = storage_of(persistent)
        case _:
            raise ValueError("a tensor that is not stored as PyTorch stores one")
    dtype, elements = storage.dtype, storage.elements
    if elements * dtype.itemsize > storages.sizes.get(storage.key, 0):
        raise ValueError(f"a storage of {elements:,} elements that the file does not hold")
    if call.name.endswith("_v3"):  # the type is not the storage's, but named beside it
        dtype = _dtype(rest[2] if len(rest) > 2 else None)
        elements //= dtype.itemsize
    if isinstance(sizes, Call) and sizes.name == "torch.Size" and len(sizes.arguments) == 1:
        (sizes,) = sizes.arguments
    if not isinstance(sizes, tuple) or len(sizes) != len(strides) or len(sizes) > 64:
        raise ValueError("a tensor whose sizes and strides do not match")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (offset, *sizes, *strides)):
        raise ValueError("a tensor with negative or huge sizes")
    count = math.prod(sizes)
    last = storage.start + offset + sum((size - 1) * stride for size, stride in zip(sizes, strides))
    if count and last >= elements:
        raise ValueError(f"a tensor of shape {sizes} that reaches beyond its storage of {elements} elements")
    if count > max(elements, LARGEST_EXPANSION):
        raise ValueError(f"a tensor of shape {sizes} in a storage of {elements} elements")

    def values() -> Tensor:
        if not count:
            return torch.empty(sizes, dtype=dtype)
        flat = torch.frombuffer(storages.read(storage.key), dtype=dtype)
        return flat.as_strided(sizes, strides, storage.start + offset)

    metadata = rest[-1] if len(rest) > 2 + call.name.endswith("_v3") else None
    if isinstance(metadata, dict) and any(metadata.values()):
        return StoredTensor((), None, _unreadable, "a tensor that is conjugated or negated when it is read")
    return StoredTensor(sizes, dtype, values)


def _dtype(name: Any) -> torch.dtype:
    dtype = getattr(torch, name.text.rpartition(".")[2], None) if isinstance(name, Name) else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor of unknown type")
    return dtype
