"""Strict JSON: what holdfast writes, and the little it is willing to read.

Reading refuses text that is not UTF-8, duplicate keys, NaN and Infinity literals, numbers no float
can hold, strings that are not Unicode text (lone surrogates), and documents that are larger,
deeper or made of more values than the caller allows. Each refusal is a `FormatError` naming the
place; RFC 8259 leaves all of these open. What `parse` would refuse, `dump` does not write.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, Union, cast

from holdfast.errors import FormatError, UnsavableError

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]  # noqa: UP007 (names itself)

MAX_BYTES = 256 << 20
MAX_DEPTH = 128
MAX_VALUES = 5_000_000
# The smallest limit an interpreter may be configured to have, so that no setting changes our files.
MAX_DIGITS = 640

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_TOO_MANY_DIGITS = b"0" * (MAX_DIGITS + 1)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")


class _RuleBroken(ValueError):
    """A rule of ours that the standard parser does not know, found while it runs."""


def parse(
    data: bytes,
    *,
    where: str,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
    count_keys: Callable[[Any], int | None] | None = None,
) -> Json:
    """Parse one JSON document strictly.

    data: the whole document as UTF-8 without a byte order mark. where: named in errors.
    count_keys: for documents of one form, the number of keys in all objects of the result, None if
    it has not that form. Where that is the number written no key can stand twice, and the objects
    need not be looked at one by one.
    Raises FormatError if the document breaks JSON or one of the limits.
    """
    broken, bare = _broken_limit(
        data, max_bytes=max_bytes, max_depth=max_depth, max_values=max_values
    )
    if broken:
        raise FormatError(broken, where=where)
    try:
        text = data.decode("utf-8")
        value = None
        if count_keys is not None:
            value = json.loads(text, parse_constant=_constant, parse_float=_float)
        if count_keys is None or count_keys(value) != bare.count(b":"):
            value = json.loads(
                text,
                object_pairs_hook=_object,
                parse_constant=_constant,
                parse_float=_float,
            )
        if _SURROGATE.search(data):
            _check_text(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"Not the strict JSON holdfast reads: {error}", where=where) from error
    return cast(Json, value)


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

    Raises ValueError for NaN, infinities, lone surrogates and cycles (callers tag or refuse them
    first), and UnsavableError for a document over the limits `parse` sets by default.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(value, allow_nan=False, separators=separators, indent=indent)
    except RecursionError as error:
        raise UnsavableError("The JSON document is nested too deep to be written") from error
    data = text.encode("ascii")
    require_readable(data)
    if _SURROGATE.search(data):
        _check_text(value)
    return data


def as_text(value: Json) -> Json:
    """The value with every half of a surrogate pair in its strings escaped, so that `dump` takes
    it: for remarks and records of the outside world, where the exact string does not matter.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {str(as_text(key)): as_text(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [as_text(item) for item in value]
    return value


def require_readable(data: bytes) -> None:
    """Raise UnsavableError for a document over the limits that `parse` sets by default."""
    broken, _ = _broken_limit(data, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH, max_values=MAX_VALUES)
    if broken:
        raise UnsavableError(
            broken, fix="keep large data in tensors, which are stored beside the document"
        )


def _broken_limit(
    data: bytes, *, max_bytes: int, max_depth: int, max_values: int
) -> tuple[str | None, bytes]:
    """The limit that `data` breaks, found before any object is built and in linear time.

    If it breaks none, also the bytes that belong to no string.
    """
    if len(data) > max_bytes:
        return f"The JSON document has {len(data)} bytes, the limit is {max_bytes}", b""
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    # A string is a value or the key of one: so many quotes are too many values already.
    if unescaped.count(b'"') > 4 * max_values:
        return f"The JSON document holds over {max_values} values, the limit", b""
    bare = b"".join(unescaped.split(b'"')[::2])
    marks = sum(map(bare.count, (b",", b":", b"[", b"{")))
    if 1 + marks > max_values:
        return f"The JSON document holds over {max_values} values, the limit", b""
    if _TOO_MANY_DIGITS in bare.translate(_DIGITS_TO_ZERO):
        return f"The JSON document holds a number of over {MAX_DIGITS} digits, the limit", b""
    depth = _broken_depth(bare.translate(_BRACES_TO_BRACKETS, _NOT_BRACKETS), max_depth)
    return depth, bare


def _broken_depth(brackets: bytes, max_depth: int) -> str | None:
    """Take away the innermost pairs, one level a round: what is left was too deep, or no pair."""
    if len(brackets) > 2 * brackets.count(b"["):
        return "Not the strict JSON holdfast reads: it closes more brackets than it opens"
    for _ in range(max_depth):
        rest = brackets.replace(b"[]", b"")
        if len(rest) == len(brackets):
            break
        brackets = rest
    if b"[]" in brackets or brackets.count(b"[") > max_depth:
        return f"The JSON document is nested over {max_depth} deep, the limit"
    if brackets:
        return "Not the strict JSON holdfast reads: its brackets do not match"
    return None


def _check_text(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _RuleBroken("a string holds half of a surrogate pair, which is not text") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RuleBroken(f"the key {twice[:80]!r} stands twice in one object")
    return result


def _constant(literal: str) -> NoReturn:
    raise _RuleBroken(f"the literal {literal} is not JSON")


def _float(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise _RuleBroken(f"the number {literal[:40]} is beyond what a float can hold")
    return value
