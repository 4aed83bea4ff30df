"""Python's own collections, where JSON alone would not bring them back."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from holdfast import jsontext
from holdfast.codec._encode import INT_MAX
from holdfast.codec._payload import want_fields, want_int, want_list
from holdfast.codec._place import at_key
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag
from holdfast.errors import UnsavableError
from holdfast.jsontext import Json

_SAME_HASH_MAX = 100
_FACTORIES = {kind.__name__: kind for kind in (int, float, list, dict, set, str, tuple)}
_FACTORY_NAMES = {kind: name for name, kind in _FACTORIES.items()}


def _check_hashes(keys: Iterable[object]) -> None:
    """Refuse keys made to share a hash: a dict of n of them takes n * n steps to build."""
    counts = Counter(map(hash, keys))
    if counts and max(counts.values()) > _SAME_HASH_MAX:
        raise ValueError(f"over {_SAME_HASH_MAX} of its keys or members have the same hash")


def _encode_pairs(value: Mapping[object, object], child: EncodeChild) -> list[Json]:
    """[[key, value], ...] in the dict's own order."""
    _check_hashes(value)
    return [
        [child.key(key, f"[key #{position}]"), child(item, at_key(key, position))]
        for position, (key, item) in enumerate(list(value.items()))
    ]


def _decode_pairs(payload: Json, child: DecodeChild) -> dict[Any, Any]:
    pairs = [want_list(pair, 2) for pair in want_list(payload)]
    keys = [child.key(key_tree, f"[key #{index}]") for index, (key_tree, _) in enumerate(pairs)]
    _check_hashes(keys)
    result: dict[Any, Any] = {}
    for position, (key, (_, item_tree)) in enumerate(zip(keys, pairs, strict=True)):
        if key in result:
            raise ValueError(f"the key of pair {position} equals an earlier one")
        result[key] = child(item_tree, at_key(key, position))
    return result


def _decode_ordered_dict(payload: Json, child: DecodeChild) -> OrderedDict[Any, Any]:
    return OrderedDict(_decode_pairs(payload, child))


def _decode_counter(payload: Json, child: DecodeChild) -> Counter[Any]:
    return Counter(_decode_pairs(payload, child))


def _encode_defaultdict(value: defaultdict[Any, Any], child: EncodeChild) -> Json:
    factory: Any = value.default_factory
    if factory is not None and factory not in _FACTORIES.values():
        raise UnsavableError(
            "A defaultdict whose factory is not one of the built-in types cannot be saved",
            fix=f"use one of None, {', '.join(_FACTORIES)} as its factory, or convert it to a dict",
        )
    name = None if factory is None else _FACTORY_NAMES[factory]
    return {"factory": name, "items": _encode_pairs(value, child)}


def _decode_defaultdict(payload: Json, child: DecodeChild) -> defaultdict[Any, Any]:
    fields = want_fields(payload, "factory", "items")
    name = fields["factory"]
    if name is not None and name not in _FACTORIES:
        raise ValueError("its factory is not one of the built-in types")
    factory: Any = None if name is None else _FACTORIES[name]
    return defaultdict(factory, _decode_pairs(fields["items"], child))


def _decode_tuple(payload: Json, child: DecodeChild) -> tuple[Any, ...]:
    return tuple(child(want_list(payload)))


def _encode_set(value: set[object] | frozenset[object], child: EncodeChild) -> Json:
    """The members in the order of their JSON text, so that equal sets give equal files."""
    _check_hashes(value)
    members = [child.key(member, "{member}") for member in value]
    return sorted(members, key=jsontext.dump)


def _decode_members(payload: Json, child: DecodeChild) -> list[Any]:
    return [child.key(member, "{member}") for member in want_list(payload)]


def _decode_set(payload: Json, child: DecodeChild) -> set[Any]:
    members = _decode_members(payload, child)
    _check_hashes(members)
    result = set(members)
    if len(result) != len(members):
        raise ValueError("two members are equal")
    return result


def _decode_frozenset(payload: Json, child: DecodeChild) -> frozenset[Any]:
    return frozenset(_decode_set(payload, child))


def _encode_deque(value: deque[object], child: EncodeChild) -> Json:
    return {"maxlen": value.maxlen, "items": child.each(value)}


def _decode_deque(payload: Json, child: DecodeChild) -> deque[Any]:
    fields = want_fields(payload, "maxlen", "items")
    maxlen = fields["maxlen"]
    items = child(want_list(fields["items"]))
    if maxlen is not None and not len(items) <= want_int(maxlen) <= INT_MAX:
        raise ValueError(f"the maxlen {maxlen} does not fit its {len(items)} items")
    return deque(items, maxlen)


def _encode_slice(value: Any, child: EncodeChild) -> Json:
    return [
        child(value.start, ".start"),
        child(value.stop, ".stop"),
        child(value.step, ".step"),
    ]


def _decode_slice(payload: Json, child: DecodeChild) -> slice:
    start, stop, step = want_list(payload, 3)
    return slice(child(start, ".start"), child(stop, ".stop"), child(step, ".step"))


def _decode_range(payload: Json, child: DecodeChild) -> range:
    start, stop, step = (want_int(child(part)) for part in want_list(payload, 3))
    return range(start, stop, step)


COLLECTION_TAGS = (
    Tag("tuple", tuple, lambda value, child: child.each(value), _decode_tuple),
    Tag("dict", dict, _encode_pairs, _decode_pairs),
    Tag("OrderedDict", OrderedDict, _encode_pairs, _decode_ordered_dict),
    Tag("Counter", Counter, _encode_pairs, _decode_counter),
    Tag("defaultdict", defaultdict, _encode_defaultdict, _decode_defaultdict),
    Tag("set", set, _encode_set, _decode_set),
    Tag("frozenset", frozenset, _encode_set, _decode_frozenset),
    Tag("deque", deque, _encode_deque, _decode_deque),
    Tag("slice", slice, _encode_slice, _decode_slice),
    Tag("range", range, _encode_slice, _decode_range),
)
