"""Which tensor file each tensor of a component goes to.

Modules and optimizers have a file each, all other objects share one. A module of which a large part
is frozen gets two, named and indexed as transformers shards a model: the frozen parameters, which
will be the same at the next save and are linked then, and everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from holdfast.jsontext import dump
from holdfast.manifest import OBJECTS_FILE
from holdfast.state import ComponentState

_SHARE_MIN = 0.25

Division: TypeAlias = "Mapping[str, Mapping[str, list[str]]]"
"""Stored names by file, by component, in the order in which they are written."""


def divide(components: Iterable[ComponentState], split_bytes: int | None) -> Division:
    """Decide for every tensor.

    split_bytes: a module's frozen parameters get a file of their own if they have at least that
    many bytes, and a quarter of all; None for never.
    """
    return {component.name: _files_of(component, split_bytes) for component in components}


def _files_of(component: ComponentState, split_bytes: int | None) -> dict[str, list[str]]:
    if not component.tensors:
        return {}
    if component.kind == "object":
        return {OBJECTS_FILE: list(component.tensors)}
    sizes = {name: tensor.nbytes for name, tensor in component.tensors.items()}
    frozen = [name for name in component.tensors if name in component.frozen]
    frozen_bytes = sum(sizes[name] for name in frozen)
    whole = len(frozen) in (0, len(sizes)) or split_bytes is None
    if whole or frozen_bytes < max(split_bytes or 0, _SHARE_MIN * sum(sizes.values())):
        return {f"{component.name}.safetensors": list(sizes)}
    return {
        f"{component.name}-00001-of-00002.safetensors": frozen,
        f"{component.name}-00002-of-00002.safetensors": [
            name for name in sizes if name not in component.frozen
        ],
    }


def shard_indexes(components: Iterable[ComponentState], files: Division) -> dict[str, bytes]:
    """The `*.safetensors.index.json` of each component in several files, by name.

    Its form is that of transformers: where each tensor is, and the bytes of all.
    """
    return {
        f"{component.name}.safetensors.index.json": dump(
            {
                "metadata": {"total_size": sum(t.nbytes for t in component.tensors.values())},
                "weight_map": {
                    name: file for file, names in files[component.name].items() for name in names
                },
            },
            indent=2,
        )
        + b"\n"
        for component in components
        if len(files[component.name]) > 1
    }
