"""Hidden folders of writers: how they are named, owned, and swept once their owner is gone.

A hidden folder is owned by whoever holds an exclusive flock on it; the kernel drops the lock when
the owner dies, however it dies. Its name also carries the boot it was made in: on a file system
several hosts may share, a lock that can be had proves nothing about a writer elsewhere, so there
only folders of this very boot are swept. Files that replace another are made and swept alike.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.errors import SaveError
from holdfast.storage.durable import create, flush_folder, saving
from holdfast.storage.filesystems import boot_tag, is_one_host
from holdfast.storage.forked import drop_in_children

STAGING_PREFIX = ".holdfast-tmp-"
TRASH_PREFIX = ".holdfast-trash-"
EDIT_PREFIX = ".holdfast-edit-"
_NAME_KEPT_CHARS = 60
_ATTEMPTS_MAX = 100
NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class OwnedFolder:
    """A hidden folder made by this process, locked until `release`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd
        drop_in_children(self)

    def forget_in_child(self) -> None:
        """A forked child does not go on owning what its parent writes."""
        self.release()

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


@contextlib.contextmanager
def owned_file(parent: Path, name: str) -> Iterator[tuple[Path, int]]:
    """Make a hidden file in `parent`, owned while inside; removed on leaving if still there.

    Gives its path and a descriptor to write through. Raises OSError.
    """
    path = parent / hidden_name(EDIT_PREFIX, name)
    fd = create(path)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path, fd
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(fd)


def sweep(parent: Path) -> list[str]:
    """Remove hidden folders and files whose writer is provably gone; return their names, sorted."""
    try:
        with os.scandir(parent) as entries:
            found = [(entry.name, _remover(entry)) for entry in entries]
    except FileNotFoundError:
        return []
    ours = sorted((name, remove) for name, remove in found if remove is not None)
    one_host = is_one_host(parent) if ours else False
    swept = [
        name
        for name, remove in ours
        if (one_host or name.rsplit("-", 2)[-2:-1] == [boot_tag()]) and remove(parent / name)
    ]
    if swept:
        with contextlib.suppress(OSError):
            flush_folder(parent)
    return swept


def remove_tree(path: Path) -> None:
    """Remove a hidden folder and all in it, following no link; what resists is left for a sweep."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path)


def _remover(entry: os.DirEntry[str]) -> Callable[[Path], bool] | None:
    """How to remove the entry if it is a hidden one of ours."""
    if entry.name.startswith((STAGING_PREFIX, TRASH_PREFIX)):
        return _sweep_folder if entry.is_dir(follow_symlinks=False) else None
    if not entry.name.startswith(EDIT_PREFIX):
        return None
    if entry.is_symlink():
        return _sweep_link
    return _sweep_file if entry.is_file(follow_symlinks=False) else None


def _sweep_folder(path: Path) -> bool:
    return _sweep_locked(path, os.O_DIRECTORY, shutil.rmtree)


def _sweep_file(path: Path) -> bool:
    return _sweep_locked(path, os.O_NONBLOCK, os.unlink)


def _sweep_link(path: Path) -> bool:
    """A link cannot be locked. Taking one from a live writer costs a pointer's update, no more."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _sweep_locked(path: Path, flags: int, remove: Callable[[Path], object]) -> bool:
    try:
        fd = _lock(path, flags)
    except OSError:
        return False
    if fd is None:
        return False
    try:
        remove(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _lock(path: Path, flags: int = os.O_DIRECTORY, *, or_unlocked: bool = False) -> int | None:
    """Open and lock the entry; None if another holds it or the name now means another one.

    or_unlocked: go without where the file system has no locks; nobody can sweep there either.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        return None
    locked = False
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not (or_unlocked and error.errno in NO_LOCKS):
                raise
        locked = os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except (BlockingIOError, FileNotFoundError):
        locked = False
    finally:
        if not locked:
            os.close(fd)
    return fd if locked else None
