"""Tags for the classes of a program that uses holdfast: its enums and its dataclasses."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from typing import Any

from holdfast.codec._payload import want_int, want_str
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag
from holdfast.errors import ConfigError, FormatError
from holdfast.jsontext import Json


def enum_tag(kind: type[Any], *, name: str | None = None) -> Tag:
    """A tag for the members of one Enum or Flag class.

    Members are stored by name, flags by their integer value, so that a member's value may change
    between save and load. name: of the tag, by default "enum:" and the class's qualified name;
    give one to be free to rename the class later. Raises ConfigError if `kind` is no Enum class.
    """
    if not (inspect.isclass(kind) and issubclass(kind, enum.Enum)):
        raise ConfigError(f"enum_tag takes an Enum class, not {kind!r}")
    tag_name = name if name is not None else f"enum:{kind.__qualname__}"
    if issubclass(kind, enum.Flag):
        return Tag(tag_name, kind, _encode_flag, lambda payload, child: _flag(kind, payload, child))
    return Tag(
        tag_name,
        kind,
        lambda member, _: str(member.name),
        lambda payload, _: _member(kind, payload),
    )


def dataclass_tag(kind: type[Any], *, name: str | None = None) -> Tag:
    """A tag for instances of one dataclass, frozen or not.

    Every field is stored by name; on load the class is called with those that __init__ takes, and
    the others are set afterwards. Stored and present fields must be the same. name: of the tag, by
    default "dataclass:" and the class's qualified name. Raises ConfigError if `kind` is no
    dataclass, or its __init__ needs more than its fields (an InitVar is not kept, so it cannot be
    given again).
    """
    if not (inspect.isclass(kind) and dataclasses.is_dataclass(kind)):
        raise ConfigError(f"dataclass_tag takes a dataclass, not {kind!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.name not in fields and parameter.default is parameter.empty:
            raise ConfigError(
                f"{kind.__qualname__} cannot be built from its fields: "
                f"its __init__ also needs {parameter.name!r}",
                fix="write a Tag for it that says how to build one",
            )

    def encode(value: Any, child: EncodeChild) -> Json:
        return {field: child(getattr(value, field), f".{field}") for field in fields}

    def decode(payload: Json, child: DecodeChild) -> Any:
        if type(payload) is not dict or payload.keys() != fields.keys():
            found = ", ".join(map(str, payload)) if type(payload) is dict else "no object"
            raise ValueError(
                f"{kind.__qualname__} has the fields {', '.join(fields)}; found {found[:200]}"
            )
        values = {field: child(tree, f".{field}") for field, tree in payload.items()}
        return _built(kind, fields, values)

    return Tag(name if name is not None else f"dataclass:{kind.__qualname__}", kind, encode, decode)


def _encode_flag(member: Any, child: EncodeChild) -> Json:
    return child(int(member.value))


def _flag(kind: type[enum.Flag], payload: Json, child: DecodeChild) -> enum.Flag:
    return kind(want_int(child(payload)))


def _member(kind: type[enum.Enum], payload: Json) -> enum.Enum:
    member = kind.__members__.get(want_str(payload))
    if member is None:
        raise ValueError(f"{kind.__qualname__} has no member of this name")
    return member


def _built(kind: type[Any], fields: dict[str, Any], values: dict[str, Any]) -> Any:
    given = {name: value for name, value in values.items() if fields[name].init}
    try:
        built = kind(**given)
        for name in values.keys() - given.keys():
            object.__setattr__(built, name, values[name])
    except Exception as error:
        raise FormatError(
            f"{kind.__qualname__} did not accept its saved fields: {error}"
        ) from error
    return built
