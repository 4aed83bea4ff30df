"""How much each layer changed between the kept checkpoints: the one part that reads tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from holdfast.engine.catalog import Entry, read_catalog
from holdfast.engine.open_checkpoint import OpenCheckpoint, open_checkpoint
from holdfast.errors import HoldfastError
from holdfast.report.text import clean, size
from holdfast.report.values import Change
from holdfast.state import StoredTensor
from holdfast.storage import LocalRun
from holdfast.storage.protocol import RunStorage

MODEL = "model"
READ_BYTES_MAX = 1 << 30
_CHECKPOINTS_MAX = 16
_LAYERS_MAX = 40
_CHUNK = 1 << 20


def measure_changes(
    run: Path, *, read_bytes_max: int = READ_BYTES_MAX
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Relative L2 change of each layer between neighbouring kept checkpoints, and notes.

    sqrt(sum of squared differences) / sqrt(sum of squared earlier weights), in float64 over the
    floating tensors of a layer; tensors of equal digest are not compared. A layer is a submodule,
    as deep as leaves at most forty. At most the last sixteen checkpoints, and of those so many
    that no more than `read_bytes_max` are read: what is left out is said in a note. Memory: two
    tensors and small buffers. A checkpoint that cannot be read ends it, with a note.
    """
    storage = LocalRun(run)
    entries = [e for e in read_catalog(storage).entries if MODEL in e.manifest.components]
    chosen = _affordable(entries[-_CHECKPOINTS_MAX:], read_bytes_max)
    notes = []
    if len(entries) > 1 and len(chosen) < 2:
        return (), (
            f"Changes of layers are not drawn: comparing two checkpoints would read over "
            f"{size(read_bytes_max)}. `holdfast diff` compares them.",
        )
    if len(chosen) < len(entries):
        notes.append(f"Changes of layers are drawn for the last {len(chosen)} checkpoints only.")
    changes: list[Change] = []
    try:
        for earlier, later in pairwise(chosen):
            changes += _between(storage, earlier, later)
    except HoldfastError as error:
        notes.append(f"Changes of layers are incomplete: {clean(error.what)}.")
    return tuple(changes), tuple(notes)


def _affordable(entries: Sequence[Entry], read_bytes_max: int) -> list[Entry]:
    """The newest of them whose comparison stays within the limit, oldest first."""
    chosen: list[Entry] = []
    left = float(read_bytes_max)
    for entry in reversed(entries):
        # Each is read with the one before it and with the one after it.
        left -= entry.manifest.components[MODEL].bytes * (2 if chosen else 1)
        if left < 0:
            break
        chosen.append(entry)
    return chosen[::-1]


def _between(storage: RunStorage, earlier: Entry, later: Entry) -> Iterator[Change]:
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(open_checkpoint(storage, earlier.name))
        new = stack.enter_context(open_checkpoint(storage, later.name))
        before, after = old.stored(MODEL).tensors, new.stored(MODEL).tensors
        shared = [name for name, facts in before.items() if _comparable(facts, after.get(name))]
        for layer, names in _layers(shared).items():
            if all(before[name].digest == after[name].digest for name in names):
                relative: float | None = 0.0
            else:
                relative = _relative(old, new, names)
            yield Change(
                clean(layer, 120),
                earlier.manifest.global_step,
                later.manifest.global_step,
                relative,
            )


def _comparable(old: StoredTensor, new: StoredTensor | None) -> bool:
    return (
        new is not None
        and old.shape == new.shape
        and old.dtype.is_floating_point
        and new.dtype.is_floating_point
    )


def _layers(names: Iterable[str]) -> dict[str, list[str]]:
    """Tensors by submodule: as deep as leaves at most forty of them."""
    owners = {name: name.split(".")[:-1] or [name] for name in names}
    depth = max((len(parts) for parts in owners.values()), default=1)
    while True:
        grouped: dict[str, list[str]] = {}
        for name, parts in owners.items():
            grouped.setdefault(".".join(parts[:depth]), []).append(name)
        if len(grouped) <= _LAYERS_MAX or depth == 1:
            return dict(list(grouped.items())[:_LAYERS_MAX])
        depth -= 1


def _relative(old: OpenCheckpoint, new: OpenCheckpoint, names: Sequence[str]) -> float | None:
    changed = norm = 0.0
    for name in names:
        first = old.read(MODEL, [name])[name].reshape(-1)
        second = new.read(MODEL, [name])[name].reshape(-1)
        for begin in range(0, first.numel(), _CHUNK):
            wide = first[begin : begin + _CHUNK].to(torch.float64)
            changed += _square(second[begin : begin + _CHUNK].to(torch.float64) - wide)
            norm += _square(wide)
    if not (math.isfinite(changed) and math.isfinite(norm)):
        return None
    return math.sqrt(changed / norm) if norm else (0.0 if changed == 0.0 else None)


def _square(values: Tensor) -> float:
    return float(values.square().sum())
