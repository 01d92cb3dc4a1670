"""Accuracy of an exported ONNX file on class folders, by onnxruntime, Pillow and NumPy alone.

Everything that the images need stands in the file's metadata, as ``pursuhint export`` writes it. The script
imports neither PursuHint nor PyTorch; copy what you need of it into a program of your own.

    python benchmarks/run_exported.py student.onnx photos/val
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def prepare(path: Path, preprocessing: dict[str, Any]) -> np.ndarray:
    """The input of the network for one image: float32, shape (channels, height, width).

    Args:
        path: the image file.
        preprocessing: the metadata of that name, parsed.
    """
    with Image.open(path) as file:
        upright = ImageOps.exif_transpose(file) if preprocessing.get("exif") else file
        image = upright.convert("L" if preprocessing["channels"] == 1 else "RGB")
    height, width = preprocessing["size"]
    if preprocessing["resize"] == "cover" and image.size != (width, height):
        image = cover(image, height, width, preprocessing["crop"])
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    mean, std = (np.float32(preprocessing[key])[:, None, None] for key in ("mean", "std"))
    return (pixels - mean) / std


def cover(image: Image.Image, height: int, width: int, margin: float) -> Image.Image:
    """Resize to just cover ``margin`` times the size, the aspect ratio kept, and cut out the centre."""
    tall, wide = round(height * margin), round(width * margin)
    if tall * image.width >= wide * image.height:
        wide = tall * image.width // image.height
    else:
        tall = wide * image.height // image.width
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    resized = image.resize((wide, tall), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + width, top + height))


def evaluate(file: Path, folder: Path) -> dict[str, Any]:
    """Count the images of a folder with one folder a class that the file puts into the right class.

    Classes are matched by name: the logits are in the order of ``class_names``.
    """
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    preprocessing, names = (json.loads(metadata[key]) for key in ("preprocessing", "class_names"))
    (images,) = (entry.name for entry in session.get_inputs())
    correct = count = 0
    for label, name in enumerate(names):
        for path in sorted((folder / name).glob("*")):
            (logits,) = session.run(None, {images: prepare(path, preprocessing)[None]})
            correct += int(logits[0].argmax() == label)
            count += 1
    return {"correct": correct, "count": count, "top1": 100 * correct / count}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Accuracy of an exported ONNX file.")
    parser.add_argument("file", type=Path, help="as 'pursuhint export --format onnx' writes it")
    parser.add_argument("folder", type=Path, help="one folder of images a class")
    arguments = parser.parse_args()
    print(json.dumps(evaluate(arguments.file, arguments.folder)))
