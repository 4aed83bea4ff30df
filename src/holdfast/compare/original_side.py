"""A `.pt` file as one side of a comparison: restricted unpickling, data mapped and not copied."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from holdfast.compare.held import held_reader
from holdfast.compare.stored import Part, Side, Stored
from holdfast.compare.trees import plain
from holdfast.engine.original import read_original
from holdfast.jsontext import Json
from holdfast.session.original import original_components
from holdfast.tensorfile import dtype_name

_FACTS = ("epoch", "global_step", "metrics")


def open_original(path: Path) -> Side:
    """Open a file of the original layout, or a bare state dict. Raises LoadError."""
    components = original_components(read_original(path, mapped=True), str(path))
    parts = {
        state.name: Part(
            state.name,
            state.kind,
            {
                name.removeprefix(f"{state.name}/"): _stored(name, tensor, str(path))
                for name, tensor in state.tensors.items()
            },
            state.aliases,
            state.tree,
        )
        for state in components
    }
    run = plain(parts["run"].tree) if "run" in parts else {}
    facts: dict[str, Json] = {key: run[key] for key in _FACTS if key in run}
    return Side(str(path), "original", parts, facts)


def _stored(name: str, tensor: Tensor, where: str) -> Stored:
    stored_as = dtype_name(tensor.dtype)
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Stored(
        dtype,
        stored_as.name,
        tuple(tensor.shape),
        tensor.nbytes,
        held_reader(lambda: tensor),
        f"{where}: {name[:200]}",
    )
