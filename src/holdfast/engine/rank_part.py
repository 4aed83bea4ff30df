"""What one rank writes of a captured session: of each tensor the piece that is its to store.

Every rank works this out alone, from shapes, placements and ranks, and all come to the same
division: nothing is sent, and no tensor ever lies whole on one rank that did not have it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

from holdfast.coordination import Operation
from holdfast.engine.boxes import Box
from holdfast.engine.windows import narrowed
from holdfast.state import ComponentState

_SPLIT_BYTES = 1 << 20

Siblings: TypeAlias = "Mapping[tuple[int, ...], Collection[tuple[int, ...]]]"
"""By mesh of this rank: the meshes on which other ranks have the same tensors."""


@dataclass(frozen=True)
class Agreed:
    """What all ranks agreed on before one save, and this rank's share of it.

    operation: goes on until the save is committed or has failed. per_rank: components of which
    each rank stores its own. timeout_seconds: how long one rank may be behind the others.
    """

    operation: Operation
    rank: int
    size: int
    per_rank: frozenset[str]
    part: Part
    timeout_seconds: float


@dataclass(frozen=True)
class Part:
    """One rank's share.

    components: as captured, with tensors reduced to the pieces this rank stores (views). offsets:
    by component and stored name, of pieces that are not whole tensors. shapes, bytes: of every
    whole tensor and of each component as a whole, the same on all ranks. sources: address of each
    piece to that of the tensor it is part of.
    """

    components: Sequence[ComponentState]
    offsets: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[int, int] = field(default_factory=dict)

    def pieces_within(self, addresses: Collection[int]) -> set[int]:
        """Addresses of the pieces whose tensors are at `addresses`."""
        return {piece for piece, source in self.sources.items() if source in addresses}


def part_of(
    components: Iterable[ComponentState],
    rank: int,
    size: int,
    per_rank: Collection[str],
    siblings: Siblings = MappingProxyType({}),
) -> Part:
    """The share of `rank` of `size`.

    A DTensor's local part is stored by one of the ranks that hold it, or divided over them. Other
    tensors of modules and optimizers are taken to be the same on all ranks and divided over them
    by size, large ones by rows; a module's buffers are those of rank 0, as in data-parallel
    training. Objects are stored by rank 0, but each rank stores those named in `per_rank`.
    siblings: where other ranks have sharded tensors.
    """
    mine: list[ComponentState] = []
    offsets: dict[str, dict[str, tuple[int, ...]]] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    sizes: dict[str, int] = {}
    sources: dict[int, int] = {}
    everyone = tuple(range(size))
    for component in components:
        name = component.name
        if name in per_rank or (component.kind == "object" and not component.placed):
            kept = component if name in per_rank or rank == 0 else replace(component, tensors={})
            mine.append(kept)
            shapes[name] = {n: tuple(t.shape) for n, t in component.tensors.items()}
            sizes[name] = sum(t.nbytes for t in component.tensors.values())
            continue
        boxes = _divided(component, rank, everyone, siblings)
        pieces = {n: narrowed(component.tensors[n], box) for n, (box, _) in boxes.items()}
        mine.append(replace(component, tensors=pieces))
        sources |= {p.data_ptr(): component.tensors[n].data_ptr() for n, p in pieces.items()}
        offsets[name] = {n: at for n, (_, at) in boxes.items() if any(at)}
        shapes[name] = {n: _shape(component, n) for n in component.tensors}
        sizes[name] = sum(
            tensor.itemsize * prod(shapes[name][n]) if n in component.placed else tensor.nbytes
            for n, tensor in component.tensors.items()
        )
    return Part(mine, offsets, shapes, sizes, sources)


def meshes_of(components: Iterable[ComponentState]) -> dict[tuple[int, ...], int]:
    """The meshes of this rank's sharded tensors, numbered in the order in which they come up."""
    meshes: dict[tuple[int, ...], int] = {}
    for component in components:
        for found in component.placed.values():
            meshes.setdefault(found.mesh, len(meshes))
    return meshes


def _shape(component: ComponentState, name: str) -> tuple[int, ...]:
    found = component.placed.get(name)
    return tuple(component.tensors[name].shape) if found is None else found.shape


def _divided(
    component: ComponentState, rank: int, everyone: tuple[int, ...], siblings: Siblings
) -> dict[str, tuple[Box, tuple[int, ...]]]:
    """By stored name: what of the local tensor this rank stores, and where that is in the whole."""
    lines: dict[tuple[int, ...], list[str]] = {}
    for name, tensor in component.tensors.items():
        found = component.placed.get(name)
        if found is not None:
            holders = found.holders(siblings.get(found.mesh, ()))
            if tensor.numel() == 0 and Box((), found.shape).elements:
                continue
        else:
            holders = everyone[:1] if name in component.buffers else everyone
        if rank in holders:
            lines.setdefault(holders, []).append(name)
    result: dict[str, tuple[Box, tuple[int, ...]]] = {}
    for holders, names in lines.items():
        tensors = {name: component.tensors[name] for name in names}
        for name, box in _stretch(tensors, holders.index(rank), len(holders)):
            found = component.placed.get(name)
            at = box.offsets
            if found is not None:
                at = tuple(a + b for a, b in zip(found.offsets, box.offsets, strict=True))
            result[name] = (box, at)
    return {name: result[name] for name in component.tensors if name in result}


def _stretch(tensors: Mapping[str, Tensor], place: int, places: int) -> Iterable[tuple[str, Box]]:
    """The tensors end to end as one line of bytes, cut into `places` stretches: one of them.

    Cuts go to the nearest row of a large tensor, or beside a small one.
    """
    total = sum(tensor.nbytes for tensor in tensors.values())
    begin, end = total * place // places, total * (place + 1) // places
    passed = 0
    for name, tensor in tensors.items():
        nbytes, shape = tensor.nbytes, tuple(tensor.shape)
        everything = (0,) * len(shape)
        if not nbytes:
            if place == 0:
                yield name, Box(everything, shape)
        elif nbytes < _SPLIT_BYTES or not shape or shape[0] == 1:
            if 2 * begin <= 2 * passed + nbytes < 2 * end:
                yield name, Box(everything, shape)
        else:
            first, last = (_row(cut - passed, nbytes, shape[0]) for cut in (begin, end))
            if first < last:
                yield name, Box((first, *everything[1:]), (last - first, *shape[1:]))
        passed += nbytes


def _row(cut: int, nbytes: int, rows: int) -> int:
    """The row boundary nearest to a byte, within the tensor."""
    row_bytes = nbytes // rows
    return min(max((2 * cut + row_bytes) // (2 * row_bytes), 0), rows)
