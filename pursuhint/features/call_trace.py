"""Trace of one forward pass: every call of a module or activation, with its inputs and output.

`trace_calls` runs a network once; from the trace, `pursuhint.features.find_hint_points` derives where
sub-blocks begin and end. Hooks exist only during the call and are removed also if it fails.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from pursuhint._util.network_checks import check_network
from pursuhint._util.network_input import (
    NetworkInput,
    call_network,
    count_samples,
    few_samples,
    map_tensors,
    shapes_of,
)
from pursuhint._util.wrappers import original_modules
from pursuhint.errors import PursuhintError
from pursuhint.features.layers import is_linear, modules_of, owns_weights

__all__ = ["Call", "evaluating", "first_tensor", "trace_calls"]


def all_tensors(value: Any) -> tuple[Tensor, ...]:
    """All tensors in a module's input or output, also those nested in tuples, lists and mappings.

    The ``logits`` entry of an output (as many libraries return it) comes first.
    """
    if isinstance(value, Tensor):
        return (value,)
    found: list[Tensor] = []
    logits = value.get("logits") if isinstance(value, Mapping) else getattr(value, "logits", None)
    if isinstance(logits, Tensor):
        found.append(logits)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        found.extend(tensor for item in value for tensor in all_tensors(item))
    return tuple(found)


def first_tensor(value: Any, samples: int | None = None) -> Tensor | None:
    """The main tensor of a module's input or output: the first of `all_tensors`.

    Args:
        value: input or output of a module.
        samples: size of the batch. If given, tensors with one entry per sample take precedence over others
            (patches of all images in one axis, or a table of positions).
    """
    found = all_tensors(value)
    own = [tensor for tensor in found if samples is None or (tensor.ndim > 0 and len(tensor) == samples)]
    return next(iter(own or found), None)


# Activations, as modules and as functions. Sigmoid, softmax and their hard variants are left out: inside a
# block they are gates or weights, and "the value before the activation" is not a feature there.
_ACTIVATION_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardtanh, nn.Softplus, nn.Softsign, nn.Tanh, nn.Threshold,
)  # fmt: skip
# Of timm and other code that does not use torch's own classes; timm's memory-efficient ones end in "me".
_ACTIVATION_CLASS_NAMES = frozenset(
    name + ending
    for name in ("swish", "silu", "gelu", "gelutanh", "quickgelu", "mish", "hardswish", "hardmish")
    for ending in ("", "me")
)
_ACTIVATION_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    getattr(owner, name)
    for owner, names in (
        (F, "relu relu_ relu6 leaky_relu leaky_relu_ prelu rrelu rrelu_ elu elu_ selu selu_ celu celu_ gelu "
            "silu mish hardswish hardtanh hardtanh_ softplus softsign"),
        (torch, "relu relu_ selu selu_ celu celu_ rrelu rrelu_ prelu tanh tanh_"),
        (Tensor, "relu relu_ tanh tanh_ prelu"),
    )
    for name in names.split()
    if hasattr(owner, name)
)  # fmt: skip


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an elementwise activation function (ReLU, GELU, SiLU, ...)."""
    return isinstance(module, _ACTIVATION_MODULES) or type(module).__name__.lower() in _ACTIVATION_CLASS_NAMES


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Context in which a network is in evaluation mode; restores the mode of every module afterwards."""
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class ActivationCalls(TorchFunctionMode):
    """Reports activations applied as functions: ``token = before(input)``, then ``after(token, output)``."""

    def __init__(self, before: Callable[[Tensor], Any], after: Callable[[Any, Any], None]) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.inside = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # F.relu calls torch.relu: only the outermost of nested calls counts.
        if self.inside or func not in _ACTIVATION_FUNCTIONS:
            return func(*args, **kwargs)
        argument = args[0] if args else kwargs.get("input")
        if not isinstance(argument, Tensor):
            return func(*args, **kwargs)
        self.inside = True
        try:
            token = self.before(argument)
            output = func(*args, **kwargs)
            self.after(token, output)
        finally:
            self.inside = False
        return output


# ---------------------------------------------------------------------------------------------------------
# Tracing one forward pass


@dataclass(eq=False)
class Call:
    """One call of a module, or of an activation function, in a traced forward pass."""

    name: str
    """Name of the module; for a function, of the module in whose ``forward`` it was applied."""
    module: nn.Module | None
    """None for a function."""
    parent: Call | None
    """The call inside which it was made; None for the network's own."""
    ordinal: int
    """Index of the call among the calls of this module (or of functions directly in it), from 0."""
    started: int
    """Moment of its beginning; moments of a trace count beginnings and ends from 0."""
    input: Tensor | None = None
    inputs: tuple[Tensor, ...] = ()
    """All tensors passed to the call; ``input`` is the main one."""
    output: Tensor | None = None
    ended: int = -1
    """Moment of its end; -1 before."""
    children: list[Call] = field(default_factory=list)
    """The calls made directly inside it, in order."""
    ends_in: Call | None = None
    """The inner activation whose output this module returns, unchanged or permuted (as by a channel
    shuffle)."""
    input_version: int = 0
    """Counts the changes in place that torch had made to the input when the call began."""
    output_version: int = 0
    """Likewise of the output when the call ended."""

    @property
    def key(self) -> tuple[str, bool, int]:
        """The same for the same call of another forward pass."""
        return self.name, self.module is None, self.ordinal

    @property
    def is_activation(self) -> bool:
        return self.module is None or is_activation(self.module)

    @property
    def input_overwritten(self) -> bool:
        """Whether the input was changed in place after this call received it."""
        return self.input is not None and self.input._version != self.input_version

    def feeds(self, other: Call) -> bool:
        """Whether the input of ``other`` is the output of this call, not modified in between."""
        return (
            self.output is not None
            and other.input is self.output
            and other.input_version == self.output_version
        )

    def returns_output_of(self, other: Call) -> bool:
        """Whether the output of this call is the output of ``other``, not modified in between."""
        return (
            other.output is not None
            and self.output is other.output
            and self.output_version == other.output_version
        )

    @property
    def output_overwritten(self) -> bool:
        """Whether the output was changed in place after this call returned it."""
        return self.output is not None and self.output._version != self.output_version


