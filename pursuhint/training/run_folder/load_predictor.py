"""A classifier of image files from a run folder, a bundle or an exported ONNX file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pursuhint._util.atomic_files import LARGEST_JSON, read_json
from pursuhint._util.devices import choose_device
from pursuhint._util.input_files import open_regular, read_text, shown
from pursuhint.data.preprocessing import Preprocessing
from pursuhint.errors import PursuhintError
from pursuhint.features.logits import LogitsReader
from pursuhint.models.predictor import Predictor
from pursuhint.training.run_folder.bundle import class_names, image_preprocessing
from pursuhint.training.run_folder.files import checked_preprocessing
from pursuhint.training.run_folder.record import RunRecord

__all__ = ["load_predictor"]


def load_predictor(
    source: Path | str,
    *,
    weights: str = "last",
    device: torch.device | str | None = None,
    trust_code: bool = False,
) -> Predictor:
    """Load a trained student that classifies image files as it was trained to see them.

    Args:
        source: a run folder; a folder that `export_bundle` wrote; or an ONNX file of `export_run`, which
            holds preprocessing and names of the classes. The latter two need onnxruntime.
        weights: ``"last"`` or ``"best"``, of a run folder.
        device: where the student of a run folder runs; None for a GPU if there is one.
        trust_code: see `RunRecord.load_student`.

    Raises:
        PursuhintError: the source is none of these, or damaged; the run was trained on tensors in units of
            their own; onnxruntime is missing; or as `RunRecord.load_student`.

    Example:
        >>> load_predictor("runs/birds").predict(["photo.jpg"])[0].classes[0]
        'wren'
    """
    path = Path(source)
    if (path / "recipe.yaml").is_file():
        where = choose_device(device)
        return _of_run(RunRecord.load(path), weights, where, trust_code)
    if (path / "model.onnx").is_file():
        return _of_bundle(path)
    if path.is_dir() or path.suffix.lower() != ".onnx":
        raise PursuhintError(
            f"{shown(path)} is neither a run folder (recipe.yaml), nor a bundle (model.onnx), nor an .onnx "
            "file"
        )
    return _of_file(path)


def _of_run(run: RunRecord, weights: str, device: torch.device, trust_code: bool) -> Predictor:
    preprocessing = image_preprocessing(run)
    network = run.load_student(weights, trust_code=trust_code).to(device)
    read = LogitsReader(network)

    @torch.no_grad()
    def logits(images: Tensor) -> Tensor:
        return read(images.to(device)).cpu()

    name = f"{run.recipe.student.network}, {weights} epoch of {run.path}"
    return Predictor(name, logits, Preprocessing.from_dict(preprocessing), class_names(run))


def _of_bundle(folder: Path) -> Predictor:
    run, _ = _session(folder / "model.onnx")
    labels = read_text(folder / "labels.txt", "list of classes", largest=LARGEST_JSON)
    values = read_json(folder / "preprocess.json", "preprocessing")
    return _predictor(folder, run, values, labels.removesuffix("\n").split("\n"))


def _of_file(path: Path) -> Predictor:
    run, texts = _session(path)
    try:
        values, names = json.loads(texts["preprocessing"]), json.loads(texts["class_names"])
    except KeyError as missing:
        raise PursuhintError(
            f"{shown(path)} does not say {missing.args[0]} in its metadata; export it anew with 'pursuhint "
            "export'"
        ) from None
    except (ValueError, RecursionError):
        raise PursuhintError(f"the metadata of {shown(path)} are no JSON; the file may be damaged") from None
    return _predictor(path, run, values, names)


def _predictor(path: Path, run: Callable[[Tensor], Tensor], values: Any, names: Any) -> Predictor:
    what = f"the preprocessing of {shown(path)}"
    found = Preprocessing.from_dict(checked_preprocessing(values, what))
    if found.value_range is None or found.channels not in (1, 3):
        raise PursuhintError(f"{what} is of tensors in units of their own; it cannot take image files")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise PursuhintError(f"the names of the classes of {shown(path)} are no list of texts")
    return Predictor(str(path), run, found, tuple(names))


def _session(path: Path) -> tuple[Callable[[Tensor], Tensor], Mapping[str, str]]:
    """A program in onnxruntime, and the texts in its file.

    Raises:
        PursuhintError: no such file, no ONNX, or onnxruntime is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise PursuhintError(f"{shown(path)} needs onnxruntime; pip install 'pursuhint[onnx]'")
    import onnxruntime

    open_regular(path, "exported network").close()
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises classes of its own, with pages of advice
        reason = " ".join(str(error).split())[:200]
        raise PursuhintError(f"cannot read the exported network {shown(path)}: {reason}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise PursuhintError(f"{shown(path)} takes {len(inputs)} tensors; expected images alone")

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {inputs[0].name: images.numpy()})[0]))

    return run, session.get_modelmeta().custom_metadata_map
