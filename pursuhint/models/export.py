"""Export a trained network as ONNX, as a PyTorch exported program, or as bare weights."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pursuhint._util.atomic_files import atomic_path, remove_halves
from pursuhint._util.registry import lookup
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.models.checkpoint import count_parameters, save_weights
from pursuhint.models.program_input import ProgramInput, Tensors, program_input

__all__ = ["Exported", "Normalized", "export_network"]

_OUTPUT = "logits"
_CHECKED_BATCHES = (1, 2, 5)


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        path: the file.
        format: a name of `FORMATS`.
        parameters: number of parameters of the network.
        deviation: largest absolute difference of a logit between the file, run by onnxruntime or PyTorch, and
            the network, on random images or texts in batches of several sizes; None if the format holds no
            program or onnxruntime is not installed.
        scale: largest absolute logit of the network on these, the scale of ``deviation``.
    """

    path: Path
    format: str
    parameters: int
    deviation: float | None = None
    scale: float | None = None


class Normalized(nn.Module):
    """A network with its normalisation in front: takes images in [0, 1].

    Args:
        network: takes normalised images.
        mean: per channel.
        std: per channel, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Any:
        """Map images (N, C, H, W) in [0, 1] to what the network returns for the normalised images."""
        return self.network((images - self.mean) / self.std)


def export_network(
    network: nn.Module,
    path: Path | str,
    *,
    format: str,
    example: Tensor | Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write a network in evaluation mode to a file, whole or not at all.

    Programs (ONNX, PT2) take any batch size with the image size of ``example``, or texts of up to as many
    tokens as it has. They are run after writing and compared with the network.

    Args:
        network: maps images (N, C, H, W), or ``input_ids`` and ``attention_mask`` (N, tokens), to logits (N,
            classes), on the CPU; its training mode is restored.
        path: the file to write.
        format: ``onnx``, ``pt2`` (read by ``torch.export.load``) or ``safetensors`` (weights only).
        example: images of the network's input size, (N, C, H, W); or ``input_ids`` and ``attention_mask`` of
            texts with as many tokens as a text may have, the largest number of a token among them.
        metadata: texts by name, kept as ``metadata_props`` of an ONNX file, as ``extra_files`` of a PT2
            program, and in the header of a safetensors file.

    Raises:
        PursuhintError: unknown format, missing packages, the network cannot be exported, the file cannot be
            written, or its logits differ from the network's.

    Example:
        >>> export_network(create_model("resnet8", num_classes=10), "resnet8.onnx", format="onnx",
        ...                example=torch.zeros(1, 3, 32, 32)).deviation < 1e-4
        True
    """
    write = lookup("export format", FORMATS, format)
    path, given = Path(path), program_input(example)
    if format != "safetensors":
        network = given.program(network)
    remove_halves(path)
    with evaluating(network), torch.no_grad(), atomic_path(path) as temporary:
        run = write(network, temporary, given, dict(metadata or {}))
        compared = None if run is None else _compared(network, run, given)
    parameters = count_parameters(network)
    if compared is None:
        return Exported(path, format, parameters)
    return Exported(path, format, parameters, *compared)


Run = Callable[[Tensors], Tensor]


def _write_onnx(
    network: nn.Module, path: Path, given: ProgramInput, metadata: Mapping[str, str]
) -> Run | None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise PursuhintError(
            f"ONNX export needs {' and '.join(missing)}; pip install 'pursuhint[onnx]', "
            "or choose another format"
        )
    with _plain_errors(network, "ONNX"), _quiet():
        program = torch.onnx.export(
            network,
            given.two(),
            dynamo=True,
            verbose=False,
            input_names=list(given.names),
            output_names=[_OUTPUT],
            dynamic_shapes=given.shapes(),
        )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(str(path))
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(tensors: Tensors) -> Tensor:
        (logits,) = session.run(
            [_OUTPUT], {name: values.numpy() for name, values in zip(given.names, tensors)}
        )
        return torch.from_numpy(np.asarray(logits))

    return run


def _write_pt2(network: nn.Module, path: Path, given: ProgramInput, metadata: Mapping[str, str]) -> Run:
    with _plain_errors(network, "a PT2 program"), _quiet():
        program = torch.export.export(network, given.two(), dynamic_shapes=given.shapes())
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files=dict(metadata))
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda tensors: module(*tensors)


def _write_safetensors(
    network: nn.Module, path: Path, given: ProgramInput, metadata: Mapping[str, str]
) -> Run | None:
    save_weights(network, path, metadata=metadata)
    return None


Writer = Callable[[nn.Module, Path, ProgramInput, Mapping[str, str]], Run | None]

FORMATS: Mapping[str, Writer] = MappingProxyType(
    {"onnx": _write_onnx, "pt2": _write_pt2, "safetensors": _write_safetensors}
)
"""Writers by format. A writer returns a function that runs the written program, or None."""


def _compared(network: nn.Module, run: Run, given: ProgramInput) -> tuple[float, float]:
    """Largest difference and largest logit over batches of random samples.

    Raises:
        PursuhintError: the difference exceeds 1e-3 of the largest logit, more than rounding explains.
    """
    generator = torch.Generator().manual_seed(0)
    deviation = scale = 0.0
    for count in _CHECKED_BATCHES:
        tensors = given.draw(count, generator)
        expected = network(*tensors)
        deviation = max(deviation, (run(tensors) - expected).abs().max().item())
        scale = max(scale, expected.abs().max().item())
    if not deviation <= 1e-3 * max(scale, 1.0):
        raise PursuhintError(
            f"the exported program computes something else: logits of up to {scale:.3g} differ by "
            f"{deviation:.3g}; the network may depend on the size of the batch"
        )
    return deviation, scale


@contextlib.contextmanager
def _plain_errors(network: nn.Module, what: str) -> Iterator[None]:
    """Turn any exception of PyTorch's exporters into one line."""
    try:
        yield
    except Exception as error:  # they raise many kinds, with pages of advice
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:200]
        raise PursuhintError(f"{type(network).__name__} cannot be exported as {what}: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' warnings and log messages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before):
                logger.setLevel(level)
