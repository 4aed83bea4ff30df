"""Hidden folders of writers: how they are named, owned, and swept once their owner is gone.

A hidden folder is owned by whoever holds an exclusive flock on it; the kernel drops the lock when
the owner dies, however it dies. Its name also carries the boot it was made in: on a file system
several hosts may share, a lock that can be had proves nothing about a writer elsewhere, so there
only folders of this very boot are swept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from holdfast.errors import SaveError
from holdfast.storage.durable import flush_folder, saving
from holdfast.storage.filesystems import boot_tag, is_one_host

STAGING_PREFIX = ".holdfast-tmp-"
TRASH_PREFIX = ".holdfast-trash-"
_NAME_KEPT_CHARS = 60
_ATTEMPTS_MAX = 100
_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class OwnedFolder:
    """A hidden folder made by this process, locked until `release`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    @property
    def fd(self) -> int:
        """A descriptor of the folder itself, whatever its name is by now."""
        if self._fd is None:
            raise SaveError("The staged folder was already published or removed")
        return self._fd

    @property
    def held(self) -> bool:
        """Whether it is still this process's to write."""
        return self._fd is not None

    def release(self) -> None:
        """Give up the lock; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def hidden_name(prefix: str, name: str) -> str:
    """A hidden, unique name beside `name`, carrying this boot."""
    return f"{prefix}{name[:_NAME_KEPT_CHARS]}-{boot_tag()}-{secrets.token_hex(6)}"


def create_owned(parent: Path, name: str) -> OwnedFolder:
    """Make a staging folder for `name` in `parent` and own it. Raises SaveError."""
    for _ in range(_ATTEMPTS_MAX):
        path = parent / hidden_name(STAGING_PREFIX, name)
        with saving("make the staging folder", path):
            os.mkdir(path)
            fd = _lock(path, or_unlocked=True)
        # Between making and locking it a sweep may have taken it for a leftover.
        if fd is not None:
            return OwnedFolder(path, fd)
    raise SaveError("Could not own a staging folder: each one was taken away", where=str(parent))


def sweep(parent: Path) -> list[str]:
    """Remove hidden folders whose writer is provably gone; return their names, sorted."""
    try:
        found = [entry.name for entry in os.scandir(parent) if _is_hidden_folder(entry)]
    except FileNotFoundError:
        return []
    one_host = is_one_host(parent)
    return [name for name in sorted(found) if _sweep_one(parent, name, one_host=one_host)]


def remove_tree(path: Path) -> None:
    """Remove a hidden folder and all in it, following no link; what resists is left for a sweep."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path)


def _is_hidden_folder(entry: os.DirEntry[str]) -> bool:
    ours = entry.name.startswith((STAGING_PREFIX, TRASH_PREFIX))
    return ours and entry.is_dir(follow_symlinks=False)


def _sweep_one(parent: Path, name: str, *, one_host: bool) -> bool:
    if not one_host and name.rsplit("-", 2)[-2:-1] != [boot_tag()]:
        return False
    path = parent / name
    try:
        fd = _lock(path)
    except OSError:
        return False
    if fd is None:
        return False
    try:
        shutil.rmtree(path)
        flush_folder(parent)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _lock(path: Path, *, or_unlocked: bool = False) -> int | None:
    """Open and lock the folder; None if another holds it or the name now means another folder.

    or_unlocked: go without where the file system has no locks; nobody can sweep there either.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    locked = False
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not (or_unlocked and error.errno in _NO_LOCKS):
                raise
        locked = os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except (BlockingIOError, FileNotFoundError):
        locked = False
    finally:
        if not locked:
            os.close(fd)
    return fd if locked else None
