"""New weights folded into averages, in place, each weight read from memory once.

Weights of the dtype and device of their averages go to one batched call per device and dtype.
Otherwise (16-bit models, several averages, another device) they pass through a small buffer piece
by piece, so that what is read for one average is still in the cache for the next, and a model
in 16 bits is not converted whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holdfast.ema._roster import memory

_PIECE_ELEMENTS = 1 << 19
_PIECE_ELEMENTS_GPU = 1 << 24


@dataclass
class Batch:
    """Tensors folded by one call for each average.

    fresh: weights as they lie in the model. shadows: per average, the tensors parallel to `fresh`.
    scratch: where to convert them first, None if they can be used as they are. crosses: whether
    that is a copy from a GPU to the host.
    """

    fresh: list[Tensor] = field(default_factory=list)
    shadows: list[list[Tensor]] = field(default_factory=list)
    scratch: list[Tensor] | None = None
    crosses: bool = False


class Folder:
    """The batches of one set of tensors, made once and used until the tensors change."""

    def __init__(self, tensors: Sequence[tuple[Tensor, Sequence[Tensor]]]) -> None:
        """tensors: (live tensor, its shadow in each average)."""
        self._buffers: dict[tuple[object, ...], Tensor] = {}
        self._turn = 0
        groups: dict[tuple[object, ...], list[tuple[Tensor, list[Tensor]]]] = {}
        for live, shadows in tensors:
            fresh = memory(live)
            if fresh.numel():
                key = (fresh.device, fresh.dtype, shadows[0].device, shadows[0].dtype)
                groups.setdefault(key, []).append((fresh, list(shadows)))
        self._batches = [batch for group in groups.values() for batch in self._cut(group)]

    @torch.no_grad()
    def fold(self, kept: Sequence[float]) -> None:
        """average <- kept * average + (1 - kept) * weights, for each average.

        Copies from a GPU to averages on the host overlap with the arithmetic on the batch before.
        """
        on_the_way: tuple[Batch, torch.cuda.Event] | None = None
        for batch in self._batches:
            if batch.scratch is not None:
                torch._foreach_copy_(batch.scratch, batch.fresh, non_blocking=batch.crosses)
            if not batch.crosses:
                _fold_batch(batch, kept)
                continue
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(batch.fresh[0].device))
            _finish(on_the_way, kept)
            on_the_way = (batch, event)
        _finish(on_the_way, kept)

    def _cut(self, group: list[tuple[Tensor, list[Tensor]]]) -> Iterator[Batch]:
        fresh, shadows = group[0]
        converts = fresh.dtype != shadows[0].dtype or fresh.device != shadows[0].device
        if not converts and len(shadows) == 1:
            yield Batch([fresh for fresh, _ in group], [[shadow[0] for _, shadow in group]])
            return
        crosses = fresh.is_cuda and shadows[0].device.type == "cpu"
        on_host = shadows[0].device.type == "cpu" and not crosses
        limit = _PIECE_ELEMENTS if on_host else _PIECE_ELEMENTS_GPU
        for pieces in _packed(group, limit):
            self._turn = 1 - self._turn
            targets = [piece[1][0] for piece in pieces]
            yield Batch(
                [piece[0] for piece in pieces],
                [[piece[1][place] for piece in pieces] for place in range(len(shadows))],
                self._scratch(targets, pinned=crosses) if converts else None,
                crosses,
            )

    def _scratch(self, shadows: list[Tensor], *, pinned: bool) -> list[Tensor]:
        """Views, shaped as the shadows, of one of two buffers that the batches use in turn."""
        like = shadows[0]
        needed = sum(shadow.numel() for shadow in shadows)
        key = (like.device, like.dtype, self._turn if pinned else 0)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < needed:
            buffer = self._buffers[key] = torch.empty(
                needed, dtype=like.dtype, device=like.device, pin_memory=pinned
            )
        views, begin = [], 0
        for shadow in shadows:
            part = buffer[begin : begin + shadow.numel()]
            views.append(part.as_strided(shadow.shape, shadow.stride(), begin))
            begin += shadow.numel()
        return views


def _finish(on_the_way: tuple[Batch, torch.cuda.Event] | None, kept: Sequence[float]) -> None:
    """Fold the batch whose copy was on the way, once it has arrived."""
    if on_the_way is not None:
        on_the_way[1].synchronize()
        _fold_batch(on_the_way[0], kept)


def _fold_batch(batch: Batch, kept: Sequence[float]) -> None:
    fresh = batch.fresh if batch.scratch is None else batch.scratch
    for share, shadows in zip(kept, batch.shadows, strict=True):
        if share == 0.0:
            torch._foreach_copy_(shadows, fresh)
        elif share < 1.0:
            torch._foreach_lerp_(shadows, fresh, 1.0 - share)


def _packed(
    group: list[tuple[Tensor, list[Tensor]]], limit: int
) -> Iterator[list[tuple[Tensor, list[Tensor]]]]:
    """Cut large tensors and gather small ones, up to `limit` elements together."""
    waiting: list[tuple[Tensor, list[Tensor]]] = []
    count = 0
    for fresh, shadows in group:
        for piece in _pieces(fresh, shadows, limit):
            if waiting and count + piece[0].numel() > limit:
                yield waiting
                waiting, count = [], 0
            waiting.append(piece)
            count += piece[0].numel()
    if waiting:
        yield waiting


def _pieces(
    fresh: Tensor, shadows: list[Tensor], limit: int
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    if fresh.is_complex():
        fresh = torch.view_as_real(fresh)
        shadows = [torch.view_as_real(shadow) for shadow in shadows]
    alike = all(shadow.stride() == fresh.stride() for shadow in shadows)
    if not alike or not is_dense(fresh):
        yield fresh, shadows
        return
    flat, flats = _flat(fresh), [_flat(shadow) for shadow in shadows]
    for begin in range(0, flat.numel(), limit):
        yield flat[begin : begin + limit], [shadow[begin : begin + limit] for shadow in flats]


def is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill a stretch of memory, in whatever order of dimensions."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))
