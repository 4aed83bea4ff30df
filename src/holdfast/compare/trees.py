"""Differences between tagged trees, told as paths. Without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.compare.records import TreeChange
from holdfast.jsontext import Json, dump

CHANGES_MAX = 100
_TEXT_MAX = 80
_LIST_MAX = 32
_MISSING = object()


def tree_changes(
    component: str, left: Json, right: Json, *, ignore: frozenset[str] = frozenset()
) -> tuple[list[TreeChange], int]:
    """Differences of two trees, and how many there are beyond the first hundred.

    ignore: keys at the top that are told elsewhere. Long lists are one value: which of 625 numbers
    of a random state differ helps nobody.
    """
    found: list[TreeChange] = []
    more = 0
    a, b = plain(left), plain(right)
    if isinstance(a, dict) and isinstance(b, dict):
        a = {key: value for key, value in a.items() if key not in ignore}
        b = {key: value for key, value in b.items() if key not in ignore}
    for path, before, after in _walk(a, b, ""):
        if len(found) < CHANGES_MAX:
            found.append(TreeChange(component, path, _text(before), _text(after)))
        else:
            more += 1
    return found, more


def plain(tree: Json) -> Any:
    """The tree with its tagged containers as dicts and lists, for comparing and showing."""
    if isinstance(tree, list):
        return [plain(entry) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    tag, payload = tree.get("$"), tree.get("v")
    if tag in ("dict", "OrderedDict", "Counter") and isinstance(payload, list):
        pairs = [pair for pair in payload if isinstance(pair, list) and len(pair) == 2]
        return {_key(key): plain(value) for key, value in pairs}
    if tag in ("tuple", "set", "frozenset") and isinstance(payload, list):
        return [plain(entry) for entry in payload]
    if tag == "tensor" and isinstance(payload, str):
        # The tensor itself is compared as one; that it stands here is all there is to say.
        return "a tensor"
    return {key: plain(value) for key, value in tree.items()}


def _walk(left: Any, right: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in dict.fromkeys((*left, *right)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _walk(left.get(key, _MISSING), right.get(key, _MISSING), inner)
    elif isinstance(left, list) and isinstance(right, list) and _short(left) and _short(right):
        for index in range(max(len(left), len(right))):
            yield from _walk(_at(left, index), _at(right, index), f"{path}[{index}]")
    elif not _same(left, right):
        yield path, left, right


def _same(left: Any, right: Any) -> bool:
    """Equal values; 15 and 15.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _short(values: list[Any]) -> bool:
    return len(values) <= _LIST_MAX


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else _MISSING


def _key(key: Json) -> str:
    return key if isinstance(key, str) else dump(key).decode()


def _text(value: Any) -> str | None:
    if value is _MISSING:
        return None
    if isinstance(value, list) and len(value) > _LIST_MAX:
        return f"a list of {len(value)}"
    if isinstance(value, Mapping) and len(value) > _LIST_MAX:
        return f"a dict of {len(value)}"
    text = dump(value).decode() if not isinstance(value, str) else value
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}… ({len(text)} characters)"
