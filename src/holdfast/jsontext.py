"""Strict JSON: what holdfast writes, and the little it is willing to read.

Reading refuses text that is not UTF-8, duplicate keys, NaN and Infinity literals, numbers no float
can hold, and documents that are larger, deeper or made of more values than the caller allows.
Each refusal is a `FormatError` naming the place; RFC 8259 leaves all of these open.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NoReturn, TypeAlias, Union, cast

from holdfast.errors import FormatError

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]  # noqa: UP007 (names itself)

MAX_BYTES = 256 << 20
MAX_DEPTH = 64
MAX_VALUES = 5_000_000

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class _RuleBroken(ValueError):
    """A rule of ours that the standard parser does not know, found while it runs."""


def parse(
    data: bytes,
    *,
    where: str,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
) -> Json:
    """Parse one JSON document strictly.

    data: the whole document as UTF-8 without a byte order mark. where: named in errors.
    Raises FormatError if the document breaks JSON or one of the limits.
    """
    if len(data) > max_bytes:
        raise FormatError(
            f"The JSON document has {len(data)} bytes, the limit is {max_bytes}", where=where
        )
    _check_structure(data, where=where, max_depth=max_depth, max_values=max_values)
    try:
        text = data.decode("utf-8")
        return cast(
            Json,
            json.loads(
                text,
                object_pairs_hook=_object,
                parse_constant=_constant,
                parse_float=_float,
            ),
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"Not the strict JSON holdfast reads: {error}", where=where) from error


def parse_object(data: bytes, *, where: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Parse a document whose top level must be an object. Raises FormatError otherwise."""
    value = parse(data, where=where, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise FormatError(
            f"The document must be a JSON object, found {type(value).__name__}", where=where
        )
    return value


def dump(value: Json, *, indent: int | None = None) -> bytes:
    """Serialise to ASCII JSON bytes; compact unless `indent` is given; keys keep their order.

    Raises ValueError for NaN and infinities: callers tag them first.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, allow_nan=False, separators=separators, indent=indent)
    return text.encode("ascii")


def _check_structure(data: bytes, *, where: str, max_depth: int, max_values: int) -> None:
    """Bound depth and value count before any object is built."""
    bare = _STRING.sub(b"", data)
    values = 1 + bare.count(b",") + bare.count(b":") + bare.count(b"[") + bare.count(b"{")
    if values > max_values:
        raise FormatError(
            f"The JSON document holds over {max_values} values, the limit", where=where
        )
    brackets = bare.translate(None, _NOT_BRACKETS)
    depth = max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
    if depth > max_depth:
        raise FormatError(
            f"The JSON document is nested {depth} deep, the limit is {max_depth}", where=where
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RuleBroken(f"the key {twice!r} stands twice in one object")
    return result


def _constant(literal: str) -> NoReturn:
    raise _RuleBroken(f"the literal {literal} is not JSON")


def _float(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise _RuleBroken(f"the number {literal[:40]} is beyond what a float can hold")
    return value
