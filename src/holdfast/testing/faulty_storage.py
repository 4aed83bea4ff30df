"""A storage around another one that fails, tears, delays or stops at its n-th operation.

    for n in count(1):
        run = FaultyRun(MemoryRun(), fail(at=n))
        ...                                   # what must survive it
        if run.operations < n:
            break                             # no n-th operation any more: every one was tried

Every call that reads or writes the place is one operation, counted from 1 over the run and all
that it opened or staged; `FaultyRun.log` names them. Looking at names, sizes and space counts too.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeVar

from typing_extensions import Self

from holdfast.errors import SaveError
from holdfast.storage.protocol import Block, Lock, Opened, Progress, RunStorage, Staged

T = TypeVar("T")


class StoppedError(BaseException):
    """The process would be dead by now: not an Exception, so that no handler goes on after it."""


def refusal() -> Exception:
    """The default failure: what a storage says when the disk gave an I/O error."""
    return SaveError(f"Could not do it: {os.strerror(errno.EIO)}", where="a faulty storage")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at operation `at` (from 1), and at every later one if it is `lasting`.

    fail: `error()` is raised and nothing was done. tear: a staged file or an appended line is left
    half written; anything else is atomic by the contract, so it is done; then `error()` is raised:
    the acknowledgement was lost. delay: `wait(seconds)` and then it is done. stop: nothing is done,
    and StoppedError is raised by this and everything after it, as if the process had died.
    """

    kind: Literal["fail", "tear", "delay", "stop"]
    at: int
    lasting: bool = False
    error: Callable[[], Exception] = refusal
    seconds: float = 0.0
    wait: Callable[[float], object] = time.sleep

    def meets(self, number: int) -> bool:
        """Whether it strikes at this operation."""
        return number == self.at or (number > self.at and (self.lasting or self.kind == "stop"))


def fail(at: int, *, lasting: bool = False, error: Callable[[], Exception] = refusal) -> Fault:
    """A fault that refuses; see `Fault`."""
    return Fault("fail", at, lasting=lasting, error=error)


def tear(at: int, *, error: Callable[[], Exception] = refusal) -> Fault:
    """A fault that does half of it, or all without acknowledging; see `Fault`."""
    return Fault("tear", at, error=error)


def delay(
    at: int, seconds: float, *, lasting: bool = False, wait: Callable[[float], object] = time.sleep
) -> Fault:
    """A fault that takes its time; see `Fault`."""
    return Fault("delay", at, lasting=lasting, seconds=seconds, wait=wait)


def stop(at: int) -> Fault:
    """A fault after which nothing happens any more; see `Fault`."""
    return Fault("stop", at)


