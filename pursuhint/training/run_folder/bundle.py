"""A folder that classifies images with onnxruntime and Pillow alone."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pursuhint._util.atomic_files import make_folder, write_json, write_text
from pursuhint._util.output_folder import claim_folder
from pursuhint.errors import PursuhintError
from pursuhint.models.export import Exported
from pursuhint.training.run_folder.export_student import export_run, preprocessing_of
from pursuhint.training.run_folder.file_metadata import file_metadata

if TYPE_CHECKING:
    from pursuhint.training.run_folder.record import RunRecord

__all__ = ["export_bundle"]


def export_bundle(
    record: RunRecord, folder: Path | str | None = None, *, weights: str = "last", trust_code: bool = False
) -> Exported:
    """Write the student of a run as a folder that anybody can use who has onnxruntime and Pillow.

    The folder holds ``model.onnx``, ``preprocess.json`` (`pursuhint.data.Preprocessing`), ``labels.txt`` (one
    class a line, in the order of the logits), ``predict.py`` (a script of some twenty lines) and
    ``README.md``.

    Args:
        record: a run with at least one finished epoch, on images of 8 bits a channel.
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
    preprocessing = image_preprocessing(record)
    claim_folder(path, "bundle")
    make_folder(path)
    exported = export_run(record, "onnx", path / "model.onnx", weights=weights, trust_code=trust_code)
    names = class_names(record)
    write_text(path / "labels.txt", "\n".join(" ".join(name.split()) for name in names) + "\n")
    write_text(path / "predict.py", _template("predict.txt"))
    write_text(path / "README.md", _template("README.txt").format_map(_facts(record, preprocessing, weights)))
    write_json(path / "preprocess.json", preprocessing)
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


def _facts(record: RunRecord, preprocessing: dict[str, Any], weights: str) -> dict[str, Any]:
    """What the README says of the network."""
    epoch = record.last if weights == "last" else record.best
    height, width = preprocessing["size"]
    data = record.environment["data"]["name"]
    if data.startswith("folder:"):
        data = Path(data.partition(":")[2]).name  # where the images lay is nobody's business
    about = file_metadata(record.recipe.student.network, data, weights)
    return {
        **about,
        "weights": weights,
        "classes": record.environment["data"]["num_classes"],
        "channels": preprocessing["channels"],
        "height": height,
        "width": width,
        "accuracy": f"top-1 {epoch['test_top1']:.2f} % of its test images",
    }