@dataclass(frozen=True)
class CallTrace:
    """All calls of one forward pass, in the order in which they began."""

    calls: tuple[Call, ...]
    outputs: tuple[Tensor, ...]
    """All tensors that the network returned; see `all_tensors`."""
    samples: int
    """Size of the batch."""
    more_samples: Mapping[tuple[str, bool, int], torch.Size] = field(default_factory=dict)
    """Shapes of all outputs for one sample more, by `Call.key`, where they were needed; see `batch_axis`."""

    def batch_axis(self, call: Call) -> int | None:
        """Which axis of a call's output has one entry per sample: 0; 1 if tokens come first; or none."""
        shape = () if call.output is None else tuple(call.output.shape)
        fits = [axis for axis in (0, 1) if shape[axis : axis + 1] == (self.samples,)]
        if len(shape) != 3 and 0 not in fits:
            return None
        more = self.more_samples.get(call.key)
        if more is not None:
            grown = [(*shape[:axis], self.samples + 1, *shape[axis + 1 :]) for axis in fits]
            fits = [axis for axis, wanted in zip(fits, grown) if wanted == tuple(more)]
        return next(iter(fits), None)

    @property
    def output(self) -> Tensor:
        """The logits, or the main output of a network without a classifier; see `index_of_logits`."""
        return self.outputs[index_of_logits(self)]

    def last_calls(self) -> dict[str, Call]:
        """The last call of every module, by name."""
        return {call.name: call for call in self.calls if call.module is not None}


