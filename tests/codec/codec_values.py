"""Values of every kind the codec knows, and what it means that two are exactly the same."""

from __future__ import annotations

import struct
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from holdfast import jsontext
from holdfast.codec import Codec


def crossed(value: object, codec: Codec | None = None, **options: Any) -> Any:
    """The value after a round trip through bytes."""
    codec = codec or Codec.standard()
    refer, resolve = options.get("refer"), options.get("resolve")
    data = jsontext.dump(codec.encode(value, where="value", refer=refer))
    return codec.decode(jsontext.parse(data, where="test"), where="value", resolve=resolve)


def fingerprint(value: Any) -> Any:
    """Equal for two values if and only if types, bits, order and layout are all the same."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        return (kind, value.dtype.str, value.shape, value.tobytes(), fortran)
    if isinstance(value, np.generic):
        return (kind, value.dtype.str, value.tobytes())
    if type(value) is float:
        return (kind, struct.pack(">d", value))
    if type(value) is complex:
        return (kind, struct.pack(">dd", value.real, value.imag))
    if isinstance(value, (set, frozenset)):
        return (kind, sorted(repr(fingerprint(member)) for member in value))
    if isinstance(value, dict):
        factory = getattr(value, "default_factory", None)
        items = [(fingerprint(key), fingerprint(item)) for key, item in value.items()]
        return (kind, factory, items)
    if isinstance(value, (list, tuple, deque)):
        maxlen = getattr(value, "maxlen", None)
        return (kind, maxlen, [fingerprint(item) for item in value])
    if isinstance(value, slice):
        return (kind, [fingerprint(part) for part in (value.start, value.stop, value.step)])
    if isinstance(value, (datetime, time)):
        return (kind, value.isoformat(), value.fold, repr(value.tzinfo))
    return (kind, repr(value))


def float_of_bits(bits: int) -> float:
    """The float with these 64 bits."""
    (value,) = struct.unpack(">d", struct.pack(">Q", bits))
    return float(value)


def _zones() -> st.SearchStrategy[Any]:
    offset = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
    fixed = offset.map(timezone) | st.builds(timezone, offset, ANY_TEXT)
    keys = sorted({"UTC", "Europe/Berlin", "Etc/GMT+5"} & zoneinfo.available_timezones())
    named = st.sampled_from([zoneinfo.ZoneInfo(key) for key in keys]) if keys else st.nothing()
    return st.none() | st.just(timezone.utc) | fixed | named


def _moments() -> st.SearchStrategy[Any]:
    fold = st.integers(0, 1)
    zones = _zones()
    return (
        st.dates()
        | st.builds(
            lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.datetimes(), zones, fold
        )
        | st.builds(
            lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), zones, fold
        )
        | st.timedeltas()
        | zones
    )


def _dtypes() -> st.SearchStrategy[Any]:
    return st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(endianness="?"),
        npst.unsigned_integer_dtypes(endianness="?"),
        npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
        npst.datetime64_dtypes(endianness="?"),
        npst.timedelta64_dtypes(endianness="?"),
        npst.unicode_string_dtypes(endianness="?", max_len=5),
        npst.byte_string_dtypes(endianness="?", max_len=5),
    )


def _laid_out(array: Any, layout: str) -> Any:
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided" and array.ndim:
        return np.repeat(array, 2, axis=0)[::-2]
    return array


def _numpy_scalars() -> st.SearchStrategy[Any]:
    words = st.binary(min_size=16, max_size=16)
    names = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64"
    names += " complex128 datetime64 datetime64[D] datetime64[25s] timedelta64 timedelta64[us]"
    numbers = st.builds(
        lambda name, word: np.frombuffer(word, name)[0], st.sampled_from(names.split()), words
    )
    return numbers | st.booleans().map(np.bool_) | TEXT.map(np.str_) | st.binary().map(np.bytes_)


def _is_hashable(value: object) -> bool:
    """Some values cannot be keys: signalling NaN, numpy times out of range or without a unit."""
    try:
        hash(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


TEXT = st.text(max_size=8)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
FLOATS = st.floats() | st.integers(0, (1 << 64) - 1).map(float_of_bits)
PATHS = ANY_TEXT.filter(lambda text: "\0" not in text)
ARRAYS = st.builds(
    _laid_out,
    npst.arrays(_dtypes(), npst.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=3)),
    st.sampled_from(["C", "F", "strided"]),
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 600), 1 << 600),
    FLOATS,
    st.builds(complex, FLOATS, FLOATS),
    TEXT,
    ANY_TEXT,
    TEXT.map("${}".format),
    st.binary(),
    st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
    st.decimals() | st.sampled_from([Decimal("-0.00"), Decimal("sNaN12")]),
    st.builds(Fraction, st.integers(), st.integers(min_value=1)),
    st.uuids() | st.just(uuid.UUID(int=0)),
    PATHS.map(Path) | PATHS.map(PurePosixPath) | TEXT.map(PureWindowsPath),
    _moments(),
    _numpy_scalars(),
)
KEYS = st.recursive(
    ATOMS.filter(_is_hashable),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    ATOMS | ARRAYS | st.binary().map(bytearray) | st.sets(KEYS, max_size=4),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(TEXT, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
        st.dictionaries(KEYS, inner, max_size=3).map(lambda items: Counter(items)),
        st.builds(
            defaultdict,
            st.sampled_from([None, int, float, list, dict, set, str, tuple]),
            st.dictionaries(KEYS, inner, max_size=3),
        ),
        st.builds(deque, st.lists(inner, max_size=4), st.none() | st.integers(0, 5)),
        st.builds(slice, inner, inner, inner),
    ),
    max_leaves=12,
)
