"""Failing system calls inside this process: the n-th call of one kind, as the disk would fail it.

The storage asks the operating system through the module `os`; its functions are wrapped while a
test runs and count only what concerns the folder under test.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHORT = "short"
"""Not an error: a write that really writes only half of what it was given."""

_MAKING = ("mkdir", "open", "rename", "replace", "symlink", "link")
_WRITING = ("pwritev", "write", "fsync")
_ALL = (*_MAKING, *_WRITING, "unlink", "rmdir", "scandir")

FAULTS: dict[str, tuple[str, ...]] = {
    "ENOSPC": (*_MAKING, *_WRITING),
    "EDQUOT": (*_MAKING, *_WRITING),
    "EIO": _ALL,
    "EROFS": (*_MAKING, "unlink", "rmdir"),
    "EMFILE": ("open", "scandir"),
    SHORT: ("pwritev", "write"),
}
"""Which functions can fail in which way."""


@dataclass
class Faults:
    """Strikes at the n-th call of `function` that concerns `folder`, with the error of this name.

    lasting: at every later one too. calls: how many there were of each function.
    """

    folder: Path
    function: str = ""
    number: int = 0
    error: str = "EIO"
    lasting: bool = False
    calls: dict[str, int] = field(default_factory=dict)
    struck: int = 0

    def meet(self, function: str, arguments: Sequence[Any]) -> bool:
        """Count the call; whether it is to fail."""
        if not self._concerns(arguments):
            return False
        self.calls[function] = self.calls.get(function, 0) + 1
        strikes = function == self.function and (
            self.calls[function] == self.number
            or (self.lasting and self.calls[function] > self.number)
        )
        self.struck += strikes
        return strikes

    def _concerns(self, arguments: Sequence[Any]) -> bool:
        place = arguments[0]
        if isinstance(place, int):
            try:
                place = os.readlink(f"/proc/self/fd/{place}")
            except OSError:
                return False
        elif not isinstance(place, (str, os.PathLike)):
            return False
        path = os.fspath(place)
        # Inside a tree being removed, names are relative to a descriptor.
        return path.startswith(str(self.folder)) or "/" not in path


@contextlib.contextmanager
def failing(faults: Faults) -> Iterator[Faults]:
    """Let the faults strike inside the block, in all threads."""
    before = {function: getattr(os, function) for function in _ALL}
    for function, real in before.items():
        setattr(os, function, _wrapped(function, real, faults))
    try:
        yield faults
    finally:
        for function, real in before.items():
            setattr(os, function, real)


def _wrapped(function: str, real: Callable[..., Any], faults: Faults) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if not faults.meet(function, arguments):
            return real(*arguments, **options)
        if faults.error == SHORT:
            return real(arguments[0], _half(arguments[1]), *arguments[2:])
        code = getattr(errno, faults.error)
        raise OSError(code, os.strerror(code), str(arguments[0]))

    return call


def _half(data: Any) -> Any:
    """Half of what was to be written, at least one byte."""
    if isinstance(data, list):
        first = memoryview(data[0])
        return [first[: max(1, len(first) // 2)]]
    view = memoryview(data)
    return view[: max(1, len(view) // 2)]
