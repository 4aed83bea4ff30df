"""The committed checkpoints of a run, from their manifests alone."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
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
from holdfast.storage.protocol import Opened, RunStorage, StampedRun
from holdfast.values import CheckpointInfo


@dataclass(frozen=True)
class Entry:
    """A committed checkpoint: its folder's name and its manifest."""

    name: str
    manifest: Manifest

    @cached_property
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
    return _catalog(_read(run, name) for name in run.names() if is_checkpoint_name(name))


class CatalogReader:
    """Lists one run again and again; manifests that were not replaced are not read again.

    What is remembered is checked against the file system's own facts of each manifest, so that
    metrics and pins added by other processes, and checkpoints they removed, are seen. A place that
    cannot tell is read anew each time. Safe for use from several threads.
    """

    def __init__(self, run: RunStorage) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Hashable, Entry]] = {}

    def read(self) -> Catalog:
        """As `read_catalog`."""
        run = self._run
        if not isinstance(run, StampedRun):
            return read_catalog(run)
        found: list[Entry | Unreadable | None] = []
        with self._lock:
            known, self._known = self._known, {}
            for name in run.names():
                if not is_checkpoint_name(name):
                    continue
                # Before it is read: what replaces it meanwhile is noticed the next time.
                stamp = run.stamp(name, MANIFEST_FILE)
                before = known.get(name)
                if before is None or stamp is None or before[0] != stamp:
                    item = _read(run, name)
                else:
                    item = before[1]
                if stamp is not None and isinstance(item, Entry):
                    self._known[name] = (stamp, item)
                found.append(item)
        return _catalog(found)

    def still(self, entries: Iterable[Entry]) -> bool:
        """Whether these manifests, read anew, are what was listed; if not, forget all of them.

        To be asked before something is deleted on their account: on network file systems the facts
        of a file may be some seconds old.
        """
        with self._lock:
            for entry in entries:
                found = _read(self._run, entry.name)
                if isinstance(found, Entry) and found.manifest == entry.manifest:
                    continue
                self._known.clear()
                return False
        return True


def _read(run: RunStorage, name: str) -> Entry | Unreadable | None:
    """One checkpoint; None if it is gone."""
    try:
        with run.open(name) as opened:
            return Entry(name, read_manifest(opened))
    except CheckpointNotFoundError:
        return None
    except LoadError as error:
        return Unreadable(name, error)


def _catalog(found: Iterable[Entry | Unreadable | None]) -> Catalog:
    items = list(found)
    entries = [item for item in items if isinstance(item, Entry)]
    entries.sort(key=lambda entry: entry.manifest.order)
    return Catalog(tuple(entries), tuple(item for item in items if isinstance(item, Unreadable)))
