"""Whether a saved optimizer state is one: found out before anything live is written."""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from holdfast.errors import FormatError
from holdfast.state._tree import Reference

_PLAIN_INT_MAX = 1 << 53
_CONTAINERS = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)


def check_form(tree: Mapping[str, Any], where: str) -> None:
    """Check that a tree is laid out as `torch.optim.Optimizer.state_dict` lays it out.

    Raises FormatError saying which part is not.
    """
    state_dict = tree.get("state_dict")
    if not isinstance(state_dict, dict):
        raise _wrong("it holds no state dict", where)
    state, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(state, dict) or not isinstance(groups, list):
        raise _wrong("its state dict lacks state or param_groups", where)
    for group in groups:
        ids = group.get("params") if isinstance(group, dict) else None
        if not isinstance(ids, list) or not all(isinstance(index, (int, str)) for index in ids):
            raise _wrong("a parameter group does not list its parameters", where)
        names = group.get("param_names", ids)
        if not isinstance(names, list) or len(names) != len(ids):
            raise _wrong("a parameter group names other parameters than it lists", where)
    known = [index for group in groups for index in group["params"]]
    if len(set(known)) != len(known):
        raise _wrong("a parameter stands twice in its groups", where)
    for index, entry in state.items():
        if not isinstance(entry, dict) and index in known:
            raise _wrong(f"the state of parameter {index} is no dict", where)
        _check_values(entry, where)


def check_members(rows: object, where: str) -> None:
    """Check the list of names, shapes and dtypes that stands beside the state dict."""
    for group in rows if isinstance(rows, list) else [None]:
        for row in group if isinstance(group, list) else [None]:
            if not _is_member(row):
                raise _wrong("its parameters are not listed by name, shape and dtype", where)


def rehearse(optimizer: Optimizer, saved: Mapping[str, Any], where: str) -> None:
    """Let a copy of a torch optimizer take one entry of every form among the saved ones.

    The optimizer's own loader is the only one to know what it needs, and it looks only when
    tensors are being written already. Others than torch's own may not bear to be copied.
    Raises FormatError if it refuses.
    """
    if not type(optimizer).__module__.startswith("torch.optim."):
        return
    entries = {_form(entry): entry for entry in saved["state"].values() if isinstance(entry, dict)}
    parameters = [torch.empty(0, device="meta") for _ in entries]
    understudy = copy.copy(optimizer)
    understudy.state = defaultdict(dict)
    for group in saved["param_groups"]:
        understudy.param_groups = [{**optimizer.defaults, "params": parameters}]
        packed = {**group, "params": list(range(len(entries)))}
        packed.pop("param_names", None)
        state = dict(enumerate(_with_stand_ins(entry) for entry in entries.values()))
        try:
            understudy.load_state_dict(_with_stand_ins({"state": state, "param_groups": [packed]}))
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise _wrong(f"{type(optimizer).__name__} refuses it: {error!r}", where) from error
        except RuntimeError as error:
            raise _wrong(f"{type(optimizer).__name__} refuses it: {error}", where) from error


def _wrong(what: str, where: str) -> FormatError:
    return FormatError(f"The saved optimizer state cannot be one: {what}", where=where)


def _check_values(value: object, where: str) -> None:
    """torch rebuilds every iterable item by item: refuse those that this cannot rebuild."""
    if isinstance(value, Mapping):
        for item in value.values():
            _check_values(item, where)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_values(item, where)
    elif isinstance(value, Iterable) and not isinstance(value, _CONTAINERS):
        raise _wrong(f"it holds a {type(value).__name__}", where)


def _is_member(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and (row[0] is None or isinstance(row[0], str))
        and isinstance(row[1], list)
        and all(type(size) is int and 0 <= size < 1 << 63 for size in row[1])
        and isinstance(row[2], str)
    )


def _form(value: object) -> object:
    """What a loader may tell two values apart by, short of the numbers in them."""
    if isinstance(value, Mapping):
        return tuple((repr(key), _form(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_form, value))
    if isinstance(value, (Reference, float)) or (
        isinstance(value, int) and abs(value) <= _PLAIN_INT_MAX
    ):
        return type(value)
    return type(value), value if isinstance(value, int) else repr(value)


def _with_stand_ins(value: Any) -> Any:
    """A copy with an empty tensor for each reference."""
    if isinstance(value, Reference):
        return torch.empty(0, device="meta")
    if isinstance(value, dict):
        return {key: _with_stand_ins(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_with_stand_ins, value))
    return value
