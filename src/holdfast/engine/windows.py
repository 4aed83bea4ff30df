"""Stored pieces against the parts of tensors that are wanted here: what is read into where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holdfast.engine.boxes import Box, whole
from holdfast.engine.pieces import Piece, Whole
from holdfast.engine.tensor_file import TensorFile
from holdfast.state import is_sharded, local_part, placed


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece of which only some is wanted here. part: that, seen from the piece; target: its
    memory, of that size."""

    name: str
    piece: Piece
    part: Box
    target: Tensor


@dataclass
class Route:
    """entire: by file, views of targets that take whole pieces, by name. cuts: the others."""

    entire: dict[str, tuple[TensorFile, dict[str, Tensor]]] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)


def route(wholes: Mapping[str, Whole], targets: Mapping[str, Tensor]) -> Route:
    """Plan what each target takes from where; targets may be DTensors, of which the local part is
    wanted. Shapes agree already."""
    plan = Route()
    for name, target in targets.items():
        local, window = window_of(target, name)
        for piece in wholes[name].pieces:
            _add(plan, name, piece, local, window)
    return plan


def window_of(target: Tensor, name: str) -> tuple[Tensor, Box]:
    """The dense memory of a target, and which box of the whole tensor it is."""
    if not is_sharded(target):
        return target, whole(target.shape)
    found = placed(target, name)
    return local_part(target), Box(found.offsets, found.sizes)


def _add(plan: Route, name: str, piece: Piece, local: Tensor, window: Box) -> None:
    if piece.box == window:
        plan.entire.setdefault(piece.file.file, (piece.file, {}))[1][name] = local
        return
    common = piece.box.meet(window)
    if common is None:
        return
    view = narrowed(local, common.seen_from(window))
    if common == piece.box:
        plan.entire.setdefault(piece.file.file, (piece.file, {}))[1][name] = view
    else:
        plan.cuts.append(Cut(name, piece, common.seen_from(piece.box), view))


def narrowed(tensor: Tensor, box: Box) -> Tensor:
    """A view of a box of a tensor."""
    if box.sizes == tensor.shape:
        return tensor
    with torch.no_grad():
        for dim, (offset, size) in enumerate(zip(box.offsets, box.sizes, strict=True)):
            if size != tensor.shape[dim]:
                tensor = tensor.narrow(dim, offset, size)
    return tensor
