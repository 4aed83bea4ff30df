"""From tagged JSON back to Python values; the tree is not trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from holdfast import jsontext
from holdfast.codec._encode import INT_MAX, REFUSALS
from holdfast.codec._place import at_key
from holdfast.codec._tag import Tag
from holdfast.errors import FormatError
from holdfast.jsontext import Json

Resolve: TypeAlias = Callable[[str, str], object]


class Decoding:
    """One decoding under way."""

    __slots__ = ("_resolve", "_tags")

    def __init__(self, tags: Mapping[str, Tag], resolve: Resolve | None) -> None:
        self._tags = tags
        self._resolve = resolve

    def value(self, tree: Json, path: str, depth: int, *, in_key: bool = False) -> Any:
        """Cross one tree found at `path` back, `depth` levels below the root."""
        kind = type(tree)
        if kind is str or is_leaf(tree):
            return tree
        if depth >= jsontext.MAX_DEPTH:
            raise FormatError(
                f"The tree is nested over {jsontext.MAX_DEPTH} deep, the limit", where=path
            )
        if kind is list:
            return [
                item
                if is_leaf(item)
                else self.value(item, f"{path}[{index}]", depth + 1, in_key=in_key)
                for index, item in enumerate(tree)  # type: ignore[arg-type]
            ]
        if kind is not dict:
            raise FormatError(f"Not a value of strict JSON: {_shown(tree)}", where=path)
        if "$" in tree:  # type: ignore[operator]
            return self._tagged(tree, path, depth + 1, in_key=in_key)  # type: ignore[arg-type]
        return self._plain_dict(tree, path, depth + 1, in_key=in_key)  # type: ignore[arg-type]

    def _plain_dict(
        self, tree: dict[str, Json], path: str, depth: int, *, in_key: bool
    ) -> dict[str, object]:
        result: dict[str, object] = {}
        for position, (key, item) in enumerate(tree.items()):
            if type(key) is not str or key[:1] == "$":
                raise FormatError(f"The key {_shown(key)} is reserved for tags", where=path)
            if is_leaf(item):
                result[key] = item
            else:
                inner = path + at_key(key, position)
                result[key] = self.value(item, inner, depth, in_key=in_key)
        return result

    def _tagged(self, tree: dict[str, Json], path: str, depth: int, *, in_key: bool) -> Any:
        name = tree["$"]
        if type(name) is not str or len(tree) != 2 or "v" not in tree:
            raise FormatError('A tagged value must be {"$": its tag, "v": its payload}', where=path)
        if name == "tensor":
            return self._reference(tree["v"], path, in_key=in_key)
        tag = self._tags.get(name)
        if tag is None:
            raise FormatError(
                f"The tag {_shown(name)} is not known",
                where=path,
                fix="load with a codec extended by the tag that wrote this value, "
                "or with a newer holdfast",
            )
        try:
            return tag.decode(tree["v"], _Child(self, path, depth, in_key))
        except FormatError as error:
            if error.where is not None:
                raise
            raise FormatError(error.what, where=path, fix=error.fix) from error
        except REFUSALS as error:
            raise FormatError(
                f"The payload of the tag {name!r} is malformed: {error}", where=path
            ) from error

    def _reference(self, name: Json, path: str, *, in_key: bool) -> object:
        if type(name) is not str:
            raise FormatError("A reference to a tensor must be its name", where=path)
        if in_key:
            raise FormatError("A dict key or set member may not be a tensor", where=path)
        if self._resolve is None:
            raise FormatError(
                f"The tree refers to the tensor {_shown(name)}, and none were given", where=path
            )
        return self._resolve(name, path)


class _Child:
    """The `DecodeChild` handed to a tag."""

    __slots__ = ("_decoding", "_depth", "_in_key", "_path")

    def __init__(self, decoding: Decoding, path: str, depth: int, in_key: bool) -> None:
        self._decoding = decoding
        self._path = path
        self._depth = depth
        self._in_key = in_key

    def __call__(self, tree: Json, at: str = "", /) -> Any:
        return self._decoding.value(tree, self._path + at, self._depth, in_key=self._in_key)

    def key(self, tree: Json, at: str = "", /) -> Any:
        return self._decoding.value(tree, self._path + at, self._depth, in_key=True)


def is_leaf(tree: object) -> bool:
    """Whether a tree other than a string stands for itself."""
    kind = type(tree)
    if kind is int:
        return -INT_MAX <= tree <= INT_MAX  # type: ignore[operator]
    if kind is float:
        return math.isfinite(tree)  # type: ignore[arg-type]
    return tree is None or kind is bool


def _shown(value: object) -> str:
    if type(value) is int and abs(value) > INT_MAX:
        return f"an integer beyond {INT_MAX} without its tag"
    text = repr(value) if isinstance(value, (str, float)) else f"a {type(value).__qualname__}"
    return text if len(text) <= 80 else text[:77] + "..."
