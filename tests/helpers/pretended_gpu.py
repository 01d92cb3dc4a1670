"""A GPU that computes on the CPU: tensors say that they are on ``cuda``, mixing and waiting are noticed.

`pretended_gpu` is a context in which ``device="cuda"`` gives tensors whose values are computed on the CPU. An
operation that mixes them with tensors of the CPU is an error, as on a GPU, and every operation for which the
host of a GPU must wait is counted. Nothing but the device is pretended: values, shapes and gradients are
those of the CPU, so code that reads them runs as it does there.

PyTorch's own fake tensors have no values, which many computations depend on, and on ``cuda`` no backward pass
without a GPU; `tests.test_fake_tensors` says why, and runs every loss on those of another device.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)

aten = torch.ops.aten
# The size of the result, or a number for Python, depends on values.
DATA_DEPENDENT = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.nonzero_numpy,
    aten._unique,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
    aten.masked_select,
    aten.bincount,
    aten.histc,
    aten.equal,
    aten.is_nonzero,
    aten.allclose,
    aten.argwhere,
}
# On a GPU, PyTorch reads whether these succeeded, as its documentation says.
CHECKED = {
    aten._linalg_eigh,
    aten._linalg_check_errors,
    aten.linalg_eig,
    aten.linalg_cholesky,
    aten.linalg_inv,
    aten._linalg_svd,
    aten._linalg_solve_ex,
}
FACTORIES = {
    torch.empty,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.arange,
    torch.linspace,
    torch.logspace,
    torch.eye,
    torch.tensor,
    torch.as_tensor,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.scalar_tensor,
    torch.empty_strided,
    torch.from_numpy,
    torch.tril_indices,
    torch.triu_indices,
}


class OnTheGpu(Tensor):
    """A tensor of the pretended GPU around one of the CPU with its values."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnTheGpu:
        return Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=values.device,
        )

    def __init__(self, values: Tensor) -> None:
        self.values = values

    @property
    def device(self) -> torch.device:
        return GPU

    def record_stream(self, stream: object) -> None:
        pass

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"OnTheGpu({self.values!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func}: a tensor of the pretended GPU outside of its context")


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return OnTheGpu(values.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return gradient.values


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return OnTheGpu(gradient)


class PretendedGpu:
    """What was noticed.

    Attributes:
        waits: what the host had to wait for and where, with how often.
    """

    def __init__(self) -> None:
        self.waits: Counter[tuple[str, str]] = Counter()

    def wait(self, what: str) -> None:
        self.waits[what, _place()] += 1

    def kinds(self) -> Counter[str]:
        """What the host had to wait for."""
        found: Counter[str] = Counter()
        for (what, _), number in self.waits.items():
            found[what] += number
        return found


def _place() -> str:
    """The line of the package that is running."""
    for frame in reversed(traceback.extract_stack()):
        _, found, path = frame.filename.rpartition("/pursuhint/")
        if found and "/tests/" not in frame.filename:
            return f"{path}:{frame.lineno}"
    return "backward pass"


class _Functions(TorchFunctionMode):
    """Directs what is called by name to the device that it names."""

    def __init__(self, seen: PretendedGpu) -> None:
        super().__init__()
        self.seen = seen
        self.on_cpu = 0  # calls in progress that make a tensor on the CPU

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in _MOVES:
            return self.move(func, args, kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            generator = kwargs.get("generator")
            if generator is not None and generator.device.type != "cuda":
                raise AssertionError(f"{func.__name__}: a generator of the CPU for a tensor of the GPU")
            kwargs["device"] = "cpu"
            if func in (torch.tensor, torch.as_tensor, torch.from_numpy):
                data = kwargs.get("data", args[0] if args else None)
                if isinstance(data, OnTheGpu):
                    return func(*args, **kwargs)
                self.seen.wait("copy to the device")
                with self.cpu():
                    return _Up.apply(func(*args, **kwargs))
            return func(*args, **kwargs)
        if func in FACTORIES:
            with self.cpu():
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    @contextlib.contextmanager
    def cpu(self) -> Iterator[None]:
        self.on_cpu += 1
        try:
            yield
        finally:
            self.on_cpu -= 1

    def move(self, func, args, kwargs):
        tensor = args[0]
        wanted = _target(func, *args, **kwargs)
        target = tensor.device.type if wanted.device is None else torch.device(wanted.device).type
        if target == "cpu" and isinstance(tensor, OnTheGpu):
            self.seen.wait("copy from the device")
            tensor = _Down.apply(tensor)
        elif target == "cuda" and not isinstance(tensor, OnTheGpu):
            if not wanted.non_blocking:
                self.seen.wait("copy to the device")
            tensor = _Up.apply(tensor)
        if func in (Tensor.numpy, Tensor.tolist):
            return func(tensor)
        if wanted.dtype is None and wanted.memory_format is None:
            return tensor
        dtype = tensor.dtype if wanted.dtype is None else wanted.dtype
        return Tensor.to(tensor, dtype, memory_format=wanted.memory_format or torch.preserve_format)


@dataclass
class _Target:
    """What a call of `Tensor.to` asks for."""

    device: Any = None
    dtype: torch.dtype | None = None
    non_blocking: bool = False
    memory_format: torch.memory_format | None = None


def _target(func, tensor, *args, **kwargs) -> _Target:
    if func is not Tensor.to:
        return _Target({Tensor.cuda: "cuda", Tensor.pin_memory: None}.get(func, "cpu"), None)
    asked = _Target(kwargs.get("device"), kwargs.get("dtype"))
    asked.non_blocking = kwargs.get("non_blocking", False)
    asked.memory_format = kwargs.get("memory_format")
    flags = []
    for entry in args:
        if isinstance(entry, Tensor):
            asked.device, asked.dtype = entry.device, entry.dtype
        elif isinstance(entry, torch.dtype):
            asked.dtype = entry
        elif isinstance(entry, bool):
            flags.append(entry)
        elif entry is not None:
            asked.device = entry
    asked.non_blocking |= bool(flags[:1] and flags[0])
    return asked


_MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.numpy, Tensor.tolist, Tensor.pin_memory}


class _Operators(TorchDispatchMode):
    """Runs every operator on the values, and notices what a GPU would not."""

    def __init__(self, seen: PretendedGpu, functions: _Functions) -> None:
        super().__init__()
        self.seen, self.functions = seen, functions

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, OnTheGpu)]
        if not ours:
            result = func(*args, **kwargs)
            if tensors or self.functions.on_cpu:
                return result
            return tree_map_only(Tensor, OnTheGpu, result)  # made by an operator, beside its inputs
        self.notice(func.overloadpacket, args, kwargs, tensors)
        inner_args, inner_kwargs = tree_map_only(OnTheGpu, lambda tensor: tensor.values, (args, kwargs))
        result = func(*inner_args, **inner_kwargs)
        result = tree_map_only(Tensor, OnTheGpu, result)
        return return_and_correct_aliasing(func, args, kwargs, result)

    def notice(self, operator, args, kwargs, tensors) -> None:
        """Note what the host waits for; refuse what a GPU refuses."""
        others = [tensor for tensor in tensors if not isinstance(tensor, OnTheGpu) and tensor.ndim]
        indexes = operator in (aten.index, aten.index_put, aten.index_put_)
        if operator in (aten.copy_, aten._to_copy) and others:
            self.seen.wait("copy to the device" if isinstance(args[0], OnTheGpu) else "copy from the device")
        elif indexes and others and all(isinstance(value, OnTheGpu) for value in (args[0], *args[2:3])):
            self.seen.wait("copy to the device")  # of the indices
        elif others:
            raise AssertionError(f"{operator}: tensors of the CPU beside tensors of the GPU, {_place()}")
        if operator in DATA_DEPENDENT or operator in CHECKED:
            self.seen.wait(operator.__name__)
        masks = indexes and any(entry is not None and entry.dtype is torch.bool for entry in args[1])
        if masks and (operator is aten.index or args[2].numel() > 1):
            self.seen.wait("mask as an index")
        if operator is aten.repeat_interleave and kwargs.get("output_size") is None:
            self.seen.wait("repeat_interleave")


class _Idle:
    """A stream, an event or the choice of one: there is nothing to order or to measure."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        pass

    def wait_stream(self, stream: object) -> None:
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: object) -> float:
        return 1.0


_DRIVER = {
    **dict.fromkeys(("Stream", "stream", "current_stream", "Event", "device"), _Idle),
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    "mem_get_info": lambda device=None: (64 << 30, 80 << 30),
    "get_device_capability": lambda device=None: (9, 0),
}


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """A context with a pretended GPU, and what it notices."""
    seen = PretendedGpu()
    functions = _Functions(seen)
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # `Module.to` keeps the parameters
    try:
        with mock.patch.multiple(torch.cuda, **_DRIVER), functions, _Operators(seen, functions):
            yield seen
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def to_gpu(module: nn.Module) -> nn.Module:
    """Move a module, in place; works outside of the context, too."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(OnTheGpu(parameter.data), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnTheGpu(buffer)
    return module