class _Counter:
    """Numbers the operations and lets the faults strike. Safe for use from several threads."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self.log: list[str] = []

    def strike(
        self,
        operation: str,
        whole: Callable[[], T],
        half: Callable[[], object] | None = None,
        refused: Callable[[], T] | None = None,
    ) -> T:
        """Do `whole`, or what the fault makes of it.

        half: what a tear leaves behind. refused: the answer of what never raises.
        """
        with self._lock:
            self.log.append(operation)
            number = len(self.log)
        for fault in self._faults:
            if not fault.meets(number):
                continue
            if fault.kind == "stop":
                raise StoppedError(f"stopped at operation {number}: {operation}")
            if fault.kind == "delay":
                fault.wait(fault.seconds)
                continue
            if fault.kind == "tear":
                (half or whole)()
            if refused is not None:
                return refused()
            raise fault.error()
        return whole()


class FaultyRun:
    """`RunStorage` around `inner`, with faults; without any it behaves as `inner` does."""

    def __init__(self, inner: RunStorage, *faults: Fault) -> None:
        self._inner = inner
        self._counter = _Counter(faults)

    @property
    def log(self) -> list[str]:
        """The operations so far, as `verb subject`."""
        return list(self._counter.log)

    @property
    def operations(self) -> int:
        """How many operations there were so far."""
        return len(self._counter.log)

    @property
    def place(self) -> str:
        """Where `inner` is, for error messages."""
        return self._inner.place

    def names(self) -> list[str]:
        """As `inner`."""
        return self._counter.strike("names", self._inner.names)

    def stage(self, name: str, *, needed_bytes: int = 0) -> FaultyStaged:
        """As `inner`; what is staged has the same faults."""

        def begin() -> Staged:
            return self._inner.stage(name, needed_bytes=needed_bytes)

        return FaultyStaged(self._counter.strike(f"stage {name}", begin), self._counter)

    def open(self, name: str) -> FaultyOpened:
        """As `inner`; what is opened has the same faults."""
        opened = self._counter.strike(f"open {name}", lambda: self._inner.open(name))
        return FaultyOpened(opened, self._counter)

    def rename(self, name: str, new_name: str) -> None:
        """As `inner`."""
        self._counter.strike(f"rename {name}", lambda: self._inner.rename(name, new_name))

    def discard(self, name: str, *, owned: Iterable[str] | None = None) -> list[str]:
        """As `inner`."""
        return self._counter.strike(
            f"discard {name}", lambda: self._inner.discard(name, owned=owned)
        )

    def sweep(self) -> list[str]:
        """As `inner`."""
        return self._counter.strike("sweep", self._inner.sweep)

    def replace_bytes(self, name: str, file: str, data: Block) -> None:
        """As `inner`."""
        self._counter.strike(
            f"replace {name}/{file}", lambda: self._inner.replace_bytes(name, file, data)
        )

    def update_bytes(
        self, name: str, file: str, change: Callable[[bytes], bytes], *, max_bytes: int
    ) -> None:
        """As `inner`."""
        self._counter.strike(
            f"update {name}/{file}",
            lambda: self._inner.update_bytes(name, file, change, max_bytes=max_bytes),
        )

    def in_use(self, name: str) -> bool:
        """As `inner`."""
        return self._counter.strike(f"in use {name}", lambda: self._inner.in_use(name))

    def lock(self) -> Lock:
        """As `inner`; what is done with the lock is not counted."""
        return self._counter.strike("lock", self._inner.lock)

    def take(self, file: str) -> bool:
        """As `inner`."""
        return self._counter.strike(f"take {file}", lambda: self._inner.take(file))

    def append_line(self, file: str, line: bytes) -> None:
        """As `inner`; torn: half the line is appended, as a line of its own."""
        self._counter.strike(
            f"append {file}",
            lambda: self._inner.append_line(file, line),
            lambda: self._inner.append_line(file, line[: len(line) // 2]),
        )

    def read_lines(self, file: str) -> list[bytes]:
        """As `inner`."""
        return self._counter.strike(f"read {file}", lambda: self._inner.read_lines(file))

    def point(self, pointer: str, name: str | None) -> bool:
        """As `inner`; what would raise elsewhere answers False, as the contract has it."""
        return self._counter.strike(
            f"point {pointer}", lambda: self._inner.point(pointer, name), refused=lambda: False
        )

    def free_bytes(self) -> int | None:
        """As `inner`."""
        return self._counter.strike("free", self._inner.free_bytes)


class FaultyStaged:
    """`Staged` around another one, with the faults of its run."""

    def __init__(self, inner: Staged, counter: _Counter) -> None:
        self._inner = inner
        self._counter = counter

    @property
    def name(self) -> str:
        """As `inner`."""
        return self._inner.name

    def write_bytes(self, file: str, data: Block) -> None:
        """As `inner`; torn: half of it is staged."""
        self._counter.strike(
            f"write {file}",
            lambda: self._inner.write_bytes(file, data),
            lambda: self._inner.write_bytes(file, memoryview(data)[: len(data) // 2]),
        )

    def write_blocks(
        self,
        file: str,
        total_bytes: int,
        blocks: Iterable[Block],
        *,
        progress: Progress | None = None,
    ) -> None:
        """As `inner`; torn: half the bytes are staged."""
        half_bytes = total_bytes // 2
        self._counter.strike(
            f"write {file}",
            lambda: self._inner.write_blocks(file, total_bytes, blocks, progress=progress),
            lambda: self._inner.write_blocks(file, half_bytes, _first(blocks, half_bytes)),
        )

    def link_from(self, name: str, file: str) -> bool:
        """As `inner`."""
        return self._counter.strike(f"link {file}", lambda: self._inner.link_from(name, file))

    def publish(self, name: str | None = None) -> str:
        """As `inner`; torn: it is committed, and the acknowledgement is lost."""
        return self._counter.strike("publish", lambda: self._inner.publish(name))

    def abort(self) -> None:
        """As `inner`; a failing one leaves the leftover, and a dead process aborts nothing."""
        self._counter.strike("abort", self._inner.abort, refused=lambda: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


class FaultyOpened:
    """`Opened` around another one, with the faults of its run. Closing is no operation."""

    def __init__(self, inner: Opened, counter: _Counter) -> None:
        self._inner = inner
        self._counter = counter

    @property
    def place(self) -> str:
        """As `inner`."""
        return self._inner.place

    def files(self) -> list[str]:
        """As `inner`."""
        return self._counter.strike("list", self._inner.files)

    def size(self, file: str) -> int:
        """As `inner`."""
        return self._counter.strike(f"size {file}", lambda: self._inner.size(file))

    def read_bytes(self, file: str, max_bytes: int) -> bytes:
        """As `inner`."""
        return self._counter.strike(f"read {file}", lambda: self._inner.read_bytes(file, max_bytes))

    def read_into(self, file: str, offset: int, buffer: memoryview) -> None:
        """As `inner`; torn: half the buffer is filled."""
        self._counter.strike(
            f"read {file}",
            lambda: self._inner.read_into(file, offset, buffer),
            lambda: self._inner.read_into(file, offset, buffer[: len(buffer) // 2]),
        )

    def close(self) -> None:
        """As `inner`."""
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _first(blocks: Iterable[Block], total_bytes: int) -> Iterator[memoryview]:
    """The first bytes of the blocks; the others are left unread."""
    for block in blocks:
        if not total_bytes:
            return
        part = memoryview(block).cast("B")[:total_bytes]
        total_bytes -= len(part)
        yield part
