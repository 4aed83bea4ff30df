"""From Python values to tagged JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from holdfast import jsontext
from holdfast.codec._place import at_key
from holdfast.codec._refusals import refusal
from holdfast.codec._tag import Tag
from holdfast.errors import UnsavableError
from holdfast.jsontext import Json

Refer: TypeAlias = Callable[[object, str], "str | None"]

INT_MAX = 1 << 53
# What is left of the parser's limit is for the document around the tree and for leaf payloads.
DEPTH_MAX = jsontext.MAX_DEPTH - 16
_TAG_DEPTH = 4
REFUSALS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Crossed:
    """A value that has crossed already: `encode` takes its tree as it is.

    values: how many values of JSON the tree holds, about, for the limit on all of them. The tree
    must not change while any other that it became a part of is in use.
    """

    tree: Json
    values: int


class Encoding:
    """One encoding under way: the path of containers open, and how many values were crossed."""

    __slots__ = ("_open", "_refer", "_tags", "_values")

    def __init__(self, tags: Mapping[type, Tag], refer: Refer | None) -> None:
        self._tags = tags
        self._refer = refer
        self._open: set[int] = set()
        self._values = 0

    def value(self, value: object, path: str, depth: int, *, in_key: bool = False) -> Json:
        """Cross one value found at `path`, `depth` JSON levels below the tree's root."""
        kind = type(value)
        if is_plain_leaf(value) or (kind is str and is_text(value)):  # type: ignore[arg-type]
            return value  # type: ignore[return-value]
        tag = self._tags.get(kind)
        if kind is not list and tag is None:
            if kind is Crossed:
                self._count(value.values, path)  # type: ignore[attr-defined]
                return value.tree  # type: ignore[no-any-return, attr-defined]
            return self.reference(value, path, in_key=in_key)
        self._enter(value, path, depth)
        tree: Json
        if kind is list:
            tree = self.items(value, path, depth + 1, in_key=in_key)  # type: ignore[arg-type]
        elif kind is dict and has_plain_keys(value):  # type: ignore[arg-type]
            tree = self._plain_dict(value, path, depth + 1, in_key=in_key)  # type: ignore[arg-type]
        else:
            assert tag is not None
            tree = self._tagged(tag, value, path, depth + _TAG_DEPTH, in_key=in_key)
        self._open.remove(id(value))
        return tree

    def items(self, values: Iterable[object], path: str, depth: int, *, in_key: bool) -> list[Json]:
        """Cross a sequence's items; leaves that need no place are taken as they are."""
        items = list(values)
        self._count(len(items), path)
        return [
            item  # type: ignore[misc]
            if is_plain_leaf(item)
            else self.value(item, f"{path}[{index}]", depth, in_key=in_key)
            for index, item in enumerate(items)
        ]

    def reference(self, value: object, path: str, *, in_key: bool) -> Json:
        """Offer a value the table does not hold to the caller, to be stored as a tensor."""
        if in_key or self._refer is None:
            raise refusal(value, path, in_key=in_key)
        name = self._refer(value, path)
        if name is None:
            raise refusal(value, path)
        return {"$": "tensor", "v": name}

    def _plain_dict(
        self, value: dict[str, object], path: str, depth: int, *, in_key: bool
    ) -> dict[str, Json]:
        self._count(2 * len(value), path)
        return {
            key: item  # type: ignore[misc]
            if is_plain_leaf(item)
            else self.value(item, path + at_key(key, position), depth, in_key=in_key)
            for position, (key, item) in enumerate(list(value.items()))
        }

    def _tagged(self, tag: Tag, value: object, path: str, depth: int, *, in_key: bool) -> Json:
        try:
            payload = tag.encode(value, _Child(self, path, depth, in_key))
        except UnsavableError as error:
            if error.where is not None:
                raise
            raise UnsavableError(error.what, where=path, fix=error.fix) from error
        except REFUSALS as error:
            raise UnsavableError(
                f"A {type(value).__qualname__} cannot be saved: {error}", where=path
            ) from error
        return {"$": tag.name, "v": payload}

    def _enter(self, value: object, path: str, depth: int) -> None:
        if id(value) in self._open:
            raise UnsavableError(
                f"A {type(value).__qualname__} contains itself",
                where=path,
                fix="save the parts without the reference back, and restore it after loading",
            )
        if depth > DEPTH_MAX:
            raise UnsavableError(
                f"The value is nested over {DEPTH_MAX} JSON levels deep, the limit",
                where=path,
                fix="flatten the value, for example into a list of records",
            )
        self._count(4, path)
        self._open.add(id(value))

    def _count(self, more: int, path: str) -> None:
        self._values += more
        if self._values > jsontext.MAX_VALUES:
            raise UnsavableError(
                f"The state holds over {jsontext.MAX_VALUES} values, the limit",
                where=path,
                fix="keep numbers in tensors or numpy arrays instead of lists; "
                "an object that is referred to many times is written as many times",
            )


class _Child:
    """The `EncodeChild` handed to a tag."""

    __slots__ = ("_depth", "_encoding", "_in_key", "_path")

    def __init__(self, encoding: Encoding, path: str, depth: int, in_key: bool) -> None:
        self._encoding = encoding
        self._path = path
        self._depth = depth
        self._in_key = in_key

    def __call__(self, value: object, at: str = "", /) -> Json:
        return self._encoding.value(value, self._path + at, self._depth, in_key=self._in_key)

    def key(self, value: object, at: str = "", /) -> Json:
        return self._encoding.value(value, self._path + at, self._depth, in_key=True)

    def each(self, values: Iterable[object], /) -> list[Json]:
        return self._encoding.items(values, self._path, self._depth, in_key=self._in_key)

    def reference(self, value: object, /) -> Json:
        return self._encoding.reference(value, self._path, in_key=self._in_key)


def is_plain_leaf(value: object) -> bool:
    """Whether JSON holds this value as it is; strings are left to `is_text`."""
    kind = type(value)
    if kind is int:
        return -INT_MAX <= value <= INT_MAX  # type: ignore[operator]
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    return value is None or kind is bool


def is_text(value: str) -> bool:
    """Whether the string is Unicode text: lone surrogates, as in undecodable paths, are not."""
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def has_plain_keys(value: Mapping[object, object]) -> bool:
    """Whether a dict can be a JSON object: all keys are text that no tag can be mistaken for."""
    return all(type(key) is str and key[:1] != "$" and is_text(key) for key in value)
