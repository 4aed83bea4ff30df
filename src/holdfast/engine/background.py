"""Saves carried out one after the other by a thread of their own.

The thread exists only while there is something to write. Saves are committed in the order they
were handed in. What fails is kept until somebody is told.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - see _at_exit
import contextlib
import os
import sys
import threading
import time as clock
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from holdfast.engine.priority import lower_thread_priority
from holdfast.errors import SaveError, WaitTimeoutError

WhenBusy: TypeAlias = Literal["wait", "skip", "drop"]

_EXIT_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Pending:
    """A save handed in. name: the checkpoint it will be. write: does it all, up to retention.
    drop: called instead, with the reason, if it is given up before it began.
    """

    name: str
    write: Callable[[], object]
    drop: Callable[[str], object]


class BackgroundSaves:
    """Writes pending saves in order, at low priority, on a thread that lives while there are any.

    pending_max: how many may be pending, the one being written included. when_busy: what `admit`
    does when that many are: "wait" for one to finish, "skip" the new save, or "drop" the oldest
    that has not begun. exit_seconds_max: how long the end of the interpreter waits for them.
    """

    def __init__(
        self,
        *,
        pending_max: int = 1,
        when_busy: WhenBusy = "wait",
        exit_seconds_max: float = _EXIT_SECONDS_MAX,
    ) -> None:
        self._pending_max = pending_max
        self._when_busy = when_busy
        self.exit_seconds_max = exit_seconds_max
        self._changed = threading.Condition()
        self._queue: deque[Pending] = deque()
        self._writing: Pending | None = None
        self._thread: threading.Thread | None = None
        self._failures: list[BaseException] = []
        self._process = os.getpid()
        _open.add(self)

    @property
    def pending(self) -> tuple[str, ...]:
        """Names of the checkpoints that are not committed yet, the one being written first."""
        with self._changed:
            return tuple(job.name for job in self._jobs())

    @property
    def busy(self) -> bool:
        """Whether as many saves are pending as may be."""
        with self._changed:
            return len(self._jobs()) >= self._pending_max

    @property
    def failed(self) -> bool:
        """Whether `raise_failures` has something to raise."""
        with self._changed:
            return bool(self._failures)

    def admit(self) -> str | None:
        """Make room for one more save, as `when_busy` says.

        Returns None if there is room, or the reason why this save is to be skipped.
        """
        with self._changed:
            if len(self._jobs()) < self._pending_max:
                return None
            if self._when_busy == "skip":
                names = ", ".join(job.name for job in self._jobs())
                return f"{names} was still being written"
            if self._when_busy == "drop" and self._queue:
                dropped = self._queue.popleft()
            else:
                self._changed.wait_for(lambda: len(self._jobs()) < self._pending_max)
                return None
        dropped.drop("a newer save took its place before it was begun")
        return None

    def submit(self, job: Pending) -> None:
        """Hand in a save; returns at once."""
        with self._changed:
            self._queue.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="holdfast-save", daemon=True
                )
                self._thread.start()

    def raise_failures(self) -> None:
        """Raise what went wrong since the last time; each failure is raised once."""
        with self._changed:
            failures, self._failures = self._failures, []
        if not failures:
            return
        if len(failures) == 1:
            raise failures[0]
        listing = "".join(f"\n  - {error}" for error in failures)
        raise SaveError(f"{len(failures)} background saves failed:{listing}") from failures[0]

    def wait(self, timeout: float | None = None) -> None:
        """`drain`, then raise what went wrong."""
        self.drain(timeout)
        self.raise_failures()

    def drain(self, timeout: float | None = None) -> None:
        """Wait until nothing is pending.

        timeout: seconds. Returns at once in the writing thread itself (from a callback of a save).
        Raises WaitTimeoutError naming what is still pending after that.
        """
        if threading.current_thread() is self._thread:
            return
        with self._changed:
            done = self._changed.wait_for(lambda: not self._jobs(), timeout)
            names = [job.name for job in self._jobs()]
        if not done:
            raise WaitTimeoutError(
                f"After {timeout} seconds still not committed: {', '.join(names)}",
                fix="wait longer; the saves go on",
            )
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def finish_at_exit(self) -> None:
        """Wait for what is pending, bounded, and report to standard error what was not saved."""
        if os.getpid() != self._process:
            return
        began = clock.monotonic()
        names = self.pending
        try:
            if names:
                sys.stderr.write(f"holdfast: finishing {', '.join(names)} before exit\n")
            self.wait(self.exit_seconds_max)
        except WaitTimeoutError as error:
            sys.stderr.write(f"holdfast: NOT SAVED: {error.what}\n")
        except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
            seconds = clock.monotonic() - began
            sys.stderr.write(f"holdfast: A SAVE FAILED ({seconds:.1f} s into exit): {error}\n")

    def _jobs(self) -> list[Pending]:
        writing = [] if self._writing is None else [self._writing]
        return [*writing, *self._queue]

    def _work(self) -> None:
        lower_thread_priority()
        while True:
            with self._changed:
                self._writing = self._queue.popleft() if self._queue else None
                if self._writing is None:
                    self._thread = None
                self._changed.notify_all()
                if self._writing is None:
                    return
                job = self._writing
            try:
                job.write()
            except BaseException as error:  # noqa: BLE001 - kept, and raised to the next caller
                with self._changed:
                    self._failures.append(error)
            # The job holds the snapshot's memory alive while nothing else does.
            del job


_open: weakref.WeakSet[BackgroundSaves] = weakref.WeakSet()


def _finish_all() -> None:
    for saves in list(_open):
        with contextlib.suppress(KeyboardInterrupt):
            saves.finish_at_exit()


def _at_exit(function: Callable[[], None]) -> None:
    """Run before Python refuses new threads at exit, which comes before `atexit` functions.

    Thread pools are closed by `threading._register_atexit`, the last registered first. Ours is
    registered after theirs, since this module imports `concurrent.futures.thread` before.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)


_at_exit(_finish_all)
