"""Objects to `ComponentState`: what a checkpoint keeps of a module, an optimizer, any object.

Nothing here changes the object captured or runs a step of it, and no tensor is copied: the result
holds views of the live memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.codec import Codec
from holdfast.state._entries import cross_entries
from holdfast.state._groups import describe, is_torch_layout, live_parameters
from holdfast.state._module_state import ModuleState, module_state
from holdfast.state._regions import region
from holdfast.state._table import TensorTable, tensors_within
from holdfast.state.component import ComponentState
from holdfast.state.displaced import training_tensors
from holdfast.state.names import CanonicalNames
from holdfast.state.torch_tags import torch_codec


def capture_module(
    name: str,
    module: nn.Module,
    codec: Codec | None = None,
    *,
    values: Mapping[str, Tensor] | None = None,
    further: Mapping[str, object] | None = None,
    state: ModuleState | None = None,
) -> ComponentState:
    """Capture a module's state dict under its FQNs, wrappers left out.

    While an average is swapped in, the training weights are captured: see `displaced`. values:
    tensors to store instead, by FQN. further: plain values to add to the tree. state: what
    `module_state` has just found of the module, where it was asked already.

    Tensors are stored once per memory region, tied ones under the first name of the state dict,
    the others as aliases. What is not a tensor (`get_extra_state`) goes into the tree, with the
    versions of submodules that are not 1. Buffers that are not persistent are not part of it.
    Raises UnsavableError naming the FQN of what cannot be saved.
    """
    state = state or module_state(module)
    table = TensorTable(name)
    aliases: dict[str, str] = {}
    others: dict[str, object] = {}
    training = training_tensors()
    for fqn, value in state.values.items():
        if not isinstance(value, Tensor):
            others[fqn] = value
            continue
        instead = training.get(region(value), value) if training else value
        if values is not None:
            instead = values.get(fqn, instead)
        stored = table.add(fqn, instead, value)
        if stored != fqn:
            aliases[fqn] = stored
    whole = {"extra": others, "versions": _versions(module, state), **(further or {})}
    tree = (codec or torch_codec()).encode(whole, where=name, refer=table.refer)
    frozen = frozenset(
        fqn
        for fqn, parameter in state.parameters.items()
        if not parameter.requires_grad and fqn in table.tensors
    )
    return ComponentState(
        name,
        "module",
        tree,
        table.tensors,
        aliases,
        frozen,
        table.placed,
        frozenset(stored for stored in table.tensors if stored not in state.parameters),
    )


def capture_optimizer(
    name: str,
    optimizer: Optimizer,
    names: Mapping[Tensor, str],
    codec: Codec | None = None,
) -> ComponentState:
    """Capture an optimizer's own state dict, together with the names of its parameters.

    names: FQN by parameter object, as `parameter_names` gives them. The tree holds
    {"state_dict": as the optimizer returned it, integer keys kept, "parameters": per group the
    name (or None), shape and dtype of each parameter}; tensors are named `state.<FQN>.<key>`, or
    `state.<index>.<key>` where the FQN is unknown. An optimizer whose state dict has a layout of
    its own is captured all the same, without names.
    Raises UnsavableError naming the path of what cannot be saved.
    """
    state = optimizer.state_dict()
    tree: dict[str, Any] = {"state_dict": state}
    wanted: dict[int, str] = {}
    table = TensorTable(name, wanted)
    if is_torch_layout(state, optimizer):
        tree["parameters"] = describe(optimizer, names)
        indexed = live_parameters(state, optimizer)
        entries = {
            key: (f"state.{names.get(indexed[key], key) if key in indexed else key}", entry)
            for key, entry in state["state"].items()
        }
        crossed = cross_entries(entries, table)
        if crossed is not None:
            tree["state_dict"] = {**state, "state": crossed}
        else:
            table = TensorTable(name, wanted)
            for prefix, entry in entries.values():
                wanted.update((id(tensor), path) for path, tensor in tensors_within(entry, prefix))
        for path, tensor in tensors_within(state["param_groups"], "param_groups"):
            wanted[id(tensor)] = path
    encoded = (codec or torch_codec()).encode(tree, where=name, refer=table.refer)
    return ComponentState(name, "optimizer", encoded, table.tensors, placed=table.placed)


def capture_object(name: str, obj: object, codec: Codec | None = None) -> ComponentState:
    """Capture what `obj.state_dict()` returns, or `obj` itself if it has no such method.

    Tensors inside are stored by reference as `<name>/<path>`, since objects share a file;
    everything else must be of a type the codec knows. Raises UnsavableError naming the path of
    what is not.
    """
    method = getattr(obj, "state_dict", None)
    value = method() if callable(method) else obj
    table = TensorTable(name, prefix=f"{name}/")
    tree = (codec or torch_codec()).encode(value, where=name, refer=table.refer)
    return ComponentState(name, "object", tree, table.tensors, placed=table.placed)


def _versions(module: nn.Module, state: ModuleState) -> dict[str, object]:
    """Submodule FQN to its local metadata, where that is more than the usual version 1."""
    canonical = CanonicalNames(module)
    return {
        canonical.of_module(raw): dict(local)
        for raw, local in state.metadata.items()
        if local.get("version", 1) != 1 or len(local) > 1
    }
