"""Find the sub-blocks of any network in the record of one forward pass.

The rules read structure, not names: who holds layers with weights, who merely passes its input through its
children, and what each sub-block's output meets next.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.probe import Tap, TapKind
from pursuhint.recording import Call, Record, classifier_call
from pursuhint.tables import did_you_mean

__all__ = ["SubBlock", "find_sub_blocks", "matching_blocks"]


@dataclass(frozen=True)
class SubBlock:
    """A sub-block: the call that computes its output, and its last activation if it ends in one."""

    name: str
    end: Call
    activation: Call | None
    width: int | None  # of its last layer with weights, to tell (N, C, H, W) from (N, H, W, C)

    @property
    def features(self) -> Tensor:
        assert self.end.output is not None
        return self.end.output

    @property
    def channels_last(self) -> bool:
        shape = self.features.shape
        return len(shape) == 4 and self.width not in (None, shape[1]) and self.width == shape[3]

    def post(self) -> Tap:
        end = self.end
        kind: TapKind = "functional-output" if end.module is None else "output"
        return Tap(end.name, kind, end.ordinal, end.output_overwritten, self.channels_last)

    def pre(self, record: Record) -> Tap:
        activation = self.activation or _activation_after_norm(record, self.end)
        if activation is None:
            return self.post()
        kind: TapKind = "functional-input" if activation.module is None else "input"
        copy = activation.input_overwritten
        return Tap(activation.name, kind, activation.ordinal, copy, self.channels_last)


def _is_norm(module: nn.Module | None) -> bool:
    """Whether a module normalises, with no more than a scale and a shift of its own."""
    return (
        module is not None
        and "norm" in type(module).__name__.lower()
        and not any(isinstance(inner, (nn.Linear, nn.modules.conv._ConvNd)) for inner in module.modules())
    )


def _activation_after_norm(record: Record, block: Call) -> Call | None:
    """The activation of the norm that a pre-activation block's raw output enters first (wide ResNets)."""
    for norm in record.calls:
        if norm.started < block.ended or not _is_norm(norm.module) or not block.feeds(norm):
            continue
        for call in record.calls:
            if (
                call.is_activation
                and call.started > norm.started
                and (norm.feeds(call) or call.parent is norm)
            ):
                return call
    return None


def _has_own_weights(module: nn.Module) -> bool:
    return not _is_norm(module) and any(p.ndim >= 2 for p in module.parameters(recurse=False))


def _weighted_layers(module: nn.Module) -> int:
    return sum(_has_own_weights(inner) for inner in module.modules())


def _is_container(module: nn.Module) -> bool:
    """Runs its children one after the other, or is not run at all."""
    return isinstance(module, (nn.ModuleList, nn.ModuleDict)) or type(module).forward is nn.Sequential.forward


def _holds_sequence(module: nn.Module) -> bool:
    """Whether a run of several sub-blocks of one kind stands somewhere inside: a stage, not a sub-block."""
    for inner in module.modules():
        kinds: dict[type, int] = {}
        for child in inner.children():
            if not _is_container(child) and _weighted_layers(child) >= 2:
                kinds[type(child)] = kinds.get(type(child), 0) + 1
        if any(count >= 2 for count in kinds.values()) and (_is_container(inner) or inner is not module):
            return True
    return False


def _is_chain(call: Call) -> bool:
    """Whether a module only passes its input through its children, one after the other."""
    children = call.children
    return (
        bool(children)
        and children[0].input is call.input
        and all(earlier.feeds(later) for earlier, later in itertools.pairwise(children))
        and call.returns_output_of(children[-1])
    )


def find_sub_blocks(network: nn.Module, record: Record) -> list[SubBlock]:
    """The sub-blocks of a network, or the conv-norm-activation units of one that has fewer than two.

    A sub-block is an outermost module that holds two or more layers with weights and is more than a chain
    of them. Modules that hold a run of sub-blocks (stages, encoders, containers) are entered.
    """
    blocks, layers = _collect(network, record, known=None)
    if len(blocks) >= 2:
        # Among sub-blocks, a chain with a class of its own is one too, unless it is a stage that holds
        # some: the first block of an EfficientNet has no skip connection.
        return _collect(network, record, known={block.end.module for block in blocks})[0]
    units = [_unit(record, layer) for layer in layers]
    maps = [unit for unit in units if unit.features.ndim > 2]
    return blocks + (maps or units)


