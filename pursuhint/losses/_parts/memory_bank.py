"""Memory bank: one vector per training sample, with inner products that are never held for a whole batch."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pursuhint.losses.checks import check_choice

__all__ = ["BankPrecision", "MemoryBank"]

BankPrecision = Literal["full", "half"]


class MemoryBank(nn.Module):
    """One vector per training sample, identical on all ranks.

    In full precision a bank takes 4 bytes a number: 26 MB for CIFAR-100 and 656 MB for ImageNet at a width of
    128. Half precision halves that. A bank in CPU memory takes none of the device, but what is read of
    it crosses the bus for every batch.

    Args:
        num_samples: how many vectors.
        width: their length.
        precision: ``"full"``, that of the loss it belongs to, or ``"half"``, 16 bits a number whatever the
            rest is computed in.
        on_host: keep it in CPU memory, whatever device the loss is moved to.

    Attributes:
        vectors: (num_samples, width); a buffer. At the start uniform in
            :math:`[-1, 1] \\cdot \\sqrt{3 / width}`, of length 1 on average.
    """

    vectors: Tensor

    def __init__(
        self, num_samples: int, width: int, *, precision: BankPrecision = "full", on_host: bool = False
    ) -> None:
        super().__init__()
        check_choice(BankPrecision, precision=precision)
        self.precision = precision
        self.on_host = on_host
        bound = (3 / width) ** 0.5
        dtype = torch.float16 if precision == "half" else None
        vectors = torch.empty(num_samples, width, dtype=dtype)
        for part in vectors.split(_PART):  # in strips, so that a half bank never exists in full precision
            part.copy_(torch.empty(part.shape).uniform_(-bound, bound))
        self.register_buffer("vectors", vectors)
        self._readings: weakref.WeakSet[_Reading] = weakref.WeakSet()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MemoryBank:
        """Follow the loss to devices and precisions only as far as the options say."""
        vectors = self.vectors
        wanted = fn(vectors[:0])  # empty: asks for device and dtype without moving the bank
        self.vectors = vectors.to(
            device=vectors.device if self.on_host else wanted.device,
            dtype=vectors.dtype if self.precision == "half" else wanted.dtype,
        )
        return self

    @torch.no_grad()
    def scale_to_unit_length(self) -> None:
        """Scale every vector to length 1."""
        for part in self.vectors.split(_PART):
            part.copy_(nn.functional.normalize(part.float(), dim=1))

    def products(self, queries: Tensor, indices: Tensor) -> Tensor:
        """Inner products with chosen vectors of the bank.

        Args:
            queries: (N, width).
            indices: which vectors, (N, K).

        Returns:
            (N, K), in the precision of the queries; gradient reaches the queries alone. The chosen vectors
            are never held for the whole batch: they are read again for the gradient, as they were then.
        """
        reading = _Reading(self.vectors, indices)
        self._readings.add(reading)
        products: Tensor = _Products.apply(queries, reading)
        return products

    def rows(self, indices: Tensor) -> Tensor:
        """Chosen vectors as they are stored, (N, width), on the device of ``indices``."""
        return self.vectors[indices.to(self.vectors.device)].to(indices.device)

    @torch.no_grad()
    def update(self, indices: Tensor, vectors: Tensor, momentum: float) -> None:
        """Move vectors towards new ones, and scale them to length 1.

        Args:
            indices: which, (N,). Of one that occurs twice the last counts.
            vectors: the new ones, (N, width).
            momentum: share of the old ones, in [0, 1].
        """
        # A backward pass that is still to come needs the vectors as its forward pass read them.
        for reading in self._readings:
            reading.changed(indices)
        # v <- normalize(m v_old + (1 - m) v_new)
        mixed = momentum * self.rows(indices).to(vectors.dtype) + (1 - momentum) * vectors
        mixed = nn.functional.normalize(mixed, dim=1)
        # A sample may occur twice in a batch, and a scatter on the GPU would let either win: give all its
        # occurrences the vector of the last one, so that the order of writing does not matter.
        same = indices[:, None] == indices
        last = (same * torch.arange(1, len(indices) + 1, device=indices.device)).argmax(1)
        self.vectors[indices.to(self.vectors.device)] = mixed[last].to(self.vectors)


_PART = 2**16  # vectors in a strip
_AT_ONCE = 2**24  # numbers in an intermediate result: 64 MB in float32


class _Reading:
    """The vectors that a forward pass read from a bank, and those overwritten since.

    Rows of the batch are processed in chunks. A small bank is multiplied whole and the products are gathered,
    because a matrix product is many times faster than gathering vectors.
    """

    def __init__(self, bank: Tensor, indices: Tensor) -> None:
        self.bank = bank
        self.indices = indices
        # The whole bank is multiplied as long as it is at most 8 times as long as a row of chosen vectors.
        self.whole = bank.device == indices.device and len(bank) <= 8 * indices.shape[1]
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def changed(self, indices: Tensor) -> None:
        """Some vectors are about to be overwritten."""
        indices = indices.to(self.bank.device)
        self.overwritten.append((indices, self.bank[indices]))

    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Roll the bank back to the moment of reading, and forward again."""
        present = [(indices, self.bank[indices]) for indices, _ in self.overwritten]
        for indices, vectors in reversed(self.overwritten):  # the latest change first
            self.bank[indices] = vectors
        yield
        for indices, vectors in present:
            self.bank[indices] = vectors

    def parts(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of the batch with the indices of their vectors, in chunks that the memory budget allows."""
        bank, indices = self.bank, self.indices
        size = max(1, _AT_ONCE // (len(bank) if self.whole else indices.shape[1] * bank.shape[1]))
        return zip(rows.split(size), indices.split(size))

    def read(self, chosen: Tensor, like: Tensor) -> Tensor:
        """Chosen vectors, (N, K, width), where and as precise as something else."""
        vectors = self.bank.index_select(0, chosen.flatten().to(self.bank.device)).to(like.device)
        return vectors.to(like.dtype).unflatten(0, chosen.shape)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, reading: _Reading) -> Tensor:
        ctx.reading = reading
        results = []
        for rows, chosen in reading.parts(queries):
            if reading.whole:
                results.append((rows @ reading.bank.to(rows.dtype).T).gather(1, chosen))
            else:
                results.append((reading.read(chosen, rows) @ rows[:, :, None])[:, :, 0])
        return torch.cat(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        reading: _Reading = ctx.reading
        results = []
        with reading.as_it_was():
            for rows, chosen in reading.parts(gradients[0]):
                if reading.whole:  # dq = sum over K of g_k v_k, with g scattered to the columns of the bank
                    spread = rows.new_zeros(len(rows), len(reading.bank)).scatter_add_(1, chosen, rows)
                    results.append(spread @ reading.bank.to(rows.dtype))
                else:
                    results.append((rows[:, None] @ reading.read(chosen, rows))[:, 0])
        return torch.cat(results), None
