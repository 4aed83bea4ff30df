"""Python's own scalars, where JSON alone would not bring them back."""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

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

INT_BITS_MAX = 1 << 20
# Reducing a fraction takes quadratic time, which a hostile tree could ask for many times.
FRACTION_BITS_MAX = 1 << 13
BYTES_MAX = 16 << 20

_HEX_INT = re.compile(r"-?0x[0-9a-f]+", re.ASCII)
_NAN = re.compile(r"nan:[0-9a-f]{16}", re.ASCII)


def _encode_int(value: int, _: EncodeChild) -> str:
    if value.bit_length() > INT_BITS_MAX:
        raise ValueError(f"it has over {INT_BITS_MAX} bits, the limit")
    return hex(value)


def _decode_int(payload: Json, _: DecodeChild) -> int:
    text = want_str(payload)
    if not _HEX_INT.fullmatch(text) or len(text) > INT_BITS_MAX // 4 + 3:
        raise ValueError(f"expected a hexadecimal integer of at most {INT_BITS_MAX} bits")
    return int(text, 16)


def _encode_float(value: float, _: EncodeChild) -> str:
    """Infinities by name, NaN with all its 64 bits (big-endian, IEEE 754)."""
    if math.isnan(value):
        return f"nan:{struct.pack('>d', value).hex()}"
    return "inf" if value > 0 else "-inf"


def _decode_float(payload: Json, _: DecodeChild) -> float:
    text = want_str(payload)
    if text in ("inf", "-inf"):
        return float(text)
    if not _NAN.fullmatch(text):
        raise ValueError('expected "inf", "-inf" or "nan:" and 16 hex digits')
    (value,) = struct.unpack(">d", bytes.fromhex(text[4:]))
    if not math.isnan(value):
        raise ValueError("these are not the bits of a NaN")
    return float(value)


def _encode_str(value: str, _: EncodeChild) -> str:
    """UTF-8 that lets halves of surrogate pairs stand, in base64."""
    return text_of_bytes(value.encode("utf-8", "surrogatepass"))


def _decode_str(payload: Json, _: DecodeChild) -> str:
    return bytes_of_text(payload).decode("utf-8", "surrogatepass")


def _encode_complex(value: complex, child: EncodeChild) -> Json:
    return [child(value.real, ".real"), child(value.imag, ".imag")]


def _decode_complex(payload: Json, child: DecodeChild) -> complex:
    real, imag = (want_float(child(part)) for part in want_list(payload, 2))
    return complex(real, imag)


def _encode_bytes(value: bytes | bytearray, _: EncodeChild) -> str:
    if len(value) > BYTES_MAX:
        raise ValueError(
            f"it has {len(value)} bytes, the limit is {BYTES_MAX}; "
            "use a tensor or numpy array of dtype uint8"
        )
    return text_of_bytes(value)


def _decode_decimal(payload: Json, _: DecodeChild) -> Decimal:
    text = want_str(payload)
    value = Decimal(text)
    if str(value) != text:
        raise ValueError("not the canonical text of a decimal number")
    return value


def _encode_fraction(value: Fraction, child: EncodeChild) -> Json:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > FRACTION_BITS_MAX:
        raise ValueError(f"a part of it has over {FRACTION_BITS_MAX} bits, the limit")
    return [child(value.numerator), child(value.denominator)]


def _decode_fraction(payload: Json, child: DecodeChild) -> Fraction:
    numerator, denominator = (want_int(child(part)) for part in want_list(payload, 2))
    if max(numerator.bit_length(), denominator.bit_length()) > FRACTION_BITS_MAX:
        raise ValueError(f"a part of it has over {FRACTION_BITS_MAX} bits, the limit")
    value = Fraction(numerator, denominator)
    if value.denominator != denominator:
        raise ValueError("not a fraction in lowest terms with a positive denominator")
    return value


def _decode_uuid(payload: Json, _: DecodeChild) -> UUID:
    text = want_str(payload)
    value = UUID(text)
    if str(value) != text:
        raise ValueError("not the canonical text of a UUID")
    return value


def _encode_text(value: Any, _: EncodeChild) -> str:
    return str(value)


SCALAR_TAGS = (
    Tag("int", int, _encode_int, _decode_int),
    Tag("float", float, _encode_float, _decode_float),
    Tag("str", str, _encode_str, _decode_str),
    Tag("complex", complex, _encode_complex, _decode_complex),
    Tag("bytes", bytes, _encode_bytes, lambda payload, _: bytes_of_text(payload)),
    Tag(
        "bytearray",
        bytearray,
        _encode_bytes,
        lambda payload, _: bytearray(bytes_of_text(payload)),
    ),
    Tag("decimal", Decimal, _encode_text, _decode_decimal),
    Tag("fraction", Fraction, _encode_fraction, _decode_fraction),
    Tag("uuid", UUID, _encode_text, _decode_uuid),
)
