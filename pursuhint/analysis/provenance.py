"""Which network, data and settings an analysis comes from."""

from __future__ import annotations

from dataclasses import dataclass

from pursuhint.data.preprocessing import Preprocessing

__all__ = ["Provenance"]


@dataclass(frozen=True)
class Provenance:
    """Network, data and settings of an analysis, in plain values.

    Attributes:
        network: name of the network.
        data: name of the data set.
        num_samples: number of training images the network was run on.
        seed: of the draw of those images.
        pooling: from features to one vector a sample, as `pursuhint.features.get_pooling` takes it.
        batch_size: images in a batch.
        device: where the network ran.
        autocast: the type in which it ran by automatic mixed precision, or None.
        threads: CPU threads that torch used.
        processes: number of ranks that sharded the pass over the data.
        network_fingerprint: hash of the network's weights and buffers.
        preprocessing: how images became the network's input, its own conversion included; None in
            analyses of older versions.
    """

    network: str
    data: str
    num_samples: int
    seed: int
    pooling: str
    batch_size: int
    device: str
    autocast: str | None
    threads: int
    processes: int
    network_fingerprint: str = ""
    preprocessing: Preprocessing | None = None
