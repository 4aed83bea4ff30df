"""Programs extend the table with tags of their own; nothing else ever changes it."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from codec_values import crossed, fingerprint

from holdfast.codec import Codec, DecodeChild, EncodeChild, Tag, dataclass_tag, enum_tag
from holdfast.errors import ConfigError, FormatError, UnsavableError

CODEC = Codec.standard()


class Phase(enum.Enum):
    """An enum with an alias."""

    WARM_UP = "w"
    DECAY = "d"
    START = "w"  # noqa: PIE796 (an alias is what is tested)


class Level(enum.IntEnum):
    """An enum that is an integer as well."""

    LOW = 1


class Part(enum.Flag):
    """A flag, whose members combine."""

    WEIGHTS = 1
    OPTIMIZER = 2


@dataclass(frozen=True)
class Schedule:
    """A frozen dataclass with a field of each kind."""

    milestones: dict[int, float]
    phase: Phase = Phase.WARM_UP
    steps: int = field(init=False, default=0)
    inner: Schedule | None = None


@dataclass
class Checked:
    """A dataclass that may refuse its fields."""

    rate: float

    def __post_init__(self) -> None:
        """Refuse a negative rate by an error of its own."""
        if self.rate < 0:
            raise RuntimeError("negative rate")


@dataclass
class NeedsMore:
    """A dataclass that its fields do not suffice to build."""

    rate: float
    scale: dataclasses.InitVar[float]


class Point(NamedTuple):
    """A named tuple."""

    x: float
    y: float


def _encode_point(value: Point, child: EncodeChild) -> Any:
    return [child(value.x, ".x"), child(value.y, ".y")]


def _decode_point(payload: Any, child: DecodeChild) -> Point:
    x, y = payload
    return Point(child(x, ".x"), child(y, ".y"))


POINT = Tag("point", Point, _encode_point, _decode_point)
EXTENDED = CODEC.extended(
    POINT, enum_tag(Phase), enum_tag(Level), enum_tag(Part), dataclass_tag(Schedule)
)


def test_an_extended_codec_knows_more_and_the_old_one_does_not() -> None:
    """Extending gives a new codec; the standard one is the same for everybody, always."""
    value = {"at": [Point(1.0, float("inf"))]}
    assert fingerprint(crossed(value, EXTENDED)) == fingerprint(value)
    assert Codec.standard() is CODEC
    with pytest.raises(UnsavableError):
        CODEC.encode(value, where="value")
    with pytest.raises(FormatError, match="'point' is not known"):
        CODEC.decode(EXTENDED.encode(value, where="value"), where="value")


@pytest.mark.parametrize(
    "member",
    [*Phase, Phase.START, Level.LOW, Part.WEIGHTS, Part.WEIGHTS | Part.OPTIMIZER, Part(0)],
    ids=repr,
)
def test_enum_members_come_back_as_themselves(member: enum.Enum) -> None:
    """Members are stored by name and flags by value; they may be keys and set members too."""
    assert crossed(member, EXTENDED) is member
    assert crossed({member: {member}}, EXTENDED) == {member: {member}}
    assert type(crossed(member, EXTENDED)) is type(member)


def test_a_dataclass_comes_back_field_by_field() -> None:
    """Nested instances, integer keys and fields that __init__ does not take are restored."""
    value = Schedule({30: 0.1}, Phase.DECAY, inner=Schedule({}))
    object.__setattr__(value, "steps", 7)
    back = crossed(value, EXTENDED)
    assert back == value
    assert back.steps == 7
    assert list(back.milestones) == [30]


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "enum:Phase", "v": "COOL_DOWN"},
        {"$": "enum:Phase", "v": "__class__"},
        {"$": "enum:Phase", "v": "w"},
        {"$": "enum:Phase", "v": 1},
        {"$": "enum:Part", "v": 64},
        {"$": "enum:Part", "v": "WEIGHTS"},
        {"$": "enum:Part", "v": True},
        {"$": "dataclass:Schedule", "v": {}},
        {"$": "dataclass:Schedule", "v": []},
        {"$": "dataclass:Schedule", "v": {"milestones": {}, "phase": 1, "steps": 0}},
        {
            "$": "dataclass:Schedule",
            "v": {"milestones": {}, "phase": 1, "steps": 0, "inner": None, "__class__": 1},
        },
        {"$": "point", "v": [1]},
        {"$": "point", "v": None},
        {"$": "point", "v": [1, {"$": "nothing", "v": 1}]},
    ],
    ids=repr,
)
def test_hostile_payloads_of_extension_tags_are_refused(tree: Any) -> None:
    """Unknown members, missing or further fields and wrong types are a FormatError with a place."""
    with pytest.raises(FormatError) as caught:
        EXTENDED.decode([tree], where="value")
    assert (caught.value.where or "").startswith("value[0]")


def test_a_class_that_refuses_its_fields_is_a_format_error() -> None:
    """Whatever error the class raises, the reader is told which value it was."""
    codec = CODEC.extended(dataclass_tag(Checked))
    assert crossed(Checked(0.5), codec) == Checked(0.5)
    with pytest.raises(FormatError, match="negative rate") as caught:
        codec.decode({"a": {"$": "dataclass:Checked", "v": {"rate": -1.0}}}, where="value")
    assert caught.value.where == "value.a"


def test_a_refusal_inside_an_extension_names_the_inner_place() -> None:
    """Places go through tags of the program's own."""
    with pytest.raises(UnsavableError) as caught:
        EXTENDED.encode([Schedule({1: object()})], where="value")  # type: ignore[dict-item]
    assert caught.value.where == "value[0].milestones[1]"
    with pytest.raises(UnsavableError) as caught:
        EXTENDED.encode(Point(0.0, object()), where="value")  # type: ignore[arg-type]
    assert caught.value.where == "value.y"


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, AttributeError])
def test_a_tag_refuses_by_an_ordinary_error(error: type[Exception]) -> None:
    """What a tag's functions raise becomes an error with a place, in both directions."""

    def refuse(*_: object) -> Any:
        raise error("too hot")

    codec = CODEC.extended(Tag("point", Point, refuse, refuse))
    with pytest.raises(UnsavableError, match="too hot") as unsavable:
        codec.encode([Point(1, 2)], where="value")
    assert unsavable.value.where == "value[0]"
    with pytest.raises(FormatError, match="too hot") as malformed:
        codec.decode([{"$": "point", "v": 1}], where="value")
    assert malformed.value.where == "value[0]"


