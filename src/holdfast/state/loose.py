"""Component states from state dicts alone, when the objects they came from are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from holdfast.state._table import TensorTable
from holdfast.state.capture import capture_object
from holdfast.state.component import ComponentState
from holdfast.state.renames import strip_wrapper_prefixes
from holdfast.state.torch_tags import torch_codec


def component_of_module_state(name: str, state: Mapping[str, Any]) -> ComponentState:
    """A module component from its state dict; prefixes that wrappers add to every name are cut.

    Raises UnsavableError naming what cannot be saved.
    """
    table = TensorTable(name)
    aliases: dict[str, str] = {}
    others: dict[str, object] = {}
    for fqn, value in strip_wrapper_prefixes(state).items():
        if not isinstance(value, Tensor):
            others[fqn] = value
        elif (stored := table.add(fqn, value)) != fqn:
            aliases[fqn] = stored
    tree = torch_codec().encode({"extra": others, "versions": {}}, where=name, refer=table.refer)
    return ComponentState(name, "module", tree, table.tensors, aliases)


def component_of_optimizer_state(name: str, state: Mapping[str, Any]) -> ComponentState:
    """An optimizer component from its state dict, without names: it is matched by order."""
    table = TensorTable(name)
    tree = torch_codec().encode({"state_dict": dict(state)}, where=name, refer=table.refer)
    return ComponentState(name, "optimizer", tree, table.tensors)


def component_of_original_rng(name: str, states: Mapping[str, Any]) -> ComponentState:
    """The random streams of the original layout: keys `python`, `numpy`, `torch` and `cuda`."""
    streams: dict[str, dict[str, object]] = {}
    kinds = {"python": "python.Random", "numpy": "numpy.MT19937", "torch": "torch.cpu"}
    for key, kind in kinds.items():
        if states.get(key) is not None:
            stream = "torch:cpu" if key == "torch" else key
            streams[stream] = {"kind": kind, "state": states[key]}
    cuda = states.get("cuda")
    for index, state in enumerate(
        [] if cuda is None else [cuda] if isinstance(cuda, Tensor) else cuda
    ):
        streams[f"torch:cuda:{index}"] = {"kind": "torch.cuda", "state": state}
    return capture_object(name, streams)