def _collect(
    network: nn.Module, record: Record, *, known: set[nn.Module | None] | None
) -> tuple[list[SubBlock], list[Call]]:
    """Walk down the modules; return sub-blocks, and layers with weights that stand outside of any.

    Args:
        known: sub-blocks found so far; chains that hold none of them are then taken whole.
    """
    last = record.last_calls()
    classifier = classifier_call(record).module
    # A kind of module is a chain only if all of its instances are: an inverted residual without its skip
    # connection is still an inverted residual.
    branching = {
        type(call.module) for call in last.values() if call.module is not None and not _is_chain(call)
    }
    blocks: list[SubBlock] = []
    layers: list[Call] = []

    def is_entered(module: nn.Module) -> bool:
        if module is network or _is_container(module) or _holds_sequence(module):
            return True
        if type(module) in branching or not any(module.children()):
            return False
        return known is None or any(inner in known for inner in module.modules())

    def visit(name: str, module: nn.Module) -> None:
        if is_entered(module):
            for child_name, child in module.named_children():
                visit(f"{name}.{child_name}" if name else child_name, child)
            return
        call = last.get(name)
        if call is None or call.output is None or any(inner is classifier for inner in module.modules()):
            return  # not run, or the head of the network
        weights = _weighted_layers(module)
        if weights >= 2 and call.output.ndim >= 2 and not _is_gate(call):
            blocks.append(SubBlock(name, call, call.ends_in, _width(call)))
        elif weights == 1:
            layers.append(call)

    visit("", network)
    return blocks, layers


def _inner_calls(call: Call) -> Iterator[Call]:
    """A call and everything called within it."""
    yield call
    for child in call.children:
        yield from _inner_calls(child)


def _is_gate(call: Call) -> bool:
    """Whether a module weighs the channels of a map by what it sees of their means (squeeze-excitation)."""

    def positions(tensor: Tensor | None) -> int:
        return 1 if tensor is None or tensor.ndim < 3 else tensor[0, 0].numel()

    inside = [inner for inner in _inner_calls(call) if inner.module and _has_own_weights(inner.module)]
    return positions(call.output) > 1 and all(positions(inner.input) == 1 for inner in inside)


def _width(call: Call) -> int | None:
    """Output width of the last layer with weights that ran inside a call."""
    sizes = [
        (inner.ended, getattr(inner.module, "out_channels", getattr(inner.module, "out_features", None)))
        for inner in _inner_calls(call)
    ]
    return max(((ended, size) for ended, size in sizes if isinstance(size, int)), default=(0, None))[1]


def _unit(record: Record, layer: Call) -> SubBlock:
    """A layer of a plain network with the norm and the activation that follow it directly."""
    end, name, activation = layer, layer.name, layer.ends_in
    following = [call for call in record.calls if call.started > layer.started and not call.children]
    for _ in range(2):  # at most a norm, then an activation
        if activation is not None:
            break
        step = next(
            (
                call
                for call in following
                if end.feeds(call)
                and call.ended > end.ended
                and (call.is_activation or (_is_norm(call.module) and end is layer))
            ),
            None,
        )
        if step is None:
            break
        end = step
        if step.is_activation:
            activation = step
        if step.module is not None:
            name = step.name
    return SubBlock(name, end, activation, _width(layer))


def matching_blocks(
    record: Record, blocks: list[SubBlock], patterns: Sequence[str], network: str
) -> list[SubBlock]:
    last = record.last_calls()
    by_name = {block.name: block for block in blocks}
    chosen: dict[str, SubBlock] = {}
    for pattern in patterns:
        names = [name for name in by_name if fnmatch.fnmatchcase(name, pattern)]
        if names:
            chosen.update({name: by_name[name] for name in names})
            continue
        calls = [call for name, call in last.items() if name and fnmatch.fnmatchcase(name, pattern)]
        calls = [call for call in calls if call.output is not None and call.output.ndim >= 2]
        if not calls:
            raise PursuhintError(
                f"pattern {pattern!r} matches no module that {network} runs; {did_you_mean(pattern, last)}"
            )
        chosen.update({call.name: SubBlock(call.name, call, call.ends_in, _width(call)) for call in calls})
    return list(chosen.values())
