"""What this process and its children use, from /proc."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def processes() -> Iterator[int]:
    """This process, its children, their children."""
    waiting = [os.getpid()]
    while waiting:
        pid = waiting.pop()
        yield pid
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:
                continue


def cpu_seconds() -> float:
    """Processor time used so far by all of them."""
    total = 0
    for pid in processes():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def resident() -> int:
    """Bytes of memory of their own; shared memory counts where this process has touched it."""
    total = 0
    for pid in processes():
        kinds = ("RssAnon:", "RssShmem:") if pid == os.getpid() else ("RssAnon:",)
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(kinds))
    return total


class PeakMemory:
    """The greatest `resident` since it was made."""

    def __init__(self) -> None:
        self._peak = resident()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            self._peak = max(self._peak, resident())

    def stop(self) -> int:
        """End, and tell."""
        self._end.set()
        self._thread.join()
        return self._peak
