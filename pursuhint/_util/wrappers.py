"""Look through wrappers around networks (data-parallel, averaged, compiled modules), and copy networks."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from pursuhint.errors import PursuhintError

__all__ = ["copy_network", "original_modules", "runnable", "unwrapped"]

Network = TypeVar("Network", bound=nn.Module)

# Modules that hold one other under this name and compute what it does. By class name, because the classes
# stand in parts of PyTorch that are slow to import.
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",  # what torch.compile returns
}


def _inside(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper wraps; None for other modules."""
    name = _WRAPPERS.get(type(module).__name__)
    if name is None or not isinstance(module, nn.Module) or not type(module).__module__.startswith("torch."):
        return None
    return module._modules.get(name)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside all wrappers, with the names of its own modules; the network itself without any.

    Args:
        network: perhaps in ``DataParallel``, ``DistributedDataParallel``, ``AveragedModel`` or what
            ``torch.compile`` returns.
    """
    while (inner := _inside(network)) is not None:
        network = inner
    return network


def runnable(network: nn.Module) -> nn.Module:
    """The network without wrappers, but for ``DistributedDataParallel``, which adds up gradients over ranks.

    Copies of ``DataParallel`` run in threads, and compiled code calls no hooks: neither can be read.
    """
    while (inner := _inside(network)) is not None and type(network).__name__ != "DistributedDataParallel":
        network = inner
    return network


@contextlib.contextmanager
def original_modules(network: nn.Module) -> Iterator[nn.Module]:
    """Context in which a network consists of original modules only, so that names and hooks are its own.

    Compiled and parallel modules inside it are replaced by those that they wrap, and modules that were
    compiled in place (``module.compile()``) run as written. Afterwards everything is as before.

    Args:
        network: changed within the context only.

    Yields:
        The network without wrappers; see `unwrapped`.
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    compiled: list[tuple[nn.Module, Any]] = []
    for module in list(network.modules()):
        for name, child in list(module._modules.items()):
            if child is not None and _inside(child) is not None and _inside(module) is not child:
                replaced.append((module, name, child))
        if getattr(module, "_compiled_call_impl", None) is not None and _inside(module) is None:
            compiled.append((module, module._compiled_call_impl))
    try:
        for parent, name, child in replaced:
            parent._modules[name] = unwrapped(child)
        for module, _ in compiled:
            module._compiled_call_impl = None
        yield unwrapped(network)
    finally:
        for parent, name, child in replaced:
            parent._modules[name] = child
        for module, call in compiled:
            module._compiled_call_impl = call


def copy_network(network: Network) -> Network:
    """A copy of a network that shares nothing with it, without wrappers.

    Weights that are computed before each call (``nn.utils.weight_norm``, ``nn.utils.prune``) are kept as
    tensors with a history, which PyTorch does not copy; the copy computes them again.

    Args:
        network: not changed.

    Raises:
        PursuhintError: a module cannot be copied; the message names the cause.
    """
    with original_modules(network) as inner:
        computed = [
            (module, name, value)
            for module in inner.modules()
            for name, value in vars(module).items()
            if isinstance(value, Tensor) and not value.is_leaf
        ]
        try:
            for module, name, value in computed:
                vars(module)[name] = value.detach()
            return cast(Network, copy.deepcopy(inner))
        except Exception as error:  # modules may hold anything: locks, files, handles
            reason = (str(error) or repr(error)).splitlines()[0]
            raise PursuhintError(
                f"{type(inner).__name__} cannot be copied, which training and analysis need: {reason}"
            ) from error
        finally:
            for module, name, value in computed:
                vars(module)[name] = value
