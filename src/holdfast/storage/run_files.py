"""The few small files of a local run that change after they were written."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from holdfast.errors import FormatError, SaveError
from holdfast.storage import leftovers
from holdfast.storage.durable import check_name, flush, flush_folder, saving, write_at
from holdfast.storage.protocol import Block

_POINTER_MAX_BYTES = 512
_TRIES = 2000
_PAUSE_SECONDS = 0.01


def replace_file(path: Path, data: Block, *, hidden_in: Path) -> None:
    """Replace (or create) one small file atomically and durably. Raises SaveError.

    hidden_in: the folder, on the same file system, in which the new file is made: a leftover there
    is found by a sweep, one in the checkpoint would be a stranger in it.
    """
    with saving("replace the file", path, missing_bytes=len(data)):
        with leftovers.owned_file(hidden_in, path.name) as (fresh, fd):
            write_at(fd, [data], 0)
            flush(fd)
            os.replace(fresh, path)
        flush_folder(path.parent)


def update_file(
    path: Path, change: Callable[[bytes], bytes], *, max_bytes: int, hidden_in: Path
) -> None:
    """Replace a small file by what `change` makes of it, alone among those who do so.

    The lock is on the file itself, which is another one after every change: hence the loop. Raises
    SaveError, or whatever `change` raises; the file is as it was then.
    """
    for _ in range(_TRIES):
        with saving("change the file", path):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not _locked(fd, path):
                time.sleep(_PAUSE_SECONDS)
                continue
            with saving("read the file to be changed", path):
                data = os.pread(fd, max_bytes + 1, 0)
            if len(data) > max_bytes:
                raise FormatError(f"The file has over {max_bytes} bytes", where=str(path))
            changed = change(data)
            if changed != data:
                replace_file(path, changed, hidden_in=hidden_in)
            return
        finally:
            os.close(fd)
    raise SaveError(
        "The file is being changed by another process, which does not finish",
        where=str(path),
        fix="see what holds it, then try again",
    )


def _locked(fd: int, path: Path) -> bool:
    """Whether we are alone with the file that has the name now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in leftovers.NO_LOCKS:
            raise
    with saving("look at the file", path):
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))


def take(path: Path) -> bool:
    """Remove a file; whether it was there and is gone. A folder of that name is no file."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def append_line(path: Path, line: bytes, *, settle: bool) -> None:
    """Append one line durably; after a torn line, on a line of its own. Raises SaveError.

    settle: make the file's name durable even if it is not new: who made it may have died before.
    """
    with saving("append to the file", path, missing_bytes=len(line) + 1):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o666)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            _append_all(fd, (b"\n" if torn else b"") + line + b"\n")
            flush(fd)
        finally:
            os.close(fd)
        if settle or size == 0:
            flush_folder(path.parent)


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of the file, without a torn last one; none if there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with open(fd, "rb") as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        return stream.read().split(b"\n")[:-1]


def point(pointer: Path, name: str | None) -> bool:
    """Swap the pointer for one that leads to its sibling `name`; None removes it.

    A relative symlink, or a text file holding the name where links are not possible. Anything
    else that has the pointer's name is somebody's own and stays: then False.
    """
    if not _is_replaceable(pointer):
        return False
    try:
        if name is None:
            pointer.unlink(missing_ok=True)
        else:
            _swap(pointer, check_name(name))
        flush_folder(pointer.parent)
    except OSError:
        return False
    return True


def _swap(pointer: Path, name: str) -> None:
    fresh = pointer.parent / leftovers.hidden_name(leftovers.EDIT_PREFIX, pointer.name)
    try:
        try:
            os.symlink(name, fresh)
        except OSError:
            fresh.write_text(name + "\n", encoding="utf-8")
        os.replace(fresh, pointer)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _is_replaceable(pointer: Path) -> bool:
    """Whether nothing is there, or what `point` makes: a link, or a file with a name."""
    try:
        found = pointer.lstat()
        if stat.S_ISLNK(found.st_mode):
            return os.path.dirname(os.readlink(pointer)) == ""
        if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= _POINTER_MAX_BYTES:
            return False
        text = pointer.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return text.endswith("\n") and (pointer.parent / text[:-1]).is_dir() and "/" not in text


def _append_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]