def test_a_tag_may_store_its_value_as_a_tensor() -> None:
    """A tag can ask for its value to be stored by the caller and get it back."""
    tag = Tag(
        "point",
        Point,
        lambda value, child: child.reference(value),
        lambda payload, child: child(payload),
    )
    codec = CODEC.extended(tag)
    held: dict[str, object] = {}

    def refer(value: object, path: str) -> str:
        held[path] = value
        return path

    value = {"p": Point(1, 2)}
    assert crossed(value, codec, refer=refer, resolve=lambda name, _: held[name]) == value
    assert list(held) == ["value.p"]
    with pytest.raises(UnsavableError, match="dict key or set member"):
        codec.encode({Point(1, 2): 1}, where="value", refer=refer)


@pytest.mark.parametrize(
    "tag",
    [
        Tag("tuple", Point, _encode_point, _decode_point),
        Tag("tensor", Point, _encode_point, _decode_point),
        Tag("point", Phase, _encode_point, _decode_point),
        Tag("other", Point, _encode_point, _decode_point),
        Tag("mine", dict, _encode_point, _decode_point),
        Tag("mine", list, _encode_point, _decode_point),
        Tag("mine", bool, _encode_point, _decode_point),
        Tag("mine", type(None), _encode_point, _decode_point),
        Tag("", Phase, _encode_point, _decode_point),
        Tag("a\n", Phase, _encode_point, _decode_point),
        Tag("x" * 201, Phase, _encode_point, _decode_point),
    ],
    ids=lambda tag: f"{tag.name[:10]!r}-{tag.type.__name__}",
)
def test_a_name_or_type_that_is_taken_is_refused(tag: Tag) -> None:
    """Each name and each type stands in the table once, so that no tag hides another."""
    with pytest.raises(ConfigError):
        CODEC.extended(POINT, tag)


def test_names_of_class_tags_can_be_chosen() -> None:
    """With a name of its own, a class may be renamed or moved after the save."""
    codec = CODEC.extended(enum_tag(Phase, name="phase"), dataclass_tag(Checked, name="checked"))
    assert codec.encode(Phase.DECAY, where="v") == {"$": "phase", "v": "DECAY"}
    assert codec.encode(Checked(1.0), where="v") == {"$": "checked", "v": {"rate": 1.0}}


@pytest.mark.parametrize("kind", [int, Checked(1.0), Point, NeedsMore])
def test_dataclass_tag_refuses_what_it_could_not_build(kind: Any) -> None:
    """Classes that are no dataclass, or that need more than their fields, are refused at once."""
    with pytest.raises(ConfigError):
        dataclass_tag(kind)


@pytest.mark.parametrize("kind", [int, Phase.WARM_UP, Point])
def test_enum_tag_refuses_what_is_no_enum_class(kind: Any) -> None:
    """Only Enum classes have members to be stored by name."""
    with pytest.raises(ConfigError):
        enum_tag(kind)
