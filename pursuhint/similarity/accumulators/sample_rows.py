"""Features of some of the samples, with their classes, kept in the same pass as the layers' statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from pursuhint._util.distributed import world_size
from pursuhint.similarity.accumulators.tensor_file import read_tensors, write_tensors


class SampleRows:
    """Features of all layers for given samples.

    Memory is `bytes_of_sample_rows`: 16 MB for 2,000 images and the 54 blocks of resnet110. Rows do not
    depend on the order of the samples, nor on their division into batches or ranks.

    Args:
        samples: indices of the samples to keep, as in ``Batch.indices``; different ones.
        width: number of features of all layers together.
        device: where they are kept.
    """

    def __init__(self, samples: Tensor, width: int, *, device: torch.device | str = "cpu") -> None:
        self._samples = samples.sort().values.to(device)
        # The last row takes the other samples: selecting rows would make a GPU's host wait.
        self._rows = torch.zeros(len(samples) + 1, width, dtype=torch.float32, device=device)
        self._labels = torch.zeros(len(samples) + 1, dtype=torch.int64, device=device)
        self._seen = torch.zeros(len(samples) + 1, dtype=torch.int64, device=device)

    def update(self, features: Sequence[Tensor], labels: Tensor, *, samples: Tensor) -> None:
        """Add a batch.

        Args:
            features: one tensor a layer, (batch, width of the layer).
            labels: integers, (batch,).
            samples: indices of the batch's samples, (batch,).
        """
        device, last = self._rows.device, len(self._samples)
        wanted = samples.to(device)
        places = torch.searchsorted(self._samples, wanted).clamp_max(last - 1)
        places = torch.where(self._samples[places] == wanted, places, last)
        rows = torch.cat([layer.detach().to(self._rows) for layer in features], dim=1)
        self._rows.index_copy_(0, places, rows)
        self._labels.index_copy_(0, places, labels.to(device, torch.int64))
        self._seen.index_fill_(0, places, 1)

    def all_reduce(self) -> None:
        """Take the rows of all ranks of the default process group."""
        if world_size() > 1:
            for tensor in (self._rows, self._labels, self._seen):
                tensor[-1] = 0
                dist.all_reduce(tensor)  # a sample is read by one rank; the others have zeros

    def there(self) -> tuple[Tensor, Tensor]:
        """Features (samples, width) and labels (samples,) of the samples that were read, on the CPU.

        They are in the order of the samples' indices.
        """
        seen = self._seen[:-1].cpu() > 0
        return self._rows[:-1].cpu()[seen], self._labels[:-1].cpu()[seen]

    def write(self, path: Path) -> None:
        """Save the rows."""
        write_tensors(path, self._tensors)

    def read(self, path: Path) -> None:
        """Continue from saved rows.

        Raises:
            PursuhintError: the file is missing, damaged, or of other layers or samples.
        """
        read_tensors(path, self._tensors)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {"rows": self._rows, "labels": self._labels, "seen": self._seen}


def bytes_of_sample_rows(samples: int, width: int) -> int:
    """Memory of the rows of so many samples."""
    return 4 * (samples + 1) * width
