"""Every leaf of a JSON document replaced, every key dropped, renamed or doubled."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

Place = tuple[Any, ...]

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e\r\n\x00name"
HOSTILE: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "one": 1,
    "beyond 64 bits": 2**63,
    "600 digits": 10**600,
    "float": 1.5,
    "1e308": 1e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "empty text": "",
    "traversal": "../../secret",
    "absolute": "/dev/zero",
    "escapes": ESCAPES,
    "surrogate": "\ud800",
    "long text": "A" * 5000,
    "empty list": [],
    "list": [[], {}, 1, "x"],
    "empty object": {},
    "object": {"$": 1, "file": None},
    "unknown tag": {"$": "os.system", "v": ["true"]},
    "tensor to nowhere": {"$": "tensor", "v": "nowhere"},
    "tensor of another": {"$": "tensor", "v": "run/extra_state.mask"},
    "parameter of another": {"$": "tensor", "v": "embed.weight"},
    "huge array": {
        "$": "ndarray",
        "v": {"dtype": "<f8", "shape": [1 << 40], "order": "C", "data": ""},
    },
    "nothing of huge": {
        "$": "ndarray",
        "v": {"dtype": "|S999999999", "shape": [0, 1 << 53], "order": "C", "data": ""},
    },
    "huge range": {"$": "range", "v": [0, 1 << 53, 1]},
    "long integer": {"$": "int", "v": "0x" + "f" * 60_000},
    "infinite": {"$": "float", "v": "inf"},
    "not a number": {"$": "float", "v": "nan:7ff8000000000000"},
    "bytes": {"$": "bytes", "v": "AAAA"},
    "set of lists": {"$": "set", "v": [[1]]},
    "dict of lists": {"$": "dict", "v": [[[1], 2]]},
    "deep": json.loads("[" * 60 + "]" * 60),
}


def leaves(value: object, path: Place = (), longest: int = 6) -> Iterator[Place]:
    """The place of every leaf and of every container; of long lists the ends only."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key), longest)
    elif isinstance(value, list):
        chosen = range(len(value))
        for index in [*chosen[: longest - 1], *chosen[-1:]] if len(value) > longest else chosen:
            yield from leaves(value[index], (*path, index), longest)


def keys(value: object) -> Iterator[Place]:
    """The place of every key."""
    return (path for path in leaves(value) if isinstance(path[-1], str))


def at(document: Any, path: Place) -> Any:
    """What stands at a place."""
    for part in path:
        document = document[part]
    return document


def replaced(document: Any, path: Place, value: object) -> Any:
    """A copy with another value at the place."""
    changed = copy.deepcopy(document)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def dropped(document: Any, path: Place) -> Any:
    """A copy without the entry at the place."""
    changed = copy.deepcopy(document)
    del at(changed, path[:-1])[path[-1]]
    return changed


def renamed(document: Any, path: Place, name: str) -> Any:
    """A copy whose entry at the place has another key, in the same order."""
    changed = copy.deepcopy(document)
    holder = at(changed, path[:-1])
    entries = [(name if key == path[-1] else key, item) for key, item in holder.items()]
    holder.clear()
    holder.update(entries)
    return changed


def doubled(document: Any, path: Place) -> bytes:
    """JSON text in which the key at the place stands twice in its object."""
    marker = "7f3a-doubled-key"
    changed = copy.deepcopy(document)
    holder = at(changed, path[:-1])
    holder[marker] = holder[path[-1]]
    return json.dumps(changed).replace(f'"{marker}"', json.dumps(path[-1])).encode()
