"""The teacher's forward pass: what is wanted of it, and running it for one or for several distillers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pursuhint.acceleration.compiled_extractor import CompiledExtractor
from pursuhint.acceleration.fuse_batchnorm import fuse_batchnorms
from pursuhint.acceleration.options import Acceleration
from pursuhint.acceleration.winograd import use_winograd
from pursuhint.distillation.teacher_cache import TeacherCache
from pursuhint.distillation.teacher_fsdp import is_sharded
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import HintPoint

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch

__all__ = ["TeacherOutputs", "TeacherRunner"]

_COMPARED = 2
"""Images on which a folded teacher must see what the teacher sees."""


@dataclass(frozen=True)
class TeacherOutputs:
    """What losses look at in a teacher.

    Attributes:
        points: hint points, each once.
        logits: whether its scores are wanted.
        embedding: whether the input of its classifier is.
        input_gradients: whether a loss differentiates the teacher with respect to the images. Such a pass
            cannot be shared: its graph belongs to one backward pass.
    """

    points: tuple[HintPoint, ...] = ()
    logits: bool = False
    embedding: bool = False
    input_gradients: bool = False

    @classmethod
    def union(cls, needs: Sequence[TeacherOutputs]) -> TeacherOutputs:
        """What serves all of them."""
        return cls(
            points=tuple(dict.fromkeys(point for own in needs for point in own.points)),
            logits=any(own.logits for own in needs),
            embedding=any(own.embedding for own in needs),
            input_gradients=any(own.input_gradients for own in needs),
        )

    def part(self, trace: Features, own: TeacherOutputs) -> Features:
        """The part of a trace that one of several wants.

        Args:
            trace: of a pass with these needs.
            own: needs that are contained in these.
        """
        place = {point: index for index, point in enumerate(self.points)}
        return Features(
            trace.logits if own.logits else None,
            trace.embedding if own.embedding else None,
            tuple(trace.maps[place[point]] for point in own.points),
        )


class TeacherRunner:
    """Run a frozen teacher on batches, no deeper than what is wanted of it.

    What runs is a copy that is made for speed at the first batch, see `Acceleration`; the teacher itself
    where a loss differentiates it, where the copy does not compute the same, or where it is sharded over
    processes. A sharded teacher always runs to its end, so that every process gives back what it has
    gathered.

    Args:
        teacher: frozen and in evaluation mode; it is not changed.
        needs: what is wanted.
        acceleration: how it is computed.

    Raises:
        PursuhintError: a point names a module that the teacher does not have, or cannot be read in a compiled
            network.
    """

    def __init__(
        self, teacher: nn.Module, needs: TeacherOutputs, acceleration: Acceleration | None = None
    ) -> None:
        self.needs = needs
        self._acceleration = Acceleration() if acceleration is None else acceleration
        self._teacher = teacher
        self._plain = self._extractor(teacher)
        if self._acceleration.compiles_teacher and not needs.input_gradients:
            self._compiled(teacher)  # whatever is wrong with that shows before long work
        self._fast: FeatureExtractor | None = None
        self._made_for: tuple[torch.device, torch.dtype] | None = None
        self._cache: TeacherCache | None = None

    def __call__(self, images: Tensor, indices: Tensor | None = None) -> Features:
        """What the teacher makes of a batch of images, (N, C, H, W).

        Without gradients, unless they are among the needs: then the images must require them.

        Args:
            images: the batch.
            indices: of its samples, (N,); needed after `fill`.

        Raises:
            PursuhintError: after `fill`, a sample was not among those.
        """
        if self.needs.input_gradients:
            return self._plain(images)
        if self._cache is not None and indices is not None:
            return self._cache.read(indices)
        with torch.no_grad():
            return self._run(images)

    @torch.no_grad()
    def fill(self, batches: Iterable[Batch]) -> None:
        """Run the teacher once on samples that look the same in every epoch, and keep what it makes of them.

        Memory for all of it is taken on the device of the batches: for every sample the logits, the embedding
        and the features at all points, whichever are wanted.

        Args:
            batches: every sample once. In the same order each time, so that what is kept does not depend on
                the order of training.
        """
        if self.needs.input_gradients:
            return
        cache = TeacherCache()
        for batch in batches:
            cache.add(batch.indices, self._run(batch.images))
        cache.close()
        self._cache = cache

    # -- the fast copy ---------------------------------------------------------------------------------------

    def _run(self, images: Tensor) -> Features:
        kind = images.device.type
        precision = self._precision(images)
        if self._acceleration.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        made_for = (images.device, precision)
        if self._fast is None or self._made_for != made_for:
            self._fast, self._made_for = self._make(images, precision), made_for
        if precision in (torch.float32, torch.float64):
            context = torch.autocast(kind, enabled=False)
        else:
            context = torch.autocast(kind, dtype=precision)
        with context:
            trace = self._fast(images)
        return trace if self.needs.logits else replace(trace, logits=None)

    def _precision(self, images: Tensor) -> torch.dtype:
        wanted, kind = self._acceleration.teacher_precision, images.device.type
        if images.dtype == torch.float64 or wanted == "float32":
            return images.dtype
        if wanted == "bf16":
            return torch.bfloat16
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype

    def _make(self, images: Tensor, precision: torch.dtype) -> FeatureExtractor:
        """A probe into a copy of the teacher that computes in a precision."""
        acceleration = self._acceleration
        if is_sharded(self._teacher):
            needs = self.needs
            return FeatureExtractor(self._teacher, needs.points, embedding=needs.embedding)
        with torch.autocast(images.device.type, enabled=False):
            network = self._quick_copy(images, precision)
        if precision not in (torch.float32, torch.float64):
            _convert_weights(network, precision)
        if acceleration.channels_last:
            network.to(memory_format=torch.channels_last)
        return self._compiled(network) if acceleration.compiles_teacher else self._extractor(network)

    def _quick_copy(self, images: Tensor, precision: torch.dtype) -> nn.Module:
        """The teacher rewritten as far as that computes the same."""
        acceleration, few = self._acceleration, images[:_COMPARED]
        winograd = acceleration.winograd and precision == torch.float32 and images.device.type == "cpu"
        if acceleration.fuse_batchnorm:
            network = fuse_batchnorms(self._teacher, few, self.needs.points)
            if winograd:
                use_winograd(network)
            if _agree(self._plain(few), self._extractor(network)(few)):
                return network
        return copy.deepcopy(self._teacher)

    def _extractor(self, network: nn.Module) -> FeatureExtractor:
        needs = self.needs
        return FeatureExtractor(network, needs.points, logits=needs.logits, embedding=needs.embedding)

    def _compiled(self, network: nn.Module) -> CompiledExtractor:
        needs, mode = self.needs, self._acceleration.compile_mode
        return CompiledExtractor(
            network, needs.points, logits=needs.logits, embedding=needs.embedding, mode=mode
        )


def _convert_weights(network: nn.Module, precision: torch.dtype) -> None:
    """Give the layers that autocast runs in a precision weights of it: none are then cast for every batch."""
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            for parameter in module.parameters(recurse=False):
                if parameter.dtype == torch.float32:
                    parameter.data = parameter.data.to(precision)


def _tensors(trace: Features) -> list[Tensor]:
    return [part for part in (trace.logits, trace.embedding, *trace.maps) if part is not None]


def _agree(first: Features, second: Features) -> bool:
    """Whether two records are the same but for rounding."""
    for one, other in zip(_tensors(first), _tensors(second), strict=True):
        if one.shape != other.shape:
            return False
        tolerance = min(1e4 * torch.finfo(one.dtype).eps, 0.05)
        apart = torch.linalg.vector_norm((one - other).float())
        if not apart <= tolerance * torch.linalg.vector_norm(one.float()):
            return False
    return True
