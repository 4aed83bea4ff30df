"""Strict JSON: what is read, what is refused, and that nothing is written that is not read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import jsontext
from holdfast.errors import FormatError, UnsavableError
from holdfast.jsontext import Json, as_text, dump, parse, parse_object

TEXT = st.text()
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30
)
PROPERTY = settings(deadline=None, derandomize=True, max_examples=100)


@PROPERTY
@given(DOCUMENTS, st.sampled_from([None, 1]))
def test_what_is_dumped_parses_to_the_same_value(document: Any, indent: int | None) -> None:
    """A document comes back with its types, its digits, the sign of zero and its key order."""
    data = dump(document, indent=indent)
    assert data.isascii()
    assert repr(parse(data, where="test")) == repr(document)


@PROPERTY
@given(DOCUMENTS)
def test_any_standard_document_parses_as_the_standard_parser_does(document: Any) -> None:
    """Text written by others, with spaces and unescaped Unicode, reads alike."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    assert repr(parse(text.encode(), where="test")) == repr(document)


@PROPERTY
@given(st.binary(max_size=60) | TEXT.map(str.encode))
def test_arbitrary_bytes_parse_or_are_refused(data: bytes) -> None:
    """No input ends in anything but a value or a FormatError naming the place."""
    try:
        parse(data, where="state.json")
    except FormatError as error:
        assert error.where == "state.json"  # noqa: PT017 (either outcome is right)


@PROPERTY
@given(st.text('{}[]",:\\ut0d8e-.1', max_size=40).map(str.encode))
def test_json_like_bytes_are_read_as_the_standard_parser_reads_them(data: bytes) -> None:
    """Near misses of JSON are refused whenever the standard parser refuses them."""
    try:
        expected = json.loads(data)
    except ValueError:
        with pytest.raises(FormatError):
            parse(data, where="test")
        return
    try:
        value = parse(data, where="test")
    except FormatError as error:
        assert any(word in str(error) for word in ("twice", "surrogate", "beyond"))  # noqa: PT017
    else:
        assert repr(value) == repr(expected)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"   ", "Expecting value"),
        (b'{"a": 1', "brackets"),
        (b"[1]]", "closes more"),
        (b"][", "brackets"),
        (b"[1}", "strict JSON"),
        (b"[1] [2]", "Extra data"),
        (b"[1,]", "strict JSON"),
        (b"{'a': 1}", "strict JSON"),
        (b"// a\n1", "Expecting value"),
        (b'"a\nb"', "control character"),
        (b"\xff\xfe1\x00", "utf-8"),
        (b'"\xc3"', "utf-8"),
        (b'"\xed\xa0\x80"', "utf-8"),
        (b"\xef\xbb\xbf1", "BOM"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        (b'[{"x": {"a": 1, "\\u0061": 1}}]', "'a' stands twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "beyond what a float can hold"),
        (b"[-1e999]", "beyond what a float can hold"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'"\\ude00\\ud83d"', "surrogate"),
        (b"\x80\x04\x95.", "utf-8"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_reason(data: bytes, said: str) -> None:
    """Each rule of ours and of JSON has a refusal that names the place and the reason."""
    with pytest.raises(FormatError, match=r"state\.json") as caught:
        parse(data, where="state.json")
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"[[[{{{:,\\"]\\\\"', '[[[{{{:,"]\\'),
        (b"-0", 0),
        (b"1E5", 1e5),
        (b' \n\t{"a" : [ ] } ', {"a": []}),
    ],
)
def test_unusual_but_strict_json_is_read(data: bytes, value: object) -> None:
    """Escapes, brackets within strings and spaces do not confuse the limits."""
    assert parse(data, where="test", max_depth=2, max_values=4) == value


def test_the_size_limit_is_in_bytes() -> None:
    """A document of exactly the limit is read and one byte more is refused."""
    assert parse(b"[1234]", where="test", max_bytes=6) == [1234]
    with pytest.raises(FormatError, match="7 bytes, the limit is 6"):
        parse(b"[12345]", where="test", max_bytes=6)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_the_depth_limit_counts_nested_containers(brackets: str) -> None:
    """Nesting of exactly the limit is read and one level more is refused, in arrays and objects."""
    opening = brackets[0] if brackets == "[]" else '{"a":'
    inner = "0"

    def nested(depth: int) -> bytes:
        return (opening * depth + inner + brackets[1] * depth).encode()

    parse(nested(jsontext.MAX_DEPTH), where="test")
    with pytest.raises(FormatError, match=f"nested over {jsontext.MAX_DEPTH} deep"):
        parse(nested(jsontext.MAX_DEPTH + 1), where="test")
    assert parse(nested(3), where="test", max_depth=3)
    with pytest.raises(FormatError, match="nested over 2 deep"):
        parse(nested(3), where="test", max_depth=2)


def test_siblings_do_not_add_to_the_depth() -> None:
    """Depth is the longest path down and not the number of brackets."""
    assert parse(b"[[],[],[[]],{}]", where="test", max_depth=3)


