"""A checkpoint that another process has staged, joined to write further files into it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from holdfast.errors import SaveError
from holdfast.storage.durable import flush, saving
from holdfast.storage.leftovers import STAGING_PREFIX, OwnedFolder
from holdfast.storage.protocol import Block, Progress
from holdfast.storage.staged import LocalStaged

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalJoined:
    """`Joined` on a file system that both processes see; see the protocol for the contract."""

    def __init__(self, staged: LocalStaged, folder: OwnedFolder) -> None:
        self._staged, self._folder = staged, folder

    def write_bytes(self, file: str, data: Block) -> None:
        """Write one small file, durably."""
        self._staged.write_bytes(file, data)

    def write_blocks(
        self,
        file: str,
        total_bytes: int,
        blocks: Iterable[Block],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Write one file from blocks in file order, durably."""
        self._staged.write_blocks(file, total_bytes, blocks, progress=progress)

    def link_from(self, name: str, file: str) -> bool:
        """Hard-link `file` of the committed checkpoint `name` into this one."""
        return self._staged.link_from(name, file)

    def settle(self) -> None:
        """Make the names of the files written here durable."""
        with saving("flush the staged folder", self._folder.path):
            flush(self._folder.fd)

    def close(self) -> None:
        """Leave it to the process that staged it."""
        self._folder.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def join(run: Path, handle: str, *, direct_io: bool) -> LocalJoined:
    """Join the folder that another process staged in the run. Raises SaveError."""
    path = run / handle
    if not handle.startswith(STAGING_PREFIX) or "/" in handle:
        raise SaveError(f"{handle[:200]!r} is no staged checkpoint", where=str(run))
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError as error:
        raise SaveError(
            "The checkpoint that another rank has begun is not to be seen from here",
            where=str(path),
            fix="checkpoint_dir must be one folder on a file system that all ranks share",
        ) from error
    except OSError as error:
        what = f"The staged checkpoint cannot be joined: {error}"
        raise SaveError(what, where=str(path)) from error
    folder = OwnedFolder(path, fd)
    return LocalJoined(LocalStaged(folder, handle, direct_io=direct_io), folder)
