"""Hint points: layers of a network whose features can be a hint or can be trained by one.

A candidate is the output of a *sub-block*: a residual block, inverted residual, shuffle unit or transformer
block, or, in a plain network, a convolution with its norm and activation. Sub-blocks are found from the call
trace of a forward pass on two images, so any `torch.nn.Module` will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError
from pursuhint.features.tap import ReducedTap, Tap

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pursuhint._util.network_input import NetworkInput

__all__ = [
    "Activation",
    "HintPoint",
    "conventional_points",
    "find_hint_points",
    "number_of_stages",
    "resolve_point",
    "stage_ends",
]

Activation = Literal["pre", "post"]


@dataclass(frozen=True)
class HintPoint:
    """A layer of a network whose features can be a hint.

    Attributes:
        module: name of the sub-block, as in ``network.named_modules()``.
        position: index among the network's sub-blocks in depth order, from 1 as in the PURSUhInT paper.
        total: number of sub-blocks of the network.
        activation: ``"post"``, the output of the sub-block, or ``"pre"``, the input of its last activation
            (in networks whose blocks begin with norm and activation: the output of the norm that follows).
            Both are equal for a block that does not end in an activation.
        channels: width of the features.
        spatial: (height, width) of a feature map, (tokens,) of a sequence, () of a vector, for the input
            that was used to find the points. A signal is a map of height 1, a video one of all frames below
            each other.
        stage: resolution stage, from 1: a new one begins where the spatial size changes.
        tap: address of the tensor, for `pursuhint.features.FeatureExtractor`.
        grid: rows and columns of the patches of the image that the last tokens of a sequence are; None if
            that is not known, and for other features. Tokens in front of them are class and register tokens.
            Points that differ in it alone are equal.
    """

    module: str
    position: int
    total: int
    activation: Activation
    channels: int
    spatial: tuple[int, ...]
    stage: int
    tap: Tap
    grid: tuple[int, int] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.module} (position {self.position} of {self.total}, {self.activation})"

    def as_map(self) -> HintPoint:
        """The same point with its tokens laid out as a map of patches, without those in front of the patches.

        Itself for other features, and where `grid` is not known.
        """
        if self.grid is None or len(self.spatial) != 1:
            return self
        return replace(self, spatial=self.grid, tap=replace(self.tap, grid=self.grid))

    def reduced(self) -> HintPoint:
        """The same point with one channel, the root of the mean square of all of them."""
        return replace(self, channels=1, tap=ReducedTap(**vars(self.tap)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HintPoint:
        """The inverse of `to_dict`.

        Raises:
            PursuhintError: an entry is missing or of the wrong kind.
        """
        try:
            tap = Tap.from_dict(values["tap"])
            rest = {key: value for key, value in values.items() if key != "tap"}
            sizes = {"spatial": tuple(values["spatial"]), "grid": _pair(rest.get("grid"))}
            point = cls(**{**rest, **sizes}, tap=tap)
        except (KeyError, TypeError) as error:
            raise PursuhintError(f"not a hint point: {values!r} ({error})") from None
        _check_activation(point.activation)
        return point


def _pair(values: Sequence[int] | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])


def _check_activation(activation: str) -> None:
    if activation not in get_args(Activation):
        raise PursuhintError(f"activation must be 'pre' or 'post', got {activation!r}")


def find_hint_points(
    network: nn.Module,
    example: NetworkInput,
    *,
    activation: Activation = "post",
    include: Sequence[str] = (),
    channels_last: bool | None = None,
) -> tuple[HintPoint, ...]:
    """Find the candidate hint points of any network, in depth order.

    Sub-blocks are the outermost modules that hold several layers and are more than a chain of them (a
    residual block, for example). With fewer than two of them the network is plain, and every convolution (or
    linear layer, if there are no convolutions) with its norm and activation is a sub-block, without pooling.
    In a network with sub-blocks, stem, classifier and enclosing modules are not candidates.

    Args:
        network: run once in evaluation mode; not changed.
        example: images of the network's input size, (N, C, H, W), or what else its ``forward`` takes: token
            ids, a tuple of positional arguments, a mapping of named ones. Two samples are used, three
            where two leave open which axis they are in; fewer are repeated.
        activation: ``"post"`` or ``"pre"``; see `HintPoint`.
        include: module-name patterns such as ``"layer3.*"`` that replace the automatic choice. A pattern
            selects the sub-blocks that it matches; if it matches only other modules, their outputs.
        channels_last: whether features of three axes or more have their channels in the last one, in all
            blocks. None takes the attribute ``channels_last`` of the network, which analysis and training
            heed too; without one it is read from the layers around each block, and a `PursuhintWarning` names
            blocks that both fit.

    Returns:
        The points, in the order of computation.

    Raises:
        PursuhintError: the network cannot run on the example, has no candidate, or a pattern matches none.
    """
    # Imported here, so that stored points can be read without importing torch.
    from pursuhint._util.wrappers import original_modules
    from pursuhint.features.axes import arrange, read_axes
    from pursuhint.features.blocks import find_sub_blocks, matching_blocks
    from pursuhint.features.call_trace import trace_samples
    from pursuhint.features.patch_grid import patch_grid

    _check_activation(activation)
    trace = trace_samples(network, example)
    with original_modules(network) as network:
        blocks = find_sub_blocks(network, trace)
    if include:
        blocks = matching_blocks(trace, blocks, include, type(network).__name__)
    if not blocks:
        raise PursuhintError(
            f"found no sub-block in {type(network).__name__}; name modules with include=[...], "
            "for example one that ends each part of the network"
        )
    blocks.sort(key=lambda block: block.end.ended)
    if channels_last is None and isinstance(said := getattr(network, "channels_last", None), bool):
        channels_last = said
    axes = read_axes(trace, blocks, channels_last=channels_last)
    points: list[HintPoint] = []
    stage = 0
    previous: tuple[int, ...] | None = None
    for position, block in enumerate(blocks, start=1):
        order = axes[block.name]
        tap = block.post(order) if activation == "post" else block.pre(trace, order)
        channels, spatial = _sizes(arrange(block.features, order), tap)
        stage += spatial != previous
        previous = spatial
        grid = patch_grid(network, trace, block.end, *spatial) if len(spatial) == 1 else None
        points.append(
            HintPoint(block.name, position, len(blocks), activation, channels, spatial, stage, tap, grid)
        )
    return tuple(points)


def resolve_point(points: Iterable[HintPoint], name: str | int) -> HintPoint:
    """The point with a given module name or position.

    Args:
        points: where to look.
        name: a number is a position; text is a module name, or a position (``"23"``) if no module has that
            name.

    Raises:
        PursuhintError: there is none; the message suggests the nearest name.
    """
    points, number = tuple(points), isinstance(name, int)
    name = str(name)
    for point in points:
        if point.module == name and not number:
            return point
    for point in points:
        if name.isdigit() and point.position == int(name):
            return point
    if name.isdigit():
        raise PursuhintError(
            f"no hint point at position {name}; this network has positions 1 to {len(points)}"
        )
    raise PursuhintError(
        f"no hint point {name!r} among the {len(points)} of this network; "
        f"{did_you_mean(name, [point.module for point in points])}"
    )


def number_of_stages(points: Sequence[HintPoint]) -> int:
    """Number of resolution stages of the points."""
    return len({point.stage for point in points})


def stage_ends(points: Sequence[HintPoint]) -> tuple[HintPoint, ...]:
    """The last point of every resolution stage."""
    return tuple({point.stage: point for point in points}.values())


def even_points(points: Sequence[HintPoint], count: int) -> tuple[HintPoint, ...]:
    """The ends of equal parts of the depth: part p ends at point floor(p * points / count), counted from 1.

    Args:
        points: of a network, in depth order.
        count: number of parts, from 1 to the number of points.
    """
    return tuple(points[part * len(points) // count - 1] for part in range(1, count + 1))


def conventional_points(network: nn.Module, points: Sequence[HintPoint]) -> tuple[HintPoint, ...]:
    """The conventional hint points: the last sub-block of every stage.

    A network may name them (``stage_taps``: stem first, then the stage ends, as the networks of
    `pursuhint.models` do, following the literature); otherwise a stage ends where the resolution changes.

    Args:
        network: the network that the points belong to.
        points: its candidates, from `find_hint_points`.
    """
    from pursuhint._util.wrappers import unwrapped

    by_name = {point.module: point for point in points}
    named = [by_name.get(name) for name in tuple(getattr(unwrapped(network), "stage_taps", ()))[1:]]
    if named and all(point is not None for point in named):
        return tuple(point for point in named if point is not None)
    return stage_ends(points)


def _sizes(features: Tensor, tap: Tap) -> tuple[int, tuple[int, ...]]:
    shape = tuple(features.shape)
    if len(shape) == 4:
        return shape[1], shape[2:4]
    if len(shape) == 3:
        return shape[2], shape[1:2]
    if len(shape) == 2:
        return shape[1], ()
    raise PursuhintError(f"module {tap.module!r} returns features of shape {shape}; expected 2 to 4 axes")
