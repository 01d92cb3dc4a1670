"""A feature extractor whose network runs through ``torch.compile``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, call_as_given, in_precision_of, tensors_of
from pursuhint._util.wrappers import original_modules, runnable
from pursuhint.acceleration.options import CompileMode
from pursuhint.errors import PursuhintError
from pursuhint.features.axes import features_at
from pursuhint.features.call_trace import first_tensor
from pursuhint.features.extractor import FeatureExtractor, Features

if TYPE_CHECKING:
    from pursuhint.features.hint_points import HintPoint

__all__ = ["CompiledExtractor"]


class CompiledExtractor(FeatureExtractor):
    """Run a network through ``torch.compile`` and return what a `FeatureExtractor` would.

    The hooks are part of what is compiled: what they read leaves the graph as further outputs, and of the
    network only what leads to an output is left. The network itself is not wrapped, so its names, state and
    mode stay its own. Only batches of the first one's size run compiled, so that the smaller last batch of an
    epoch does not have everything compiled a second time.

    Args:
        network: as in `FeatureExtractor`.
        points: the same.
        logits: the same.
        embedding: the same.
        mode: of ``torch.compile``.

    Raises:
        PursuhintError: as in `FeatureExtractor`; or a point is an activation that the network applies as a
            function, which no hook sees.
    """

    def __init__(
        self,
        network: nn.Module,
        points: Sequence[HintPoint] = (),
        *,
        logits: bool = True,
        embedding: bool = False,
        mode: CompileMode = "default",
    ) -> None:
        super().__init__(runnable(network), points, logits=logits, embedding=embedding)
        for point in self.points:
            if point.tap.kind.startswith("functional"):
                raise PursuhintError(
                    f"hint point {point} of {type(network).__name__} is where an activation is applied as a "
                    "function, which cannot be read in a compiled network; set acceleration.compile=off"
                )
        self._found: dict[int, Tensor] = {}
        self._calls: dict[tuple[str, str], int] = {}
        self._hooks: dict[tuple[str, str], Callable[..., None]] | None = None
        self._shape: tuple[torch.Size, ...] | None = None
        self._run = torch.compile(self._run_network, mode=None if mode == "default" else mode)
        self._replays = mode != "default"

    def __call__(self, images: NetworkInput) -> Features:
        shape = tuple(values.shape for values in tensors_of(images))
        if self._shape is None:
            self._shape = shape
            if self.logits:
                self._logits.prepare(images)  # not within what is compiled
        if shape != self._shape:
            return super().__call__(images)
        taps = self._all_taps(images)
        if self._hooks is None:  # made once: what is compiled remembers them
            self._hooks = {(tap.module, tap.kind): self._hook(tap.module, tap.kind) for tap in taps}
        images = in_precision_of(self.network, images)
        with contextlib.ExitStack() as exits:
            modules = dict(exits.enter_context(original_modules(self.network)).named_modules())
            for (name, kind), hook in self._hooks.items():
                if kind == "output":
                    handle = modules[name].register_forward_hook(hook)
                else:
                    handle = modules[name].register_forward_pre_hook(hook, with_kwargs=True)
                exits.callback(handle.remove)
            if self._replays and tensors_of(images)[0].is_cuda:
                torch.compiler.cudagraph_mark_step_begin()
            output, tensors = self._run(images)
        found = []
        for index, (tap, tensor) in enumerate(zip(taps, tensors)):
            if tensor is None:
                what = self.points[index] if index < len(self.points) else "the embedding"
                raise PursuhintError(
                    f"{what} was not reached in this forward pass of {type(self.network).__name__}"
                )
            found.append(features_at(tap, tensor))
        return self._features(output, found, images)

    def _run_network(self, images: NetworkInput) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """What is compiled."""
        output = call_as_given(self.network, images)
        count = len(self.taps) + self.embedding
        tensors = tuple([self._found.get(index) for index in range(count)])
        self._found.clear()
        self._calls.clear()
        return self._logits.select(output) if self.logits else None, tensors

    def _hook(self, name: str, kind: str) -> Callable[..., None]:
        """Reads everything that is wanted at one end of a module."""
        all_taps = (*self.taps, *([self._classifier] if self._classifier is not None else []))
        wanted = [
            (index, tap.call, tap.copy)
            for index, tap in enumerate(all_taps)
            if (tap.module, tap.kind) == (name, kind)
        ]

        def read(value: Any) -> None:
            number = self._calls.get((name, kind), 0)
            self._calls[name, kind] = number + 1
            for index, call, copy in wanted:
                if call == number:
                    tensor = first_tensor(value)
                    if tensor is not None:
                        self._found[index] = tensor.clone() if copy else tensor

        if kind == "output":
            return lambda module, arguments, output: read(output)
        return lambda module, arguments, named: read((*arguments, *named.values()))
