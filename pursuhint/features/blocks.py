"""Find the sub-blocks of any network from the call trace of one forward pass.

The rules use structure, not names: which modules hold layers with weights, which only chain their children,
and which call takes the output of a sub-block.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError
from pursuhint.features.axes import axes_at
from pursuhint.features.call_trace import Call, CallTrace
from pursuhint.features.layers import children_of, modules_of
from pursuhint.features.module_rules import (
    activation_after_norm,
    classifier_of,
    has_own_weights,
    is_chain,
    is_container,
    is_depthwise,
    is_gate,
    is_head,
    is_norm,
    outer_calls,
)
from pursuhint.features.tap import Tap, TapKind


@dataclass(frozen=True)
class SubBlock:
    """A sub-block: the call that returns its output, and its last activation if it ends in one."""

    name: str
    end: Call
    activation: Call | None
    whole: Call
    """The call that contains its layers."""

    @property
    def features(self) -> Tensor:
        assert self.end.output is not None
        return self.end.output

    def post(self, axes: str) -> Tap:
        """Address of its output.

        Args:
            axes: of the output, see `Tap.axes`.
        """
        end = self.end
        kind: TapKind = "functional-output" if end.module is None else "output"
        return Tap(end.name, kind, end.ordinal, end.output_overwritten, axes)

    def pre(self, trace: CallTrace, axes: str) -> Tap:
        """Address of the input of its last activation, or of its output if it does not end in one.

        Args:
            trace: of the forward pass.
            axes: of the output.
        """
        activation = self.activation or activation_after_norm(trace, self.end)
        if activation is None:
            return self.post(axes)
        kind: TapKind = "functional-input" if activation.module is None else "input"
        axes = axes_at(trace, activation, axes)
        return Tap(activation.name, kind, activation.ordinal, activation.input_overwritten, axes)


# ---------------------------------------------------------------------------------------------------------
# The search


def find_sub_blocks(network: nn.Module, trace: CallTrace) -> list[SubBlock]:
    """The sub-blocks of a network, or the conv-norm-activation units of one that has fewer than two.

    A sub-block is an outermost module that holds two or more layers with weights and is more than a chain of
    them. The search descends into modules that hold a sequence of sub-blocks (stages, encoders, containers),
    unless they hold several parallel branches that exchange features (HRNet). The stem, which takes the
    image, and the head are not sub-blocks.
    """
    search = _Search(network, trace)
    found = search.sub_blocks()
    calls = found if len(found) >= 2 else search.separable_convolutions()
    if len(calls) >= 2:
        # Modules of the same class as a sub-block, or siblings in the same container, are sub-blocks too,
        # also without a skip connection (first block of EfficientNet) or with one layer (EfficientNetV2).
        calls = search.with_companions(calls)
        return [SubBlock(call.name, call, call.ends_in, call) for call in calls]
    single = [SubBlock(call.name, call, call.ends_in, call) for call in found]
    layers = search.layers()
    units = [_unit(trace, layer) for layer in layers if not is_head(layer)]
    maps = [unit for unit in units if unit.features.ndim > 2]
    return single + (maps or [_unit(trace, layer) for layer in layers])


class _Search:
    """Top-down search over the modules of a network, with what each did in a traced forward pass."""

    def __init__(self, network: nn.Module, trace: CallTrace) -> None:
        self.network = network
        self.trace = trace
        self.last = trace.last_calls()
        classifier = classifier_of(trace)
        self.classifier = None if classifier is None else classifier.module
        self.of_module = {call.module: call for call in self.last.values()}
        calls = [(type(call.module), call) for call in self.last.values() if call.module is not None]
        # Properties hold for a class if one of its modules shows them: an inverted residual without a skip
        # connection is still an inverted residual.
        self.branching = {kind for kind, call in calls if not is_chain(call)}
        self.gates = {kind for kind, call in calls if is_gate(call)}
        self.heads = {kind for kind, _ in calls} - {kind for kind, call in calls if not is_head(call)}
        self._class_counts = Counter(kind for kind, _ in calls)
        self._weights: dict[nn.Module, int] = {}
        self._holding: dict[nn.Module, bool] = {}
        own = [m for m in network.modules() if m is not network and not is_container(m)]
        self.stages = {type(module) for module in own if self._holds_run(module)}

    # -- contents of modules -----------------------------------------------------------------------------

    def _can_be_sub_block(self, module: nn.Module, layers: int = 2) -> bool:
        """Whether a module has enough layers, is neither gate nor head, and returns one entry per sample."""
        call = self.of_module.get(module)
        return (
            not is_container(module)
            and type(module) not in self.gates | self.heads
            and call is not None
            and call.output is not None
            and call.output.ndim >= 2
            and self.trace.batch_axis(call) is not None
            and self._weighted_layers(module) >= layers
        )

    def _weighted_layers(self, module: nn.Module) -> int:
        """Number of layers with weights in a module."""
        if module not in self._weights:
            inside = sum(self._weighted_layers(child) for _, child in children_of(module))
            self._weights[module] = inside + has_own_weights(module)
        return self._weights[module]

    def _holds_sub_block(self, module: nn.Module) -> bool:
        """Whether a module is a sub-block or holds one, rather than a named chain of layers."""
        if module not in self._holding:
            itself = type(module) in self.branching and self._can_be_sub_block(module)
            self._holding[module] = itself or any(
                self._holds_sub_block(child) for _, child in children_of(module)
            )
        return self._holding[module]

    def _holds_run(self, module: nn.Module) -> bool:
        """Whether a module holds a sequence of two or more sub-blocks of one class."""
        for inner in module.modules():
            if not (isinstance(inner, nn.Sequential) or is_container(inner) or inner is not module):
                continue
            members = [m for m in inner.children() if self._can_be_sub_block(m) and self._holds_sub_block(m)]
            if any(count >= 2 for count in Counter(map(type, members)).values()):
                return True
        return False

    def _is_short_stage(self, module: nn.Module) -> bool:
        """Whether a module of a stage's class holds a single sub-block where others hold several."""
        return type(module) in self.stages and any(
            self._holds_sub_block(child)
            for inner in module.modules()
            if is_container(inner)
            for child in inner.children()
            if not is_container(child)
        )

    def _runs_in_parallel(self, module: nn.Module) -> bool:
        """Whether two or more of a module's input tensors each enter sub-blocks of their own (HRNet)."""
        call = self.of_module.get(module)
        if call is None or len(call.inputs) < 2:
            return False
        streams = {
            id(child.input)
            for child in call.children
            if child.module is not None
            and any(child.input is received for received in call.inputs)
            and self._holds_sub_block(child.module)
        }
        return len(streams) >= 2

    def _holds_classifier(self, module: nn.Module) -> bool:
        return self.classifier is not None and any(inner is self.classifier for inner in module.modules())

    def _is_repeated_block(self, module: nn.Module) -> bool:
        """Whether a module is one of several sub-blocks of its class.

        If the last layer with weights lies in one, the network has no classifier.
        """
        return self._class_counts[type(module)] >= 2 and self._can_be_sub_block(module)

    # -- search ------------------------------------------------------------------------------------------

    def _is_entered(self, module: nn.Module) -> bool:
        if module is self.network or is_container(module):
            return True
        if self._holds_run(module) or self._is_short_stage(module):
            return not self._runs_in_parallel(module)
        return any(True for _ in children_of(module)) and type(module) not in self.branching

    def _leaves(self, taken: Iterable[nn.Module] = ()) -> Iterator[Call]:
        """Calls of the outermost modules that the search does not descend into, and of those in ``taken``."""
        taken = set(taken)

        def visit(name: str, module: nn.Module) -> Iterator[Call]:
            if module not in taken and self._is_entered(module):
                for child_name, child in children_of(module):
                    yield from visit(f"{name}.{child_name}" if name else child_name, child)
                return
            call = self.last.get(name)
            if call is None or call.output is None or call.output.ndim < 2:
                return  # not run
            if self._is_repeated_block(module) or not self._holds_classifier(module):
                yield call

        return visit("", self.network)

    def sub_blocks(self) -> list[Call]:
        """Calls of modules that are more than a chain of layers."""
        found = [
            call for call in self._leaves() if call.module is not None and self._can_be_sub_block(call.module)
        ]
        found = self._outermost(found)
        return self._without_stem(self._with_trailing_layers(found))

    def _with_trailing_layers(self, calls: list[Call]) -> list[Call]:
        """Replace a sub-block by its enclosing module if modules of that class hold one sub-block plus extra
        layers."""
        inside: dict[nn.Module, list[Call]] = {}
        for call in calls:
            for module in self._around(call.name):
                inside.setdefault(module, []).append(call)
        wide = {type(module) for module, found in inside.items() if len(found) > 1}

        def widest(call: Call) -> Call:
            best = call
            for module in self._around(call.name):
                if module is self.network or type(module) in self.stages | self.branching:
                    break
                if is_container(module):
                    continue
                if type(module) in wide or not self._can_be_sub_block(module):
                    break
                best = self.of_module[module]
            assert best.module is not None
            assert call.module is not None
            more = self._weighted_layers(best.module) > self._weighted_layers(call.module)
            return best if more else call

        return [widest(call) for call in calls]

    def separable_convolutions(self) -> list[Call]:
        """Chains with one depthwise convolution: the layers of networks of separable convolutions."""
        chosen = [
            module
            for module in self.of_module
            if module is not None
            and module is not self.network
            and self._can_be_sub_block(module)
            and type(module) not in self.stages
            and sum(is_depthwise(inner) for _, inner in modules_of(module)) == 1
        ]
        return self._outermost([call for call in self._leaves(chosen) if call.module in set(chosen)])

    def with_companions(self, blocks: list[Call]) -> list[Call]:
        """Add modules of the same class, or siblings in the same container, in depth order."""
        kinds = {type(call.module) for call in blocks}
        company = {self._company(call.name) for call in blocks}

        def belongs(call: Call) -> bool:
            module = call.module
            if module is None or module in known or not self._can_be_sub_block(module, layers=1):
                return False
            if type(module) in kinds:
                return not all(
                    is_depthwise(inner) for _, inner in modules_of(module) if has_own_weights(inner)
                )
            if not any(True for _ in children_of(module)) or self._company(call.name) not in company:
                return False
            keeps_shape = call.input is not None and call.output is not None
            keeps_shape = keeps_shape and call.input.shape == call.output.shape  # type: ignore[union-attr]
            return self._weighted_layers(module) >= 2 or (type(module) in self.branching and keeps_shape)

        known = {call.module for call in blocks}
        holding = {inner for call in blocks for inner in self._around(call.name)}
        chains = [
            call.module
            for call in self.last.values()
            if call.module is not None
            and call.module not in holding
            and call.module is not self.network
            and not is_container(call.module)
        ]
        leaves = list(self._leaves([module for module in chains if module is not None]))
        found = [call for call in leaves if call.module in known or belongs(call)]
        return self._without_stem(self._outermost(found))

    def _around(self, name: str) -> Iterator[nn.Module]:
        """The enclosing modules of a module, innermost first."""
        while name:
            name = name.rpartition(".")[0]
            yield self.network.get_submodule(name)

    def _company(self, name: str) -> tuple[str, str]:
        """The innermost enclosing module that is no container, and its child that leads to the module (empty
        if the module is a direct child)."""
        parts = name.split(".")
        for end in range(len(parts) - 1, -1, -1):
            holder = ".".join(parts[:end])
            if end == 0 or not is_container(self.network.get_submodule(holder)):
                return holder, parts[end] if end < len(parts) - 1 else ""
        raise AssertionError("the network itself stands around every module")

    def _outermost(self, calls: list[Call]) -> list[Call]:
        """Drop calls inside another one of the calls."""
        return [call for call in calls if not any(outer in calls for outer in outer_calls(call))]

    def _without_stem(self, calls: list[Call]) -> list[Call]:
        """Drop the module that takes the image, if it is the only one of its class and two others remain."""
        image = self.trace.calls[0].input
        kinds = Counter(type(call.module) for call in calls)
        rest = [call for call in calls if call.input is not image or kinds[type(call.module)] > 1]
        return rest if len(rest) >= 2 else calls

    def layers(self) -> list[Call]:
        """Calls of layers with weights outside of sub-blocks."""
        return [
            call
            for call in self._leaves()
            if call.module is not None and self._weighted_layers(call.module) == 1
        ]


def _unit(trace: CallTrace, layer: Call) -> SubBlock:
    """The sub-block of a plain network: a layer with the norm and activation that directly follow it."""
    end, name, activation = layer, layer.name, layer.ends_in
    following = [call for call in trace.calls if call.started > layer.started and not call.children]
    for _ in range(2):  # at most a norm, then an activation
        if activation is not None:
            break
        step = next(
            (
                call
                for call in following
                if end.feeds(call)
                and call.ended > end.ended
                and (call.is_activation or (is_norm(call.module) and end is layer))
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
    return SubBlock(name, end, activation, layer)


def matching_blocks(
    trace: CallTrace, blocks: list[SubBlock], patterns: Sequence[str], network: str
) -> list[SubBlock]:
    """The sub-blocks, or else the modules, whose names match patterns.

    Raises:
        PursuhintError: a pattern matches nothing that runs.
    """
    last = trace.last_calls()
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
        chosen.update({call.name: SubBlock(call.name, call, call.ends_in, call) for call in calls})
    return list(chosen.values())
