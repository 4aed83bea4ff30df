"""A checkpoint that many ranks saved as one side of a comparison: tensors are put together whole.

The pieces of a tensor are proven to cover it; one tensor at a time and thread is held in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from holdfast.compare.held import held_reader
from holdfast.compare.stored import Part, Side, Stored
from holdfast.engine.open_checkpoint import OpenCheckpoint, open_checkpoint
from holdfast.jsontext import Json
from holdfast.state import StoredTensor
from holdfast.storage import LocalRun
from holdfast.tensorfile import dtype_name


def open_sharded(path: Path, facts: Mapping[str, Json]) -> Side:
    """Open a sharded checkpoint folder; what each rank kept for itself is rank 0's."""
    real = path.resolve()
    checkpoint = open_checkpoint(LocalRun(real.parent), real.name)
    try:
        parts = {name: _part(checkpoint, name) for name in checkpoint.manifest.components}
    except BaseException:
        checkpoint.close()
        raise
    return Side(str(path), "holdfast", parts, facts, checkpoint.close)


def _part(checkpoint: OpenCheckpoint, component: str) -> Part:
    stored = checkpoint.stored(component)
    prefix = f"{component}/" if stored.kind == "object" else ""
    tensors = {
        name.removeprefix(prefix): _stored(checkpoint, component, name, facts)
        for name, facts in stored.tensors.items()
    }
    return Part(component, stored.kind, tensors, stored.aliases, stored.tree)


def _stored(checkpoint: OpenCheckpoint, component: str, name: str, facts: StoredTensor) -> Stored:
    return Stored(
        str(facts.dtype).removeprefix("torch."),
        dtype_name(facts.dtype).name,
        facts.shape,
        math.prod(facts.shape) * facts.dtype.itemsize,
        held_reader(lambda: checkpoint.read(component, [name])[name]),
        f"{checkpoint.place}: {name[:200]}",
    )
