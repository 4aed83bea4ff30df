"""Components read on their own, as the state dicts their objects would have returned."""

from __future__ import annotations

from typing import Any

import torch

from holdfast.session.source import CheckpointSource
from holdfast.state import plan_value

_CPU = torch.device("cpu")


def read_component(source: CheckpointSource, component: str, device: torch.device = _CPU) -> Any:
    """The state dict of a component, verified, in new tensors on `device`.

    Modules: FQN to tensor, tied names sharing one tensor. Optimizers: torch's own layout.
    Others: what their `state_dict()` had returned. Raises LoadError if bytes are damaged.
    """
    stored = source.stored(component)
    plan = plan_value(stored, device=device)
    tensors = {
        name: plan.targets[name] if name in plan.targets else facts.allocate(device)
        for name, facts in stored.tensors.items()
    }
    source.fill_fresh(component, tensors)
    plan.finish()
    value: Any = plan.value
    if stored.kind == "module":
        # What only extra state refers to is named by its path there; it is not in the state dict.
        private = {name for name in plan.targets if name.startswith("extra")}
        named = {name: tensor for name, tensor in tensors.items() if name not in private}
        ties = {alias: tensors[target] for alias, target in stored.aliases.items()}
        return named | ties | value["extra"]
    return value["state_dict"] if stored.kind == "optimizer" else value
