"""Signals as wishes: save soon, or save and stop; a second wish to stop is obeyed at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

from holdfast.clock import Clock
from holdfast.errors import ConfigError
from holdfast.storage.forked import drop_in_children

_SAME_SIGNAL_SECONDS = 0.5


class SignalWatch:
    """Handlers that only take note; installed at once, taken away by `restore` or leaving `with`.

    stopping: the name of the signal that asked to stop, None if none did. requested: of the one
    that asked for a save; whoever carries it out sets it back to None. on_signal: called after a
    note was taken, in the main thread between two bytecodes.

    Handlers found in place are called after ours took note (not Python's own for SIGINT, which
    would raise KeyboardInterrupt) and come back with `restore`. A SIGINT that is ignored, as in
    background jobs of a shell, stays ignored. A second stop signal ends the process by that very
    signal; a repeat within half a second is the same one, sent by several layers of a launcher.
    Raises ConfigError outside the main thread, where Python allows no handlers.
    """

    def __init__(
        self,
        *,
        stop: Iterable[int],
        save: Iterable[int],
        grace_seconds: float | None,
        clock: Clock,
        on_signal: Callable[[], None],
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError(
                "Signals can only be handled in the main thread, this is "
                f"{threading.current_thread().name!r}",
                fix="call handle_signals() from the main thread, before training starts",
            )
        self.stopping: str | None = None
        self.requested: str | None = None
        self._stop, self._save = frozenset(stop), frozenset(save)
        self._grace_seconds, self._clock, self._on_signal = grace_seconds, clock, on_signal
        self._stopping_since = 0.0
        self._previous: dict[int, Any] = {}
        for number in sorted(self._stop | self._save):
            self._install(number)
        drop_in_children(self)

    def seconds_left(self) -> float | None:
        """Of the grace period; None while nobody asked to stop or without such a period."""
        if self.stopping is None or self._grace_seconds is None:
            return None
        passed = self._clock.monotonic() - self._stopping_since
        return max(0.0, self._grace_seconds - passed)

    def restore(self) -> None:
        """Put the handlers found back, except where somebody has replaced ours since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def forget_in_child(self) -> None:
        """A forked worker has no training to save: it gets the handlers back that we found."""
        self.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()

    def _install(self, number: int) -> None:
        previous = signal.getsignal(number)
        if number == signal.SIGINT and previous == signal.SIG_IGN:
            return
        self._previous[number] = previous
        signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        now = self._clock.monotonic()
        if number in self._save:
            self.requested = name
        elif self.stopping is None:
            self.stopping, self._stopping_since = name, now
        elif now - self._stopping_since >= _SAME_SIGNAL_SECONDS:
            self._end(number, name, frame)
        else:
            return
        self._call_previous(number, frame)
        self._on_signal()

    def _end(self, number: int, name: str, frame: FrameType | None) -> None:
        os.write(2, f"holdfast: a second signal ({name}): ending at once\n".encode())
        self._call_previous(number, frame)
        self.restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _call_previous(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number)
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)
