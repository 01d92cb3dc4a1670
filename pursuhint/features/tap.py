"""Addresses of tensors in a forward pass, as plain values that can be stored without the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Tap"]

TapKind = Literal["output", "input", "functional-input", "functional-output"]


@dataclass(frozen=True)
class Tap:
    """Address of one tensor in a forward pass.

    Attributes:
        module: name of the module, ``""`` for the network itself.
        kind: ``"output"`` or ``"input"`` of the module's call; or, with the prefix ``functional-``, of an
            activation that the module's own ``forward`` applies as a function (``F.relu(x)``), which module
            hooks do not see.
        call: index of the call within one forward pass, from 0: of the module, or of the activations applied
            as functions directly in it.
        copy: whether the network overwrites this tensor in place later in the forward pass, so that it must
            be copied.
        axes: the axes of the tensor in the network's order, where it is not (N, C, H, W), (N, T, C) or
            (N, C): a word such as ``"NHWC"`` (channels last), ``"TNC"`` (tokens first), ``"NCL"`` (a signal),
            ``"NCDHW"`` or ``"NDHWC"`` (D frames). `FeatureExtractor` then brings it into one of these orders:
            a signal becomes a map of height 1, frames stand one below the other.
        grid: rows and columns of a map as which `FeatureExtractor` lays out the last tokens; None leaves
            tokens as they are.
    """

    module: str
    kind: TapKind = "output"
    call: int = 0
    copy: bool = False
    axes: str = ""
    grid: tuple[int, int] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tap:
        """A tap from plain values, those of earlier versions too; see `plain_values`."""
        values = plain_values(values)
        grid = values.get("grid")
        return cls(**{**values, "grid": None if grid is None else (grid[0], grid[1])})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Stored plans of earlier versions are read as `from_dict` reads them."""
        from pydantic_core import core_schema  # stored files only

        return core_schema.no_info_before_validator_function(plain_values, handler(source))


@dataclass(frozen=True)
class ReducedTap(Tap):
    """A tap of which `FeatureExtractor` gives one channel: the root of the mean square of all of them.

    It is all that a loss looks at which compares energies; see `pursuhint.losses.Loss.reads_energy`.
    """


def plain_values(values: Any) -> Any:
    """The values of a stored tap; earlier versions said ``channels_last`` instead of naming the axes."""
    if not isinstance(values, Mapping) or "channels_last" not in values:
        return values
    rest = {key: value for key, value in values.items() if key != "channels_last"}
    return {**rest, "axes": "NHWC"} if values["channels_last"] is True else rest
