"""The codec: an immutable table of tags and the two crossings it defines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from holdfast.codec._collections import COLLECTION_TAGS
from holdfast.codec._decode import Decoding, Resolve
from holdfast.codec._encode import Encoding, Refer
from holdfast.codec._numpy_arrays import ARRAY_TAGS
from holdfast.codec._numpy_scalars import NUMPY_SCALAR_TAGS
from holdfast.codec._paths import PATH_TAGS
from holdfast.codec._scalars import SCALAR_TAGS
from holdfast.codec._tag import Tag
from holdfast.codec._times import TIME_TAGS
from holdfast.errors import ConfigError, FormatError, UnsavableError
from holdfast.jsontext import Json

_NAME_CHARACTERS_MAX = 200
_UNTAGGED = (type(None), bool, list)


class Codec:
    """Crosses Python values to tagged JSON and back, by an explicit table of tags.

    A codec never changes: `extended` gives a new one. Types are matched exactly, nothing is
    imported by name, and decoding runs no code but that of the table.
    """

    __slots__ = ("_by_name", "_by_type")

    def __init__(self, tags: Iterable[Tag]) -> None:
        """A codec of exactly these tags. Raises ConfigError if two share a name or a type."""
        by_name: dict[str, Tag] = {}
        by_type: dict[type, Tag] = {}
        for tag in tags:
            _check(tag, by_name, by_type)
            by_name[tag.name] = tag
            by_type[tag.type] = tag
        self._by_name: Mapping[str, Tag] = MappingProxyType(by_name)
        self._by_type: Mapping[type, Tag] = MappingProxyType(by_type)

    @staticmethod
    def standard() -> Codec:
        """The codec of Python's own values and numpy's."""
        return _standard()

    @property
    def tags(self) -> tuple[Tag, ...]:
        """Every tag of the table, in the order it was given."""
        return tuple(self._by_name.values())

    def extended(self, *tags: Tag) -> Codec:
        """A codec that also knows `tags`. Raises ConfigError if a name or type is taken."""
        return Codec((*self.tags, *tags))

    def encode(self, value: object, *, where: str, refer: Refer | None = None) -> Json:
        """Cross a value to a JSON tree that `jsontext.dump` writes and `decode` reads.

        where: the name of the whole value; places inside it are named from there, such as
        scheduler.milestones[3]. refer: asked with (value, place) for every value whose type is not
        in the table and for numpy arrays of over INLINE_MAX_BYTES; returns the name under which
        the caller stores it as a tensor, or None. An object that is referred to twice is written
        twice. Raises UnsavableError naming the place.
        """
        try:
            return Encoding(self._by_type, refer).value(value, where, 0)
        except RecursionError as error:
            raise UnsavableError("The value is nested too deep to be saved", where=where) from error

    def decode(self, tree: Json, *, where: str, resolve: Resolve | None = None) -> object:
        """Cross a tree back to the value it was made from. The tree need not be trusted.

        resolve: asked with (name, place) for every tensor the tree refers to; where `encode` had
        referred a numpy array, it must return something numpy.asarray accepts.
        Raises FormatError naming the place.
        """
        try:
            return Decoding(self._by_name, resolve).value(tree, where, 0)
        except RecursionError as error:
            raise FormatError("The tree is nested too deep to be read", where=where) from error


def _check(tag: Tag, by_name: Mapping[str, Tag], by_type: Mapping[type, Tag]) -> None:
    name = tag.name
    if not (0 < len(name) <= _NAME_CHARACTERS_MAX and name.isprintable()):
        raise ConfigError(
            f"A tag's name must have 1 to {_NAME_CHARACTERS_MAX} printable characters: {name!r}"
        )
    if name == "tensor" or name in by_name:
        raise ConfigError(f"The tag name {name!r} is taken", fix="give the tag a name of its own")
    if tag.type in _UNTAGGED or tag.type in by_type:
        raise ConfigError(
            f"The type {tag.type.__qualname__} already crosses without the tag {name!r}",
            fix="register each type once",
        )


@lru_cache(maxsize=1)
def _standard() -> Codec:
    return Codec(
        (
            *SCALAR_TAGS,
            *COLLECTION_TAGS,
            *TIME_TAGS,
            *PATH_TAGS,
            *NUMPY_SCALAR_TAGS,
            *ARRAY_TAGS,
        )
    )
