"""numpy's scalars; those whose size depends on the platform are refused by name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from holdfast.codec._payload import (
    bytes_of_text,
    text_of_bytes,
    want_float,
    want_int,
    want_list,
    want_str,
)
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag
from holdfast.jsontext import Json

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64")
_COMPLEX = {"complex64": "float32", "complex128": "float64"}
_CLOCKS = ("datetime64", "timedelta64")

# A count and a unit as numpy writes them; no unit for values that never had one.
CLOCK_UNIT = r"(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
_CLOCK_DTYPE = re.compile(rf"(?:datetime64|timedelta64){CLOCK_UNIT}", re.ASCII)


def _float_payload(value: Any) -> Json:
    """A finite value as the equal JSON number, any other as its bits (big-endian hex)."""
    if np.isfinite(value):
        return float(value)
    big_endian = np.asarray(value).astype(value.dtype.newbyteorder(">"))
    return str(big_endian.tobytes().hex())


def _float_value(kind: Any, payload: Json) -> Any:
    dtype = np.dtype(kind)
    if type(payload) is str:
        if not re.fullmatch(r"[0-9a-f]*", payload, re.ASCII) or len(payload) != 2 * dtype.itemsize:
            raise ValueError(f"expected {2 * dtype.itemsize} hex digits")
        value = np.frombuffer(bytes.fromhex(payload), dtype.newbyteorder(">")).astype(dtype)[0]
        if np.isfinite(value):
            raise ValueError("bits are for infinities and NaN only")
        return value
    number = want_float(payload)
    with np.errstate(all="ignore"):
        value = kind(number)
    if float(value) != number:
        raise ValueError(f"{number!r} is not a {dtype.name}")
    return value


def _integer_tag(name: str) -> Tag:
    kind = np.dtype(name).type

    def decode(payload: Json, child: DecodeChild) -> Any:
        number = want_int(child(payload))
        info = np.iinfo(name)
        if not info.min <= number <= info.max:
            raise ValueError(f"{number} is not a {name}")
        return kind(number)

    return Tag(f"np.{name}", kind, lambda value, child: child(int(value)), decode)


def _float_tag(name: str) -> Tag:
    kind = np.dtype(name).type
    return Tag(
        f"np.{name}",
        kind,
        lambda value, _: _float_payload(value),
        lambda payload, _: _float_value(kind, payload),
    )


def _complex_tag(name: str, part: str) -> Tag:
    kind = np.dtype(name).type
    part_kind = np.dtype(part).type

    def encode(value: Any, _: EncodeChild) -> Json:
        return [_float_payload(value.real), _float_payload(value.imag)]

    def decode(payload: Json, _: DecodeChild) -> Any:
        parts = [_float_value(part_kind, item) for item in want_list(payload, 2)]
        return np.array(parts, dtype=part).view(name)[0]

    return Tag(f"np.{name}", kind, encode, decode)


def _clock_tag(name: str) -> Tag:
    kind = np.dtype(name).type

    def encode(value: Any, child: EncodeChild) -> Json:
        return [value.dtype.name, child(int(value.view(np.int64)))]

    def decode(payload: Json, child: DecodeChild) -> Any:
        dtype, number_tree = want_list(payload, 2)
        number = want_int(child(number_tree))
        if not (_CLOCK_DTYPE.fullmatch(want_str(dtype)) and dtype.startswith(name)):
            raise ValueError(f"expected the name of a {name} dtype")
        if not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"{number} does not fit in 64 bits")
        return np.array([number], dtype=np.int64).view(dtype)[0]

    return Tag(f"np.{name}", kind, encode, decode)


def _decode_bool(payload: Json, _: DecodeChild) -> Any:
    if type(payload) is not bool:
        raise ValueError("expected true or false")
    return np.bool_(payload)


NUMPY_SCALAR_TAGS = (
    Tag("np.bool", np.bool_, lambda value, _: bool(value), _decode_bool),
    *map(_integer_tag, _INTEGERS),
    *map(_float_tag, _FLOATS),
    *(_complex_tag(name, part) for name, part in _COMPLEX.items()),
    *map(_clock_tag, _CLOCKS),
    Tag(
        "np.str",
        np.str_,
        lambda value, child: child(str(value)),
        lambda payload, child: np.str_(want_str(child(payload))),
    ),
    Tag(
        "np.bytes",
        np.bytes_,
        lambda value, _: text_of_bytes(bytes(value)),
        lambda payload, _: np.bytes_(bytes_of_text(payload)),
    ),
)
