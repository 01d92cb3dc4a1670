"""Which axis of a tensor holds the samples, which the channels: read from the layers that give and take it.

Shapes do not tell: (2, 24, 24, 24) fits both orders. Layers do: a convolution has its channels in the second
axis, a linear layer in the last. Where the layers around a block say nothing, other blocks of its class and
size decide, then the width of its own last layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import Call, CallTrace
from pursuhint.features.layers import adapted_layer, as_convolution, is_linear
from pursuhint.features.module_rules import inner_calls, is_norm, weighted_calls
from pursuhint.features.tap import ReducedTap, Tap

if TYPE_CHECKING:
    from pursuhint.features.blocks import SubBlock

# Letters of `pursuhint.features.Tap.axes`, by number of axes. Tokens are what has its channels last.
_CHANNELS_FIRST = {3: "NCL", 4: "NCHW", 5: "NCDHW"}
_CHANNELS_LAST = {3: "NTC", 4: "NHWC", 5: "NDHWC"}
_USUAL = frozenset(("NC", "NTC", "NCHW"))

_SECOND_AXIS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.dropout.Dropout2d,
)
_KEEPS_AXES = (nn.Dropout, nn.Identity)


class Reading(NamedTuple):
    """Where the channels of a tensor are: first or last, and whether a layer says so."""

    last: bool
    certain: bool
    both_fit: bool = False


def features_at(tap: Tap, values: Tensor) -> Tensor:
    """The features at a tap, axes in one of the usual orders; tokens laid out as a map, and channels reduced
    to one, if it says so.
    """
    values = arrange(values, tap.axes)
    if tap.grid is not None:
        values = values[:, -math.prod(tap.grid) :].transpose(1, 2).unflatten(2, tap.grid)
    return _root_mean_square(values) if isinstance(tap, ReducedTap) else values


def _root_mean_square(values: Tensor) -> Tensor:
    """One channel, (N, 1, H, W), (N, T, 1) or (N, 1): the root of the mean square of all of them."""
    axis = 2 if values.ndim == 3 else 1
    precise = torch.promote_types(values.dtype, torch.float32)
    length = torch.linalg.vector_norm(values, dim=axis, keepdim=True, dtype=precise)
    return (length / math.sqrt(values.shape[axis])).to(values.dtype)


def arrange(values: Tensor, axes: str) -> Tensor:
    """Bring features into one of the usual orders: (N, C, H, W), (N, tokens, C) or (N, C).

    A signal (N, C, length) becomes a map of height 1; the frames of a video stand one below the other.

    Args:
        values: features as the network has them.
        axes: their axes, as in `pursuhint.features.Tap.axes`; empty for the usual orders.

    Raises:
        PursuhintError: the features have another number of axes.
    """
    if not axes:
        return values
    if values.ndim != len(axes):
        raise PursuhintError(
            f"expected features with axes {', '.join(axes)}; found shape {tuple(values.shape)}: find the "
            "hint points again with images of this size"
        )
    if "T" in axes:
        return values.permute(*map(axes.index, "NTC"))
    space = [index for index, letter in enumerate(axes) if letter not in "NC"]
    values = values.permute(axes.index("N"), axes.index("C"), *space)
    return values.unsqueeze(2) if len(space) == 1 else values.flatten(2, -2) if len(space) > 2 else values


def read_axes(
    trace: CallTrace, blocks: Sequence[SubBlock], *, channels_last: bool | None = None
) -> dict[str, str]:
    """The axes of the output of every block, by its name; see `pursuhint.features.Tap.axes`.

    Args:
        trace: of the network's forward pass.
        blocks: its sub-blocks.
        channels_last: for all blocks, where it is known; None reads it from the layers.

    Raises:
        PursuhintError: the output of a block has no axis with an entry per sample.

    Warns:
        PursuhintWarning: both readings fit a block.
    """
    readings = {block.name: _reading(trace, block, channels_last) for block in blocks}
    axes: dict[str, str] = {}
    open_questions: list[str] = []
    for block in blocks:
        reading = readings[block.name]
        if reading is not None and not reading.certain:
            alike = [readings[other.name] for other in blocks if _alike(block, other)]
            sure = [other.last for other in alike if other is not None and other.certain]
            if sure:
                reading = Reading(2 * sum(sure) > len(sure), certain=True)
            elif reading.both_fit:
                open_questions.append(block.name)
        axes[block.name] = _letters(trace, block, reading)
    if open_questions:
        _ask(open_questions, blocks, axes)
    return axes


def _ask(names: Sequence[str], blocks: Sequence[SubBlock], axes: Mapping[str, str]) -> None:
    """Say which blocks have channels that could be in either axis."""
    first = next(block for block in blocks if block.name == names[0])
    more = f" and {len(names) - 1} more blocks" if len(names) > 1 else ""
    order = axes[first.name] or {3: "NTC", 4: "NCHW"}[first.features.ndim]
    warn_user(
        f"the channels of block {first.name!r}{more}, of shape {tuple(first.features.shape)}, could be "
        f"in the second or in the last axis; they are read as ({', '.join(order)}): an attribute "
        "channels_last of the network, True or False, decides"
    )


def _alike(block: SubBlock, other: SubBlock) -> bool:
    """Whether two blocks are of one class and give features of one size."""
    return (
        type(block.whole.module) is type(other.whole.module) and block.features.shape == other.features.shape
    )


def _letters(trace: CallTrace, block: SubBlock, reading: Reading | None) -> str:
    shape = tuple(block.features.shape)
    if reading is None:
        axes = "NC"
    elif trace.batch_axis(block.end) == 1:
        axes = "TNC"
    else:
        axes = (_CHANNELS_LAST if reading.last else _CHANNELS_FIRST)[len(shape)]
    if trace.batch_axis(block.end) is None:
        raise PursuhintError(
            f"module {block.name!r} returns features of shape {shape} for {trace.samples} images, none of "
            "whose first two axes has an entry per image; choose another module"
        )
    return _unless_usual(axes)


# ---------------------------------------------------------------------------------------------------------
# Where the channels are


def _reading(trace: CallTrace, block: SubBlock, channels_last: bool | None) -> Reading | None:
    """The reading of one block by itself; None for vectors and numbers of axes that nothing is known of."""
    output = block.features
    if output.ndim not in _CHANNELS_LAST:
        return None
    if channels_last is not None:
        return Reading(channels_last, certain=True)
    last = next(_evidence(trace, block), None)
    if last is not None:
        return Reading(last, certain=True)
    return _by_width(block)


def _evidence(trace: CallTrace, block: SubBlock) -> Iterator[bool]:
    """Whether channels are last, as layers say whose input or output is the block's, or has its axes.

    1. A layer that takes the block's output. 2. The layer within the block that gives it. 3. If the block
    keeps the shape, a layer that takes the block's input.
    """
    output, whole = block.features, block.whole
    for call in trace.calls:
        if block.end.feeds(call):
            yield from _says(call, output)
    for call in _givers(trace, block.end):
        yield from _says(call, output)
    if whole.input is not None and whole.input.shape == output.shape:
        for call in inner_calls(whole):
            if call.input is whole.input and call.input_version == whole.input_version:
                yield from _says(call, output)


def axes_at(trace: CallTrace, activation: Call, axes: str) -> str:
    """The axes at the activation that ends a block: those of the block, unless the layers around it differ.

    Args:
        trace: of the forward pass.
        activation: its input is wanted.
        axes: of the block's output.
    """
    values = activation.input
    if values is None or values.ndim not in _CHANNELS_LAST or trace.batch_axis(activation) != 0:
        return axes
    around = [call for call in trace.calls if activation.feeds(call) or call.feeds(activation)]
    for last in (last for call in around for last in _says(call, values)):
        found = (_CHANNELS_LAST if last else _CHANNELS_FIRST)[values.ndim]
        return _unless_usual(found)
    return axes


def input_axes(trace: CallTrace, layer: Call) -> str:
    """The axes of what a layer takes, as this layer has them; see `pursuhint.features.Tap.axes`."""
    values = layer.input
    if values is None or values.ndim not in _CHANNELS_LAST:
        return ""
    last = next(_says(layer, values), False)
    if last and values.ndim == 3 and trace.samples != len(values) and trace.samples == values.shape[1]:
        return "TNC"
    return _unless_usual((_CHANNELS_LAST if last else _CHANNELS_FIRST)[values.ndim])


def _unless_usual(axes: str) -> str:
    return "" if axes in _USUAL else axes


def _givers(trace: CallTrace, call: Call) -> Iterator[Call]:
    """The calls that gave the output of a call, from the last: activations and dropout keep the axes."""
    wanted = call.output
    for inner in sorted(trace.calls, key=lambda inner: -inner.ended):
        if inner.output is wanted and not inner.children:
            yield inner
            if not (inner.is_activation or isinstance(inner.module, _KEEPS_AXES)):
                return
            wanted = inner.input


def _says(call: Call, like: Tensor) -> Iterator[bool]:
    """Whether a layer has the channels of its input and output last; nothing if it does not say."""
    module = call.module
    if module is None or call.input is None or call.input.ndim != like.ndim:
        return
    if as_convolution(module) is not None or isinstance(module, _SECOND_AXIS):
        yield False
    elif is_linear(module) or isinstance(module, nn.MultiheadAttention):
        yield True
    elif is_norm(module):
        yield from _norm_says(module, call)


def _norm_says(module: nn.Module, call: Call) -> Iterator[bool]:
    """Whether a norm over one axis has it last: a class of its own may move axes around ``LayerNorm``."""
    sizes = {parameter.shape for parameter in module.parameters() if parameter.ndim == 1}
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, tuple | list) and len(shape) == 1:
        sizes.add(torch.Size(shape))
    if len(sizes) != 1 or call.input is None:
        return
    if type(module).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
        yield True
        return
    (width,) = sizes.pop()
    fits = [axis for axis in (1, call.input.ndim - 1) if call.input.shape[axis] == width]
    if len(fits) == 2:
        fits = [axis for axis in fits if _normalizes(module, call, axis)]
    if len(fits) == 1:
        yield fits[0] != 1


def _normalizes(module: nn.Module, call: Call, axis: int) -> bool:
    """Whether a norm's output is what normalizing its input along an axis gives."""
    assert call.input is not None
    if call.output is None or call.output.shape != call.input.shape:
        return False
    if call.input_overwritten or call.output_overwritten:
        return False
    values = call.input.movedim(axis, -1).float()
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", 1e-6))
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    widths = values.shape[-1:]
    found = call.output.movedim(axis, -1).float()
    for normalized in (
        F.layer_norm(values, widths, eps=eps),
        F.rms_norm(values, widths, eps=eps),
    ):
        if isinstance(weight, Tensor):
            normalized = normalized * weight.float()
        if isinstance(bias, Tensor):
            normalized = normalized + bias.float()
        if torch.allclose(normalized, found, rtol=1e-2, atol=1e-2):
            return True
    return False


def _by_width(block: SubBlock) -> Reading:
    """By the width of the last layer within a block: it is the size of the channel axis.

    If both sizes are that, or neither, a layer's own order is taken: a convolution's channels are second.
    """
    shape = block.features.shape
    last = max(weighted_calls(block.whole), key=lambda call: call.ended, default=block.whole)
    layer = adapted_layer(last.module)
    convolution = as_convolution(last.module) is not None
    width = getattr(layer, "out_channels" if convolution else "out_features", None)
    fits = [axis for axis in (1, len(shape) - 1) if shape[axis] == width]
    if len(fits) == 1:
        return Reading(fits[0] != 1, certain=True)
    # Of three axes the usual order is (N, tokens, C), of others (N, C, ...).
    return Reading(len(shape) == 3 and not convolution, certain=False, both_fit=len(fits) == 2)
