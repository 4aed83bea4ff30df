"""Small durable steps on a local file system, each failing with an error that names it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.errors import ConfigError, HoldfastError, NoSpaceError, SaveError
from holdfast.storage.protocol import Block, NameTakenError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME_MAX_BYTES = 220
_IOV_MAX = 1024


def check_name(name: str) -> str:
    """Return `name` if it is one plain, visible path part. Raises ConfigError otherwise."""
    fits = len(os.fsencode(name)) <= _NAME_MAX_BYTES if name.isprintable() else False
    if not fits or not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ConfigError(
            f"{name[:80]!a} cannot be the name of a checkpoint or a file in it",
            fix=f"use up to {_NAME_MAX_BYTES} printable bytes, no separator, no leading dot",
        )
    return name


@contextlib.contextmanager
def saving(step: str, path: Path, *, missing_bytes: int = 0) -> Iterator[None]:
    """Turn any OSError inside into the SaveError that names the step and the path.

    missing_bytes: what was still to be written there, told when the disk is full.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, HoldfastError):
            raise
        raise _as_save_error(error, step, path, missing_bytes) from error


def _as_save_error(error: OSError, step: str, path: Path, missing_bytes: int) -> SaveError:
    if error.errno in _FULL:
        available = free_bytes(path) or 0
        return NoSpaceError(
            f"The disk is full: could not {step}, {missing_bytes} bytes were still to be written "
            f"and {available} are free. Earlier checkpoints stand",
            needed_bytes=missing_bytes,
            available_bytes=available,
            where=str(path),
            fix="free space or raise the quota, then save again",
        )
    if error.errno == errno.EEXIST:
        return NameTakenError(f"Could not {step}: the name is taken", where=str(path))
    return SaveError(
        f"Could not {step}: {error.strerror or error}. Earlier checkpoints stand",
        where=str(path),
        fix="see to the disk or its permissions, then save again",
    )


def free_bytes(path: Path) -> int | None:
    """Bytes an ordinary user can still write at `path` or its nearest existing parent."""
    for place in (path, *path.parents):
        try:
            found = os.statvfs(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
    return None


def flush(fd: int) -> None:
    """Put what was written through `fd` on stable storage. Raises OSError: never call it again."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is None:
        os.fsync(fd)
    else:
        # On macOS fsync leaves the data in the drive's own cache.
        fcntl.fcntl(fd, full_sync)


def flush_folder(path: Path) -> None:
    """Put the names in a folder on stable storage. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush(fd)
    finally:
        os.close(fd)


def make_folders(path: Path, *, settle: bool = False) -> None:
    """Make a folder and its missing parents, each durable before the next. Raises SaveError.

    A folder's name is durable once its parent is flushed. settle: also flush the parents of what
    is there already, as far as the file system lets us: its maker may have died before doing so.
    """
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    if settle:
        _settle(path)
    for folder in reversed(missing):
        with saving("make the folder", folder):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not folder.is_dir():
                    raise
                continue
            flush_folder(folder.parent)


def _settle(path: Path) -> None:
    """Flush the folders above `path` on its file system, as far as that is allowed."""
    device = None
    for folder in path.absolute().parents:
        # Folders that are missing yet or not ours to open, and mounts without such a flush.
        with contextlib.suppress(OSError):
            found = folder.stat().st_dev
            if device is not None and found != device:
                return
            device = found
            flush_folder(folder)


def create(path: Path) -> int:
    """Create a new file for writing, with the user's umask. Raises OSError if it exists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def write_at(fd: int, segments: Sequence[Block], offset: int) -> None:
    """Write all segments one after the other from `offset`, however short each write. OSError."""
    views = [memoryview(segment).cast("B") for segment in segments if len(segment)]
    first = 0
    while first < len(views):
        written = os.pwritev(fd, views[first : first + _IOV_MAX], offset)
        offset += written
        while first < len(views) and written >= len(views[first]):
            written -= len(views[first])
            first += 1
        if written:
            views[first] = views[first][written:]


def write_new_file(path: Path, data: Block) -> None:
    """Write one small new file and flush it. Raises OSError."""
    fd = create(path)
    try:
        write_at(fd, [data], 0)
        flush(fd)
    finally:
        os.close(fd)


def entry_exists(path: Path) -> bool:
    """Whether anything has this name, a dangling link included."""
    return os.path.lexists(path)