def test_the_value_limit_counts_what_would_be_built() -> None:
    """Items, entries and containers count; commas and brackets within strings do not."""
    assert parse(b'[1,2,",,,,[[[["]', where="test", max_values=4)
    with pytest.raises(FormatError, match="over 4 values"):
        parse(b"[1,2,3,4]", where="test", max_values=4)
    with pytest.raises(FormatError, match="over 4 values"):
        parse(b'{"a":1,"b":2}', where="test", max_values=4)
    with pytest.raises(FormatError, match="over 4 values"):
        parse(b'"' * 40, where="test", max_values=4)


@pytest.mark.parametrize("digits", ["1{}", "-1{}", "0.{}", "1e{}"])
def test_the_digits_of_a_number_are_limited_whatever_the_interpreter_allows(digits: str) -> None:
    """Numbers that take quadratic time to read are refused before they are read."""
    fits = digits.format("0" * (jsontext.MAX_DIGITS - 1)).encode()
    parse(fits, where="test")
    with pytest.raises(FormatError, match=f"over {jsontext.MAX_DIGITS} digits"):
        parse(fits + b"00", where="test")
    assert parse(b'"' + fits + b'00"', where="test")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b"]" * 1_000_000,
        b'{"a":' * 300_000,
        b"[" * 150_000 + b"]" * 150_000,
        b"[" + b"9" * 2_000_000 + b"]",
        b"[" + b"0," * 6_000_000 + b"0]",
        b'"' * 4_000_001,
        b'"' + b"\\" * 4_000_001 + b'"',
        b'"' + b"\\n" * 2_000_000,
        b" " * 4_000_000,
        b"[0" + b"]" * 100_000 + b"[" * 100_000,
    ],
    ids=lambda data: f"{bytes(data[:6])!r} x {len(data)}",
)
def test_large_hostile_documents_are_refused(data: bytes) -> None:
    """Documents made to exhaust a parser end in a FormatError."""
    with pytest.raises(FormatError):
        parse(data, where="test")


def test_a_long_duplicate_key_does_not_fill_the_message() -> None:
    """The message shows the beginning of a hostile key and no more."""
    key = b'"' + b"k" * 100_000 + b'":1'
    with pytest.raises(FormatError, match="stands twice") as caught:
        parse(b"{" + key + b"," + key + b"}", where="test")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("count", [lambda value: len(value), lambda value: None])
def test_keys_that_are_counted_may_not_stand_twice_either(
    count: Callable[[Any], int | None],
) -> None:
    """A reader that knows the number of keys is as strict as one that looks at each object."""
    assert parse(b'{"a": ":", "b": 2}', where="test", count_keys=count) == {"a": ":", "b": 2}
    with pytest.raises(FormatError, match="stands twice"):
        parse(b'{"a": 1, "a": 2}', where="test", count_keys=count)


def test_strings_that_are_no_text_can_be_escaped() -> None:
    """What is only a remark is written with the halves of surrogate pairs spelt out."""
    odd: Json = {"a\udc80": ["\ud800", 1, None, {"b": "é"}]}
    assert as_text(odd) == {"a\\udc80": ["\\ud800", 1, None, {"b": "é"}]}
    assert parse(dump(as_text(odd)), where="test") == as_text(odd)


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"{}"'])
def test_an_object_is_required_where_one_is_asked_for(data: bytes) -> None:
    """parse_object refuses every other kind of document by its type."""
    with pytest.raises(FormatError, match="must be a JSON object"):
        parse_object(data, where="manifest.json")


def test_an_object_is_returned_where_one_is_asked_for() -> None:
    """parse_object returns the dict and keeps the size limit it is given."""
    assert parse_object(b'{"a": [1]}', where="test") == {"a": [1]}
    with pytest.raises(FormatError, match="the limit is 4"):
        parse_object(b'{"a": [1]}', where="test", max_bytes=4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}])
def test_dump_refuses_what_has_no_strict_json(value: Any) -> None:
    """Non-finite floats and halves of surrogate pairs are a ValueError: they must be tagged."""
    with pytest.raises(ValueError, match=r"JSON|surrogate"):
        dump([value])


def test_dump_refuses_a_value_that_contains_itself() -> None:
    """A cycle is a ValueError and no endless text."""
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="ircular"):
        dump(cycle)


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (_nested(jsontext.MAX_DEPTH + 1), "nested over"),
        (_nested(100_000), "nested"),
        ([0] * (jsontext.MAX_VALUES + 1), "values, the limit"),
        (10 ** (jsontext.MAX_DIGITS + 1), "digits, the limit"),
    ],
    ids=["deep", "very deep", "many", "digits"],
)
def test_dump_refuses_what_parse_would_refuse(value: Any, said: str) -> None:
    """A document over the limits is refused when written, and not only once it is needed."""
    with pytest.raises(UnsavableError, match=said):
        dump(value)


def test_dump_keeps_key_order_and_is_compact_unless_asked() -> None:
    """The bytes are a function of the value alone."""
    assert dump({"b": [1, 2.0], "a": "é"}) == b'{"b":[1,2.0],"a":"\\u00e9"}'
    assert dump({"b": [1]}, indent=1) == b'{\n "b": [\n  1\n ]\n}'
