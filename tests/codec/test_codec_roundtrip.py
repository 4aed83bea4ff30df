"""What the codec knows comes back exactly: type, bits and order."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from codec_values import FLOATS, VALUES, crossed, fingerprint, float_of_bits
from hypothesis import HealthCheck, given, settings

from holdfast import jsontext
from holdfast.codec import Codec

PROPERTY = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
CODEC = Codec.standard()


@PROPERTY
@given(VALUES)
def test_nested_values_of_any_kind_come_back_exactly(value: Any) -> None:
    """Any nesting of known values, with any keys, has the same fingerprint after a round trip."""
    assert fingerprint(crossed(value)) == fingerprint(value)


@PROPERTY
@given(VALUES)
def test_encoding_twice_gives_the_same_bytes(value: Any) -> None:
    """The bytes depend on the value alone, also for a value that was itself loaded."""
    once = jsontext.dump(CODEC.encode(value, where="value"))
    assert jsontext.dump(CODEC.encode(crossed(value), where="value")) == once


@PROPERTY
@given(FLOATS)
def test_floats_come_back_bit_for_bit(value: float) -> None:
    """Every one of the 64 bits survives, NaN payloads and the sign of zero included."""
    assert struct.pack("<d", crossed(value)) == struct.pack("<d", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1 << 53, "9007199254740992"),
        ((1 << 53) + 1, '{"$":"int","v":"0x20000000000001"}'),
        (-(1 << 64), '{"$":"int","v":"-0x10000000000000000"}'),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e22, "1e+22"),
        (math.inf, '{"$":"float","v":"inf"}'),
        (math.nan, '{"$":"float","v":"nan:7ff8000000000000"}'),
        (float_of_bits(0xFFF0000000000001), '{"$":"float","v":"nan:fff0000000000001"}'),
        ({"a": [1, {"b": "c"}]}, '{"a":[1,{"b":"c"}]}'),
        ({1: "a"}, '{"$":"dict","v":[[1,"a"]]}'),
        ({"$": 1}, '{"$":"dict","v":[["$",1]]}'),
        ((), '{"$":"tuple","v":[]}'),
        ({3, 1, 2}, '{"$":"set","v":[1,2,3]}'),
        (1j, '{"$":"complex","v":[0.0,1.0]}'),
        (b"\0\xff", '{"$":"bytes","v":"AP8="}'),
        ("\ud800", '{"$":"str","v":"7aCA"}'),
        (Fraction(2, -4), '{"$":"fraction","v":[-1,2]}'),
        (np.float32(0.1), '{"$":"np.float32","v":0.10000000149011612}'),
        (np.float16("-inf"), '{"$":"np.float16","v":"fc00"}'),
        (
            np.array([[1, 2]], "<i2"),
            '{"$":"ndarray","v":{"dtype":"<i2","shape":[1,2],"order":"C","data":"AQACAA=="}}',
        ),
    ],
    ids=repr,
)
def test_the_text_of_a_value_is_part_of_the_format(value: object, text: str) -> None:
    """These texts are what other readers rely on; they change only with the format's version."""
    assert jsontext.dump(CODEC.encode(value, where="value")).decode() == text
    assert fingerprint(crossed(value)) == fingerprint(value)


def test_integer_keys_of_a_scheduler_come_back_as_integers() -> None:
    """MultiStepLR keeps its milestones in a Counter whose keys are epochs."""
    state = {"milestones": Counter({30: 1, 80: 2}), "gamma": 0.1, "last_epoch": 3}
    assert fingerprint(crossed(state)) == fingerprint(state)


def test_equal_looking_keys_of_different_types_stay_apart() -> None:
    """The text "1" and the integer 1 are two keys, also after loading."""
    value = {1: "integer", "1": "text", (1,): "tuple", None: "none", b"1": "bytes"}
    assert fingerprint(crossed(value)) == fingerprint(value)


def test_a_random_stream_continues_where_it_was() -> None:
    """The states of Python's and numpy's generators restore their streams."""
    python = random.Random(7)
    state = crossed(python.getstate())
    expected = [python.random() for _ in range(5)]
    python.setstate(state)
    assert [python.random() for _ in range(5)] == expected

    for bits in (np.random.PCG64(7), np.random.MT19937(7), np.random.Philox(7)):
        generator = np.random.Generator(bits)
        state = crossed(dict(bits.state))
        drawn = generator.normal(size=5)
        bits.state = state
        assert (generator.normal(size=5) == drawn).all()


def test_integers_have_no_decimal_digit_limit() -> None:
    """An integer of more digits than the interpreter would print crosses."""
    value = 7**20_000
    assert crossed(value) == value


def test_separate_nan_members_and_keys_stay_separate() -> None:
    """NaN differs from NaN, so a set may hold several, and all of them come back."""
    nans = [float_of_bits(0x7FF8000000000000 + number) for number in range(3)]
    assert fingerprint(crossed(set(nans))) == fingerprint(set(nans))
    assert fingerprint(crossed(dict.fromkeys(nans, 1))) == fingerprint(dict.fromkeys(nans, 1))


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "text", ["NaN", "NaN123", "sNaN", "Infinity", "0E-20", "1E+999999", "1.10"]
)
def test_decimals_keep_their_digits(sign: str, text: str) -> None:
    """Trailing zeros, exponents and diagnostic NaN digits survive."""
    assert str(crossed(Decimal(sign + text))) == sign + text


def test_containers_keep_their_bounds_and_factories() -> None:
    """A deque keeps its maxlen, a defaultdict its factory, an OrderedDict its order."""
    bounded = crossed(deque([1, 2, 3], maxlen=3))
    bounded.append(4)
    assert list(bounded) == [2, 3, 4]
    counts = crossed(defaultdict(int, {"a": 1}))
    counts["b"] += 1
    assert counts == {"a": 1, "b": 1}
    ordered = OrderedDict([("z", 1), ("a", 2)])
    assert list(crossed(ordered).items()) == [("z", 1), ("a", 2)]


def test_times_keep_zone_name_and_fold() -> None:
    """Which of two equal wall-clock times was meant, and what the zone was called, survives."""
    zone = timezone(timedelta(hours=1, seconds=7), "ship's time")
    for value in (datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=1), time(2, 30, fold=1)):
        assert fingerprint(crossed(value)) == fingerprint(value)
    assert crossed(timezone.utc) is timezone.utc


def test_a_shared_object_is_written_where_it_stands() -> None:
    """Two references to one list come back as two equal lists."""
    shared = [1, 2]
    first, second = crossed([shared, shared])
    assert first == second == shared
    assert first is not second


@pytest.mark.parametrize(
    ("tree", "value"),
    [
        ({"flavour": "windows", "path": "data\\train.en"}, Path("data/train.en")),
        ({"flavour": "windows", "path": "C:\\data"}, PureWindowsPath("C:\\data")),
        ({"flavour": "posix", "path": "data/train.en"}, Path("data/train.en")),
    ],
)
def test_a_path_written_on_another_system_keeps_its_meaning(tree: Any, value: object) -> None:
    """Relative paths are translated; absolute foreign paths stay what they were, as pure paths."""
    decoded = CODEC.decode({"$": "path", "v": tree}, where="value")
    assert decoded == value
    assert type(decoded) is type(value)


def test_pure_paths_keep_their_flavour() -> None:
    """A pure path is not turned into one of this system."""
    for value in (PurePosixPath("/a/b"), PureWindowsPath("c:/a")):
        assert type(crossed(value)) is type(value)
        assert crossed(value) == value
