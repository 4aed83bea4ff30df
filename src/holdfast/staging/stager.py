"""Taking snapshots of live tensors."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from holdfast.staging.copying import Copier, CudaCopies, Pair, copy_batch
from holdfast.staging.gate import StepGate
from holdfast.staging.layout import Shape, is_dense, pack, shape_of, twin_in
from holdfast.staging.overlap import LATE_MIN_BYTES, Overlap
from holdfast.staging.slabs import Arena
from holdfast.staging.snapshot import Late, Snapshot
from holdfast.staging.witness import Witness


class Stager:
    """Copies live tensors into memory that is used again for the next snapshot.

    snapshots_max: how many snapshots may exist at a time; each takes as much memory as the state.
    overlap: let copies of what only optimizer steps change run on beside the next forward and
    backward pass, where the loop proves to allow it. copier, gate: who copies, and who announces
    optimizer steps.
    """

    def __init__(
        self,
        *,
        snapshots_max: int = 1,
        overlap: bool = True,
        copier: Copier | None = None,
        gate: StepGate | None = None,
    ) -> None:
        self._free = [_Room() for _ in range(snapshots_max)]
        self._rooms = tuple(self._free)
        self._returned = threading.Condition()
        self._copier = copier or Copier()
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self.gate = gate or StepGate()
        self.overlap = Overlap(self.gate, wanted=overlap)

    @property
    def nbytes(self) -> int:
        """Bytes of staging memory held."""
        return sum(room.arena.nbytes for room in self._rooms)

    def take(
        self,
        tensors: Sequence[Tensor],
        labels: Sequence[str],
        step_only: Collection[int] = (),
        *,
        runs: Callable[[], Sequence[Sequence[int]]] | None = None,
    ) -> Snapshot:
        """Copy `tensors` as they are now; waits while `snapshots_max` snapshots exist.

        tensors: detached, of any layout that has memory of its own. labels: their names, for
        errors. step_only: addresses of those that change in optimizer steps only (see
        `step_only_memory`); what is there may still be under way when this returns, all else is
        copied. runs: places of tensors whose twins are to lie one right after the other; asked for
        when memory is laid out anew. The snapshot keeps its memory until it is released.
        """
        room = self._room()
        try:
            twins = room.twins(tensors, runs)
            return self._take(room, twins, tensors, labels, step_only)
        except BaseException:
            self._give_back(room)
            raise

    def close(self) -> None:
        """Free threads, hook and memory. Snapshots not yet released keep theirs until then."""
        self.overlap.close()
        self.gate.close()
        self._copier.close()
        for room in self._rooms:
            room.clear()

    def _room(self) -> _Room:
        with self._returned:
            self._returned.wait_for(lambda: bool(self._free))
            return self._free.pop()

    def _give_back(self, room: _Room) -> None:
        with self._returned:
            self._free.append(room)
            self._returned.notify()

    def _take(
        self,
        room: _Room,
        twins: Sequence[Tensor],
        tensors: Sequence[Tensor],
        labels: Sequence[str],
        step_only: Collection[int],
    ) -> Snapshot:
        began = clock.monotonic()
        moves_in_step = [
            index
            for index, tensor in enumerate(tensors)
            if tensor.nbytes >= LATE_MIN_BYTES
            and tensor.data_ptr() in step_only
            and is_dense(tensor)
        ]
        allowed = self.overlap.allowed
        late = frozenset(moves_in_step if allowed else ())
        now = [(tensors[i], twins[i]) for i in range(len(tensors)) if i not in late]
        later = [(tensors[i], twins[i]) for i in sorted(late)]
        copies = self._on_devices(now, later)
        self._on_host(now)
        pending = self._begin_late(later, [labels[i] for i in sorted(late)]) if later else None
        snapshot = Snapshot(
            twins,
            late=pending,
            copies=copies,
            keep=tensors,
            began=began,
            give_back=lambda: self._give_back(room),
        )
        if pending is not None:
            self.gate.watch(snapshot)
        elif self.overlap.open:
            self.overlap.try_loop(
                [tensors[i] for i in moves_in_step], [labels[i] for i in moves_in_step]
            )
        return snapshot

    def _begin_late(self, pairs: Sequence[Pair], labels: Sequence[str]) -> Late:
        witness = Witness([live for live, _ in pairs], labels)
        host = [pair for pair in pairs if pair[0].is_cpu]
        futures = self._copier.begin(host) if host else []
        return Late(witness, [twin for _, twin in pairs], futures)

    def _on_host(self, pairs: Sequence[Pair]) -> None:
        """Everything not on CUDA, before this returns."""
        large = []
        small: list[Pair] = []
        for live, twin in pairs:
            if live.is_cpu and live.nbytes >= LATE_MIN_BYTES and is_dense(live):
                large.append((live, twin))
            elif not live.is_cuda:
                small.append((live, twin))
        if small:
            copy_batch(small)
        self._copier.copy(large)

    def _on_devices(self, now: Sequence[Pair], later: Sequence[Pair]) -> list[CudaCopies]:
        """Queue the copies of CUDA tensors. Those of `now` hold up what training queues next."""
        begun = []
        for pairs, hold in ((now, True), (later, False)):
            by_device: dict[torch.device, list[Pair]] = {}
            for live, twin in pairs:
                if live.is_cuda:
                    by_device.setdefault(live.device, []).append((live, twin))
            for device, on_device in by_device.items():
                if device not in self._streams:
                    self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                copies = CudaCopies(device, self._streams[device])
                copies.begin(on_device)
                if hold:
                    copies.hold_training()
                begun.append(copies)
        return begun


class _Room:
    """An arena and the twins that lie in it, kept as long as the state keeps its shape."""

    def __init__(self) -> None:
        self.arena = Arena()
        self._shapes: list[Shape] = []
        self._twins: list[Tensor] = []

    def twins(
        self, tensors: Sequence[Tensor], runs: Callable[[], Sequence[Sequence[int]]] | None
    ) -> list[Tensor]:
        shapes = [shape_of(tensor) for tensor in tensors]
        if shapes != self._shapes:
            self._shapes, self._twins = [], []
            pinned = any(tensor.is_cuda for tensor in tensors)
            places = [[place] for place in range(len(tensors))] if runs is None else runs()
            self._twins = self._laid_out(tensors, places, pinned=pinned)
            self._shapes = shapes
        return list(self._twins)

    def _laid_out(
        self, tensors: Sequence[Tensor], runs: Sequence[Sequence[int]], *, pinned: bool
    ) -> list[Tensor]:
        spans = [pack([tensors[place] for place in run]) for run in runs]
        pieces = self.arena.carve([nbytes for _, nbytes in spans], pinned=pinned)
        found: dict[int, Tensor] = {}
        for run, (offsets, _), piece in zip(runs, spans, pieces, strict=True):
            for place, offset in zip(run, offsets, strict=True):
                tensor = tensors[place]
                memory = piece[offset : offset + tensor.nbytes]
                found[place] = twin_in(memory, tensor, dense=is_dense(tensor))
        return [found[place] for place in range(len(tensors))]

    def clear(self) -> None:
        self._shapes, self._twins = [], []
        self.arena.free()
