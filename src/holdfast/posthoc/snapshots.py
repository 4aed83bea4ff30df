"""The averages that the checkpoints of a run hold, found without reading a tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.decay import Clock, PowerFunction, Profile, Schedule, SegmentMean, read_schedule
from holdfast.ema import read_record
from holdfast.ema._average import read_clock
from holdfast.engine.catalog import read_catalog
from holdfast.engine.open_checkpoint import OpenCheckpoint, open_checkpoint
from holdfast.errors import CheckpointNotFoundError
from holdfast.storage import LocalRun
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One average in one checkpoint. clock: when it was taken; origin: where it began."""

    checkpoint: str
    component: str
    schedule: Schedule
    clock: Clock
    origin: Clock
    updates: int

    @property
    def profile(self) -> Profile | None:
        """Its power-function profile, None if it has none or missed the beginning of the run."""
        if not isinstance(self.schedule, PowerFunction) or self.origin != Clock():
            return None
        return Profile(float(self.clock.read(self.schedule.unit)), self.schedule.gamma)


def open_run(run: str | os.PathLike[str]) -> RunStorage:
    """The run folder to read. Raises CheckpointNotFoundError if there is none."""
    if not Path(run).is_dir():
        raise CheckpointNotFoundError("There is no such run folder", where=str(run))
    return LocalRun(run)


def find_snapshots(
    run: RunStorage, *, until: str | None = None, component: str = "ema"
) -> list[Snapshot]:
    """Every average named `component`, or with a suffix, in the course of the run up to `until`.

    until: a checkpoint's name, None for the newest. Only checkpoints that led to it count: what a
    run left behind when it went back to an older checkpoint does not. Oldest first.
    Raises CheckpointNotFoundError if there is no such checkpoint.
    """
    found: list[Snapshot] = []
    for info in lineage(run, until):
        with open_checkpoint(run, info.name) as checkpoint:
            found += _averages(checkpoint, component)
    return found


def lineage(run: RunStorage, until: str | None = None) -> list[CheckpointInfo]:
    """The checkpoints on the way to `until`, oldest first, itself last."""
    infos = read_catalog(run).infos
    by_id = {info.id: info for info in infos}
    chosen = [info for info in infos if until in (None, info.name)]
    if not chosen:
        raise CheckpointNotFoundError(
            "There is no checkpoint to begin from" if until is None else f"There is no {until}",
            where=run.place,
        )
    current: CheckpointInfo | None = chosen[-1]
    course: list[CheckpointInfo] = []
    while current is not None:
        branch = [
            info for info in infos if info.branch == current.branch and info.order <= current.order
        ]
        course = branch + course
        earlier = [by_id.get(parent.id) for parent in branch[0].parents]
        current = next(
            (info for info in earlier if info is not None and info.branch < branch[0].branch), None
        )
    return course


def _averages(checkpoint: OpenCheckpoint, component: str) -> Iterator[Snapshot]:
    for name, record in checkpoint.manifest.components.items():
        if record.kind != "module" or not (name == component or name.startswith(f"{component}-")):
            continue
        facts = read_record(checkpoint.stored(name))
        schedule = read_schedule(facts["schedule"])
        clock = read_clock(facts["clock"])
        origin = Clock() if facts["origin"] is None else read_clock(facts["origin"])
        if facts["updates"] and (not isinstance(schedule, SegmentMean) or origin != clock):
            yield Snapshot(checkpoint.name, name, schedule, clock, origin, facts["updates"])
