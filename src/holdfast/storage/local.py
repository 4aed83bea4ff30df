"""A training run in a folder of a local (or locally mounted) file system."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from holdfast.errors import CheckpointNotFoundError, NoSpaceError
from holdfast.storage import durable, leftovers, lock, reading, run_files
from holdfast.storage.durable import check_name, entry_exists, flush_folder, make_folders, saving
from holdfast.storage.filesystems import prefers_direct_io
from holdfast.storage.joined import LocalJoined, join
from holdfast.storage.lock import WriterLock
from holdfast.storage.opened import LocalOpened
from holdfast.storage.protocol import Block, NameTakenError
from holdfast.storage.staged import LocalStaged


class LocalRun:
    """`RunStorage` in the folder `path`; see the protocol for the contract.

    Reading never creates the folder. direct_io: write large files past the page cache; None
    decides by the file system, and whatever is asked, buffered writes are the fall-back.
    """

    def __init__(self, path: str | os.PathLike[str], *, direct_io: bool | None = None) -> None:
        self._path = Path(path)
        self._direct_io = direct_io
        self._settled: set[str] = set()

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._path

    @property
    def place(self) -> str:
        """The run's folder, for error messages."""
        return str(self._path)

    def names(self) -> list[str]:
        """Names of the visible folders, sorted; links are not followed."""
        try:
            with os.scandir(self._path) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def stage(self, name: str, *, needed_bytes: int = 0) -> LocalStaged:
        """Begin a checkpoint in a hidden folder owned by this process."""
        check_name(name)
        available = self.free_bytes()
        if available is not None and needed_bytes > available:
            raise NoSpaceError(
                f"{needed_bytes} bytes are needed and {available} are free; nothing was written",
                needed_bytes=needed_bytes,
                available_bytes=available,
                where=self.place,
                fix="free space, or save to a larger disk",
            )
        self._make_folder()
        if self._direct_io is None:
            self._direct_io = prefers_direct_io(self._path)
        folder = leftovers.create_owned(self._path, name)
        return LocalStaged(folder, name, direct_io=self._direct_io)

    def join(self, handle: str) -> LocalJoined:
        """Join a checkpoint that another process has staged here."""
        if self._direct_io is None:
            self._direct_io = prefers_direct_io(self._path)
        return join(self._path, handle, direct_io=self._direct_io)

    def open(self, name: str) -> LocalOpened:
        """Open a committed checkpoint."""
        return LocalOpened(os.path.join(self._path, check_name(name)))

    def stamp(self, name: str, file: str) -> Hashable | None:
        """What its file system says of a file: replacing one always makes another of it."""
        try:
            path = os.path.join(self._path, check_name(name), check_name(file))
            found = os.stat(path, follow_symlinks=False)
        except OSError:
            return None
        return (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )

    def rename(self, name: str, new_name: str) -> None:
        """Give a checkpoint another name, atomically and durably."""
        path, target = self._path / self._committed(name), self._path / check_name(new_name)
        if entry_exists(target):
            raise NameTakenError(f"Something named {new_name} exists already", where=str(target))
        with saving("rename the checkpoint", path):
            os.rename(path, target)
            flush_folder(self._path)

    def discard(self, name: str, *, owned: Iterable[str] | None = None) -> list[str]:
        """Delete a checkpoint, its name first; whatever is not ours in it is kept beside it."""
        path = self._path / self._committed(name)
        with contextlib.ExitStack() as stack:
            with saving("hold the checkpoint against readers", path):
                stack.enter_context(reading.alone(path))
            kept = self._keep_strangers(path, None if owned is None else frozenset(owned))
            trash = self._path / leftovers.hidden_name(leftovers.TRASH_PREFIX, name)
            with saving("discard the checkpoint", path):
                os.rename(path, trash)
                flush_folder(self._path)
            leftovers.remove_tree(trash)
        return kept

    def in_use(self, name: str) -> bool:
        """Whether a reader, here or in another process, has the checkpoint open."""
        return reading.in_use(self._path / check_name(name))

    def lock(self) -> WriterLock:
        """Become the one process that writes the run."""
        return lock.acquire(self._path)

    def sweep(self) -> list[str]:
        """Remove the leftovers of writers that are provably gone; return their names."""
        return leftovers.sweep(self._path)

    def replace_bytes(self, name: str, file: str, data: Block) -> None:
        """Replace one small file of a committed checkpoint, atomically and durably."""
        path = self._path / self._committed(name) / check_name(file)
        run_files.replace_file(path, data, hidden_in=self._path)

    def update_bytes(
        self, name: str, file: str, change: Callable[[bytes], bytes], *, max_bytes: int
    ) -> None:
        """Replace one small file by what `change` makes of it, alone among those who do so."""
        path = self._path / self._committed(name) / check_name(file)
        run_files.update_file(path, change, max_bytes=max_bytes, hidden_in=self._path)

    def take(self, file: str) -> bool:
        """Remove a file of the run; whether it was there."""
        return run_files.take(self._path / check_name(file))

    def append_line(self, file: str, line: bytes) -> None:
        """Append one line to a file of the run, durably."""
        self._make_folder()
        path = self._path / check_name(file)
        run_files.append_line(path, line, settle=file not in self._settled)
        self._settled.add(file)

    def read_lines(self, file: str) -> list[bytes]:
        """The whole lines of a file of the run."""
        return run_files.read_lines(self._path / check_name(file))

    def point(self, pointer: str, name: str | None) -> bool:
        """Swap the symlink `pointer` (or a text file where links are not possible)."""
        return run_files.point(self._path / check_name(pointer), name)

    def free_bytes(self) -> int | None:
        """Bytes an ordinary user can still write here."""
        return durable.free_bytes(self._path)

    def _make_folder(self) -> None:
        """Make the run's folder if it is missing, and its name durable, whoever made it.

        A process that died between making it and the flush left it there, seemingly fine.
        """
        make_folders(self._path, settle="." not in self._settled)
        self._settled.add(".")

    def _committed(self, name: str) -> str:
        """The name, if a folder has it. Raises CheckpointNotFoundError otherwise."""
        path = self._path / check_name(name)
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found is None or not stat.S_ISDIR(found.st_mode):
            raise CheckpointNotFoundError(f"There is no checkpoint {name}", where=self.place)
        return name

    def _keep_strangers(self, path: Path, owned: frozenset[str] | None) -> list[str]:
        """Move what is not ours out of a checkpoint about to be deleted; return where it went.

        We write regular files only, straight into the folder: links, folders and devices are
        never ours.
        """
        with saving("look through the checkpoint", path), os.scandir(path) as entries:
            strangers = sorted(entry.name for entry in entries if not _is_ours(entry, owned))
        if not strangers:
            return []
        kept_folder = self._free_name(f"kept-from-{path.name}")
        with saving("keep the files that are not holdfast's", kept_folder):
            os.mkdir(kept_folder)
            # Durable before anything moves in: else the folder could be lost with what is in it.
            flush_folder(self._path)
            for name in strangers:
                os.rename(path / name, kept_folder / name)
            flush_folder(kept_folder)
        return [str(kept_folder / name) for name in strangers]

    def _free_name(self, name: str) -> Path:
        path = self._path / name
        return path if not entry_exists(path) else self._path / f"{name}-{secrets.token_hex(4)}"


def _is_ours(entry: os.DirEntry[str], owned: frozenset[str] | None) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    return owned is None or entry.name in owned or entry.name.startswith(leftovers.EDIT_PREFIX)
