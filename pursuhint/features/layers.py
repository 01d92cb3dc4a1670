"""What a layer is: one module with weights, however they are stored.

Weights may be computed from others (``nn.utils.parametrizations``, ``nn.utils.weight_norm``, pruning masks),
packed (quantized layers) or added up from a frozen layer and an adapter (LoRA). All of these count as the one
layer that they are, and what they hold inside is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

_CONVOLUTION = nn.modules.conv._ConvNd
# What an adapter may hold beside its layers; anything else makes the module a block of its own.
_PLAIN = (nn.Linear, _CONVOLUTION, nn.Embedding, nn.ModuleDict, nn.ModuleList, nn.Identity, nn.ParameterDict,
          nn.ParameterList, nn.modules.dropout._DropoutNd)  # fmt: skip
_BASE_NAMES = frozenset(("base", "base_layer", "original", "original_layer", "wrapped", "linear", "conv"))


def adapted_layer(module: nn.Module | None) -> nn.Module | None:
    """The layer that a module adapts by a product of two smaller matrices (LoRA); others as they are."""
    if module is None or isinstance(module, _PLAIN) or type(module).forward is nn.Sequential.forward:
        return module
    named = dict(module.named_children())
    says_so = "lora" in " ".join([type(module).__name__, *named, *module._parameters]).lower()
    for name, base in named.items():
        if (
            (says_so or name in _BASE_NAMES)
            and isinstance(base, (nn.Linear, _CONVOLUTION))
            and all(isinstance(inner, _PLAIN) for inner in module.modules() if inner is not module)
            and _is_low_rank(module, base)
        ):
            return base
    return module


def _is_low_rank(module: nn.Module, base: nn.Linear | nn.modules.conv._ConvNd) -> bool:
    """Whether the weights beside those of the base are pairs (rank, in) and (out, rank) of a small rank."""
    outputs, inputs = base.weight.shape[:2]
    own = {id(parameter) for parameter in base.parameters()}
    others = [tuple(p.shape[:2]) for p in module.parameters() if id(p) not in own and p.ndim >= 2]
    ranks = {size for shape in others for size in shape} - {inputs, outputs}
    if len(others) < 2 or len(others) % 2 or not all(rank < min(inputs, outputs) for rank in ranks):
        return False
    return all(bool(set(shape) & {inputs, outputs}) and bool(set(shape) & ranks) for shape in others)


def is_linear(module: nn.Module | None) -> bool:
    """Whether a module is a linear layer, perhaps adapted or quantized."""
    module = adapted_layer(module)
    return isinstance(module, nn.Linear) or _is_packed(module, ("in_features", "out_features"))


def as_convolution(module: nn.Module | None) -> nn.modules.conv._ConvNd | None:
    """The convolution that a module is or adapts; None if it is none."""
    module = adapted_layer(module)
    return module if isinstance(module, _CONVOLUTION) else None


def _is_packed(module: nn.Module | None, sizes: tuple[str, ...]) -> bool:
    """Whether a module names the sizes of a layer's weights, but holds none as parameters (quantized)."""
    return (
        module is not None
        and all(isinstance(getattr(module, size, None), int) for size in sizes)
        and not any(parameter.ndim >= 2 for parameter in module.parameters())
        and not any(_says_sizes(inner) for inner in module.modules() if inner is not module)
    )


def _says_sizes(module: nn.Module) -> bool:
    return hasattr(module, "out_features") or hasattr(module, "out_channels")


def owns_weights(module: nn.Module) -> bool:
    """Whether a module itself is a layer with weights of two axes or more; norms may be, by accident.

    A parameter (1, tokens, width) is added to tokens: positions, or tokens of its own.
    """
    own = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim >= 2]
    if any(parameter.ndim != 3 or len(parameter) > 1 for parameter in own):
        return True
    if own and isinstance(module, _CONVOLUTION):
        return True
    if any(parameter.ndim >= 2 for parameter in _computed_from(module)):
        return True
    return (
        adapted_layer(module) is not module
        or _is_packed(module, ("in_features", "out_features"))
        or _is_packed(module, ("in_channels", "out_channels", "kernel_size"))
    )


def _computed_from(module: nn.Module) -> Iterator[Tensor]:
    """The tensors that parametrizations compute a module's own weights from."""
    parametrizations = module._modules.get("parametrizations")
    if parametrizations is not None:
        for parametrization in parametrizations.children():
            yield from parametrization.parameters(recurse=False)


def children_of(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The named children of a module; none of a layer, and no parametrizations."""
    inside = adapted_layer(module) is not module or is_linear(module) or as_convolution(module) is not None
    if not inside:
        for name, child in module.named_children():
            if name != "parametrizations":
                yield name, child


def modules_of(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """As ``named_modules``, without what lies inside of layers."""
    seen: set[nn.Module] = set()

    def visit(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if module in seen:
            return
        seen.add(module)
        yield name, module
        for child_name, child in children_of(module):
            yield from visit(f"{name}.{child_name}" if name else child_name, child)

    return visit(name, module)
