"""A folder that classifies images or texts without PyTorch: onnxruntime, and Pillow or tokenizers."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pursuhint._util.atomic_files import make_folder, write_json, write_text
from pursuhint._util.output_folder import claim_folder
from pursuhint.data.tokenizer import FILE as TOKENIZER
from pursuhint.errors import PursuhintError
from pursuhint.models.export import Exported
from pursuhint.training.run_folder.export_student import export_run, preprocessing_of
from pursuhint.training.run_folder.file_metadata import file_metadata
from pursuhint.training.run_folder.text_input import is_of_texts, text_settings, tokenizer_text

if TYPE_CHECKING:
    from pursuhint.training.run_folder.record import RunRecord

__all__ = ["export_bundle"]


def export_bundle(
    record: RunRecord, folder: Path | str | None = None, *, weights: str = "last", trust_code: bool = False
) -> Exported:
    """Write the student of a run as a folder that anybody can use who has onnxruntime and Pillow.

    The folder holds ``model.onnx``, ``preprocess.json`` (`pursuhint.data.Preprocessing`), ``labels.txt`` (one
    class a line, in the order of the logits), ``predict.py`` (a script of some twenty lines) and
    ``README.md``. Of a run on texts it holds ``tokenizer.json``, too, and ``preprocess.json`` says
    ``max_tokens``; the package tokenizers takes the place of Pillow.

    Args:
        record: a run with at least one finished epoch, on images of 8 bits a channel or on texts.
        folder: None for ``bundle`` in the run folder. An earlier bundle is replaced.
        weights: ``"last"`` or ``"best"``.
        trust_code: see `RunRecord.load_student`.

    Returns:
        The export of ``model.onnx``, with the folder as its path.

    Raises:
        PursuhintError: as `export_run`; the folder holds something else; or the run was trained on other
            tensors than images of 8 bits a channel, which a script cannot make of image files.
    """
    path = record.path / "bundle" if folder is None else Path(folder)
    texts = is_of_texts(record)
    how = text_settings(record) if texts else image_preprocessing(record)
    claim_folder(path, "bundle")
    make_folder(path)
    exported = export_run(record, "onnx", path / "model.onnx", weights=weights, trust_code=trust_code)
    names = class_names(record)
    write_text(path / "labels.txt", "\n".join(" ".join(name.split()) for name in names) + "\n")
    kind = "text_" if texts else ""
    if texts:
        write_text(path / TOKENIZER, tokenizer_text(record))
    write_text(path / "predict.py", _template(f"{kind}predict.txt"))
    write_text(path / "README.md", _template(f"{kind}README.txt").format_map(_facts(record, how, weights)))
    write_json(path / "preprocess.json", how)
    return replace(exported, path=path)


def image_preprocessing(record: RunRecord) -> dict[str, Any]:
    """How image files become the input of a run's student.

    Raises:
        PursuhintError: they cannot, since the run was trained on tensors in units of their own.
    """
    preprocessing = preprocessing_of(record)
    if preprocessing.get("value_range", (0.0, 1.0)) is None or preprocessing.get("channels", 3) not in (1, 3):
        raise PursuhintError(
            f"the run {record.path} was trained on tensors in units of their own, so image files cannot be "
            "turned into its input; export it with --format onnx and prepare the tensors yourself"
        )
    return preprocessing


def class_names(record: RunRecord) -> tuple[str, ...]:
    """Names in the order of the logits; numbers for runs of old versions, which keep no names."""
    sizes = record.environment["data"]
    return tuple(sizes.get("class_names") or map(str, range(sizes["num_classes"])))


def _template(name: str) -> str:
    return (resources.files(__package__) / "bundle_files" / name).read_text("utf-8")


def _facts(record: RunRecord, how: dict[str, Any], weights: str) -> dict[str, Any]:
    """What the README says of the network."""
    epoch = record.last if weights == "last" else record.best
    data = record.environment["data"]["name"]
    kind, colon, place = data.partition(":")
    if colon and kind in ("folder", "text"):
        data = Path(place).name  # where the samples lay is nobody's business
    about = file_metadata(record.recipe.student.network, data, weights)
    sizes = {"height": how["size"][0], "width": how["size"][1]} if "size" in how else {}
    return {
        **about,
        **how,
        **sizes,
        "weights": weights,
        "classes": record.environment["data"]["num_classes"],
        "accuracy": f"top-1 {epoch['test_top1']:.2f} % of its test {'images' if sizes else 'texts'}",
    }
