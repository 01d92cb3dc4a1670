"""Files made to run code, to end the process or to take its memory; and sound files of another kind."""

from __future__ import annotations

import io
import os
import pickle
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import load_weights, read_state_dict
from tests.helpers.processes import finished


def _program(content: Any) -> bytes:
    """The pickle that torch.save writes for tensors, and nothing around it."""
    file = io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file) as archive:
        return archive.read("archive/data.pkl")


def _archive(path: Path, program: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for name, content in (storages or {"0": bytes(16)}).items():
            archive.writestr(f"archive/data/{name}", content)
        archive.writestr("archive/version", "3\n")
    return path


def _refused(path: Path, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(PursuhintError, match=message) as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.monotonic() - started < 20


def test_the_archives_of_this_file_are_read(tmp_path: Path) -> None:
    path = _archive(tmp_path / "w.pth", _program({"w": torch.ones(4)}), {"0": np.ones(4, "f4").tobytes()})
    assert torch.equal(read_state_dict(path)["w"], torch.ones(4))


@pytest.mark.parametrize("kind", ["O8", "V16", "U4", "f8, i4", "M8[s]"])
def test_arrays_of_anything_but_numbers_are_not_built(tmp_path: Path, kind: str) -> None:
    class Crafted:
        """An array whose elements would be pointers into the file."""

        def __reduce__(self) -> Any:
            dtype = pickle.loads(pickle.dumps(np.dtype("f8")))
            return np.ndarray(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (2,), dtype, False, bytes(16))

    program = pickle.dumps({"w": Crafted()}, 2).replace(b"X\x02\x00\x00\x00f8", _text(kind))
    assert _text(kind) in program
    _refused(_archive(tmp_path / "w.pth", program), "is truncated or damaged")
    program = pickle.dumps({"w": Crafted()}, 2)
    assert read_state_dict(_archive(tmp_path / "w.pth", program))["w"].tolist() == [0, 0]


def _text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


@pytest.mark.parametrize(
    "state",
    [(3, "|", None, None, None, -1, -1, 63), (3, ">", (), {}, 2**40, 8, 1), ("x",), 3],
)
def test_the_state_of_a_dtype_is_not_set(tmp_path: Path, state: Any) -> None:
    class Dtype:
        def __reduce__(self) -> Any:
            return np.dtype, ("f8", False, True), state

    class Crafted:
        def __reduce__(self) -> Any:
            return (
                np.ndarray(0).__reduce__()[0],
                (np.ndarray, (0,), b"b"),
                (1, (2,), Dtype(), False, bytes(16)),
            )

    path = _archive(tmp_path / "w.pth", pickle.dumps({"w": Crafted()}, 2))
    try:
        assert read_state_dict(path)["w"].shape == (2,)
    except PursuhintError as error:
        assert "truncated or damaged" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("sizes", "strides"),
    [
        ((10**12,), (0,)),
        ((2**62, 2**62), (1, 1)),
        ((5,), (1,)),
        ((-1,), (1,)),
        ((2, 2), (1,)),
        ((2,), (2**61,)),
    ],
)
def test_shapes_that_the_storage_does_not_hold(tmp_path: Path, sizes: Any, strides: Any) -> None:
    program = _program({"w": torch.ones(4)})
    # The size (4,) and the stride (1,) of the tensor are the two tuples before its False for requires_grad.
    shape = pickle.dumps(sizes, 2)[2:-1], pickle.dumps(strides, 2)[2:-1]
    start = program.index(b"K\x04\x85q", program.index(b"QK\x00"))
    end = program.index(b"\x89", start)
    changed = program[:start] + b"".join(_without_memo(part) for part in shape) + program[end:]
    _refused(_archive(tmp_path / "w.pth", changed), "is truncated or damaged")
    sound = program[:start] + _without_memo(pickle.dumps((2,), 2)[2:-1]) * 2 + program[end:]
    assert read_state_dict(_archive(tmp_path / "w.pth", sound))["w"].shape == (2,)


def _without_memo(program: bytes) -> bytes:
    return program.replace(b"q\x00", b"").replace(b"q\x01", b"")


def test_storages_of_another_size_than_claimed(tmp_path: Path) -> None:
    program = _program({"w": torch.ones(4)})
    _refused(_archive(tmp_path / "w.pth", program, {"0": bytes(12)}), "that the file does not hold")
    _refused(_archive(tmp_path / "w.pth", program, {"1": bytes(16)}), "that the file does not hold")


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    path = _archive(
        tmp_path / "w.pth",
        _program({"w": torch.ones(4)}),
        {"0": bytes(10**8)},
        compression=zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < 10**6
    _refused(path, "its entries are compressed, which torch.save never does")


_PROGRAMS: dict[str, Callable[[], bytes]] = {
    "memo slot 2^31": lambda: b"\x80\x02Nr\xff\xff\xff\x7f.",
    "string of 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xffabc.",
    "bytes of 8 EB": lambda: b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "integer of a million bits": lambda: b"\x80\x02\x8b\x40\x42\x0f\x00" + b"\x7f" * 1_000_000 + b".",
    "tuple of 200,000 levels as key": lambda: b"\x80\x02}(N" + b"\x85" * 200_000 + b"K\x01u.",
    "list of 200,000 levels": lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "mapping of 200,000 levels": lambda: b"\x80\x02" + b"}K\x01" * 200_000 + b"N" + b"s" * 200_000 + b".",
    "mapping of named levels, each twice": lambda: (
        b"\x80\x02}q\x00" + b"".join(
            b"}(" + b"".join(_text(f"k{j}") + b"h" + bytes([i]) for j in range(200)) + b"uq" + bytes([i + 1])
            for i in range(50)
        ) + b"."
    ),
    "parameters in parameters": lambda: (
        b"\x80\x02}X\x01\x00\x00\x00w" + b"ctorch._utils\n_rebuild_parameter\n" * 50_000 + b"N"
        + b"\x85R" * 50_000 + b"s."
    ),
    "underflow": lambda: b"\x80\x020000.",
    "a name of 30,000 prefixes": lambda: _program({"module." * 30_000 + "w": torch.ones(4)}),
    "a name with escape sequences": lambda: _program({"\x1b[2J\nw": torch.ones(4)}),
    "out-of-band buffers": lambda: b"\x80\x05\x97.",
    "extension registry": lambda: b"\x80\x02\x82\x01.",
}  # fmt: skip


@pytest.mark.parametrize("name", _PROGRAMS)
def test_programs_made_to_take_memory_or_time(tmp_path: Path, name: str) -> None:
    _refused(_archive(tmp_path / "w.pth", _PROGRAMS[name]()), r"truncated or damaged|holds no weights")


def test_ten_thousand_blocks_build_no_network(tmp_path: Path) -> None:
    state = {f"block1.layer.{number}.conv2.weight": torch.zeros(0) for number in range(10_000)}
    state["block1.layer.0.conv2.weight"] = torch.zeros(16, 16, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    started = time.monotonic()
    with pytest.raises(PursuhintError, match="it seems to belong to another network"):
        load_weights(create_model("wrn_16_1", num_classes=2), tmp_path / "w.pth")
    assert time.monotonic() - started < 30


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    _refused(tmp_path / "pipe.pth", "it is a pipe or a device, not a regular file")
    _refused(Path("/dev/zero"), "it is a pipe or a device")
    (tmp_path / "link.pth").symlink_to(Path("/dev/zero"))
    _refused(tmp_path / "link.pth", "it is a pipe or a device")
    torch.save({"w": torch.ones(1)}, tmp_path / "real.pth")
    (tmp_path / "good.pth").symlink_to(tmp_path / "real.pth")
    assert read_state_dict(tmp_path / "good.pth").keys() == {"w"}
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    _refused(tmp_path / "loop.pth", "cannot read the checkpoint")


def _scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)


def _exported(path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), file)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (_scripted, "a TorchScript program; load it with torch.jit.load"),
        (_exported, "an exported program; load it with torch.export.load"),
        (lambda path: path.write_bytes(_saved_by(np.save)), "a NumPy array"),
        (lambda path: path.write_bytes(_saved_by(np.savez)), "NumPy arrays"),
        (lambda path: path.write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x062.11.0"), "an ONNX program"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600)), "an HDF5 file"),
        (lambda path: path.write_bytes(b"\n<html><head>"), "a web page"),
        (lambda path: path.write_bytes(b"GGUF" + bytes(60)), "a GGUF file"),
        (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(60)), "a TensorFlow Lite program"),
        (lambda path: path.write_bytes(bytes(257) + b"ustar" + bytes(300)), "a tar archive"),
        (lambda path: path.write_bytes(b'{\n  "weight_map": {}}'), "JSON text"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60)), "an image"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(60)), "compressed with gzip"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickle that torch.save did not write"),
    ],
)
def test_sound_files_of_another_kind_are_named(
    tmp_path: Path, write: Callable[[Path], Any], kind: str
) -> None:
    write(tmp_path / "w.pth")
    _refused(tmp_path / "w.pth", rf"w.pth is not a checkpoint \(safetensors or torch.save\): it is {kind}")


