"""A classifier of image files or texts from a run folder, a bundle or an exported ONNX file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pursuhint._util.atomic_files import LARGEST_JSON, read_json
from pursuhint._util.devices import choose_device
from pursuhint._util.input_files import open_regular, read_text, shown
from pursuhint._util.network_input import MASK, NetworkInput, map_tensors, tensors_of
from pursuhint.data.preprocessing import Preprocessing
from pursuhint.data.tokenizer import read_tokenizer, tokenizer_from
from pursuhint.errors import PursuhintError
from pursuhint.features.logits import LogitsReader
from pursuhint.models.predictor import Predictor
from pursuhint.models.text_predictor import TextPredictor
from pursuhint.training.run_folder.bundle import class_names, image_preprocessing
from pursuhint.training.run_folder.files import checked_preprocessing
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.run_folder.text_input import is_of_texts, tokenizer_of

__all__ = ["load_predictor"]


def load_predictor(
    source: Path | str,
    *,
    weights: str = "last",
    device: torch.device | str | None = None,
    trust_code: bool = False,
) -> Predictor | TextPredictor:
    """Load a trained student that classifies image files, or texts, as it was trained to see them.

    Args:
        source: a run folder; a folder that `export_bundle` wrote; or an ONNX file of `export_run`, which
            holds preprocessing or tokenizer, and names of the classes. The latter two need onnxruntime.
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


def _of_run(
    run: RunRecord, weights: str, device: torch.device, trust_code: bool
) -> Predictor | TextPredictor:
    preprocessing = None if is_of_texts(run) else image_preprocessing(run)
    network = run.load_student(weights, trust_code=trust_code).to(device)
    read = LogitsReader(network)

    @torch.no_grad()
    def logits(batch: NetworkInput) -> Tensor:
        return read(map_tensors(batch, lambda values: values.to(device))).cpu()

    name = f"{run.recipe.student.network}, {weights} epoch of {run.path}"
    if preprocessing is None:
        return TextPredictor(name, logits, tokenizer_of(run), class_names(run))
    return Predictor(name, logits, Preprocessing.from_dict(preprocessing), class_names(run))


def _of_bundle(folder: Path) -> Predictor | TextPredictor:
    program = _session(folder / "model.onnx")
    labels = read_text(folder / "labels.txt", "list of classes", largest=LARGEST_JSON)
    names = labels.removesuffix("\n").split("\n")
    if program.takes_texts:
        return TextPredictor(str(folder), program.run, read_tokenizer(str(folder)), tuple(names))
    return _predictor(folder, program.run, read_json(folder / "preprocess.json", "preprocessing"), names)


def _of_file(path: Path) -> Predictor | TextPredictor:
    program = _session(path)
    texts, kind = program.metadata, "tokenizer" if program.takes_texts else "preprocessing"
    try:
        values, names = json.loads(texts[kind]), json.loads(texts["class_names"])
    except KeyError as missing:
        raise PursuhintError(
            f"{shown(path)} does not say {missing.args[0]} in its metadata; export it anew with 'pursuhint "
            "export'"
        ) from None
    except (ValueError, RecursionError):
        raise PursuhintError(f"the metadata of {shown(path)} are no JSON; the file may be damaged") from None
    if kind == "tokenizer":
        tokenizer = tokenizer_from(texts[kind], f"the tokenizer in {shown(path)}")
        return TextPredictor(str(path), program.run, tokenizer, _checked_names(names, path))
    return _predictor(path, program.run, values, names)


def _predictor(path: Path, run: Callable[[NetworkInput], Tensor], values: Any, names: Any) -> Predictor:
    what = f"the preprocessing of {shown(path)}"
    found = Preprocessing.from_dict(checked_preprocessing(values, what))
    if found.value_range is None or found.channels not in (1, 3):
        raise PursuhintError(f"{what} is of tensors in units of their own; it cannot take image files")
    return Predictor(str(path), run, found, _checked_names(names, path))


def _checked_names(names: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise PursuhintError(f"the names of the classes of {shown(path)} are no list of texts")
    return tuple(names)


class _Program(NamedTuple):
    """A program in onnxruntime, and what its file says."""

    run: Callable[[NetworkInput], Tensor]
    metadata: Mapping[str, str]
    takes_texts: bool


def _session(path: Path) -> _Program:
    """The program in a file.

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
    taken = {each.name for each in session.get_inputs()}
    if len(taken) != 1 and taken != {"input_ids", MASK}:
        raise PursuhintError(
            f"{shown(path)} takes {len(taken)} tensors; expected images, or input_ids and {MASK} of texts"
        )

    def run(batch: NetworkInput) -> Tensor:
        tensors = batch if isinstance(batch, Mapping) else dict(zip(taken, tensors_of(batch)))
        values = {name: tensor.numpy() for name, tensor in tensors.items()}
        return torch.from_numpy(np.asarray(session.run(None, values)[0]))

    return _Program(run, session.get_modelmeta().custom_metadata_map, len(taken) > 1)
