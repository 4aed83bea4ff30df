"""A checkpoint being written on a local file system: hidden beside its place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from holdfast.errors import SaveError
from holdfast.storage.block_file import write_block_file
from holdfast.storage.durable import (
    check_name,
    entry_exists,
    flush,
    flush_folder,
    saving,
    write_new_file,
)
from holdfast.storage.leftovers import OwnedFolder, remove_tree
from holdfast.storage.protocol import Block, NameTakenError, Progress

_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})
_CANNOT_LINK = frozenset(
    {
        errno.EXDEV,
        errno.EMLINK,
        errno.EPERM,
        errno.EACCES,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.ENOENT,
        errno.ENOTDIR,
    }
)


class LocalStaged:
    """`Staged` in a hidden sibling folder; see the protocol for the contract.

    Data is flushed file by file as it is written; `publish` flushes the folder, renames it without
    replacing anything and flushes the parent, in that order.
    """

    def __init__(self, folder: OwnedFolder, name: str, *, direct_io: bool) -> None:
        self._folder = folder
        self._name = name
        self._direct_io = direct_io
        self._spoiled = False

    @property
    def name(self) -> str:
        """The name it will be published under unless `publish` is given another."""
        return self._name

    @property
    def path(self) -> Path:
        """The hidden folder."""
        return self._folder.path

    @property
    def handle(self) -> str:
        """What another process joins it by."""
        return self._folder.path.name

    def sizes(self) -> dict[str, int]:
        """Bytes of each file in it, whoever wrote it."""
        with saving("look through the staged folder", self._folder.path):
            return sizes_in(self._folder.path)

    def write_bytes(self, file: str, data: Block) -> None:
        """Write one small file, durably."""
        path = self._path_of(file)
        with self._attempt(), saving("write the file", path, missing_bytes=len(data)):
            write_new_file(path, data)

    def write_blocks(
        self,
        file: str,
        total_bytes: int,
        blocks: Iterable[Block],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Write one file from blocks in file order, durably."""
        path = self._path_of(file)
        with self._attempt():
            write_block_file(path, total_bytes, blocks, direct=self._direct_io, progress=progress)

    def link_from(self, name: str, file: str) -> bool:
        """Hard-link `file` of the committed checkpoint `name` into this one."""
        target = self._path_of(file)
        source = self._folder.path.parent / check_name(name) / file
        if source.is_symlink() or source.parent.is_symlink() or not source.is_file():
            return False
        with self._attempt(), saving("link the file", target):
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _CANNOT_LINK:
                    raise
                return False
        return True

    def publish(self, name: str | None = None) -> str:
        """Commit: flush the folder, rename it, flush the parent."""
        name = check_name(self._name if name is None else name)
        with self._attempt():
            with saving("flush the staged folder", self._folder.path):
                flush(self._folder.fd)
            _rename_to_new(self._folder.path, self._folder.path.parent / name)
            self._folder.release()
            with saving("make the published name durable", self._folder.path.parent / name):
                flush_folder(self._folder.path.parent)
        return name

    def abort(self) -> None:
        """Remove what was staged; what resists is left hidden for a sweep."""
        if self._folder.held:
            remove_tree(self._folder.path)
            self._folder.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _path_of(self, file: str) -> Path:
        return self._folder.path / check_name(file)

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        """Refuse every step after publish, abort or a failed step.

        After a failed flush the kernel may report the next one as good and the data be gone.
        """
        if self._spoiled or not self._folder.held:
            reason = "an earlier step failed" if self._spoiled else "it was published or removed"
            raise SaveError(
                f"The staged checkpoint cannot be written to: {reason}",
                where=str(self._folder.path),
                fix="stage the checkpoint anew",
            )
        try:
            yield
        except NameTakenError:
            raise
        except BaseException:
            self._spoiled = True
            raise


def _rename_to_new(path: Path, final: Path) -> None:
    """Rename a folder to a name nothing has. Raises NameTakenError, SaveError."""
    with saving("publish the checkpoint", final):
        try:
            # rename() itself would silently replace an empty folder.
            if not entry_exists(final):
                os.rename(path, final)
                return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        # What has the name may be this save, published by a writer that died before its flush:
        # whoever acknowledges it next must find it durable.
        flush_folder(final.parent)
    raise NameTakenError(f"Something named {final.name} exists already", where=str(final))


def sizes_in(path: Path) -> dict[str, int]:
    """Bytes of each regular file in a folder."""
    found: dict[str, int] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(facts.st_mode):
                found[entry.name] = facts.st_size
    return found
