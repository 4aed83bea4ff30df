"""Trees that were not written by us are read or refused: quickly, and running nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import jsontext
from holdfast.codec import Codec
from holdfast.errors import FormatError

CODEC = Codec.standard()
NAMES = [tag.name for tag in CODEC.tags]


def refused(tree: object, match: str = ".", **options: Any) -> FormatError:
    """The error this tree is refused with."""
    with pytest.raises(FormatError, match=match) as caught:
        CODEC.decode(tree, where="state", **options)  # type: ignore[arg-type]
    return caught.value


def tagged(name: object, payload: object) -> dict[str, object]:
    """A tagged value as it stands in a file."""
    return {"$": name, "v": payload}


WORDS = """
0x1 -0x0 nan:7ff8000000000000 inf AA== A ../../etc/passwd os.system 2024-02-30
2024-01-01T00:00:00.000000 Europe/Berlin Europe UTC posix list C F <f8 |b1 <U3 <M8[s] |O
datetime64[s] 1E999999999 sNaN 00000000-0000-0000-0000-000000000000 7fc00000 7c00
""".split()  # noqa: SIM905 (a list would take thirty lines)
BIG = tagged("int", "0x1" + "0" * 2100)
HOSTILE_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 1 << 31, 1 << 53, 1 << 63, -(1 << 63), 1 << 64]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(WORDS),
)
FIELDS = st.sampled_from(
    "$ v a dtype shape order data factory items maxlen iso fold tz offset name path".split()  # noqa: SIM905
)
HOSTILE = st.recursive(
    HOSTILE_LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(st.lists(inner, min_size=2, max_size=2), max_size=3),
        st.dictionaries(FIELDS, inner, max_size=4),
        st.builds(tagged, st.sampled_from([*NAMES, "tensor", "unknown"]), inner),
        st.fixed_dictionaries({"factory": inner, "items": inner}),
        st.fixed_dictionaries({"maxlen": inner, "items": inner}),
        st.fixed_dictionaries({"iso": inner, "fold": inner, "tz": inner}),
        st.fixed_dictionaries({"offset": inner, "name": inner}),
        st.fixed_dictionaries({"flavour": inner, "path": inner}),
        st.fixed_dictionaries({"dtype": inner, "shape": inner, "order": inner, "data": inner}),
    ),
    max_leaves=12,
)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(HOSTILE)
def test_any_tree_is_read_or_refused(tree: Any) -> None:
    """No tree ends in another error than FormatError, and the error names a place."""
    try:
        CODEC.decode(tree, where="state", resolve=lambda name, path: 0)
    except FormatError as error:
        assert (error.where or "").startswith("state")  # noqa: PT017 (either outcome is right)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.sampled_from(NAMES), HOSTILE_LEAVES | st.lists(HOSTILE_LEAVES, max_size=4))
def test_each_tag_reads_or_refuses_any_simple_payload(name: str, payload: Any) -> None:
    """Payloads of the wrong type are a FormatError for every tag of the table."""
    try:
        CODEC.decode(tagged(name, payload), where="state")  # type: ignore[arg-type]
    except FormatError as error:
        assert (error.where or "").startswith("state")  # noqa: PT017 (either outcome is right)


@pytest.mark.parametrize("name", NAMES)
def test_every_tag_refuses_payloads_of_another_shape(name: str) -> None:
    """A payload that no value of the tag has is refused, and never guessed at."""
    payloads = [{}, {"x": 1}, {"$": "tensor", "v": "w"}, [[1]], [None] * 5, 1 << 53]
    sound = {"tuple": payloads[3:5], "np.int64": payloads[5:], "np.uint64": payloads[5:]}
    for payload in payloads:
        if payload not in sound.get(name, []):
            refused(tagged(name, payload))


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "tuple"},
        {"$": "tuple", "v": [], "w": 1},
        {"$": "tuple", "w": []},
        {"$": None, "v": []},
        {"$": 1, "v": []},
        {"$": ["tuple"], "v": []},
        {"$": {"$": "str"}, "v": []},
        {"$x": 1},
        {"a": 1, "$a": 2},
        {"v": 1, "$": "tuple", "a": 1},
    ],
    ids=repr,
)
def test_a_dollar_key_is_a_tag_or_an_error(tree: object) -> None:
    """What looks like a tagged value must be exactly one."""
    refused({"a": [tree]}, r"state\.a\[0\]")


@pytest.mark.parametrize(
    "name", ["unknown", "", "os.system", "builtins.eval", "object", "list", "Tuple"]
)
def test_an_unknown_tag_is_refused_and_never_looked_up(name: str) -> None:
    """The table is all there is; the error says how a tag is made known."""
    error = refused([tagged(name, "echo")], "is not known")
    assert error.where == "state[0]"
    assert "extended by the tag" in (error.fix or "")


def test_a_long_unknown_tag_does_not_fill_the_message() -> None:
    """The message shows the beginning of hostile text and no more."""
    assert len(str(refused(tagged("x" * 1_000_000, None)))) < 500
    assert len(str(refused({"$" + "x" * 1_000_000: 1}))) < 500


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ((1 << 53) + 1, "without its tag"),
        (-(1 << 70), "without its tag"),
        (float("nan"), "strict JSON"),
        (float("inf"), "strict JSON"),
        (b"bytes", "strict JSON"),
        ((1, 2), "strict JSON"),
        ({1: 2}, "reserved"),
        (object(), "strict JSON"),
    ],
    ids=lambda value: type(value).__name__ if type(value) is object else repr(value),
)
def test_what_strict_json_does_not_hold_is_refused(tree: object, said: str) -> None:
    """Trees that no parser of ours gives are refused all the same."""
    refused(tree, said)
    refused([[tree]], said)


LIES: dict[str, list[object]] = {
    "int": ["12", "0x", "0xG", "0X1", "0x_1", " 0x1", "0x1\n", "0x" + "f" * ((1 << 18) + 2), 5],
    "float": ["nan", "Infinity", "1.0", 1.0, "nan:3ff0000000000000", "nan:7ff8"],
    "str": ["plain", "/w==", 1],
    "bytes": ["A", "AA", "AB==", "A A=", [1, 2]],
    "bytearray": [1 << 50],
    "complex": [[1.0], [1, 2], ["1", "2"]],
    "decimal": ["1_0", " 1", "1e5", "x", 1, "1E+9999999999999999999999", "\u0663"],
    "fraction": [[1, 0], [2, 4], [1, -2], [1.0, 2], [1, True], [BIG, 1]],
    "uuid": ["0" * 32, "{00000000-0000-0000-0000-000000000000}", "x"],
    "range": [[0, 1, 0], [0, 1.0, 1], [0, 1], [0, True, 1]],
    "deque": [
        {"maxlen": 1, "items": [1, 2]},
        {"maxlen": -1, "items": []},
        {"maxlen": True, "items": [1]},
        {"maxlen": 1 << 62, "items": []},
        {"maxlen": 1.0, "items": []},
        {"items": []},
    ],
    "defaultdict": [{"factory": name, "items": []} for name in ("eval", "dict ", ["list"], 1)],
    "set": [[1, 1], [1, True], [[1]], [{}], "ab"],
    "frozenset": [[0.0, -0.0], [tagged("set", [])]],
    "dict": [[[1, 2], [1, 3]], [[1, 2], [True, 3]], [[[1], 2]], [[{"a": 1}, 2]], [[1]]],
    "OrderedDict": [[[1, 2, 3]], {"a": 1}, [["a", 1], ["a", 1]]],
    "Counter": [["a"], [[tagged("bytearray", ""), 1]]],
    "date": ["20240101", "2024-1-1", "2024-02-30", 5],
    "datetime": [
        {"iso": "2024-01-01", "fold": 0, "tz": None},
        {"iso": "2024-01-01T00:00:00.000000+01:00", "fold": 0, "tz": None},
        {"iso": "2024-01-01T00:00:00.000000", "fold": 2, "tz": None},
        {"iso": "2024-01-01T00:00:00.000000", "fold": True, "tz": None},
        {"iso": "2024-01-01T00:00:00.000000", "fold": 0, "tz": "UTC"},
    ],
    "time": [{"iso": "25:00:00.000000", "fold": 0, "tz": None}, {"iso": "00:00"}],
    "timedelta": [[0, 86_400, 0], [0, -1, 0], [1 << 40, 0, 0], [0, 0, 1_000_000], [0.5, 0, 0]],
    "timezone": [
        {"offset": 86_400_000_000, "name": None},
        {"offset": 1 << 52, "name": None},
        {"offset": 0, "name": 5},
        {"offset": 0.0, "name": None},
    ],
    "zoneinfo": ["../../../etc/passwd", "/etc/passwd", "a\0b", "No/Such_Zone", "", "os.path"],
    "path": [
        {"flavour": "dos", "path": "a"},
        {"flavour": ["posix"], "path": "a"},
        {"flavour": "posix", "path": ["a"]},
        "a",
    ],
    "PurePosixPath": [1],
    "np.bool": [1],
    "np.int8": [128],
    "np.uint8": [-1],
    "np.uint64": [tagged("int", "0x1" + "0" * 16)],
    "np.int64": [1.0, True],
    "np.float16": [1e-30],
    "np.float32": [0.1, 1, 1e300, "3f800000", "7fc0000", "7FC00000"],
    "np.float64": ["nan"],
    "np.complex64": [[1.0], [0.1, 0.0]],
    "np.complex128": [[1, 2]],
    "np.datetime64": [
        ["datetime64[x]", 0],
        ["int64", 0],
        ["timedelta64[s]", 0],
        ["datetime64[s]", 0.0],
        ["datetime64[s],i8", 0],
        ["datetime64[s]", tagged("int", "0x8" + "0" * 15)],
    ],
    "np.timedelta64": [[["timedelta64"], 0]],
    "np.str": [1],
    "np.bytes": ["A"],
}


@pytest.mark.parametrize(
    ("name", "payload"), [(name, payload) for name, lies in LIES.items() for payload in lies]
)
def test_a_payload_that_lies_is_refused(name: str, payload: object) -> None:
    """One refusal for each lie a payload can tell, at the place of the value."""
    error = refused({"x": tagged(name, payload)})
    assert (error.where or "").startswith("state.x")
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "tree",
    [
        tagged("set", [tagged("tensor", "w")]),
        tagged("dict", [[tagged("tensor", "w"), 1]]),
        tagged("dict", [[tagged("tuple", [tagged("tensor", "w")]), 1]]),
        tagged("tensor", 5),
        tagged("tensor", None),
        tagged("tensor", ["w"]),
    ],
    ids=repr,
)
def test_a_tensor_where_none_may_stand_is_refused(tree: object) -> None:
    """Keys and members are never tensors, and a reference is a name."""
    refused(tree, "tensor", resolve=lambda name, path: 0)


def test_a_reference_without_tensors_is_refused() -> None:
    """A tree that refers to tensors is not read where there are none."""
    refused([tagged("tensor", "w")], "refers to the tensor 'w'")


def test_errors_of_the_caller_pass_through() -> None:
    """A failure to read a tensor is not mistaken for a malformed tree."""

    def resolve(name: str, path: str) -> object:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        CODEC.decode({"$": "tuple", "v": [{"$": "tensor", "v": "w"}]}, where="x", resolve=resolve)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: tagged("tuple", [inner])])
@pytest.mark.parametrize("depth", [jsontext.MAX_DEPTH + 1, 50_000])
def test_trees_beyond_the_depth_limit_are_refused(wrap: Any, depth: int) -> None:
    """A tree that did not come through the parser is held to its limit."""
    tree: object = 0
    for _ in range(depth):
        tree = wrap(tree)
    refused(tree, "nested")


def test_huge_claims_take_no_memory() -> None:
    """Sizes are compared with the data before anything is allocated, and ranges stay lazy."""
    refused(tagged("ndarray", {"dtype": "<f8", "shape": [1 << 40], "order": "C", "data": ""}))
    refused(tagged("ndarray", {"dtype": "|S999999999", "shape": [9], "order": "C", "data": ""}))
    assert CODEC.decode({"$": "range", "v": [0, 1 << 53, 1]}, where="x") == range(1 << 53)
