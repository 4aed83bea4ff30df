"""A tag: how one exact Python type crosses to JSON and back."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from holdfast.jsontext import Json


class EncodeChild(Protocol):
    """What a tag's `encode` may ask for: the crossing of a value inside its own.

    `at` names the place of the inner value relative to the outer one, such as ".scale" or "[3]".
    """

    def __call__(self, value: object, at: str = "", /) -> Json:
        """Cross any value."""

    def key(self, value: object, at: str = "", /) -> Json:
        """Cross a dict key or set member: nothing in it may be stored as a tensor."""

    def each(self, values: Iterable[object], /) -> list[Json]:
        """Cross the items of a sequence, placed at [0], [1], ..."""

    def reference(self, value: object, /) -> Json:
        """Ask for `value` to be stored as a tensor; UnsavableError if nobody takes it."""


class DecodeChild(Protocol):
    """What a tag's `decode` may ask for: the crossing back of a tree inside its own."""

    def __call__(self, tree: Json, at: str = "", /) -> Any:
        """Cross any tree back, references to tensors included."""

    def key(self, tree: Json, at: str = "", /) -> Any:
        """Cross back a dict key or set member, which may not refer to tensors."""


@dataclass(frozen=True)
class Tag:
    """How values of exactly one type cross: as {"$": name, "v": encode(value, child)}.

    name: unique in its codec. type: matched by `type(value) is type`, so no subclass is meant.
    encode: gives the JSON payload; it crosses inner values with `child` and puts them at most
    three JSON containers deep. decode: the inverse; it must not trust the payload. Both refuse by
    raising ValueError or TypeError (also AttributeError, LookupError, ArithmeticError) with one
    clause as the message, and the codec names the place.
    """

    name: str
    type: builtins.type[Any]
    encode: Callable[[Any, EncodeChild], Json]
    decode: Callable[[Json, DecodeChild], Any]
