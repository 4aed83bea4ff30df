"""The manifest as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from holdfast.jsontext import Json
from holdfast.values import CheckpointInfo, Parent, SaveReason


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a checkpoint: size in bytes, digest, and how many tensors it stores."""

    bytes: int
    digest: str
    tensors: int = 0


@dataclass(frozen=True, slots=True)
class ComponentRecord:
    """One saved object: "module", "optimizer" or "object"; its tensor file, if it has tensors.

    more_files: further tensor files, where it is divided over several. tensors and bytes count what
    is stored, each tied tensor once.
    """

    kind: str
    file: str | None
    tensors: int
    bytes: int
    more_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that listing, ranking, selecting and retention need of one checkpoint.

    Fields are described in docs/format.md. metrics: finite or not, as Python floats.
    directions: "min" or "max" for each metric that was tracked at save time.
    pinned: the reason given when it was pinned, None when it is not.
    cost: what the save cost, for people; empty if it was not measured.
    extra: keys this version does not know, kept as they were.
    """

    id: str
    epoch: int
    global_step: int
    branch: int
    sequence: int
    time: float
    reason: SaveReason
    components: Mapping[str, ComponentRecord]
    files: Mapping[str, FileRecord]
    metrics: Mapping[str, float] = field(default_factory=_nothing)
    directions: Mapping[str, str] = field(default_factory=_nothing)
    parents: tuple[Parent, ...] = ()
    world: Mapping[str, Json] = field(default_factory=_nothing)
    provenance: Mapping[str, Json] = field(default_factory=_nothing)
    pinned: str | None = None
    cost: Mapping[str, Json] = field(default_factory=_nothing)
    extra: Mapping[str, Json] = field(default_factory=_nothing)

    @property
    def bytes(self) -> int:
        """Size of all its files, the manifest itself not counted."""
        return sum(record.bytes for record in self.files.values())

    @property
    def tensors(self) -> int:
        """Number of stored tensors over all files."""
        return sum(record.tensors for record in self.files.values())

    @property
    def order(self) -> tuple[int, int, int]:
        """Ascending from oldest to newest: by branch, then global step, then commit."""
        return (self.branch, self.global_step, self.sequence)

    def info(self, name: str) -> CheckpointInfo:
        """The view of this manifest that policies work on; `name` is the folder's."""
        return CheckpointInfo(
            id=self.id,
            name=name,
            epoch=self.epoch,
            global_step=self.global_step,
            branch=self.branch,
            sequence=self.sequence,
            time=self.time,
            bytes=self.bytes,
            metrics=self.metrics,
            reason=self.reason,
            parents=self.parents,
            pinned=self.pinned,
        )
