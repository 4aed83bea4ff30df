"""How much each layer changed between the kept checkpoints: the one part that reads tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from holdfast.compare import Comparison, Numbers, compare
from holdfast.engine.catalog import Entry, read_catalog
from holdfast.errors import HoldfastError
from holdfast.report.text import clean, size
from holdfast.report.values import Change
from holdfast.storage import LocalRun

MODEL = "model"
READ_BYTES_MAX = 1 << 30
_CHECKPOINTS_MAX = 16
_LAYERS_MAX = 40
_DEPTH_MAX = 12


def measure_changes(
    run: Path, *, read_bytes_max: int = READ_BYTES_MAX
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Relative L2 change of each layer between neighbouring kept checkpoints, and notes.

    As `holdfast.compare` measures it, over the tensors of a layer that changed. A layer is a
    submodule, as deep as leaves at most forty. At most the last sixteen checkpoints, and of those
    so many that no more than `read_bytes_max` are read: what is left out is said in a note. A
    checkpoint that cannot be read ends it, with a note.
    """
    entries = [e for e in read_catalog(LocalRun(run)).entries if MODEL in e.manifest.components]
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
    depth: int | None = None
    try:
        for earlier, later in pairwise(chosen):
            found = compare(run / earlier.name, run / later.name, components=[MODEL])
            depth = _depth(found) if depth is None else depth
            changes += _changes(found, depth, earlier, later)
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


def _depth(found: Comparison) -> int:
    """How deep layers may be told apart without there being too many."""
    depths = range(_DEPTH_MAX, 1, -1)
    return next((d for d in depths if len(found.modules(d)) <= _LAYERS_MAX), 1)


def _changes(found: Comparison, depth: int, earlier: Entry, later: Entry) -> Iterator[Change]:
    steps = (earlier.manifest.global_step, later.manifest.global_step)
    for module in found.modules(depth)[:_LAYERS_MAX]:
        yield Change(clean(module.name or MODEL, 120), *steps, _relative(module.numbers))


def _relative(numbers: Numbers) -> float | None:
    odd = numbers.nan_left + numbers.nan_right + numbers.inf_left + numbers.inf_right
    relative = numbers.relative_l2
    return relative if odd == 0 and math.isfinite(relative) else None
