"""The runs under a folder, and whether one of them has changed since it was last looked at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from holdfast.manifest import EVENTS_FILE, HISTORY_FILE, MANIFEST_FILE, is_checkpoint_name
from holdfast.report.gather_selection import SELECTIONS

_DEPTH_MAX = 5
_RUNS_MAX = 500
_FOLDERS_MAX = 20_000
_WATCHED = (HISTORY_FILE, EVENTS_FILE, SELECTIONS, "averages")


def find_runs(root: Path) -> dict[str, Path]:
    """Run folders at or under `root`, by their relative path ("." for itself), sorted.

    A run is a folder with checkpoints or a history in it. Links are not followed. At most 500 runs,
    five levels deep.
    """
    found: dict[str, Path] = {}
    looked = 0
    waiting = [(root, 0)]
    while waiting and len(found) < _RUNS_MAX and looked < _FOLDERS_MAX:
        folder, depth = waiting.pop()
        looked += 1
        entries = list(_folders_and_files(folder))
        if any(_tells_of_a_run(entry) for entry in entries):
            found[folder.relative_to(root).as_posix()] = folder
        if depth < _DEPTH_MAX:
            waiting += [
                (folder / entry.name, depth + 1)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and _may_hold_runs(entry.name)
            ]
    return dict(sorted(found.items()))


def fingerprint(run: Path) -> str:
    """A text that changes when the run's checkpoints, history, pins or selections do.

    Made of names, sizes and times alone: cheap enough to be asked every second.
    """
    seen = hashlib.blake2b(digest_size=12)
    for entry in sorted(_folders_and_files(run), key=lambda entry: entry.name):
        if is_checkpoint_name(entry.name):
            seen.update(f"{entry.name}{_stamp(Path(entry.path) / MANIFEST_FILE)}".encode())
        elif entry.name in _WATCHED:
            seen.update(f"{entry.name}{_stamp(Path(entry.path))}".encode())
    return seen.hexdigest()


def _stamp(path: Path) -> str:
    try:
        found = path.lstat()
    except OSError:
        return "-"
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"


def _tells_of_a_run(entry: os.DirEntry[str]) -> bool:
    if entry.name == HISTORY_FILE:
        return entry.is_file(follow_symlinks=False)
    return is_checkpoint_name(entry.name) and entry.is_dir(follow_symlinks=False)


def _may_hold_runs(name: str) -> bool:
    kept_out = name.startswith((".", "checkpoint_", "damaged-", "kept-from-"))
    return not kept_out and name not in ("averages", SELECTIONS)


def _folders_and_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except OSError:
        return