def _same_values(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same values in any order; False for constants, which prove nothing."""
    if first.numel() != second.numel() or first.dtype != second.dtype or first.min() == first.max():
        return False
    # Sorting is slow: most pairs differ in their sum already.
    if not torch.isclose(first.double().sum(), second.double().sum(), rtol=1e-9, atol=1e-9):
        return False
    return torch.equal(first.flatten().sort().values, second.flatten().sort().values)


def _telling(example: Tensor) -> Tensor:
    """The example, or a ramp of its shape if it is constant: for zeros the outputs of all layers coincide."""
    if example.is_floating_point() and example.numel() > 1 and example.min() == example.max():
        return (
            torch.linspace(-2, 2, example.numel(), device=example.device).reshape(example.shape).to(example)
        )
    return example


@torch.no_grad()
def trace_calls(network: nn.Module, example: NetworkInput) -> CallTrace:
    """Run a network once, in evaluation mode and without gradients, and trace every call.

    Args:
        network: any module that takes the batch. Modes, statistics and parameters stay as they are.
        example: a batch: images (N, C, H, W), or a tuple or mapping of tensors as the network's ``forward``
            takes them; two samples are enough.

    Raises:
        PursuhintError: the network cannot run on the example, or returns no tensor.
    """
    calls: list[Call] = []
    stack: list[Call] = []
    ordinals: dict[tuple[str, bool], int] = {}
    clock = itertools.count()
    samples = count_samples(example)

    def begin(name: str, module: nn.Module | None, arguments: Any) -> Call:
        key = (name, module is None)
        ordinals[key] = ordinals.get(key, -1) + 1
        argument = first_tensor(arguments, samples)
        call = Call(name, module, stack[-1] if stack else None, ordinals[key], next(clock), argument)
        call.inputs = all_tensors(arguments)
        call.input_version = argument._version if argument is not None else 0
        if call.parent is not None:
            call.parent.children.append(call)
        calls.append(call)
        return call

    def finish(call: Call, output: Any) -> None:
        call.output = first_tensor(output, samples)
        call.output_version = call.output._version if call.output is not None else 0
        call.ended = next(clock)
        # The calls inside this one are the last ones of the list.
        inside = itertools.takewhile(lambda inner: inner is not call, reversed(calls))
        activations = [inner for inner in inside if inner.is_activation and inner.output is not None]
        if call.output is None or not activations:
            return
        call.ends_in = next((inner for inner in activations if call.returns_output_of(inner)), None)
        last = activations[0]
        assert last.output is not None
        # After x = relu(x); x += skip the block does not end in the activation. If nothing was added, the
        # block may have permuted the output (channel shuffle): then the values are equal as a set.
        untouched = not last.output_overwritten
        if call.ends_in is None and untouched and _same_values(last.output, call.output):
            call.ends_in = last

    def enter(name: str, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        stack.append(begin(name, module, (*arguments, *named.values())))

    def leave(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        finish(stack.pop(), output)

    def before(argument: Tensor) -> Call | None:
        owner = stack[-1] if stack else None
        if owner is None or owner.is_activation:  # the call of the module is traced already
            return None
        return begin(owner.name, None, argument)

    def after(call: Call | None, output: Any) -> None:
        if call is not None:
            finish(call, output)

    check_network(network)
    handles: list[RemovableHandle] = []
    exits = contextlib.ExitStack()
    try:
        inner = exits.enter_context(original_modules(network))
        # Compiled functions inside run as written: the hooks are not compiled with them.
        exits.enter_context(torch.compiler.set_stance("force_eager"))
        for name, module in modules_of(inner):
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, arguments, named, name=name: enter(name, module, arguments, named),
                    with_kwargs=True,
                )
            )
            handles.append(module.register_forward_hook(leave))
        with evaluating(network), ActivationCalls(before, after):
            outputs = all_tensors(call_network(inner, map_tensors(example, _telling)))
    except PursuhintError:
        raise
    except Exception as error:
        where = f" (in its module {stack[-1].name!r})" if stack and stack[-1].name else ""
        reason = (str(error) or repr(error)).splitlines()[0].rstrip(".")
        raise PursuhintError(
            f"{type(network).__name__} cannot run on input of shape {shapes_of(example)}{where}: {reason}"
            f"{_other_channels(reason)}{_other_size(str(error))}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        exits.close()
    if not outputs:
        raise PursuhintError(f"{type(network).__name__} returned no tensor; expected logits (N, classes)")
    return CallTrace(tuple(calls), outputs, samples)


@contextlib.contextmanager
def failing_module_named(network: nn.Module, example: NetworkInput) -> Iterator[None]:
    """Context for calls of a network, in which a failure says which module cannot take which shape.

    Args:
        network: the network that is called.
        example: what it is called with. After a failure two samples of it are traced; if the network runs
            on them, the failure has another reason and is raised as it is.

    Raises:
        PursuhintError: the network cannot run on the example.
    """
    try:
        yield
    except PursuhintError:
        raise
    except Exception:
        trace_calls(network, few_samples(example))
        raise


def trace_samples(network: nn.Module, example: NetworkInput) -> CallTrace:
    """Trace a network with two samples, and where that leaves open which axis they are in, with three.

    Args:
        network: as in `trace_calls`.
        example: as in `trace_calls`; the first samples of it are used, and repeated if there are fewer.

    Raises:
        PursuhintError: the network cannot run on the example, or returns no tensor.
    """
    trace = trace_calls(network, few_samples(example))
    shapes = [call.output.shape for call in trace.calls if call.output is not None]
    if not any(len(shape) == 3 and shape[1] == trace.samples for shape in shapes):
        return trace
    calls = trace_calls(network, few_samples(example, trace.samples + 1)).calls
    return replace(
        trace, more_samples={call.key: call.output.shape for call in calls if call.output is not None}
    )


def _other_channels(reason: str) -> str:
    """What to do where a convolution wants grey images and gets RGB, or the reverse; empty otherwise."""
    wanted = re.search(r"to have ([13]) channels, but got [13] channels", reason)
    if wanted is None:
        return ""
    return f"; --image-channels {wanted[1]} (data.channels: {wanted[1]}) converts the images"


_SIZE_WANTED = re.compile(r"match(?:es)? (?:the )?model\D+(\d+)|Wrong image (?:height|width)! Expected (\d+)")
"""What networks of one image size say (timm, transformers, torchvision)."""


def _other_size(reason: str) -> str:
    """What to do where a network takes images of one size only; empty for another reason."""
    wanted = _SIZE_WANTED.search(reason)
    if wanted is None:
        return ""
    size = wanted[1] or wanted[2]
    return f"; --image-size {size} (data.image_size: {size}) resizes the images"


def index_of_logits(trace: CallTrace) -> int:
    """Which of a network's output tensors is the logits.

    1. Tensors without one entry per sample are out, as are those that a layer with weights takes as its
       input: what a classifier reads is the embedding.
    2. Of the others, the one that the last linear layer gives, as it is or, behind a softmax or a scale, in
       its size; otherwise the first.
    """
    outputs = trace.outputs
    if len(outputs) == 1:
        return 0
    candidates = [
        index for index, values in enumerate(outputs) if values.ndim > 0 and len(values) == trace.samples
    ] or list(range(len(outputs)))
    layers = [call for call in trace.calls if call.module is not None and owns_weights(call.module)]
    read = {id(values) for call in layers for values in call.inputs}
    candidates = [index for index in candidates if id(outputs[index]) not in read] or candidates
    linear = [call for call in layers if is_linear(call.module) and call.output is not None]
    for call in reversed(linear):
        for index in candidates:
            if call.output is outputs[index]:
                return index
    for call in reversed(linear[-1:]):
        for index in candidates:
            if _changed_from(call, outputs[index]):
                return index
    return candidates[0]


def _changed_from(call: Call, values: Tensor) -> bool:
    """Whether a tensor can be what follows a layer: as large as its output, and not equal to its input."""
    if call.output is None or call.input is None or values.numel() != call.output.numel():
        return False
    return values.numel() != call.input.numel() or not torch.equal(values.flatten(), call.input.flatten())


def classifier_call(trace: CallTrace) -> Call:
    """The call of the classifier: the last layer with weights, preferably linear and as large as the logits.

    Raises:
        PursuhintError: no layer of the network has weights.
    """
    weighted = [call for call in trace.calls if call.module is not None and owns_weights(call.module)]
    linear = [call for call in weighted if is_linear(call.module)]
    for call in reversed(linear):
        if call.output is not None and call.output.numel() == trace.output.numel():
            return call
    if not weighted:
        raise PursuhintError("the network has no layer with weights, so it has no classifier")
    return weighted[-1]