@pytest.mark.parametrize("name", ["w.pb", "w.onnx", "w.index.json", "w.tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_control_a_checkpoint_may_have_any_name(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_state_dict(tmp_path / name)["w"], torch.ones(2))


def _saved_by(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, np.ones(3))
    return file.getvalue()


def test_damaged_files_never_end_the_process(tmp_path: Path) -> None:
    """Hundreds of damaged programs and files, in a process of their own."""
    program = textwrap.dedent(
        """
        import io, random, resource, sys, zipfile
        from pathlib import Path
        import numpy as np, torch
        from pursuhint.errors import PursuhintError
        from pursuhint.models.checkpoint import read_state_dict
        sys.path.insert(0, sys.argv[2])
        rng, path = random.Random(0), Path(sys.argv[1])
        content = {"model": {"a": torch.ones(3, 2), "b": torch.zeros(2).half()}, "array": np.ones(3),
                   "number": np.float64(1), "list": [1, {"x": (1, 2.5, "t")}, torch.Size([1])]}
        sources = {}
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
            sources[zipped] = file.getvalue()
        with zipfile.ZipFile(io.BytesIO(sources[True])) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        read = refused = 0
        for attempt in range(600):
            data = bytearray(entries["archive/data.pkl"] if attempt % 2 else sources[attempt % 4 == 0])
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(data))
                match rng.randrange(3):
                    case 0: data[place] = rng.randrange(256)
                    case 1: del data[place : place + rng.randint(1, 8)]
                    case 2: data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
            if attempt % 2:
                with zipfile.ZipFile(path, "w") as archive:
                    for name, value in entries.items():
                        archive.writestr(name, bytes(data) if name.endswith("data.pkl") else value)
            else:
                path.write_bytes(data)
            try:
                state = read_state_dict(path)
                assert all(torch.is_tensor(value) for value in state.values())
                read += 1
            except PursuhintError as error:
                assert "\\n" not in str(error), str(error)
                refused += 1
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
        print(read, refused, grown)
        """
    )
    run = finished("-c", program, tmp_path / "w.pth", ".")
    assert run.returncode == 0, run.stderr[-2000:]
    read, refused, grown = map(int, run.stdout.split())
    assert read > 20
    assert refused > 200
    assert grown < 200_000  # KiB
