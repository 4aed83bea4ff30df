"""Shared locks of readers: a checkpoint that is being read is not deleted under the reader.

A reader holds a shared flock on the checkpoint's folder for as long as it is open; deleting needs
an exclusive one. The kernel drops them with the process. Where the file system has no locks,
nothing can be known of readers: then they are as unprotected as without holdfast.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import CheckpointNotFoundError
from holdfast.storage.protocol import InUseError

_TRIES = 100
_PAUSE_SECONDS = 0.005
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def share(fd: int, path: str) -> None:
    """Take a reader's lock on the folder opened as `fd`; `path` is how it was opened.

    Never waits for long: an exclusive lock is held for moments only, by a writer that has just
    published the checkpoint or one that is deleting it. Raises CheckpointNotFoundError if it was
    deleted or renamed meanwhile.
    """
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            _require_same(fd, path)
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            break
    _require_same(fd, path)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the folder against new readers. Raises InUseError if there is one already.

    Raises OSError if the folder cannot be opened.
    """
    fd = os.open(path, FOLDER_FLAGS)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(
                f"{path.name} is being read and stays",
                where=str(path),
                fix="it can be deleted when its reader has closed it",
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(fd)


def in_use(path: Path) -> bool:
    """Whether anyone is known to read the folder; False if it is not there."""
    try:
        with alone(path):
            return False
    except InUseError:
        return True
    except OSError:
        return False


def _require_same(fd: int, path: str) -> None:
    try:
        same = os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        same = False
    if not same:
        raise CheckpointNotFoundError("The checkpoint was deleted or renamed", where=path)
