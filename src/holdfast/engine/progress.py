"""Progress of long saves and loads: bytes, MB/s and time left, on a terminal, after a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from typing_extensions import Self

if TYPE_CHECKING:
    import rich.progress

_QUIET_SECONDS = 1.0


class Progress:
    """A callable (bytes done, bytes in total) that draws a bar once it is worth looking at.

    Silent when `stream` (standard error by default) is not a terminal, or when not enabled.
    """

    def __init__(self, what: str, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._what = what
        self._stream = stream or sys.stderr
        self._enabled = enabled and self._stream.isatty()
        self._began = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show the state of affairs."""
        if not self._enabled or (
            self._bar is None and time.monotonic() - self._began < _QUIET_SECONDS
        ):
            return
        if self._bar is None:
            self._bar = _new_bar(self._stream)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _new_bar(stream: TextIO) -> rich.progress.Progress:
    """Import rich only when there is something to draw."""
    import rich.console
    import rich.progress

    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(file=stream),
        transient=True,
    )
