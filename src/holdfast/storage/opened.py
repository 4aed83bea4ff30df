"""A committed checkpoint's folder, opened for reading without trusting what lies in it.

The folder is opened once and every file relative to it, so that renaming or discarding it, or
swapping a parent folder for a link, cannot lead a reader elsewhere. Only regular files are opened:
a link could lead out of the folder, a fifo or a device could block or never end. Nothing is mapped
into memory: a mapped file that shrinks kills the process. While it is open nobody deletes it.
"""

from __future__ import annotations

import os
import stat
import threading
from types import TracebackType

from typing_extensions import Self

from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    LoadError,
)
from holdfast.storage.durable import check_name
from holdfast.storage.reading import FOLDER_FLAGS, share

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class LocalOpened:
    """A checkpoint folder on a local file system; see `holdfast.storage.protocol.Opened`.

    Reads may come from several threads at once; `close` must not run beside them.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the folder. Links in the path are followed, except that its last part is none.

        Raises CheckpointNotFoundError if there is nothing, FormatError if it is no folder,
        LoadError if it cannot be opened.
        """
        self._place = os.fspath(path)
        self._lock = threading.Lock()
        self._opened: dict[str, tuple[int, int]] = {}
        self._folder = _open_folder(self._place)

    @property
    def place(self) -> str:
        """The path it was opened by."""
        return self._place

    def files(self) -> list[str]:
        """Names of the regular files in it, sorted. Raises LoadError."""
        try:
            with os.scandir(self._folder_fd()) as entries:
                return sorted(entry.name for entry in entries if _is_regular(entry))
        except OSError as error:
            raise LoadError(
                f"The checkpoint folder cannot be listed: {error.strerror}", where=self._place
            ) from error

    def size(self, file: str) -> int:
        """Size in bytes when it was first opened.

        Raises DamagedError if there is no such file, FormatError if it is not a regular file or
        the name is not a plain one.
        """
        return self._open(file)[1]

    def read_bytes(self, file: str, max_bytes: int) -> bytes:
        """Read a whole small file. Raises FormatError if it is larger than `max_bytes`."""
        size = self.size(file)
        if size > max_bytes:
            raise FormatError(
                f"The file has {size} bytes, at most {max_bytes} are read", where=self._at(file)
            )
        data = bytearray(size)
        self.read_into(file, 0, memoryview(data))
        return bytes(data)

    def read_into(self, file: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` (writable bytes) from `offset`, however short each read.

        Raises DamagedError if the file ends before, or the disk cannot give the bytes back.
        """
        fd, _ = self._open(file)
        filled, wanted = 0, len(buffer)
        while filled < wanted:
            try:
                count = os.preadv(fd, [buffer[filled:] if filled else buffer], offset + filled)
            except OSError as error:
                raise DamagedError(
                    f"Reading failed at byte {offset + filled}: {error.strerror}",
                    where=self._at(file),
                    fix="see to the disk, or fall back to an older checkpoint",
                ) from error
            if count == 0:
                raise DamagedError(
                    f"The file ends at byte {offset + filled}, expected were bytes up to "
                    f"{offset + wanted}",
                    where=self._at(file),
                )
            filled += count

    def close(self) -> None:
        """Release all descriptors; a second call does nothing."""
        with self._lock:
            opened, self._opened = self._opened, {}
            folder, self._folder = self._folder, -1
        for fd, _ in opened.values():
            os.close(fd)
        if folder >= 0:
            os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_folder"):
            self.close()

    def _open(self, file: str) -> tuple[int, int]:
        """The descriptor and size of a file, opened at most once."""
        found = self._opened.get(file)
        if found is None:
            with self._lock:
                found = self._opened.get(file)
                if found is None:
                    found = _open_file(self._folder_fd(), file, where=self._at(file))
                    self._opened[file] = found
        return found

    def _folder_fd(self) -> int:
        if self._folder < 0:
            raise LoadError("The checkpoint was closed before it was read", where=self._place)
        return self._folder

    def _at(self, file: str) -> str:
        return f"{self._place}/{file}" if file.isprintable() else f"{self._place}: {file!a}"


def _open_folder(path: str) -> int:
    try:
        fd = os.open(path, FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        kind = _kind_of(path)
        if kind is None:
            raise CheckpointNotFoundError("There is no such checkpoint", where=path) from error
        raise FormatError(f"A checkpoint is a folder, this is {kind}", where=path) from error
    except OSError as error:
        raise LoadError(
            f"The checkpoint folder cannot be opened: {error.strerror}", where=path
        ) from error
    try:
        share(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _kind_of(path: str) -> str | None:
    """What lies at `path`, None if nothing does."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def _open_file(folder: int, file: str, *, where: str) -> tuple[int, int]:
    """Open a regular file of the folder; its descriptor and size."""
    try:
        check_name(file)
    except ConfigError as error:
        raise FormatError("Not a plain file name", where=where) from error
    try:
        # Looked at before it is opened: opening a device can already do something.
        _require_regular(os.stat(file, dir_fd=folder, follow_symlinks=False), where)
        fd = os.open(file, _FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError as error:
        raise DamagedError("The file is missing", where=where) from error
    except OSError as error:
        raise LoadError(f"The file cannot be opened: {error.strerror}", where=where) from error
    try:
        status = os.fstat(fd)
        _require_regular(status, where)
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size


def _require_regular(status: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise FormatError(f"Not a regular file but {kind}: it was not read", where=where)


def _is_regular(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)
