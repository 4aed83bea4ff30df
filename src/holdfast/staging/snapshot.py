"""An unchanging copy of some live tensors, part of which may still be under way."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from torch import Tensor

from holdfast.errors import TornSnapshotError
from holdfast.staging.copying import CudaCopies, settle
from holdfast.staging.witness import Witness


class Snapshot:
    """Twins of live tensors in memory of our own.

    tensors: the twins, in the order of the live tensors; whole once `finish` has returned, and
    theirs until `release`. copy_seconds: from the call until the last byte was there, so far as
    known. step_seconds: how long steps, and whoever else announced to write, waited for it.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        *,
        late: Late | None,
        copies: Sequence[CudaCopies],
        keep: Sequence[Tensor],
        began: float,
        give_back: Callable[[], None],
    ) -> None:
        self.tensors = tensors
        self.copy_seconds = clock.monotonic() - began
        self.step_seconds = 0.0
        self._late = late
        self._copies = copies
        self._keep = keep
        self._began = began
        self._give_back: Callable[[], None] | None = give_back
        self._sealed = False
        self._changed: list[str] = []
        self._lock = threading.Lock()

    @property
    def overlapped(self) -> bool:
        """Whether part of it was copied after the call had returned."""
        return self._late is not None

    def before_step(self) -> None:
        """Let the optimizer step wait for the copy, and see that nothing changed until now."""
        # A save that fails at once releases the snapshot while the step is looking.
        late = self._late
        if late is None:
            return
        began = clock.monotonic()
        for copies in self._copies:
            copies.hold_training()
        late.copied.wait()
        with self._lock:
            self._changed = late.witness.counted()
            self._sealed = True
        self.step_seconds += clock.monotonic() - began

    def before_write(self) -> None:
        """The same for a writer that announces itself."""
        self.before_step()

    def finish(self) -> None:
        """Wait until every byte is copied. Raises what stopped a copy."""
        for copies in self._copies:
            copies.finish()
        if self._late is not None:
            settle(self._late.futures)
            self.copy_seconds = self._late.ended - self._began
        self._keep = ()

    def prove(self) -> None:
        """Make sure that the twins hold what the live tensors held when the snapshot was asked for.

        Call after `finish`, as late as possible before the copy counts. A write that was running
        while its tensor was copied moves the version counter only when it ends: the step is
        checked in the thread that writes, everything else by looking again after the data was
        written. Raises TornSnapshotError naming tensors that changed.
        """
        if self._late is None:
            return
        with self._lock:
            changed = self._changed if self._sealed else self._late.witness.counted()
        changed = changed or self._late.witness.differing(self._late.twins)
        if changed:
            raise TornSnapshotError(changed)

    def release(self) -> None:
        """Let the memory be used for another snapshot; a second call does nothing."""
        with self._lock:
            give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        if self._late is not None:
            self._late.copied.wait()
        for copies in self._copies:
            copies.finish()
        self._keep = ()
        self.tensors = ()
        self._late = None
        give_back()


class Late:
    """The part of a snapshot that is copied after the call has returned."""

    def __init__(
        self, witness: Witness, twins: Sequence[Tensor], futures: Sequence[Future[None]]
    ) -> None:
        self.witness = witness
        self.twins = twins
        self.futures = futures
        self.copied = threading.Event()
        self.ended = clock.monotonic()
        self._left = len(futures)
        self._lock = threading.Lock()
        if not futures:
            self.copied.set()
        for future in futures:
            future.add_done_callback(self._one_done)

    def _one_done(self, future: Future[None]) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.ended = clock.monotonic()
                self.copied.set()
