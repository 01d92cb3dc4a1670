"""Extract features at hint points, the embedding and the logits in one forward pass.

Hooks exist only during the call of a `FeatureExtractor`, and are removed also if it fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pursuhint._util.network_input import (
    NetworkInput,
    attention_mask,
    call_network,
    count_samples,
    few_samples,
)
from pursuhint._util.wrappers import original_modules, runnable
from pursuhint.errors import PursuhintError
from pursuhint.features.axes import features_at
from pursuhint.features.call_trace import (
    ActivationCalls,
    first_tensor,
    is_activation,
    trace_calls,
)
from pursuhint.features.embedding import find_embedding
from pursuhint.features.layers import modules_of
from pursuhint.features.logits import LogitsReader
from pursuhint.features.pooling import MeanPooling
from pursuhint.features.tap import Tap

if TYPE_CHECKING:
    from pursuhint.features.hint_points import HintPoint

__all__ = ["FeatureExtractor", "Features"]


@dataclass(frozen=True)
class Features:
    """Features of one network for one batch.

    Attributes:
        logits: (N, classes), or None if not requested.
        embedding: (N, D), the input of the classifier or, without a classifier, the output of the network;
            averaged over space or tokens if it has such axes. None if not requested.
        maps: one tensor per hint point, in the order of the extractor's points: (N, C, H, W), (N, T, C) for
            tokens, or (N, C).
        second_logits: (N, classes), of the second view of each image (see `pursuhint.data.Batch`);
            None without one, and if no loss looks at it. The rest is of the first view.
    """

    logits: Tensor | None = None
    embedding: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    second_logits: Tensor | None = None


class _Finished(Exception):
    """Ends a forward pass as soon as all requested tensors are there."""


class FeatureExtractor:
    """Run a network and return its features at hint points.

    The network is neither changed nor wrapped, and keeps its mode and device. Wrappers around it or inside it
    (``DataParallel``, ``DistributedDataParallel``, ``torch.compile``) are looked through: points have the
    names of the network inside. Where there are points, compiled modules run as written. If neither
    logits nor embedding are requested, the forward pass ends after the deepest point.

    Args:
        network: any network.
        points: hint points of this network, from `pursuhint.features.find_hint_points`.
        logits: whether to return `Features.logits`.
        embedding: whether to return `Features.embedding`, the input of the classifier; see there.

    Raises:
        PursuhintError: a point names a module that the network does not have.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        >>> features = FeatureExtractor(network, embedding=True)(torch.zeros(5, 3, 4, 4))
        >>> features.logits.shape, features.embedding.shape
        (torch.Size([5, 2]), torch.Size([5, 16]))
    """

    def __init__(
        self,
        network: nn.Module,
        points: Sequence[HintPoint] = (),
        *,
        logits: bool = True,
        embedding: bool = False,
    ) -> None:
        self.network = network
        self.points = tuple(points)
        self.logits = logits
        self.embedding = embedding
        self.taps = tuple(point.tap for point in self.points)
        self._classifier: Tap | None = None
        self._logits = LogitsReader(network)
        with original_modules(network) as inner:
            modules = dict(inner.named_modules())
        for point in self.points:
            if point.tap.module not in modules:
                raise PursuhintError(
                    f"hint point {point} is not a module of {type(network).__name__}; "
                    "find its points again with find_hint_points"
                )

    def __call__(self, images: NetworkInput) -> Features:
        """Run the network on a batch.

        Args:
            images: (N, C, H, W); or what else the network takes: token ids, a tuple of its positional
                arguments, or a mapping of its named ones. An entry ``attention_mask`` (N, tokens) leaves
                padding out of the embedding's mean.

        Raises:
            PursuhintError: a point was not reached, or its tensor was overwritten in place (which can happen
                in training mode only, and then the tap does not know it).
        """
        taps = self._all_taps(images)
        if not taps:
            return Features(logits=self._output(call_network(self.network, images), images))
        stop = not (self.logits or self.embedding)
        network = runnable(self.network)
        with original_modules(network) as inner:
            seen = _Seen(inner, taps, count_samples(images), stop=stop)
            with seen.attached():
                try:
                    output = call_network(network, images)
                except _Finished:
                    output = None
        return self._features(output, seen.tensors(self.points), images)

    @contextlib.contextmanager
    def watching(self) -> Iterator[WatchedPass]:
        """Read the features of a forward pass that the caller starts, alone or within a larger network.

        Example:
            >>> with FeatureExtractor(detector.backbone, points).watching() as seen:
            ...     losses = detector(images, targets)
            >>> seen.features().maps
        """
        with original_modules(self.network) as inner:
            watched = WatchedPass(self, _Seen(inner, self.taps, 0, stop=False))
            handle = inner.register_forward_pre_hook(watched.begin, with_kwargs=True)
            try:
                with watched.seen.attached():
                    yield watched
            finally:
                handle.remove()

    def _all_taps(self, images: NetworkInput) -> tuple[Tap, ...]:
        """Taps of the points, followed by the tap of the embedding if it is requested."""
        if not self.embedding:
            return self.taps
        if self._classifier is None:
            self._classifier = find_embedding(trace_calls(self.network, few_samples(images))).tap
        return (*self.taps, self._classifier)

    def _features(self, output: Any, tensors: list[Tensor], images: NetworkInput) -> Features:
        """Assemble the features from the network's output and the tensors at all taps."""
        embedding = None
        if self.embedding:
            embedding = tensors.pop()
            if embedding.ndim != 2:
                embedding = MeanPooling()(embedding, attention_mask(images))
        return Features(self._output(output, images), embedding, tuple(tensors))

    def _output(self, output: Any, images: NetworkInput) -> Tensor | None:
        return self._logits.read(output, images) if self.logits else None


