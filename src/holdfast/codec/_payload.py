"""Checks that a payload is what its tag promises; each raises ValueError saying what is wrong."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from holdfast.jsontext import Json


def want_str(payload: Json) -> str:
    """The payload itself, which must be a string."""
    if type(payload) is not str:
        raise ValueError(f"expected a string, found {type(payload).__name__}")
    return payload


def want_int(value: object) -> int:
    """The payload, or the value decoded from it, which must be an int and no bool."""
    if type(value) is not int:
        raise ValueError(f"expected an integer, found {type(value).__name__}")
    return value


def want_float(value: object) -> float:
    """The payload, or the value decoded from it, which must be a float."""
    if type(value) is not float:
        raise ValueError(f"expected a floating point number, found {type(value).__name__}")
    return value


def want_list(payload: Json, length: int | None = None) -> list[Any]:
    """The payload itself, which must be an array, of `length` items where that is given."""
    if type(payload) is not list:
        raise ValueError(f"expected an array, found {type(payload).__name__}")
    if length is not None and len(payload) != length:
        raise ValueError(f"expected {length} items, found {len(payload)}")
    return payload


def want_fields(payload: Json, *names: str) -> Mapping[str, Any]:
    """The payload itself, which must be an object with exactly the keys `names`."""
    if type(payload) is not dict:
        raise ValueError(f"expected an object, found {type(payload).__name__}")
    if payload.keys() != set(names):
        raise ValueError(f"expected the keys {', '.join(names) or '(none)'}")
    return payload


def text_of_bytes(data: bytes | bytearray | memoryview) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def bytes_of_text(payload: Json) -> bytes:
    """The inverse of `text_of_bytes`; refuses every other spelling of the same bytes."""
    text = want_str(payload)
    data = base64.b64decode(text, validate=True)
    if text_of_bytes(data) != text:
        raise ValueError("not canonical base64")
    return data
