"""What the codec does not know is refused at save, with its place and what to do."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import pathlib
from collections import defaultdict
from datetime import timedelta, tzinfo
from typing import Any, NamedTuple

import numpy as np
import pytest

from holdfast import jsontext
from holdfast.codec import Codec
from holdfast.errors import UnsavableError

CODEC = Codec.standard()


class _Point(NamedTuple):
    x: int
    y: int


class _Phase(enum.Enum):
    WARM_UP = 1


class _Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class _Settings:
    rate: float = 0.1


class _Int(int):
    pass


class _Str(str):
    __slots__ = ()


class _Dict(dict[str, int]):
    pass


class _Zone(tzinfo):
    def utcoffset(self, _: object) -> timedelta:
        return timedelta(0)

    def dst(self, _: object) -> timedelta:
        return timedelta(0)

    def tzname(self, _: object) -> str:
        return "here"


class _Stateful:
    def state_dict(self) -> dict[str, int]:
        return {}


class _Plain:
    pass


@pytest.mark.parametrize(
    ("value", "what", "fix"),
    [
        (_Point(1, 2), "_Point (a subclass of tuple)", "._asdict()"),
        (_Phase.WARM_UP, "_Phase", "enum_tag(_Phase)"),
        (_Level.LOW, "_Level (a subclass of int)", "enum_tag(_Level)"),
        (_Settings(), "_Settings", "dataclass_tag(_Settings)"),
        (_Settings, "type", "code is never saved"),
        (_Int(3), "_Int (a subclass of int)", "plain int"),
        (_Str("a"), "_Str (a subclass of str)", "plain str"),
        (_Dict(a=1), "_Dict (a subclass of dict)", "plain dict"),
        (_Zone(), "_Zone", "register a Tag"),
        (_Stateful(), "_Stateful", "state_dict() returns"),
        (_Plain(), "_Plain", "register a Tag"),
        (lambda: 0, "builtins.function", "code is never saved"),
        (functools.partial(int), "functools.partial", "register a Tag"),
        (collections.ChainMap(), "ChainMap", "register a Tag"),
        (iter([1]), "list_iterator", "register a Tag"),
        (memoryview(b"a"), "memoryview", "register a Tag"),
        (np.random.default_rng(0), "Generator", "register a Tag"),
        (np.void(b"ab"), "void", "numpy scalar"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_unknown_value_is_refused_with_place_name_and_remedy(
    value: object, what: str, fix: str
) -> None:
    """The error names the path, the exact type and what to do about this kind of value."""
    with pytest.raises(UnsavableError) as caught:
        CODEC.encode({"milestones": [0, 1, 2, value]}, where="scheduler")
    assert caught.value.where == "scheduler.milestones[3]"
    assert what in caught.value.what
    assert fix in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": {"b": _Plain()}}, "root.a.b"),
        ({"layer.0": _Plain()}, "root['layer.0']"),
        ({7: (1, _Plain())}, "root[7][1]"),
        ({None: _Plain()}, "root[None]"),
        ({(1, 2): _Plain()}, "root[#0]"),
        ({"x" * 300: _Plain()}, "root[#0]"),
        ({1 << 70: _Plain()}, "root[#0]"),
        (collections.deque([0, _Plain()]), "root[1]"),
        (slice(None, _Plain()), "root.stop"),
        (defaultdict(list, a=[_Plain()]), "root.a[0]"),
        ({_Plain(): 1}, "root[key #0]"),
        ({_Plain()}, "root{member}"),
        ({((_Plain(),),): 1}, "root[key #0][0][0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_place_leads_to_the_value(value: object, where: str) -> None:
    """Every container says where inside it the refused value stands."""
    with pytest.raises(UnsavableError) as caught:
        CODEC.encode(value, where="root")
    assert caught.value.where == where


def test_places_are_unique() -> None:
    """Keys that look alike lead to different places, since tensors are named by them."""
    keys: list[Any] = [
        1,
        "1",
        "a",
        "['a']",
        "a.b",
        None,
        "None",
        (1,),
        (1.0, 1),
        b"a",
        2.5,
    ]
    value: Any = {"x": {key: _Plain() for key in keys}, "y": [{"a": _Plain()}, [_Plain()]]}
    places: list[str] = []

    def refer(value: object, path: str) -> str:
        places.append(path)
        return path

    CODEC.encode(value, where="root", refer=refer)
    assert len(places) == len(set(places)) == len(keys) + 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1 << (1 << 20), "bits, the limit"),
        (b"a" * ((16 << 20) + 1), "use a tensor or numpy array"),
        (defaultdict(lambda: 0), "factory is not one of the built-in types"),
        (defaultdict(_Plain), "factory is not one of the built-in types"),
        (defaultdict(functools.partial(list)), "factory is not one of the built-in types"),
    ],
    ids=["int", "bytes", "lambda", "class", "partial"],
)
def test_values_beyond_a_limit_are_refused_by_name(value: object, said: str) -> None:
    """Known types refuse what would not be read back, and say where it stands."""
    with pytest.raises(UnsavableError, match=said) as caught:
        CODEC.encode([value], where="root")
    assert caught.value.where == "root[0]"


def _cyclic_list() -> object:
    value: list[object] = []
    value.append({"again": (value,)})
    return value


def _cyclic_dict() -> object:
    value: dict[object, object] = {}
    value[1] = [value]
    return value


def _cyclic_deque() -> object:
    value: collections.deque[object] = collections.deque()
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (_cyclic_list(), "root[0].again[0]"),
        (_cyclic_dict(), "root[1][0]"),
        (_cyclic_deque(), "root[0]"),
    ],
    ids=["list", "dict", "deque"],
)
def test_a_value_that_contains_itself_is_refused(value: object, where: str) -> None:
    """A cycle is found on its first return, with the place where it closes."""
    with pytest.raises(UnsavableError, match="contains itself") as caught:
        CODEC.encode(value, where="root")
    assert caught.value.where == where


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: {1: inner},
        lambda inner: (inner,),
        lambda inner: frozenset([inner]),
        lambda inner: defaultdict(list, {1: inner}),
        lambda inner: collections.deque([inner]),
    ],
    ids=["list", "dict", "pairs", "tuple", "frozenset", "defaultdict", "deque"],
)
def test_what_is_nested_as_deep_as_can_be_saved_can_be_read(wrap: Any) -> None:
    """Depth is refused at save, with room left for the document around the tree."""
    value: object = 1.5j
    depth = 0
    while True:
        try:
            tree = CODEC.encode(value, where="root")
        except UnsavableError as error:
            assert "nested" in str(error)  # noqa: PT017 (the loop ends here)
            break
        document = {"components": {"scheduler": {"kind": "object", "tree": tree}}}
        parsed: Any = jsontext.parse(jsontext.dump(document), where="test")
        CODEC.decode(parsed["components"]["scheduler"]["tree"], where="root")
        value = wrap(value)
        depth += 1
    assert depth > 25


def test_very_deep_values_are_refused() -> None:
    """A hundred thousand levels end in an UnsavableError and not in the interpreter's stack."""
    value: object = 0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UnsavableError, match="nested"):
        CODEC.encode(value, where="root")


