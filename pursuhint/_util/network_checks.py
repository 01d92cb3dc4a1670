"""What can be wrong with a network that was passed: it is no network, a program, unfinished or frozen."""

from __future__ import annotations

import torch
from torch import fx, nn

from pursuhint._util.arguments import expect_network
from pursuhint._util.wrappers import unwrapped
from pursuhint.errors import PursuhintError

_INSTEAD = "build it in Python and load its state_dict() into it"


def check_network(network: nn.Module, role: str = "network") -> None:
    """Make sure that the layers of a network can be read.

    Args:
        network: what was passed as one.
        role: what the message calls it.

    Raises:
        PursuhintError: it is a program (scripted, traced or exported), no network at all, or a layer has no
            weights yet.
    """
    network = unwrapped(network)
    kind = type(network).__name__
    if isinstance(network, torch.jit.ScriptModule):
        raise PursuhintError(
            f"the {role} is a TorchScript program (scripted or traced), whose layers cannot be read; "
            + _INSTEAD
        )
    expect_network(network, f"the {role}")
    if isinstance(network, fx.GraphModule) and next(network.parameters(), None) is not None:
        called = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
        if not any(next(network.get_submodule(name).parameters(), None) is not None for name in called):
            raise PursuhintError(
                f"the {role} is an exported program, whose layers cannot be read; {_INSTEAD}"
            )
    for name, parameter in network.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise PursuhintError(
                f"the layer {name.rpartition('.')[0]!r} of the {role} ({kind}) is lazy and has no weights "
                "yet; run it on one batch first"
            )


def check_trainable(student: nn.Module) -> None:
    """Make sure that a student has something to train.

    Raises:
        PursuhintError: it has no weights, or all of them are frozen.
    """
    if not any(parameter.requires_grad for parameter in student.parameters()):
        frozen = next(student.parameters(), None) is not None
        raise PursuhintError(
            f"the student ({type(unwrapped(student)).__name__}) "
            + ("is frozen: call requires_grad_(True) on what it is to learn" if frozen else "has no weights")
        )
