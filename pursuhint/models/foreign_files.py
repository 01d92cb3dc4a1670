"""Name the kind of a sound file that is no checkpoint, and the way to get a checkpoint from it."""

from __future__ import annotations

from collections.abc import Iterable

HEAD = 512
"""Bytes from the beginning of a file that say its kind."""

_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"version https:", "a Git LFS pointer; fetch the file itself"),
    (b"\x93NUMPY", "a NumPy array; load it with numpy.load and save a state dict with torch.save"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes; convert it to a PyTorch state dict"),
    (b"GGUF", "a GGUF file of quantized weights; get the original checkpoint"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"BZh", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"%PDF", "a PDF document"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
)
_PLACED: tuple[tuple[int, bytes, str], ...] = (
    (4, b"TFL3", "a TensorFlow Lite program; get the checkpoint that it was converted from"),
    (257, b"ustar", "a tar archive; unpack it"),
)
_BY_NAME = {
    ".pb": "a TensorFlow model; convert its variables to a PyTorch state dict",
    ".mlmodel": "a Core ML model; get the state dict of the network that it was converted from",
}
_ONNX = "an ONNX program; get the state dict of the network that it was exported from"


def foreign_file(head: bytes, name: str) -> str | None:
    """The kind of file that begins with these bytes; None if it can be a checkpoint.

    Args:
        head: its first bytes, `HEAD` or all.
        name: of the file.
    """
    if head.startswith((b"PK", b"\x80")):  # as files of torch.save do, whatever their name is
        return None
    for start, kind in _HEADS:
        if head.startswith(start):
            return kind
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page; the download probably asks for a login or a confirmation"
    for place, mark, kind in _PLACED:
        if head[place : place + len(mark)] == mark:
            return kind
    if head.lstrip()[:1] == b"{":
        if name.endswith(".index.json"):
            return "the index of weights in several files; load them and save one state dict with torch.save"
        return "JSON text"
    for ending, kind in _BY_NAME.items():
        if name.lower().endswith(ending):
            return kind
    # Protocol buffers have no signature. An ONNX model begins with field 1, its version, and goes on with the
    # name of its producer (field 2), its graph (7), or its opset (8).
    if name.lower().endswith(".onnx") or (head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a", b"\x42")):
        return _ONNX
    return None


def foreign_archive(names: Iterable[str]) -> str | None:
    """The kind of zip archive that holds entries of these names; None if it can be a checkpoint."""
    names = set(names)
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays; load them with numpy.load and save a state dict with torch.save"
    if any("/code/" in name for name in names):
        return "a TorchScript program; load it with torch.jit.load and save its state_dict()"
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        return "an exported program; load it with torch.export.load and save its state_dict"
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return "a Keras model; convert it to a PyTorch state dict"
    if names and not any(name.endswith("data.pkl") for name in names):
        return "a zip archive of something else"
    return None