class WatchedPass:
    """One forward pass of a network that somebody else runs; see `FeatureExtractor.watching`.

    Attributes:
        images: the first argument of the network; None before it has run.
    """

    def __init__(self, extractor: FeatureExtractor, seen: _Seen) -> None:
        self.extractor, self.seen = extractor, seen
        self.images: Any = None
        self.runs = 0

    def begin(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Hook of the network: note its input."""
        self.runs += 1
        self.images = next(iter((*arguments, *named.values())), None)
        self.seen.samples = len(self.images) if isinstance(self.images, Tensor) else 0

    def features(self) -> Features:
        """The features at the points; no logits and no embedding.

        Raises:
            PursuhintError: the network ran never or more than once, or a point was not reached.
        """
        if self.runs != 1:
            raise PursuhintError(
                f"{type(self.extractor.network).__name__} ran {self.runs} times while it was watched, "
                "expected once; watch every forward pass by itself"
            )
        return Features(maps=tuple(self.seen.tensors(self.extractor.points)))


class _Seen:
    """The hooks of one forward pass, and the tensors they caught, by index of the tap."""

    def __init__(self, network: nn.Module, taps: Sequence[Tap], samples: int, *, stop: bool) -> None:
        self.network = network
        self.taps = taps
        self.samples = samples
        self.stop = stop
        self.found: dict[int, tuple[Tensor, int]] = {}
        self.missing = set(range(len(taps)))
        self.counts: dict[tuple[str, str], int] = {}

    def _count(self, name: str, what: str) -> int:
        count = self.counts[name, what] = self.counts.get((name, what), -1) + 1
        return count

    def _catch(self, wanted: Sequence[int], call: int, value: Any) -> None:
        for index in wanted:
            tap = self.taps[index]
            if tap.call != call:
                continue
            tensor = first_tensor(value, self.samples)
            if tensor is None:
                raise PursuhintError(f"module {tap.module!r} carries no tensor that could be a feature map")
            # The version counter of a tensor grows with every operation in place: `tensors` compares it. In
            # inference mode there is none, so that a copy is taken.
            tensor = tensor.clone() if tap.copy or tensor.is_inference() else tensor
            self.found[index] = (tensor, _version(tensor))
            self.missing.discard(index)
        if self.stop and not self.missing:
            raise _Finished

    def _wanted(self) -> dict[tuple[str, str], list[int]]:
        wanted: dict[tuple[str, str], list[int]] = {}
        for index, tap in enumerate(self.taps):
            wanted.setdefault((tap.module, tap.kind), []).append(index)
        return wanted

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        modules = dict(self.network.named_modules())
        wanted = self._wanted()
        handles = []
        functional = any(kind.startswith("functional") for _, kind in wanted)
        try:
            for (name, kind), indices in wanted.items():
                if kind == "output":
                    handles.append(modules[name].register_forward_hook(self._output_hook(name, indices)))
                elif kind == "input":
                    handles.append(
                        modules[name].register_forward_pre_hook(
                            self._input_hook(name, indices), with_kwargs=True
                        )
                    )
            with contextlib.ExitStack() as exits:
                if functional:
                    exits.enter_context(self._watch_functions(modules, wanted, handles))
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _output_hook(self, name: str, indices: Sequence[int]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            self._catch(indices, self._count(name, "output"), output)

        return hook

    def _input_hook(self, name: str, indices: Sequence[int]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._catch(indices, self._count(name, "input"), (*arguments, *named.values()))

        return hook

    def _watch_functions(
        self, modules: dict[str, nn.Module], wanted: dict[tuple[str, str], list[int]], handles: list[Any]
    ) -> ActivationCalls:
        """Attribute activations applied as functions to the innermost running module."""
        stack: list[str] = []

        def entering(name: str) -> Callable[..., None]:
            return lambda module, arguments: stack.append(name)

        def leaving(module: nn.Module, arguments: Any, output: Any) -> None:
            stack.pop()

        for name, module in modules_of(self.network):
            handles.append(module.register_forward_pre_hook(entering(name)))
            handles.append(module.register_forward_hook(leaving))

        def before(argument: Tensor) -> tuple[str, int] | None:
            if not stack or is_activation(modules[stack[-1]]):
                return None
            owner, call = stack[-1], self._count(stack[-1], "functional")
            self._catch(wanted.get((owner, "functional-input"), ()), call, argument)
            return owner, call

        def after(token: tuple[str, int] | None, output: Any) -> None:
            if token is not None:
                self._catch(wanted.get((token[0], "functional-output"), ()), token[1], output)

        return ActivationCalls(before, after)

    def tensors(self, points: Sequence[HintPoint]) -> list[Tensor]:
        """The caught tensors in the order of the taps, channels first."""
        result = []
        for index, tap in enumerate(self.taps):
            what = str(points[index]) if index < len(points) else f"embedding (input of {tap.module!r})"
            if index not in self.found:
                raise PursuhintError(
                    f"{what} was not reached in this forward pass of {type(self.network).__name__}; "
                    "choose among modules that every batch goes through"
                )
            tensor, version = self.found[index]
            if _version(tensor) != version:
                raise PursuhintError(
                    f"{what} was overwritten in place after it was read; "
                    f"build {type(self.network).__name__} with inplace=False"
                )
            result.append(features_at(tap, tensor))
        return result


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)
