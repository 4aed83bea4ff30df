"""Strict reading of a safetensors header that nobody vouches for.

What is accepted here is a subset of what stock safetensors accepts, with the same meaning
(https://github.com/huggingface/safetensors, "Format"): an 8-byte little-endian length, a JSON
object that begins with `{` and may be padded with spaces, then data that the tensors cover exactly
once. Tighter than stock: rank, count and name length are bounded, unknown keys in an entry and
dtypes that torch cannot hold are refused.
"""

from __future__ import annotations

from typing import Any, cast

from holdfast import jsontext
from holdfast.collector import collector_paused
from holdfast.errors import FormatError
from holdfast.tensorfile.spec import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    MAX_NAME_CHARS,
    MAX_RANK,
    MAX_TENSORS,
    TensorSpec,
)

PREFIX_BYTES = 8

_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_MAX_DEPTH = 3
_MAX_SIZE = 2**63 - 1


def header_length(prefix: bytes, file_bytes: int, *, where: str) -> int:
    """Bytes the whole header takes, its 8-byte length prefix included.

    prefix: the first bytes of the file, 8 of them used. file_bytes: size of the whole file.
    Raises FormatError if the length cannot be true of this file, so that nothing is allocated
    on the word of a stranger.
    """
    if len(prefix) < PREFIX_BYTES or file_bytes < PREFIX_BYTES:
        raise FormatError(
            f"A safetensors file begins with 8 bytes of header length, this has {len(prefix)}",
            where=where,
        )
    length = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(
            f"The header claims {length} bytes, the limit is {MAX_HEADER_BYTES}", where=where
        )
    if length > file_bytes - PREFIX_BYTES:
        raise FormatError(
            f"The header claims {length} bytes, the file has {file_bytes} in all", where=where
        )
    if length < 2:
        raise FormatError(f"The header claims {length} bytes, too few for any JSON", where=where)
    return PREFIX_BYTES + length


def parse_header(
    data: bytes, file_bytes: int, *, where: str
) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    """Read a header and prove that its tensors cover the data section exactly once.

    data: the header with its length prefix, exactly `header_length` bytes. file_bytes: size of
    the whole file. Returns the tensors in offset order and the metadata strings.
    Raises FormatError, naming `where` and the tensor, for everything else.
    """
    size = header_length(data, file_bytes, where=where)
    if len(data) != size:
        raise FormatError(f"The header takes {size} bytes, {len(data)} were given", where=where)
    with collector_paused():
        return _parse(bytes(memoryview(data)[PREFIX_BYTES:]), file_bytes - size, where=where)


def _parse(
    body: bytes, data_bytes: int, *, where: str
) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    table = _parse_json(body, where=where)
    metadata = _metadata(table.pop(_METADATA, {}), where=where)
    _check_count(len(table), where=where)
    _check_names(table, where=where)
    specs = {name: _spec(name, entry, where) for name, entry in table.items()}
    return _covering(specs, data_bytes, where=where), metadata


def _parse_json(body: bytes, *, where: str) -> dict[str, Any]:
    if not body.startswith(b"{"):
        raise FormatError("The header is not a JSON object: it must begin with '{'", where=where)
    # Before anything is built. A string can hold this only with its quotes escaped.
    _check_count(body.count(b'"data_offsets"'), where=where)
    value = jsontext.parse(
        body,
        where=where,
        max_bytes=MAX_HEADER_BYTES,
        max_depth=_MAX_DEPTH,
        count_keys=_count_keys,
    )
    # Python reads the literal -0 as the integer 0; the format has no signed numbers.
    if b"-0" in body and b"-" in _outside_strings(body):
        raise FormatError("The header holds a negative number", where=where)
    return cast(dict[str, Any], value)


def _count_keys(table: object) -> int | None:
    """Of an object of objects that hold none, which is what everything else is refused for."""
    if type(table) is not dict or not all(type(entry) is dict for entry in table.values()):
        return None
    return len(table) + sum(map(len, table.values()))


def _check_count(count: int, *, where: str) -> None:
    if count > MAX_TENSORS:
        raise FormatError(
            f"The header lists {count} tensors, the limit is {MAX_TENSORS}", where=where
        )


def _outside_strings(body: bytes) -> bytes:
    """The bytes of a valid JSON document that belong to no string."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2])


def _metadata(value: object, *, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FormatError("The header's __metadata__ must be an object of strings", where=where)
    for key, text in value.items():
        if not isinstance(text, str):
            raise FormatError(f"The metadata value of {key[:80]!r} is not a string", where=where)
    return value


def _check_names(names: dict[str, Any], *, where: str) -> None:
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME_CHARS:
        raise FormatError(
            f"A tensor name has {longest} characters, the limit is {MAX_NAME_CHARS}", where=where
        )


def _spec(name: str, entry: Any, where: str) -> TensorSpec:
    """One entry checked by itself: types, bounds, and that shape and dtype fill its byte range."""
    if type(entry) is not dict or len(entry) != 3 or entry.keys() != _ENTRY_KEYS:
        raise _broken(name, "must have exactly dtype, shape and data_offsets", where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    needed = ITEM_BYTES.get(dtype) if type(dtype) is str else None
    if needed is None:
        raise _broken(name, f"has the unknown dtype {str(dtype)[:40]!r}", where)
    if type(shape) is not list or len(shape) > MAX_RANK:
        raise _broken(name, f"must have a shape of at most {MAX_RANK} dimensions", where)
    empty = False
    for size in shape:
        if type(size) is not int or size < 0:
            raise _broken(name, "has a dimension that is not a whole number", where)
        if size == 0:
            empty = True
        else:
            needed *= size
    # Zero dimensions are left out of the product: 0 x huge would wrap in readers that multiply.
    if needed > _MAX_SIZE:
        raise _broken(name, "has a shape that no memory can hold", where)
    if type(offsets) is not list or len(offsets) != 2:
        raise _broken(name, "must have two data_offsets", where)
    begin, end = offsets
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= _MAX_SIZE:
        raise _broken(name, "has data_offsets that are no byte range", where)
    if end - begin != (0 if empty else needed):
        raise _broken(
            name, f"has {end - begin} bytes, its dtype and shape need {needed * (not empty)}", where
        )
    return TensorSpec(dtype, tuple(shape), begin, end)


def _covering(
    specs: dict[str, TensorSpec], data_bytes: int, *, where: str
) -> dict[str, TensorSpec]:
    """The specs in offset order, proven to cover `data_bytes` without hole or overlap."""
    ordered = sorted(specs.items(), key=lambda item: (item[1].begin, item[1].end))
    covered = 0
    for name, spec in ordered:
        if spec.begin != covered:
            kind = "overlaps the one before it" if spec.begin < covered else "leaves a hole before"
            raise _broken(name, f"{kind}: it begins at {spec.begin}, not at {covered}", where)
        covered = spec.end
    if covered != data_bytes:
        raise FormatError(
            f"The tensors take {covered} bytes of data, the file holds {data_bytes}", where=where
        )
    return dict(ordered)


def _broken(name: str, rule: str, where: str) -> FormatError:
    return FormatError(f"The tensor {name[:200]!r} {rule}", where=where)
