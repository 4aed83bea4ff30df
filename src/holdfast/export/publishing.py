"""A folder that appears whole under its name, whoever writes the files in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from holdfast.storage import LocalRun
from holdfast.storage.durable import flush, saving


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `target`; on leaving, flush its files and give it that name.

    An exception inside removes it and passes through; a killed process leaves it hidden, for
    `LocalRun.sweep`. Raises NameTakenError if anything has the name by then, SaveError.
    """
    place = target.absolute()
    with LocalRun(place.parent).stage(place.name) as staged:
        yield staged.path
        for file in sorted(staged.path.iterdir()):
            with saving("flush the file", file):
                _flush_file(file)
        staged.publish()


def _flush_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flush(fd)
    finally:
        os.close(fd)
