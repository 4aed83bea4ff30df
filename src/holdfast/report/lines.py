"""Lines of a run's files, read without trusting their size or what they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

TAIL_BYTES_MAX = 64 << 20
FILE_BYTES_MAX = 32 << 20


def read_tail(path: Path, max_bytes: int = TAIL_BYTES_MAX) -> tuple[list[bytes], bool]:
    """The whole lines at the end of a file, and whether earlier ones were left out.

    No lines if there is no such regular file. Links are not followed.
    """
    fd = _opened(path)
    if fd is None:
        return [], False
    with open(fd, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        skipped = size > max_bytes
        if skipped:
            stream.seek(size - max_bytes)
            stream.readline()
        return stream.read(max_bytes).split(b"\n")[:-1], skipped


def read_small(path: Path, max_bytes: int = FILE_BYTES_MAX) -> bytes | None:
    """A whole regular file; None if there is none, or it is larger than `max_bytes`."""
    fd = _opened(path)
    if fd is None:
        return None
    with open(fd, "rb") as stream:
        data = stream.read(max_bytes + 1)
    return data if len(data) <= max_bytes else None


def _opened(path: Path) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd
