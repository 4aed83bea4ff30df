"""The committed checkpoints of a run, from their manifests alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from holdfast.errors import CheckpointNotFoundError, HoldfastError, LoadError
from holdfast.manifest import (
    MANIFEST_FILE,
    MANIFEST_MAX_BYTES,
    Manifest,
    is_checkpoint_name,
    parse_manifest,
)
from holdfast.storage.protocol import Opened, RunStorage
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed checkpoint: its folder's name and its manifest."""

    name: str
    manifest: Manifest

    @property
    def info(self) -> CheckpointInfo:
        """What policies may know of it."""
        return self.manifest.info(self.name)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder with a checkpoint's name whose manifest cannot be trusted, and why."""

    name: str
    error: HoldfastError


@dataclass(frozen=True)
class Catalog:
    """entries: ascending from oldest to newest (by branch, global step, commit)."""

    entries: tuple[Entry, ...]
    unreadable: tuple[Unreadable, ...]

    @cached_property
    def infos(self) -> list[CheckpointInfo]:
        """The policies' view of all entries, oldest first."""
        return [entry.info for entry in self.entries]

    @property
    def newest(self) -> Entry | None:
        """The newest committed checkpoint."""
        return self.entries[-1] if self.entries else None

    def named(self, name: str) -> Entry:
        """The entry of this name. Raises CheckpointNotFoundError, or what made it unreadable."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        for unreadable in self.unreadable:
            if unreadable.name == name:
                raise unreadable.error
        raise CheckpointNotFoundError(f"There is no checkpoint named {name}")


def read_manifest(opened: Opened) -> Manifest:
    """The manifest of an opened checkpoint, proven. Raises LoadError."""
    data = opened.read_bytes(MANIFEST_FILE, MANIFEST_MAX_BYTES)
    return parse_manifest(data, where=f"{opened.place}/{MANIFEST_FILE}")


def read_catalog(run: RunStorage) -> Catalog:
    """List the run: one small file is read per checkpoint, nothing else.

    A folder that vanishes meanwhile (another process pruned it) is left out; one whose manifest
    is damaged is listed as unreadable, never silently dropped.
    """
    entries: list[Entry] = []
    unreadable: list[Unreadable] = []
    for name in run.names():
        if not is_checkpoint_name(name):
            continue
        try:
            with run.open(name) as opened:
                entries.append(Entry(name, read_manifest(opened)))
        except CheckpointNotFoundError:
            continue
        except LoadError as error:
            unreadable.append(Unreadable(name, error))
    entries.sort(key=lambda entry: entry.manifest.order)
    return Catalog(tuple(entries), tuple(unreadable))
