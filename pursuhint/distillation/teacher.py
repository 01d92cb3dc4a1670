"""The forward pass of a frozen teacher: which outputs are wanted, and computing them fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, channels_last, first_samples, tensors_of
from pursuhint._util.wrappers import copy_network
from pursuhint.acceleration.channels_last import channels_last_weights
from pursuhint.acceleration.compiled_extractor import CompiledExtractor
from pursuhint.acceleration.fuse_batchnorm import fuse_batchnorms
from pursuhint.acceleration.inference_copy import COMPARED, agree
from pursuhint.acceleration.options import Acceleration
from pursuhint.acceleration.winograd import use_winograd
from pursuhint.distillation.teacher_cache import TeacherCache
from pursuhint.distillation.teacher_fsdp import is_sharded
from pursuhint.distillation.two_views import joined_views, separated_views
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import HintPoint

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch

__all__ = ["TeacherOutputs", "TeacherRunner"]

_FULL_PRECISIONS = (torch.float32, torch.float64)

ROUNDINGS = {"none": None, "float16": torch.float16, "bf16": torch.bfloat16}
"""The type to which the teacher's outputs are rounded, by the name in `Acceleration`."""


@dataclass(frozen=True)
class TeacherOutputs:
    """The outputs of a teacher that losses look at.

    Attributes:
        points: hint points, each once.
        logits: whether the logits are wanted.
        embedding: whether the input of the classifier is wanted.
        input_gradients: whether a loss differentiates the teacher with respect to the images. Such a pass
            cannot be shared: its graph belongs to one backward pass.
        second_view: whether the logits of a second view of each image are wanted, where there is one.
    """

    points: tuple[HintPoint, ...] = ()
    logits: bool = False
    embedding: bool = False
    input_gradients: bool = False
    second_view: bool = False

    @classmethod
    def union(cls, wanted: Sequence[TeacherOutputs]) -> TeacherOutputs:
        """The outputs that contain all those wanted."""
        return cls(
            points=tuple(dict.fromkeys(point for outputs in wanted for point in outputs.points)),
            logits=any(outputs.logits for outputs in wanted),
            embedding=any(outputs.embedding for outputs in wanted),
            input_gradients=any(outputs.input_gradients for outputs in wanted),
            second_view=any(outputs.second_view for outputs in wanted),
        )

    def select(self, features: Features, wanted: TeacherOutputs) -> Features:
        """Select from the features of a shared pass those that one distiller wants.

        Args:
            features: of a pass with these outputs.
            wanted: outputs that are contained in these.
        """
        place = {point: index for index, point in enumerate(self.points)}
        return Features(
            features.logits if wanted.logits else None,
            features.embedding if wanted.embedding else None,
            tuple(features.maps[place[point]] for point in wanted.points),
            features.second_logits if wanted.second_view else None,
        )


