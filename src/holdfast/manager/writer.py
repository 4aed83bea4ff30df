"""Being the writer of the run: from the first save until `close`."""

from __future__ import annotations

import logging

from holdfast.storage.protocol import Lock, RunStorage

_LOG = logging.getLogger("holdfast")


class Writer:
    """Takes the run's lock when it is first needed, and sweeps what dead writers left."""

    def __init__(self, run: RunStorage) -> None:
        self._run = run
        self._lock: Lock | None = None

    @property
    def holds_lock(self) -> bool:
        """Whether this process is the writer by now."""
        return self._lock is not None and self._lock.valid

    def ensure(self) -> None:
        """Become the writer unless we are. Raises LockedError naming who is, or SaveError.

        In a forked child the lock is the parent's and this refuses; a lock file that somebody took
        away is made anew.
        """
        if self.holds_lock:
            return
        self._lock = self._run.lock()
        swept = self._run.sweep()
        if swept:
            _LOG.info("%s: removed what ended writers left: %s", self._run.place, ", ".join(swept))

    def release(self) -> None:
        """Let others write; the next `ensure` takes the lock again."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
