"""One screen about a run, live or finished, from its manifests and small files."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli.disk import Usage, usage_of
from holdfast.cli.listing import bests_of, checkpoint_data, json_metrics
from holdfast.cli.output import age_text, clean, paint, size_text
from holdfast.engine.catalog import Catalog, Entry
from holdfast.engine.events import Event, read_events
from holdfast.engine.history_file import HistoryLine, read_history
from holdfast.storage import LocalRun
from holdfast.storage.holder import Holder
from holdfast.storage.lock import writer_of
from holdfast.values import CheckpointInfo


@dataclass(frozen=True)
class Ledger:
    """What the saves that are still there cost, from their manifests."""

    saves: int
    held_seconds: float
    slowest_seconds: float
    write_seconds: float
    bytes_written: int
    bytes_linked: int
    span_seconds: float

    def as_data(self) -> dict[str, Any]:
        """The sums as plain data. share_of_time: of the time between oldest and newest."""
        share = self.held_seconds / self.span_seconds if self.span_seconds > 0 else None
        rate = self.bytes_written / self.write_seconds if self.write_seconds > 0 else None
        return {
            "saves": self.saves,
            "held_seconds": self.held_seconds,
            "slowest_seconds": self.slowest_seconds,
            "share_of_time": share,
            "bytes_written": self.bytes_written,
            "bytes_linked": self.bytes_linked,
            "write_bytes_per_second": rate,
        }

    def as_text(self) -> str:
        """One sentence."""
        data = self.as_data()
        if not self.saves:
            return "not measured"
        text = f"{self.saves} saves held training for {self.held_seconds:.3g} s"
        if data["share_of_time"] is not None:
            text += f" ({100 * data['share_of_time']:.2g} % of the time)"
        text += f", slowest {1000 * self.slowest_seconds:.3g} ms"
        text += f"; {size_text(self.bytes_written)} written"
        if data["write_bytes_per_second"] is not None:
            text += f" at {size_text(data['write_bytes_per_second'])}/s"
        return text + (f", {size_text(self.bytes_linked)} linked" if self.bytes_linked else "")


@dataclass(frozen=True)
class Overview:
    """A run as it stands."""

    run: Path
    catalog: Catalog
    usage: Usage
    writer: Holder | None
    history: Sequence[HistoryLine]
    events: Sequence[Event]
    free_bytes: int | None

    @property
    def retention(self) -> str | None:
        """The rule the newest was saved under, None if it does not say."""
        newest = self.catalog.newest
        rule = None if newest is None else newest.manifest.extra.get("retention")
        return rule if isinstance(rule, str) else None

    @property
    def deleted(self) -> int:
        """How many checkpoints were deleted; a line about one that is there does not count."""
        here = {info.id for info in self.catalog.infos}
        gone = (e.facts.get("id") for e in self.events if e.kind == "deleted")
        return sum(identity not in here for identity in gone)

    @property
    def last_metrics(self) -> HistoryLine | None:
        """The last record of the history."""
        return next((line for line in reversed(self.history) if line.metrics), None)

    def as_data(self) -> dict[str, Any]:
        """The overview as plain data."""
        infos, newest, last = self.catalog.infos, self.catalog.newest, self.last_metrics
        return {
            "schema": "holdfast-status/1",
            "run": str(self.run),
            "writer": None
            if self.writer is None
            else {
                "state": self.writer.state(),
                "host": self.writer.host,
                "pid": self.writer.pid,
                "since": self.writer.since,
            },
            "checkpoints": len(infos),
            "unreadable": [unreadable.name for unreadable in self.catalog.unreadable],
            "newest": None if newest is None else checkpoint_data(newest.info),
            "seconds_between_saves": _pause(infos),
            "best": {
                metric: {
                    "name": info.name,
                    "global_step": info.global_step,
                    "value": info.metrics[metric],
                }
                for metric, info in bests_of(self.catalog).items()
            },
            "pinned": [info.name for info in infos if info.pinned is not None],
            "last_metrics": None
            if last is None
            else {
                "time": last.time,
                "global_step": last.global_step,
                "metrics": json_metrics(last.metrics),
            },
            "resumes": sum(line.resumed_from is not None for line in self.history),
            "deleted": self.deleted,
            "retention": self.retention,
            "disk": {
                "bytes": self.usage.bytes,
                "disk_bytes": self.usage.disk_bytes,
                "free_bytes": self.free_bytes,
            },
            "ledger": ledger_of(self.catalog.entries).as_data(),
        }

    def as_text(self) -> str:
        """The overview for people."""
        rows = [("run", str(self.run)), ("writer", self._writer_text())]
        rows += [("newest", self._newest_text())]
        for metric, info in bests_of(self.catalog).items():
            value = f"{info.metrics[metric]:.6g} at step {info.global_step}, {info.name}"
            rows.append((f"best {clean(metric, 40)}", value))
        last = self.last_metrics
        if last is not None:
            numbers = [f"{clean(k, 40)} {v:.5g}" for k, v in list(last.metrics.items())[:8]]
            rows.append(("last metrics", f"{', '.join(numbers)} at step {last.global_step}"))
        infos = self.catalog.infos
        pinned = sum(info.pinned is not None for info in infos)
        resumes = sum(line.resumed_from is not None for line in self.history)
        rows.append(
            (
                "there are",
                f"{len(infos)} checkpoints, {pinned} pinned; {self.deleted} were deleted; "
                f"resumed {resumes} times",
            )
        )
        for unreadable in self.catalog.unreadable:
            rows.append((paint("unreadable", "red"), clean(unreadable.name)))
        rows.append(("keeps", self.retention or "the checkpoints do not say"))
        free = "" if self.free_bytes is None else f", {size_text(self.free_bytes)} free"
        rows.append(("disk", f"{size_text(self.usage.disk_bytes)}{free}"))
        rows.append(("cost", ledger_of(self.catalog.entries).as_text()))
        return "\n".join(f"{label:<13} {clean(text, 300)}" for label, text in rows)

    def _writer_text(self) -> str:
        if self.writer is None:
            return "nobody writes this run"
        state = self.writer.state()
        if state == "ended":
            return f"{self.writer} ended without closing; the next one takes over"
        return f"{self.writer}" + (" is writing" if state == "alive" else " may be writing")

    def _newest_text(self) -> str:
        newest = self.catalog.newest
        if newest is None:
            return "no checkpoint yet"
        age = age_text(time.time() - newest.manifest.time)
        pause = _pause(self.catalog.infos)
        often = "" if pause is None else f", one every {age_text(pause)}"
        return f"{newest.name} (step {newest.manifest.global_step}), {age} old{often}"


def overview_of(run: Path) -> Overview:
    """Look at a run. Raises CheckpointNotFoundError if there is no such folder."""
    usage = usage_of(run)
    place = LocalRun(run)
    return Overview(
        run,
        usage.catalog,
        usage,
        writer_of(run),
        read_history(place),
        read_events(place),
        place.free_bytes(),
    )


def ledger_of(entries: Sequence[Entry]) -> Ledger:
    """Sums over the costs in the manifests; what was not measured is left out."""
    costs = [entry.manifest.cost for entry in entries if entry.manifest.cost]

    def total(key: str) -> float:
        return sum(_number(cost.get(key)) for cost in costs)

    held = [_number(c.get("blocked_seconds")) + _number(c.get("step_seconds")) for c in costs]
    times = [entry.manifest.time for entry in entries]
    return Ledger(
        saves=len(costs),
        held_seconds=sum(held),
        slowest_seconds=max(held, default=0.0),
        write_seconds=total("write_seconds"),
        bytes_written=int(total("bytes_written")),
        bytes_linked=int(total("bytes_linked")),
        span_seconds=max(times) - min(times) if times else 0.0,
    )


def _number(value: object) -> float:
    """Anything may stand in a manifest: what is no sensible number counts as nothing."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e18:
        return 0.0
    return float(value)


def _pause(infos: Sequence[CheckpointInfo]) -> float | None:
    """Median seconds between saves, None where there were not two."""
    times = sorted(info.time for info in infos)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(pauses) if pauses else None