class TeacherRunner:
    """Run a frozen teacher on batches, no deeper than the outputs wanted of it.

    At the first batch it makes a copy of the teacher that is optimised for speed, see `Acceleration`. The
    teacher itself runs where a loss differentiates it, where the copy computes something else, or where it is
    sharded over ranks. A sharded teacher always runs to its end, so that every rank frees the weights that it
    has gathered.

    Args:
        teacher: frozen and in evaluation mode; it is not changed.
        outputs: the outputs to compute.
        acceleration: how the arithmetic is carried out.

    Raises:
        PursuhintError: a point names a module that the teacher does not have, or cannot be read in a compiled
            network.
    """

    def __init__(
        self, teacher: nn.Module, outputs: TeacherOutputs, acceleration: Acceleration | None = None
    ) -> None:
        self.outputs = outputs
        self._acceleration = Acceleration() if acceleration is None else acceleration
        self._teacher = teacher
        self._original = self._extractor(teacher)
        if self._acceleration.compiles_teacher and not outputs.input_gradients:
            self._compiled(teacher)  # fail early if the teacher cannot be compiled
        self._optimized: FeatureExtractor | None = None
        self._optimized_for: tuple[torch.device, torch.dtype] | None = None
        self._cache: TeacherCache | None = None

    def __call__(self, images: NetworkInput, indices: Tensor | None = None) -> Features:
        """Compute the teacher's outputs for a batch of images, (N, C, H, W).

        Without gradients, unless the outputs include ``input_gradients``: then the images must require them.

        Args:
            images: the batch.
            indices: of its samples, (N,); needed after `fill`.

        Raises:
            PursuhintError: after `fill`, a sample is not in the cache.
        """
        if self.outputs.input_gradients:
            return self._original(images)
        if self._cache is not None and indices is not None:
            return self._cache.read(indices)
        with torch.no_grad():
            return self._run(images)

    def of_batch(self, batch: Batch) -> Features:
        """The teacher's outputs for a batch, with the logits of its second view if they are wanted.

        Raises:
            PursuhintError: as a call; or the outputs of one view are cached, and two are wanted.
        """
        if batch.second_view is None or not self.outputs.second_view:
            return self(batch.images, batch.indices)
        if self._cache is not None:
            raise PursuhintError(
                "the teacher's outputs are cached for one view of each image, and a loss looks at a second "
                "one; leave acceleration.cache_teacher off, or the second view out"
            )
        return separated_views(self(joined_views(batch)), len(batch))

    @torch.no_grad()
    def fill(self, batches: Iterable[Batch]) -> None:
        """Run the teacher once on samples that look the same in every epoch, and cache its outputs.

        The cache lies on the device of the batches. It holds the logits, the embedding and the features at
        all points of every sample, whichever are wanted.

        Args:
            batches: every sample once. In the same order each time, so that the cache does not depend on the
                order of training.
        """
        if self.outputs.input_gradients:
            return
        cache = TeacherCache()
        for batch in batches:
            cache.add(batch.indices, self._run(batch.images))
        cache.close()
        self._cache = cache

    # -- the optimised copy ----------------------------------------------------------------------------------

    def _run(self, images: NetworkInput) -> Features:
        precision, device = self._precision(images), tensors_of(images)[0].device
        if self._acceleration.channels_last:
            images = channels_last(images)
        if self._optimized is None or self._optimized_for != (device, precision):
            self._optimized = self._optimize(images, precision)
            self._optimized_for = (device, precision)
        with _computing_in(precision, device.type):
            features = self._optimized(images)
        features = features if self.outputs.logits else replace(features, logits=None)
        rounding = ROUNDINGS[self._acceleration.teacher_rounding]
        return features if rounding is None else _rounded(features, rounding)

    def _precision(self, images: NetworkInput) -> torch.dtype:
        """The precision to compute in: the configured one, else that of autocast, else that of the images.

        Inputs without floating-point numbers count as float32, and a teacher that is in half precision or
        double itself stays so.
        """
        wanted, kind = self._acceleration.teacher_precision, tensors_of(images)[0].device.type
        given = next((v.dtype for v in tensors_of(images) if v.is_floating_point()), torch.float32)
        if given == torch.float64 or wanted == "float32" or self._precision_of_its_own():
            return given
        if wanted == "bf16":
            return torch.bfloat16
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else given

    def _precision_of_its_own(self) -> bool:
        """Whether the teacher's weights are not float32."""
        weights = (p.dtype for p in self._teacher.parameters() if p.is_floating_point())
        return next(weights, torch.float32) != torch.float32

    def _optimize(self, images: NetworkInput, precision: torch.dtype) -> FeatureExtractor:
        """An extractor on a copy of the teacher that computes in a precision."""
        acceleration = self._acceleration
        if is_sharded(self._teacher):
            outputs = self.outputs  # with logits, so that the pass reaches the end of the network
            return FeatureExtractor(self._teacher, outputs.points, embedding=outputs.embedding)
        with torch.autocast(tensors_of(images)[0].device.type, enabled=False):
            network = self._rewritten_copy(images, precision)
        if precision not in _FULL_PRECISIONS:
            _convert_weights(network, precision)
        if acceleration.channels_last:
            channels_last_weights(network)
        return self._compiled(network) if acceleration.compiles_teacher else self._extractor(network)

    def _rewritten_copy(self, images: NetworkInput, precision: torch.dtype) -> nn.Module:
        """A copy with fused batch norms, and Winograd if wanted; a plain copy if its outputs differ."""
        acceleration, few = self._acceleration, first_samples(images, COMPARED)
        on_cpu = tensors_of(images)[0].device.type == "cpu"
        winograd = acceleration.winograd and precision == torch.float32 and on_cpu
        if acceleration.fuse_batchnorm:
            network = fuse_batchnorms(self._teacher, few, self.outputs.points)
            if winograd:
                use_winograd(network)
            if agree(self._original(few), self._extractor(network)(few)):
                return network
        return copy_network(self._teacher)

    def _extractor(self, network: nn.Module) -> FeatureExtractor:
        outputs = self.outputs
        return FeatureExtractor(network, outputs.points, logits=outputs.logits, embedding=outputs.embedding)

    def _compiled(self, network: nn.Module) -> CompiledExtractor:
        outputs, mode = self.outputs, self._acceleration.compile_mode
        return CompiledExtractor(
            network, outputs.points, logits=outputs.logits, embedding=outputs.embedding, mode=mode
        )


def _computing_in(precision: torch.dtype, device_type: str) -> torch.autocast:
    """Autocast to a precision; without autocast in full precision."""
    if precision in _FULL_PRECISIONS:
        return torch.autocast(device_type, enabled=False)
    return torch.autocast(device_type, dtype=precision)


def _rounded(features: Features, kind: torch.dtype) -> Features:
    """The features with every value rounded to a type, in the types and layouts that they have."""

    def rounded(values: Tensor) -> Tensor:
        return values.to(kind).to(values.dtype)

    return Features(
        None if features.logits is None else rounded(features.logits),
        None if features.embedding is None else rounded(features.embedding),
        tuple(map(rounded, features.maps)),
    )


def _convert_weights(network: nn.Module, precision: torch.dtype) -> None:
    """Store weights of convolutions and linear layers in a precision; autocast then casts none per batch."""
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            for parameter in module.parameters(recurse=False):
                if parameter.dtype == torch.float32:
                    parameter.data = parameter.data.to(precision)
