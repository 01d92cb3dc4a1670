"""Two processes with half of the batch each compute what one does with all of it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_loss_contract import (
    SAMPLES,
    build,
    make_batch,
    permuted,
    student_trace,
    teacher_trace,
    tensors,
)
from torch import nn

from pursuhint.losses import get_loss
from pursuhint.losses.processes import gather, own_part

pytestmark = pytest.mark.slow

PROCESSES = 2
LOSSES = (
    *("ce", "kd", "skd", "at", "fitnet", "vid"),
    *("sp", "cc", "rkd", "pkt", "nst", "kdsvd", "fsp", "ab", "ft", "ofd"),
    *("dist", "srrl", "semckd", "simkd", "norm", "ipwd", "fkd", "crcd", "wcord", "aml"),
    *("jacobian", "jacobian-attention", "refilled", "distpro"),
    *("afd", "reviewkd", "crd", "rrd", "rrd:fifo", "wsld", "dkd", "icd", "dcd", "itrd", "ega"),
)


def outcome(name, samples):
    """Value and gradients of a loss of some of the samples; losses with batch norms in evaluation mode.

    A name may be followed by a variant.
    """
    torch.manual_seed(0)
    name, _, variant = name.partition(":")
    loss = build(name, **({"variant": variant} if variant else {})).double()
    loss.train(not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in loss.modules()))
    whole, other = student_trace(dtype=torch.float64), teacher_trace(dtype=torch.float64)
    batch = make_batch(torch.float64)
    part = SimpleNamespace(
        images=batch.images[samples], labels=batch.labels[samples], indices=batch.indices[samples]
    )
    value = loss.compute(permuted(whole, samples), permuted(other, samples), part)
    value.backward()
    inputs = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors(whole)]
    learned = {key: parameter.grad for key, parameter in loss.named_parameters()}
    return value.detach(), inputs, learned, copy.deepcopy(dict(loss.named_buffers()))


def _run(rank, folder, names):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    found = {}
    for name in names:
        try:
            found[name] = outcome(name, torch.arange(SAMPLES).chunk(PROCESSES)[rank])
        except Exception as error:  # the fault of one loss is not that of the others
            found[name] = repr(error)
        dist.barrier()
    rows = torch.full((3 - rank, 2), float(rank + 1), requires_grad=True)  # not equally many
    joined = gather(rows)
    (joined * torch.arange(1.0, 6.0)[:, None]).sum().backward()
    found["gather"] = joined.detach(), rows.grad, own_part(joined, rows).detach()
    torch.save(found, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(_run, args=(folder, LOSSES), nprocs=PROCESSES)
    return [torch.load(folder / str(rank)) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_the_joined_batch(processes, name):
    value, inputs, learned, buffers = outcome(name, torch.arange(SAMPLES))
    parts = [found[name] for found in processes]
    assert not any(isinstance(part, str) for part in parts), parts
    torch.testing.assert_close(sum(part[0] for part in parts) / PROCESSES, value)
    if get_loss(name.partition(":")[0]).couples_batch:
        torch.testing.assert_close(parts[0][0], parts[1][0])
    for index, gradient in enumerate(inputs):
        torch.testing.assert_close(sum(part[1][index] for part in parts) / PROCESSES, gradient)
    for key, gradient in learned.items():
        if gradient is None:
            assert all(part[2][key] is None for part in parts)
        else:
            torch.testing.assert_close(sum(part[2][key] for part in parts) / PROCESSES, gradient)
    for key, buffer in buffers.items():
        for part in parts:
            torch.testing.assert_close(part[3][key], buffer)


def test_rows_are_gathered_with_gradient(processes):
    for rank, found in enumerate(processes):
        joined, gradient, own = found["gather"]
        assert joined[:, 0].tolist() == [1, 1, 1, 2, 2]
        rows = torch.arange(1.0, 6.0)[:3] if rank == 0 else torch.arange(1.0, 6.0)[3:]
        assert gradient[:, 1].tolist() == (PROCESSES * rows).tolist()
        assert own[:, 0].tolist() == [rank + 1] * (3 - rank)
