"""What saving cost a run: one entry a save, and the sentence that sums them up."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from holdfast.jsontext import Json

_RECENT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class SaveCost:
    """What one save cost. Seconds are wall-clock seconds.

    mode: "sync", "async" (copied before the call returned) or "overlapped". blocked_seconds: the
    training thread inside `save`. step_seconds: optimizer steps held until the copy was done.
    copy_seconds: until the snapshot was whole. write_seconds: hashing, writing and committing.
    durable_seconds: from the call to the commit. bytes_written: new on the disk; bytes_linked:
    taken over from an earlier checkpoint. staging_bytes: memory held for snapshots.
    """

    name: str
    global_step: int
    mode: str
    blocked_seconds: float
    step_seconds: float
    copy_seconds: float
    write_seconds: float
    durable_seconds: float
    bytes_written: int
    bytes_linked: int
    staging_bytes: int

    @property
    def held_seconds(self) -> float:
        """How long training did not go on because of this save."""
        return self.blocked_seconds + self.step_seconds

    @property
    def write_bytes_per_second(self) -> float:
        """Throughput of hashing and writing; 0 if nothing was written."""
        return self.bytes_written / self.write_seconds if self.write_seconds else 0.0

    def to_manifest(self) -> dict[str, Json]:
        """The manifest's `cost`: what is known before the commit itself."""
        return {
            "mode": self.mode,
            "blocked_seconds": round(self.blocked_seconds, 6),
            "step_seconds": round(self.step_seconds, 6),
            "copy_seconds": round(self.copy_seconds, 6),
            "write_seconds": round(self.write_seconds, 6),
            "bytes_written": self.bytes_written,
            "bytes_linked": self.bytes_linked,
            "staging_bytes": self.staging_bytes,
        }


@dataclass(frozen=True, slots=True)
class SkippedSave:
    """A save that was not made, and why."""

    global_step: int
    reason: str


class SaveStats:
    """The costs of this session's saves. `saves`: the last 10,000, oldest first."""

    def __init__(self, now: Callable[[], float] = clock.monotonic) -> None:
        self._now = now
        self._began = now()
        self._lock = threading.Lock()
        self._saves: list[SaveCost] = []
        self._skipped: list[SkippedSave] = []
        self._count = 0
        self._held = 0.0
        self._slowest = 0.0
        self._written = 0
        self._linked = 0
        self._failed = 0

    @property
    def saves(self) -> tuple[SaveCost, ...]:
        """Costs of committed saves, oldest first."""
        with self._lock:
            return tuple(self._saves)

    @property
    def skipped(self) -> tuple[SkippedSave, ...]:
        """Saves that were skipped or dropped, oldest first."""
        with self._lock:
            return tuple(self._skipped)

    def add(self, cost: SaveCost) -> None:
        """Enter a committed save."""
        with self._lock:
            self._saves.append(cost)
            del self._saves[:-_RECENT_MAX]
            self._count += 1
            self._held += cost.held_seconds
            self._slowest = max(self._slowest, cost.held_seconds)
            self._written += cost.bytes_written
            self._linked += cost.bytes_linked

    def add_skipped(self, global_step: int, reason: str) -> None:
        """Enter a save that was not made."""
        with self._lock:
            self._skipped.append(SkippedSave(global_step, reason))
            del self._skipped[:-_RECENT_MAX]

    def add_failed(self) -> None:
        """Enter a save that failed."""
        with self._lock:
            self._failed += 1

    def totals(self) -> Mapping[str, float]:
        """Counts, bytes and seconds over the session, for logs."""
        with self._lock:
            return {
                "saves": self._count,
                "skipped": len(self._skipped),
                "failed": self._failed,
                "session_seconds": self._now() - self._began,
                "held_seconds": self._held,
                "slowest_seconds": self._slowest,
                "bytes_written": self._written,
                "bytes_linked": self._linked,
            }

    def summary(self) -> str:
        """One sentence: "42 saves, 0.3 % of the time, slowest 80 ms; 12.1 GB written"."""
        totals = self.totals()
        share = 100 * totals["held_seconds"] / max(totals["session_seconds"], 1e-9)
        text = (
            f"{totals['saves']:.0f} saves, {share:.2g} % of the time, "
            f"slowest {1000 * totals['slowest_seconds']:.3g} ms; "
            f"{_size(totals['bytes_written'])} written"
        )
        if totals["bytes_linked"]:
            text += f", {_size(totals['bytes_linked'])} linked"
        for word in ("skipped", "failed"):
            if totals[word]:
                text += f"; {totals[word]:.0f} {word}"
        return text

    def __str__(self) -> str:
        return self.summary()


def _size(nbytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"
