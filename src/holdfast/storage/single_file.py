"""One file that appears whole under its name, for libraries that write it themselves."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from holdfast.storage.durable import flush, flush_folder, make_folders, saving


def commit_file(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a hidden file beside `target`, then give it that name, durably.

    `write` gets the path to write to and may refuse by raising. Whatever had the name before is
    replaced in one step. A process that dies half-way leaves the old file, and perhaps a hidden
    one. Raises SaveError for failures of the disk, and what `write` raises.
    """
    make_folders(target.absolute().parent)
    hidden = target.with_name(f".holdfast-tmp-{target.name}-{secrets.token_hex(4)}")
    try:
        with saving("write the file", target):
            write(hidden)
            fd = os.open(hidden, os.O_RDONLY | os.O_CLOEXEC)
            try:
                flush(fd)
            finally:
                os.close(fd)
            os.replace(hidden, target)
            flush_folder(target.absolute().parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
