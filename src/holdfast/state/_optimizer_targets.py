"""Where each tensor of an optimizer's state goes: memory it has, or where torch would put it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from holdfast.state._tree import Reference
from holdfast.state.component import StoredTensor
from holdfast.state.sharded import is_sharded, local_part, new_like

_CPU = torch.device("cpu")


def choose_targets(
    facts: Mapping[str, StoredTensor],
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    pairs: Mapping[Any, Any],
    parameters: Mapping[Any, Tensor],
) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Choose a target for each tensor that matched parameters or the groups refer to.

    Returns them by stored name, and the names of those in memory that nobody uses yet.
    facts: by stored name. saved: the saved state dict with a `Reference` for each tensor.
    current: the live one. pairs: saved parameter id to live id. parameters: by live id.
    """
    targets: dict[str, Tensor] = {}
    in_place: set[str] = set()
    # Memory that is a parameter's, or a target already, is not state that may be filled.
    taken = {local_part(parameter).data_ptr() for parameter in parameters.values()}
    groups = {index: group for group in saved["param_groups"] for index in group["params"]}
    for key, entry in saved["state"].items():
        if key in groups and key not in pairs:
            continue
        parameter = parameters[pairs[key]] if key in groups else None
        now = current["state"].get(pairs.get(key, key))
        for last, name, there in _references(entry, now, None):
            if name not in targets:
                device = _device(last, parameter, groups.get(key, {}), there)
                usable = _usable(there, facts[name], device, taken)
                if usable is None:
                    targets[name] = _fresh(facts[name], parameter, device)
                else:
                    targets[name] = usable
                    in_place.add(name)
                taken.add(local_part(targets[name]).data_ptr())
    for group, live_group in zip(saved["param_groups"], current["param_groups"], strict=True):
        # Options such as a tensor learning rate: small, and torch copies them anyway.
        for _, name, there in _references(group, live_group, None):
            if name not in targets:
                targets[name] = facts[name].allocate(_device(None, None, {}, there))
    return targets, frozenset(targets.keys() - in_place)


def _references(value: object, now: object, last: object) -> Iterator[tuple[object, str, object]]:
    """Every reference in a saved value: its innermost dict key, its name, what is there now."""
    if isinstance(value, Reference):
        yield last, value.name, now
    elif isinstance(value, Mapping):
        live = now if isinstance(now, Mapping) else {}
        for key, child in value.items():
            yield from _references(child, live.get(key), key)
    elif isinstance(value, (list, tuple)):
        items = now if isinstance(now, (list, tuple)) and len(now) == len(value) else ()
        for index, child in enumerate(value):
            yield from _references(child, items[index] if items else None, None)


def _device(
    last: object, parameter: Tensor | None, group: Mapping[str, Any], there: object
) -> torch.device:
    """The rule of `torch.optim.Optimizer.load_state_dict`; what is no parameter's stays put."""
    if parameter is None:
        return there.device if isinstance(there, Tensor) else _CPU
    if last == "step" and not (group.get("fused") or group.get("capturable")):
        return _CPU
    return parameter.device


def _usable(
    there: object, facts: StoredTensor, device: torch.device, taken: set[int]
) -> Tensor | None:
    """The live tensor if it may be filled in place. taken: addresses of memory that may not."""
    if isinstance(there, Tensor) and is_sharded(there):
        fits = there.dtype == facts.dtype and there.shape == facts.shape
        return there.detach() if fits else None
    if type(there) is not Tensor or there.is_meta or there.layout is not torch.strided:
        return None
    if there.dtype != facts.dtype or there.shape != facts.shape or there.device != device:
        return None
    if there.data_ptr() in taken and there.numel() > 0:
        return None
    return there.detach() if there.requires_grad else there


def _fresh(facts: StoredTensor, parameter: Tensor | None, device: torch.device) -> Tensor:
    """New memory; for state of a sharded parameter's own shape, sharded as the parameter is."""
    if parameter is not None and is_sharded(parameter) and parameter.shape == facts.shape:
        return new_like(parameter, facts.dtype)
    return facts.allocate(device)
