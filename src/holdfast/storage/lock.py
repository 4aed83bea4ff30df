"""The lock of a run folder: one process writes it at a time.

The lock is an exclusive flock on a file in the folder, so the kernel gives it up however the
writer dies. The file says who holds it; text left in it by a writer that did not come to release
it names whom the lock was taken over from. Decision 0010 tells what else was considered.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from holdfast.errors import LockedError
from holdfast.storage.durable import make_folders, saving
from holdfast.storage.forked import drop_in_children
from holdfast.storage.holder import Holder, current_holder
from holdfast.storage.leftovers import NO_LOCKS

LOCK_FILE = ".holdfast-lock"
_LOG = logging.getLogger("holdfast")
_ATTEMPTS_MAX = 100
_PAUSE_SECONDS = 0.01

Flock = Callable[[int, int], object]


class _Held:
    """The lock as this process holds it, shared by all its `WriterLock`s of the folder."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.users = path, 1
        self._fd: int | None = fd
        drop_in_children(self)

    @property
    def valid(self) -> bool:
        """Whether the name still leads to the file we locked, and in this process."""
        if self._fd is None:
            return False
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._fd))

    def forget_in_child(self) -> None:
        """A forked child is another process: it holds nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def release(self) -> None:
        """Give it up. Removing the file under the lock is safe: takers compare what they locked."""
        if self._fd is None:
            return
        if self.valid:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = None


class WriterLock:
    """This process's right to write the run. Released by `release`, or when it is collected."""

    def __init__(self, held: _Held) -> None:
        self._held = held
        self._finalizer = weakref.finalize(self, _give_back, held)

    @property
    def valid(self) -> bool:
        """False in a forked child, after `release`, or if the lock's file was taken away."""
        return bool(self._finalizer.alive) and self._held.valid

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        self._finalizer()


_registry: dict[Path, _Held] = {}
_mutex = threading.RLock()


def _start_anew() -> None:
    """In a forked child: another thread of the parent may have held the mutex at that moment."""
    global _mutex
    _mutex = threading.RLock()
    _registry.clear()


os.register_at_fork(after_in_child=_start_anew)


def acquire(folder: Path, *, flock: Flock = fcntl.flock) -> WriterLock:
    """Become the writer of `folder`, which is made if missing. Raises LockedError or SaveError.

    Managers of one process share the lock: they can see each other, processes cannot. flock: the
    system call, for tests of file systems without it.
    """
    make_folders(folder)
    key = folder.resolve()
    with _mutex, saving("lock the run folder", folder):
        held = _registry.get(key)
        if held is not None and held.valid:
            held.users += 1
            return WriterLock(held)
        held = _registry[key] = _Held(key / LOCK_FILE, _take(key / LOCK_FILE, flock))
        return WriterLock(held)


def writer_of(folder: Path) -> Holder | None:
    """Who is named as the writer of `folder`, alive or not; None if nobody is.

    Only looks: taking the lock to see whether it is free could turn away a writer that starts.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(folder / LOCK_FILE, flags)
    except OSError:
        return None
    try:
        return _read(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _give_back(held: _Held) -> None:
    with _mutex:
        held.users -= 1
        if held.users == 0:
            held.release()
            if _registry.get(held.path.parent) is held:
                del _registry[held.path.parent]


def _take(path: Path, flock: Flock) -> int:
    """A descriptor that holds the lock. Raises LockedError, OSError."""
    for attempt in range(_ATTEMPTS_MAX):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            try:
                flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locks = True
            except BlockingIOError as error:
                holder = _read(fd, tries=10)
                # A child forked in the holder's last moment may not have let go of its copy yet.
                if holder is None or not holder.is_gone() or attempt == _ATTEMPTS_MAX - 1:
                    raise _refusal(path, holder) from error
                os.close(fd)
                time.sleep(_PAUSE_SECONDS)
                continue
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                locks = False
            # A writer may have removed the file between our opening and our locking it.
            if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd)):
                _claim(fd, path, locks=locks)
                return fd
        except FileNotFoundError:
            os.close(fd)
            continue
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise LockedError("The lock of the run folder keeps changing hands", where=str(path))


def _claim(fd: int, path: Path, *, locks: bool) -> None:
    """Write our name into the lock's file. Raises LockedError if its holder may be alive."""
    before = _read(fd)
    if before is not None:
        if not locks and not before.is_gone():
            raise _refusal(path, before)
        _LOG.warning(
            "%s: took over the lock of %s, which ended without releasing it", path.parent, before
        )
    data = current_holder().to_bytes()
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, data, 0)
    except OSError:
        # The flock is the lock, the name in it is for people: a full disk, from which only a
        # writer can delete something, must not keep out the writer.
        if not locks:
            raise


def _read(fd: int, *, tries: int = 1) -> Holder | None:
    """Who is named in the file; None if nobody is. A new holder needs a moment to sign."""
    for attempt in range(tries):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        data = os.pread(fd, 4096, 0)
        if data:
            return Holder.from_bytes(data)
    return None


def _refusal(path: Path, holder: Holder | None) -> LockedError:
    who = "another process" if holder is None else str(holder)
    return LockedError(
        f"The run folder is being written by {who}",
        where=str(path.parent),
        fix="wait for it or end it, or save to another checkpoint_dir; if it is surely gone, "
        f"delete {path.name}",
    )
