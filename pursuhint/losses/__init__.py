"""Everything a student can be trained with, by name.

`LOSSES` is the one place where a loss has a name: the command line, recipes and the tests read it. Library
code passes classes and objects, so a loss of your own needs no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pursuhint.tables import lookup, resolve

if TYPE_CHECKING:
    from pursuhint.losses.base import Loss

__all__ = ["LOSSES", "get_loss"]

LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "ce": "pursuhint.losses.cross_entropy:CrossEntropyLoss",
        "kd": "pursuhint.losses.kd:SoftTargetLoss",
        "skd": "pursuhint.losses.skd:SphericalLoss",
        "at": "pursuhint.losses.at:AttentionTransferLoss",
        "fitnet": "pursuhint.losses.fitnet:FitNetLoss",
        "vid": "pursuhint.losses.vid:VariationalInformationLoss",
    }
)


def get_loss(name: str) -> type[Loss]:
    """The class of a named loss; build it with `Loss.build`.

    Raises:
        PursuhintError: no loss has this name; the message suggests the closest ones.
    """
    loss: type[Loss] = resolve(lookup("loss", LOSSES, name))
    return loss
