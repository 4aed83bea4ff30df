"""The lies a safetensors header can tell, as whole files made from a sound one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def cases(sound: bytes, *, slow: bool = False) -> Iterator[tuple[str, bytes]]:
    """Name and content of each hostile file; none means the same as the sound one.

    slow: also those that take seconds to make.
    """
    length = int.from_bytes(sound[:8], "little")
    table: dict[str, Any] = json.loads(sound[8 : 8 + length])
    data = sound[8 + length :]
    yield from _lengths(sound)
    for name, text in _texts(table):
        yield name, len(text).to_bytes(8, "little") + text + data
    tables = dict(_tables(table, len(data)))
    if slow:
        nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        tables["300,000 tensors"] = {**table, **{f"t{n}": nothing for n in range(300_000)}}
    for name, changed in tables.items():
        text = json.dumps(changed).encode()
        yield name, len(text).to_bytes(8, "little") + text + data
    yield "truncated data", sound[:-1]
    yield "trailing byte", sound + b"\0"
    yield "empty file", b""
    yield "zeros", bytes(len(sound))
    yield "pickle", b"\x80\x04cposix\nsystem\n(S'touch executed'\ntR."


def _lengths(sound: bytes) -> Iterator[tuple[str, bytes]]:
    for value in (0, 1, len(sound), 100_000_001, 2**63, 2**64 - 1):
        yield f"length {value}", value.to_bytes(8, "little") + sound[8:]
    yield "seven bytes", sound[:7]


def _texts(table: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    sound = json.dumps(table)
    first = next(name for name in table if name != "__metadata__")
    entry = json.dumps(table[first])
    yield "not JSON", b"{" + b"x" * 40
    yield "array", b"[]"
    yield "null", b"null  "
    yield "leading space", b" " + sound.encode()
    yield "byte order mark", b"\xef\xbb\xbf" + sound.encode()
    yield "UTF-16", sound.encode("utf-16")
    yield "bad UTF-8", sound.encode().replace(b'"F', b'"\xff', 1)
    yield "doubled tensor", (sound[:-1] + f', "{first}": {entry}}}').encode()
    doubled = entry[:-1] + ', "dtype": "F32"}'
    yield "doubled dtype", sound.replace(entry, doubled, 1).encode()
    yield "deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield "NaN", sound.replace('"shape": [', '"shape": [NaN, ', 1).encode()
    yield "1e999", sound.replace('"shape": [', '"shape": [1e999, ', 1).encode()
    yield (
        "many digits",
        sound.replace('"shape": [', '"shape": [' + "9" * 100_000 + ", ", 1).encode(),
    )
    yield "minus zero", sound.replace('"data_offsets": [0,', '"data_offsets": [-0,', 1).encode()
    surrogate = sound.replace(f'"{first}"', '"\\ud800"', 1)
    yield "lone surrogate", surrogate.encode()
    yield "zero padding", sound.encode() + b"\0\0\0\0"


def _tables(table: dict[str, Any], size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    names = [name for name in table if name != "__metadata__"]
    first, last = names[0], names[-1]
    begin, end = table[first]["data_offsets"]

    def with_first(**changes: Any) -> dict[str, Any]:
        return {**table, first: {**table[first], **changes}}

    yield "overlap", {**table, last: table[first]}
    yield "hole", {name: entry for name, entry in table.items() if name != first}
    yield "reversed", with_first(data_offsets=[end, begin])
    yield "negative", with_first(data_offsets=[-1, end])
    yield "past the end", with_first(data_offsets=[size, size + end - begin])
    yield "wrapping product", with_first(shape=[2**32, 2**32, 4])
    yield "zero by huge", with_first(shape=[0, 2**63, 2**63])
    yield "wrong shape", with_first(shape=[10**9])
    yield "float size", with_first(shape=[1.0])
    yield "true as size", with_first(shape=[True])
    yield "text as size", with_first(shape=["1"])
    yield "exponent offsets", with_first(data_offsets=[0.0, 1e2])
    yield "high rank", with_first(shape=[1] * 100_000)
    yield "unknown dtype", with_first(dtype="F128")
    yield "sub-byte dtype", with_first(dtype="F4")
    yield "further key", with_first(strides=[1])
    yield "entry is a list", {**table, first: []}
    yield "no tensors", {"__metadata__": {}}
    yield "metadata of numbers", {**table, "__metadata__": {"format": 1}}
    yield "metadata list", {**table, "__metadata__": []}
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "name of a megabyte", {**table, "n" * 1_000_000: nothing}
    yield "one tensor more", {**table, "more": nothing}
    renamed = {("other" if name == first else name): entry for name, entry in table.items()}
    yield "renamed tensor", renamed
