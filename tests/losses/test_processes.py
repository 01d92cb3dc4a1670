"""Two processes with half of the batch each compute what one does with all of it."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pursuhint._util import distributed
from pursuhint._util.distributed import gather, is_main_process, mean_over_processes, own_part, world_size
from pursuhint.losses import LOSSES
from pursuhint.testing.loss_setting import (
    SAMPLES,
    chosen_features,
    chosen_samples,
    make_batch,
    student_features,
    teacher_features,
    tensors,
)
from tests.helpers.processes import spawn
from tests.losses.test_contract import build

pytestmark = pytest.mark.slow

PROCESSES = 2
VARIANTS = (  # with which a loss couples samples in another way
    ("cc", {"relation": "gaussian"}),
    ("rkd", {"average": "distinct"}),
    ("skd", {"normalization": "std_rescale"}),
    ("ofd", {"margins": "batch"}),
    ("mlkd", {"confidence": "unsure"}),
    ("mlkd", {"second_terms": "published"}),
    ("rrd", {"variant": "fifo"}),
    ("rrd", {"queue_size": 7}),  # filled by a step and a bit
    ("crd", {"constants": "none"}),
    ("crd", {"positive": "class", "bank_precision": "half"}),
    ("crcd", {"gradient": "contrast"}),
    ("icd", {"distribution": "similarities"}),
    ("itrd", {"mutual_logarithms": True}),
    ("wcord", {"through_plan": True}),
)
CASES = {name: (name, {}) for name in LOSSES} | {
    f"{name}-{'-'.join(map(str, options.values()))}": (name, options) for name, options in VARIANTS
}


def outcome(name, options, samples):
    """Values and gradients of a loss of some of the samples, and what it remembers, after two steps.

    Losses with batch norms are in evaluation mode.
    """
    torch.manual_seed(0)
    loss = build(name, **options).double()
    loss.train(not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in loss.modules()))
    whole, other = student_features(dtype=torch.float64), teacher_features(dtype=torch.float64)
    batch = make_batch(torch.float64)
    values = []
    for order in (torch.arange(SAMPLES), torch.arange(SAMPLES).flip(0)):
        rows = order[samples]
        value = loss.compute(
            chosen_features(whole, rows), chosen_features(other, rows), chosen_samples(batch, rows)
        )
        value.backward()
        values.append(value.detach())
    inputs = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors(whole)]
    learned = {key: parameter.grad for key, parameter in loss.named_parameters()}
    return torch.stack(values), inputs, learned, copy.deepcopy(dict(loss.named_buffers()))


def _run(rank, folder):
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=100),
    )
    found = {}
    for key, (name, options) in CASES.items():
        try:
            found[key] = outcome(name, options, torch.arange(SAMPLES).chunk(PROCESSES)[rank])
        except Exception as error:  # the fault of one loss is not that of the others
            found[key] = repr(error)
        dist.barrier()
    rows = torch.full((3 - rank, 2), float(rank + 1), requires_grad=True)  # not equally many
    joined = gather(rows)
    (joined * torch.arange(1.0, 6.0)[:, None]).sum().backward()
    found["gather"] = joined.detach(), rows.grad, own_part(joined, rows).detach()
    found["place"] = distributed.rank(), world_size(), is_main_process()
    found["mean"] = mean_over_processes(rows[:, 0])
    torch.save(found, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    spawn(_run, folder, processes=PROCESSES)
    return [torch.load(folder / str(rank)) for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_joined_batch(processes, case):
    values, inputs, learned, buffers = outcome(*CASES[case], torch.arange(SAMPLES))
    parts = [found[case] for found in processes]
    assert not any(isinstance(part, str) for part in parts), parts
    torch.testing.assert_close(sum(part[0] for part in parts) / PROCESSES, values)
    for index, gradient in enumerate(inputs):
        torch.testing.assert_close(sum(part[1][index] for part in parts) / PROCESSES, gradient)
    for key, gradient in learned.items():
        if gradient is None:
            assert all(part[2][key] is None for part in parts)
        else:
            torch.testing.assert_close(sum(part[2][key] for part in parts) / PROCESSES, gradient)
    for key, buffer in buffers.items():
        assert torch.equal(parts[0][3][key], parts[1][3][key])
        torch.testing.assert_close(parts[0][3][key], buffer)


def test_rows_are_gathered_with_gradient(processes):
    for rank, found in enumerate(processes):
        joined, gradient, own = found["gather"]
        assert joined[:, 0].tolist() == [1, 1, 1, 2, 2]
        rows = torch.arange(1.0, 6.0)[:3] if rank == 0 else torch.arange(1.0, 6.0)[3:]
        assert gradient[:, 1].tolist() == (PROCESSES * rows).tolist()
        assert own[:, 0].tolist() == [rank + 1] * (3 - rank)


def test_rank_and_world_size_are_those_of_the_process_group(processes):
    assert [found["place"] for found in processes] == [(0, PROCESSES, True), (1, PROCESSES, False)]


def test_without_a_group_the_launcher_says_which_process_is_the_main_one(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert (distributed.rank(), world_size(), is_main_process()) == (0, 1, True)
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    assert (distributed.rank(), world_size()) == (0, 1)


def test_a_mean_is_that_of_all_samples(processes):
    assert [found["mean"].item() for found in processes] == [pytest.approx(7 / 5)] * PROCESSES
