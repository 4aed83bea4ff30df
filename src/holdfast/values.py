"""Frozen records that every layer may speak of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class SaveReason:
    """Why a checkpoint was saved: a short machine word and one sentence for people."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Parent:
    """A checkpoint this one came from.

    relation: "resumed_from", "averaged_from" or "consolidated_from".
    """

    relation: str
    id: str
    name: str
    global_step: int


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What policies may know of one committed checkpoint: its manifest, never its place.

    id: random and unique. name: the folder's name. global_step: optimizer steps since the run
    began. branch: how often the run had gone back to an older checkpoint (or started afresh in
    this folder) before this save. sequence: number of the commit within the run folder.
    time: seconds since the epoch, UTC. metrics: as given to `save`, NaN and infinities included.
    bytes: the sum of the sizes of its files.
    """

    id: str
    name: str
    epoch: int
    global_step: int
    branch: int
    sequence: int
    time: float
    bytes: int
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    reason: SaveReason = SaveReason("manual", "save() was called")
    parents: tuple[Parent, ...] = ()
    pinned: str | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Ascending from oldest to newest: by branch, then global step, then commit."""
        return (self.branch, self.global_step, self.sequence)
