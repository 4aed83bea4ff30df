"""Safetensors files that lie: each is refused by name, quickly, with the live model untouched."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.digest import PREFIX, combine, raw_digest
from holdfast.engine.reader import read_into
from holdfast.engine.state_file import TensorFileEntry
from holdfast.engine.tensor_file import open_tensor_file
from holdfast.engine.verify import prove_tensors
from holdfast.errors import FormatError
from holdfast.manifest import FileRecord
from holdfast.storage.opened import LocalOpened

FILE = "model.safetensors"
_MEMORY_LIMIT = 64 << 20


def _entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def _header(table: object) -> bytes:
    return json.dumps(table).encode()


def _one(**changes: Any) -> bytes:
    return _header({"w": _entry(**changes)})


def _raw(entry: str) -> bytes:
    """A header around one entry that json.dumps would not write."""
    return b'{"w":' + entry.encode() + b"}"


HEADERS: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"{",
    "not json": b"hello world, this is no header",
    "array": b"[1,2,3]",
    "null": b"null",
    "number": b"12",
    "string": b'"text"',
    "leading space": b" " + _one(),
    "trailing text": _one() + b"x",
    "bad utf-8": b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    "byte order mark": b"\xef\xbb\xbf" + _one(),
    "utf-16": _one().decode().encode("utf-16"),
    "lone surrogate": b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    "zeros": b"\0" * 64,
    "duplicate name": b'{"w":%b,"w":%b}' % (_header(_entry()), _header(_entry())),
    "duplicate name, escaped": b'{"w":%b,"\\u0077":%b}' % ((_header(_entry()),) * 2),
    "duplicate key in entry": _raw(
        '{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    ),
    "duplicate metadata": b'{"__metadata__":{},"__metadata__":{},"w":%b}' % _header(_entry()),
    "same range twice": _header({"v": _entry(), "w": _entry()}),
    "overlap": _header({"v": _entry(), "w": _entry(shape=[1], data_offsets=[4, 8])}),
    "hole at the start": _one(shape=[1], data_offsets=[4, 8]),
    "hole inside": _header(
        {
            "v": _entry(dtype="U8", shape=[2], data_offsets=[0, 2]),
            "w": _entry(dtype="U8", shape=[2], data_offsets=[6, 8]),
        }
    ),
    "reversed offsets": _one(data_offsets=[8, 0]),
    "negative offset": _one(data_offsets=[-8, 0]),
    "minus zero": _raw('{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}'),
    "past the end": _one(shape=[4], data_offsets=[0, 16]),
    "data left over": _one(shape=[1], data_offsets=[0, 4]),
    "offsets of 2^63": _one(shape=[2**61], data_offsets=[0, 2**63]),
    "offset of 2^64": _one(data_offsets=[2**64, 2**64 + 8]),
    "one offset": _one(data_offsets=[8]),
    "three offsets": _one(data_offsets=[0, 4, 8]),
    "offsets as object": _one(data_offsets={"begin": 0, "end": 8}),
    "float offsets": _one(data_offsets=[0.0, 8.0]),
    "bool offsets": _one(data_offsets=[False, 8]),
    "text offsets": _one(data_offsets=["0", "8"]),
    "exponent": _raw('{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}'),
    "NaN": _raw('{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}'),
    "1e999": _raw('{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}'),
    "100,000 digits": _raw('{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}' % ("9" * 100_000)),
    "too few bytes for the shape": _one(shape=[3]),
    "too many bytes for the shape": _one(shape=[1]),
    "product wraps to fit": _one(dtype="U8", shape=[2**32, 2**32, 8]),
    "product wraps to zero": _header(
        {"v": _entry(), "w": _entry(shape=[2**32, 2**32], data_offsets=[8, 8])}
    ),
    "zero times huge": _header(
        {"v": _entry(), "w": _entry(shape=[0, 2**62, 2**62], data_offsets=[8, 8])}
    ),
    "negative dimensions": _one(shape=[-1, -2]),
    "float dimension": _one(shape=[2.0]),
    "bool dimension": _one(shape=[True, 2]),
    "shape as number": _one(shape=2),
    "rank 65": _one(shape=[1] * 64 + [2]),
    "rank 100,000": _one(shape=[1] * 99_999 + [2]),
    "unknown dtype": _one(dtype="F31"),
    "dtype of half bytes": _one(dtype="F4", shape=[16]),
    "dtype as number": _one(dtype=32),
    "dtype as list": _one(dtype=["F32"]),
    "missing dtype": _header({"w": {"shape": [2], "data_offsets": [0, 8]}}),
    "extra key": _one(extra=1),
    "entry is a list": _header({"w": ["F32", [2], [0, 8]]}),
    "entry is null": _header({"w": None}),
    "metadata is a list": _header({"__metadata__": [], "w": _entry()}),
    "metadata is null": _header({"__metadata__": None, "w": _entry()}),
    "metadata of numbers": _header({"__metadata__": {"a": 1}, "w": _entry()}),
    "metadata nested": _header({"__metadata__": {"a": {"b": "c"}}, "w": _entry()}),
    "deep nesting": b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "unclosed nesting": b'{"w":' + b"[" * 200_000,
    "string that never ends": b'{"' + b'\\"' * 500_000,
    "name of 5,000 characters": _header({"w" * 5000: _entry()}),
    "300,000 tensors": _header(
        {str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(300_000)}
    ),
    "8 million values": b'{"w":[' + b"0," * 8_000_000 + b"0]}",
}

LENGTHS = {
    "length zero": 0,
    "length one": 1,
    "length past the end": 10_000,
    "length over the limit": 50_000_001,
    "length 2^63": 2**63,
    "length of all ones": 2**64 - 1,
}


def _load(
    opened: LocalOpened, entry: TensorFileEntry, record: FileRecord, live: torch.Tensor
) -> None:
    file = open_tensor_file(opened, FILE, entry, record)
    prove_tensors(file)
    read_into(file, {"w": live})


def _refused(folder: Path, content: bytes) -> str:
    """Open a hostile file whose digests are right, as its author can make them; the message."""
    path = folder / FILE
    path.write_bytes(content)
    length = 8 + int.from_bytes(content[:8], "little")
    header = raw_digest(content[:length])
    entry = TensorFileEntry(PREFIX + header.hex(), {"w": raw_digest(content[length:]).hex()})
    record = FileRecord(len(content), combine([header]), 1)
    live = torch.tensor([1.5, -2.5])
    tracemalloc.start()
    try:
        with LocalOpened(folder) as opened, pytest.raises(FormatError) as caught:
            _load(opened, entry, record, live)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(content) + _MEMORY_LIMIT
    assert live.tolist() == [1.5, -2.5]
    return str(caught.value)


@pytest.mark.parametrize("name", HEADERS)
def test_lying_headers_are_refused(tmp_path: Path, name: str) -> None:
    """A header that breaks a rule is a FormatError naming the file, though its digest is right."""
    header = HEADERS[name]
    message = _refused(tmp_path, len(header).to_bytes(8, "little") + header + b"\0" * 8)
    assert FILE in message
    assert len(message) < 2000


@pytest.mark.parametrize("name", LENGTHS)
def test_lying_header_lengths_are_refused(tmp_path: Path, name: str) -> None:
    """Nothing is allocated for a header that cannot be there."""
    content = LENGTHS[name].to_bytes(8, "little") + _one() + b"\0" * 8
    assert FILE in _refused(tmp_path, content)


@pytest.mark.parametrize("size", range(8))
def test_files_shorter_than_a_length_are_refused(tmp_path: Path, size: int) -> None:
    """An empty or tiny file is no tensor file."""
    assert FILE in _refused(tmp_path, b"\0" * size)


@pytest.mark.parametrize(
    "name", ["", "\x00", "a\nb", "../../etc/passwd", "tab\t", "名前", "__class__"]
)
def test_odd_tensor_names_are_only_names(tmp_path: Path, name: str) -> None:
    """Names of tensors are looked up, never opened or evaluated."""
    header = _header({name: _entry()})
    content = len(header).to_bytes(8, "little") + header + b"\0\0\x80\x3f\0\0\0\x40"
    (tmp_path / FILE).write_bytes(content)
    head, data = raw_digest(content[:-8]), raw_digest(content[-8:])
    entry = TensorFileEntry(PREFIX + head.hex(), {name: data.hex()})
    record = FileRecord(len(content), combine([head, data]), 1)
    target = torch.zeros(2)
    with LocalOpened(tmp_path) as opened:
        file = open_tensor_file(opened, FILE, entry, record)
        prove_tensors(file)
        read_into(file, {name: target})
    assert target.tolist() == [1.0, 2.0]
