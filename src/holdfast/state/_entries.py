"""The state of an optimizer's parameters as JSON, made at one go where it has the usual form.

The codec would give the same tree. It is asked at every save for as many small dicts as there are
parameters while training waits, and nearly all are flat: names to tensors and plain numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from holdfast.codec import Crossed, is_plain_leaf
from holdfast.jsontext import Json
from holdfast.state._table import TensorTable

_ENTRIES_MAX = 100_000
_VALUES_EACH = 4


def cross_entries(entries: Mapping[Any, tuple[str, Any]], table: TensorTable) -> Crossed | None:
    """The tree of a dict from parameter id to state, and its tensors taken into the table.

    entries: id to (what stands before the names of its tensors, its state). None if there are none
    or any is of another form: then the codec itself must be asked, with a new table.
    """
    if not 0 < len(entries) <= _ENTRIES_MAX:
        return None
    pairs: list[Json] = []
    names: set[str] = set()
    count = 0
    for key, (prefix, entry) in entries.items():
        if type(key) is not int or not is_plain_leaf(key) or type(entry) is not dict:
            return None
        crossed: dict[str, Json] = {}
        for name, value in entry.items():
            if name not in names:
                if not _is_plain_name(name):
                    return None
                names.add(name)
            kind = type(value)
            if kind is Tensor or kind is nn.Parameter:
                crossed[name] = {"$": "tensor", "v": table.add(f"{prefix}.{name}", value)}
            elif is_plain_leaf(value):
                crossed[name] = value
            else:
                return None
        pairs.append([key, crossed])
        count += _VALUES_EACH * (1 + len(entry))
    return Crossed({"$": "dict", "v": pairs}, count)


def _is_plain_name(name: object) -> bool:
    """Whether a key stands for itself in JSON and no tag can be mistaken for it."""
    return type(name) is str and name.isascii() and name.isidentifier()
