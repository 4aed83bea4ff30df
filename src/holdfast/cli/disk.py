"""What a run takes on the disk: by checkpoint, by component, linked files once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.cli.listing import catalog_of
from holdfast.cli.output import size_text, table
from holdfast.engine.catalog import Catalog
from holdfast.manifest import Manifest, is_checkpoint_name

Inode = tuple[int, int]


@dataclass
class Folder:
    """One entry of the run folder. own_bytes: in files that nothing else here is linked to."""

    name: str
    bytes: int = 0
    own_bytes: int = 0
    files: dict[str, tuple[Inode, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """Entries of a run folder by name. disk_bytes: each file once, however often it is linked."""

    run: Path
    catalog: Catalog
    folders: Mapping[str, Folder]
    disk_bytes: int

    @property
    def bytes(self) -> int:
        """The sum of all sizes, a linked file as often as it is linked."""
        return sum(folder.bytes for folder in self.folders.values())

    def freed_by(self, names: Collection[str]) -> int:
        """Bytes that come free when these entries go: files linked from elsewhere do not."""
        counts = _link_counts(self.folders.values())
        gone = _link_counts(self.folders[name] for name in names if name in self.folders)
        sizes = {inode: size for f in self.folders.values() for inode, size in f.files.values()}
        return sum(sizes[inode] for inode, count in gone.items() if count == counts[inode])

    def kinds(self) -> dict[str, int]:
        """Bytes by component over all checkpoints, largest first."""
        total: Counter[str] = Counter()
        for entry in self.catalog.entries:
            total.update(components_bytes(entry.manifest))
        return dict(total.most_common())

    def as_data(self) -> dict[str, Any]:
        """The usage as plain data."""
        manifests = {entry.name: entry.manifest for entry in self.catalog.entries}
        return {
            "schema": "holdfast-du/1",
            "bytes": self.bytes,
            "disk_bytes": self.disk_bytes,
            "components": self.kinds(),
            "checkpoints": [
                {
                    "name": name,
                    "bytes": self.folders[name].bytes,
                    "own_bytes": self.folders[name].own_bytes,
                    "components": components_bytes(manifest),
                }
                for name, manifest in manifests.items()
                if name in self.folders
            ],
            "other": {n: f.bytes for n, f in self.folders.items() if n not in manifests},
        }

    def as_text(self) -> str:
        """Tables by checkpoint and by component."""
        manifests = {entry.name: entry.manifest for entry in self.catalog.entries}
        names = [*manifests, *(n for n in self.folders if n not in manifests)]
        rows = [
            [n, size_text(self.folders[n].bytes), size_text(self.folders[n].own_bytes)]
            for n in names
            if n in self.folders
        ]
        rows.append(["total", size_text(self.bytes), size_text(self.disk_bytes)])
        parts = [[name, size_text(count)] for name, count in self.kinds().items()]
        return "\n\n".join(
            [
                table(["entry", "size", "of its own"], rows, " rr"),
                table(["part", "size"], parts, " r"),
            ]
        )


def components_bytes(manifest: Manifest) -> dict[str, int]:
    """Bytes by component of one checkpoint; small objects share a file and stand together."""
    owner: dict[str, str] = {}
    for name, record in manifest.components.items():
        for file in (record.file, *record.more_files):
            if file is not None:
                owner[file] = "other objects" if record.kind == "object" else name
    total: Counter[str] = Counter()
    for file, entry in manifest.files.items():
        total[owner.get(file, "description")] += entry.bytes
    return dict(total.most_common())


def usage_of(run: Path) -> Usage:
    """Look at every file under the run folder; nothing is opened but manifests."""
    catalog = catalog_of(run)
    folders: dict[str, Folder] = {}
    for entry in os.scandir(run):
        if entry.is_symlink():
            continue
        folder = Folder(entry.name)
        for path, status in _files(Path(entry.path)):
            folder.files[path] = ((status.st_dev, status.st_ino), status.st_size)
            folder.bytes += status.st_size
        folders[entry.name] = folder
    counts = _link_counts(folders.values())
    once: dict[Inode, int] = {}
    for folder in folders.values():
        once.update(folder.files.values())
        folder.own_bytes = sum(size for inode, size in folder.files.values() if counts[inode] == 1)
    ordered = sorted(folders.values(), key=lambda f: (not is_checkpoint_name(f.name), f.name))
    return Usage(run, catalog, {f.name: f for f in ordered}, sum(once.values()))


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files at or under `path`; what vanishes meanwhile is left out."""
    stack = [path]
    while stack:
        here = stack.pop()
        try:
            status = here.lstat()
            if here.is_symlink():
                continue
            if here.is_dir():
                stack.extend(here.iterdir())
            else:
                yield str(here), status
        except OSError:
            continue


def _link_counts(folders: Iterator[Folder] | Collection[Folder]) -> Counter[Inode]:
    return Counter(inode for folder in folders for inode, _ in folder.files.values())
