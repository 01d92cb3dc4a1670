"""Which network, data and settings an analysis comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pursuhint._util.provenance import BaseProvenance
from pursuhint.data.preprocessing import Preprocessing
from pursuhint.models.teacher_accuracy import TeacherAccuracy

__all__ = ["Provenance"]


@dataclass(frozen=True, kw_only=True)
class Provenance(BaseProvenance):
    """Network, data and settings of an analysis, in plain values.

    Attributes:
        num_samples: number of training images the network was run on.
        seed: of the draw of those images.
        pooling: from features to one vector a sample, as `pursuhint.features.get_pooling` takes it.
        batch_size: images in a batch.
        device: where the network ran.
        autocast: the type in which it ran by automatic mixed precision, or None.
        threads: CPU threads that torch used.
        processes: number of ranks that sharded the pass over the data.
        preprocessing: how images became the network's input, its own conversion included; None in
            analyses of older versions.
        accuracy: of the network on the test split; None in analyses of older versions.
        arguments: of `pursuhint.analysis.analyze`, those that were not the defaults.

    The others are: ``network``, ``data``, ``network_fingerprint`` (SHA-256 of weights and buffers),
    ``checkpoint`` and ``checkpoint_sha256`` (the file of the weights), ``data_fingerprint``, ``command`` (a
    line for a shell), ``pursuhint`` and ``torch`` (versions), ``started`` and ``ended`` (UTC, ISO 8601).
    """

    num_samples: int
    seed: int
    pooling: str
    batch_size: int
    device: str
    autocast: str | None
    threads: int
    processes: int
    preprocessing: Preprocessing | None = None
    accuracy: TeacherAccuracy | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
