"""Averages on the host of a model on a GPU, folded beside training.

An update queues the copy of all weights into pinned memory on a stream of its own and returns; a
thread folds what has arrived. The next optimizer step waits for the copy, on the device. Whoever
looks at the averages waits for the thread first. Only for updates made by an optimizer's own hook:
that has shown that its steps announce themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from holdfast.ema._fold import Folder
from holdfast.ema._roster import Entry, memory
from holdfast.errors import AverageError
from holdfast.staging import StepGate
from holdfast.staging.copying import CudaCopies, Pair
from holdfast.staging.witness import Witness


class Copies(Protocol):
    """Copies under way. hold_training: let later writes wait for them. finish: wait here."""

    def hold_training(self) -> None: ...

    def finish(self) -> None: ...


BeginCopies: TypeAlias = "Callable[[Sequence[Pair]], Sequence[Copies]]"
"""Begins to copy (live tensor, its place on the host), and returns before it is done."""


def cuda_copies(streams: dict[torch.device, torch.cuda.Stream]) -> BeginCopies:
    """Copies on one stream of its own for each device, kept in `streams`."""

    def begin(pairs: Sequence[Pair]) -> list[CudaCopies]:
        begun = []
        for device in dict.fromkeys(live.device for live, _ in pairs):
            if device not in streams:
                streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            copies = CudaCopies(device, streams[device])
            copies.begin([pair for pair in pairs if pair[0].device == device])
            begun.append(copies)
        return begun

    return begin


class Offload:
    """Folds one set of tensors; made anew when they change. Used from the training thread."""

    def __init__(
        self,
        tensors: Sequence[tuple[Entry, Sequence[Tensor]]],
        begin_copies: BeginCopies,
    ) -> None:
        """tensors: (entry, its shadow on the host in each average)."""
        self._entries = [entry for entry, _ in tensors]
        self._landing = []
        for entry in self._entries:
            fresh = memory(entry.live)
            self._landing.append(torch.empty_like(fresh, device="cpu", pin_memory=fresh.is_cuda))
        shadows = [shadows for _, shadows in tensors]
        self._folder = Folder(list(zip(self._landing, shadows, strict=True)))
        self._begin_copies = begin_copies
        self._gate = StepGate()
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: tuple[_Transfer, Future[None]] | None = None

    def fold(self, kept: Sequence[float], buffers: Sequence[Pair]) -> None:
        """Begin to fold the weights as they are now. buffers: (live, copy), to be copied as well.

        Raises what `settle` raises of the update before.
        """
        self.settle()
        fresh = [_still(entry) for entry in self._entries]
        pairs = [*zip(fresh, self._landing, strict=True)]
        pairs += [(live.detach().clone(), copy) for live, copy in buffers]
        witness = Witness(fresh, [entry.name for entry in self._entries])
        transfer = _Transfer(self._begin_copies(pairs), witness, pairs)
        self._gate.watch(transfer)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="holdfast-ema")
        self._under_way = (transfer, self._pool.submit(self._finish, transfer, kept))

    def settle(self) -> None:
        """Wait for the update under way. Raises AverageError if weights changed in its midst."""
        if self._under_way is None:
            return
        (transfer, future), self._under_way = self._under_way, None
        self._gate.forget(transfer)
        future.result()
        changed = transfer.changed()
        if changed:
            raise AverageError(
                f"{changed[0]} changed, other than in an optimizer's step, while it was copied to "
                "the host: the average may hold a mixture",
                fix="change weights before or within the step, or keep the average beside them "
                "(device=None)",
            )

    def close(self) -> None:
        """Settle, and end the thread."""
        try:
            self.settle()
        finally:
            self._gate.close()
            if self._pool is not None:
                self._pool.shutdown(wait=True)
                self._pool = None

    def _finish(self, transfer: _Transfer, kept: Sequence[float]) -> None:
        transfer.finish()
        self._folder.fold(kept)


def _still(entry: Entry) -> Tensor:
    """Its tensor until the next step. Buffers move in forward, which waits for nothing: a clone."""
    fresh = memory(entry.live)
    return fresh if entry.is_parameter else fresh.clone()


class _Transfer:
    """The copies of one update; the step that comes next waits for them."""

    def __init__(self, copies: Sequence[Copies], witness: Witness, keep: Sequence[Pair]) -> None:
        self._copies = copies
        self._witness = witness
        self._keep = keep
        self._found: list[str] | None = None

    def before_step(self) -> None:
        self._found = self._witness.counted()
        for copies in self._copies:
            copies.hold_training()

    def before_write(self) -> None:
        self.before_step()

    def finish(self) -> None:
        for copies in self._copies:
            copies.finish()

    def changed(self) -> list[str]:
        """Names of tensors that changed before the step came."""
        return self._witness.counted() if self._found is None else self._found
