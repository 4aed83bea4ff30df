"""What the report knows of a run, as plain frozen records: gathered once, rendered in many ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["kept", "deleted", "damaged"]
"""Whether a checkpoint is there, was given up by retention, or cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint there is or was.

    time: of the commit; deleted_at: of the deletion; seconds since the epoch, UTC. why: why it went
    or what is wrong with it. best_by: metrics it is the best by now. resumed: how often the run
    went on from it. parents: (relation, id). weights_bytes, optimizer_bytes: of its components;
    the rest of `bytes` is neither. disk_bytes: what deleting it would free, None if unknown.
    """

    id: str
    name: str
    status: Status
    epoch: int
    step: int
    branch: int
    time: float | None
    bytes: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    why: str = ""
    pinned: str | None = None
    deleted_at: float | None = None
    best_by: tuple[str, ...] = ()
    resumed: int = 0
    parents: tuple[tuple[str, str], ...] = ()
    cost: Mapping[str, Any] = field(default_factory=dict)
    weights_bytes: int = 0
    optimizer_bytes: int = 0
    disk_bytes: int | None = None
    averaged: bool = False

    @property
    def label(self) -> str:
        """A few words for charts."""
        return f"{'average at ' if self.averaged else ''}step {self.step:,}"


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric. session: how many resumes came before. superseded: a later resume
    began below this step and computed it anew."""

    step: int
    value: float
    epoch: int
    time: float | None
    session: int
    superseded: bool


@dataclass(frozen=True, slots=True)
class Resume:
    """The run went on. lost_steps: how far it had come beyond the checkpoint, by the history."""

    time: float | None
    name: str
    step: int
    lost_steps: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One system of a selection. low, high: of its interval. p_best: share of resamples it wins."""

    name: str
    kind: str
    score: float | None
    low: float | None
    high: float | None
    p_best: float | None = None
    tied: bool = False
    chosen: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Pairwise:
    """One comparison. delta: candidate minus baseline, with its interval; p: after correction."""

    candidate: str
    baseline: str
    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One test sentence. outputs: candidate name and its translation."""

    source: str
    reference: str
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One length of an EMA sweep."""

    length: float
    score: float
    low: float | None
    high: float | None
    best: bool
    tied: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """An EMA sweep: scores over lengths, and what the lengths are."""

    points: tuple[SweepPoint, ...]
    axis: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """One selection: who was compared, on what, and who was chosen why."""

    file: str
    metric: str
    signature: str
    examples: int | None
    chosen: str
    sentence: str
    higher_is_better: bool
    candidates: tuple[Candidate, ...]
    pairwise: tuple[Pairwise, ...] = ()
    samples: tuple[Sample, ...] = ()
    sweep: Sweep | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """Between two checkpoints: a layer's relative L2 change; None if a value was not finite."""

    layer: str
    from_step: int
    to_step: int
    relative: float | None


@dataclass(frozen=True, slots=True)
class Release:
    """A deployment card: rows of label and text, in the order of the card."""

    file: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RunData:
    """Everything gathered of one run. series: metric -> points in file order."""

    name: str
    path: str
    gathered_at: float
    checkpoints: tuple[Checkpoint, ...]
    averages: tuple[Checkpoint, ...] = ()
    directions: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    resumes: tuple[Resume, ...] = ()
    selections: tuple[Selection, ...] = ()
    changes: tuple[Change, ...] = ()
    releases: tuple[Release, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[Checkpoint, ...]:
        """The checkpoints there are, oldest first."""
        return tuple(c for c in self.checkpoints if c.status == "kept")

    @property
    def deleted(self) -> tuple[Checkpoint, ...]:
        """The checkpoints retention gave up, oldest first."""
        return tuple(c for c in self.checkpoints if c.status == "deleted")

    @property
    def last_step(self) -> int:
        """The furthest step anything tells of."""
        known = [c.step for c in self.checkpoints]
        known += [point.step for points in self.series.values() for point in points[-1:]]
        return max(known, default=0)
