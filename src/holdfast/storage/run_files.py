"""The few small files of a local run that change after they were written."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from holdfast.storage.durable import check_name, create, flush, flush_folder, saving, write_at
from holdfast.storage.leftovers import STAGING_PREFIX
from holdfast.storage.protocol import Block

_POINTER_MAX_BYTES = 512


def replace_file(path: Path, data: Block) -> None:
    """Replace (or create) one small file atomically and durably. Raises SaveError."""
    fresh = path.parent / f"{STAGING_PREFIX}{secrets.token_hex(6)}"
    with saving("replace the file", path, missing_bytes=len(data)):
        try:
            fd = create(fresh)
            try:
                write_at(fd, [data], 0)
                flush(fd)
            finally:
                os.close(fd)
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append one line durably; after a torn line, on a line of its own. Raises SaveError."""
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
        if size == 0:
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
    fresh = pointer.parent / f"{STAGING_PREFIX}{secrets.token_hex(6)}"
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
