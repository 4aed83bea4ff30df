"""Watching a load: what it opens, what it runs, how much memory and time it takes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

EXTRA_BYTES_MAX = 512 << 20
SECONDS_MAX = 10

_FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


class Watch:
    """Collects what happens while it is told to; audit hooks cannot be taken away again."""

    def __init__(self) -> None:
        self._inside: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def over(self, inside: Path) -> Iterator[None]:
        """Watch; `inside` is the only folder that may be opened. `seen` holds what must not be."""
        self.seen = []
        self._inside = inside
        try:
            yield
        finally:
            self._inside = None

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if self._inside is None:
            return
        if event in _FORBIDDEN or event.startswith("socket."):
            self.seen.append(f"{event} {args[:2]}")
        elif event == "open" and isinstance(args[0], (str, bytes)):
            path = Path(os.fsdecode(args[0]))
            # The folders above are flushed when the run sets a checkpoint aside and notes it.
            allowed = self._inside in (path, *path.parents) or path in self._inside.parents
            if path.is_absolute() and not allowed:
                self.seen.append(f"open {path}")


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """At most `EXTRA_BYTES_MAX` more memory, and an end to anything that hangs."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + EXTRA_BYTES_MAX
    timed = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, _give_up) if timed else None
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    if timed:
        signal.alarm(SECONDS_MAX)
    try:
        yield
    finally:
        if timed:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _give_up(number: int, frame: object) -> None:
    raise TimeoutError(f"it took over {SECONDS_MAX} seconds")