def test_sharing_that_would_multiply_without_end_is_refused() -> None:
    """A list of lists of the same list is no checkpoint of a billion billion values."""
    value: object = 0
    for _ in range(40):
        value = [value] * 100_000
    with pytest.raises(UnsavableError, match="values, the limit"):
        CODEC.encode(value, where="root")


@pytest.mark.parametrize(
    "value", [{"a": 1}, {_Plain(): 1}, {_Plain()}], ids=["known", "key", "set"]
)
def test_tensors_are_asked_for_only_where_they_may_stand(value: object) -> None:
    """Known values, dict keys and set members are never offered to be stored as tensors."""

    def refer(value: object, path: str) -> str:
        raise AssertionError(path)

    try:
        CODEC.encode(value, where="root", refer=refer)
    except UnsavableError as error:
        assert "dict key or set member" in error.what  # noqa: PT017 (either outcome is right)


def test_unknown_leaves_are_offered_with_their_place() -> None:
    """What the caller takes becomes a reference; what it does not is refused."""
    value = {"w": _Plain(), "rest": [_Point(1, 2)]}
    offered: list[tuple[object, str]] = []

    def refer(value: object, path: str) -> str | None:
        offered.append((value, path))
        return "weight" if isinstance(value, _Plain) else None

    with pytest.raises(UnsavableError, match="_Point"):
        CODEC.encode(value, where="model", refer=refer)
    assert offered == [(value["w"], "model.w"), (_Point(1, 2), "model.rest[0]")]
    del value["rest"]
    assert CODEC.encode(value, where="model", refer=refer) == {"w": {"$": "tensor", "v": "weight"}}


def test_errors_of_the_caller_pass_through() -> None:
    """A failure to store a tensor is not mistaken for an unsavable value."""

    def refer(value: object, path: str) -> str:
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="device is gone"):
        CODEC.encode((_Plain(),), where="root", refer=refer)


def test_a_path_that_its_text_would_not_give_back_is_no_surprise() -> None:
    """Ordinary paths are saved whatever they hold."""
    for text in ("", ".", "..", "a//b/./c", "/", "//x", "ümlaut", "a\nb"):
        CODEC.encode(pathlib.Path(text), where="root")
