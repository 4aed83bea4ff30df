"""A training run in this process's memory: the test double, with the contract of the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from typing_extensions import Self

from holdfast.errors import (
    CheckpointNotFoundError,
    DamagedError,
    FormatError,
    NoSpaceError,
    SaveError,
)
from holdfast.storage.durable import check_name
from holdfast.storage.protocol import Block, NameTakenError, Progress

Files = dict[str, bytes]


class MemoryRun:
    """`RunStorage` in memory. capacity_bytes: a full disk after that many, for tests of it."""

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self.checkpoints: dict[str, Files] = {}
        self.lines: dict[str, list[bytes]] = {}
        self.pointers: dict[str, str] = {}
        self.staged: list[Files] = []

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        return "memory"

    def names(self) -> list[str]:
        """Names of the committed checkpoints, sorted."""
        return sorted(self.checkpoints)

    def stage(self, name: str, *, needed_bytes: int = 0) -> MemoryStaged:
        """Begin a checkpoint."""
        self.check_space(needed_bytes)
        return MemoryStaged(self, check_name(name))

    def open(self, name: str) -> MemoryOpened:
        """Open a committed checkpoint."""
        return MemoryOpened(dict(self._files(name)), f"memory/{name}")

    def rename(self, name: str, new_name: str) -> None:
        """Give a checkpoint another name."""
        files = self._files(name)
        self.commit(check_name(new_name), files)
        del self.checkpoints[name]

    def discard(self, name: str, *, owned: Iterable[str] | None = None) -> list[str]:
        """Delete a checkpoint; files not in `owned` are kept under another name."""
        files = self._files(name)
        keepers = set(files) - set(files if owned is None else owned)
        del self.checkpoints[name]
        if keepers:
            self.checkpoints[f"kept-from-{name}"] = {file: files[file] for file in keepers}
        return [f"memory/kept-from-{name}/{file}" for file in sorted(keepers)]

    def in_use(self, name: str) -> bool:
        """Nobody: who has opened a checkpoint has a copy of it."""
        return False

    def lock(self) -> MemoryLock:
        """Become the writer; only this process can see the run."""
        return MemoryLock()

    def sweep(self) -> list[str]:
        """Nothing outlives a writer in memory."""
        return []

    def replace_bytes(self, name: str, file: str, data: Block) -> None:
        """Replace one small file of a committed checkpoint."""
        self._files(name)[check_name(file)] = bytes(data)

    def update_bytes(
        self, name: str, file: str, change: Callable[[bytes], bytes], *, max_bytes: int
    ) -> None:
        """Replace one small file by what `change` makes of it."""
        with self._lock, self.open(name) as opened:
            self.replace_bytes(name, file, change(opened.read_bytes(file, max_bytes)))

    def take(self, file: str) -> bool:
        """Remove a file of the run; whether it was there."""
        return self.lines.pop(check_name(file), None) is not None

    def append_line(self, file: str, line: bytes) -> None:
        """Append one line to a file of the run."""
        self.lines.setdefault(check_name(file), []).append(bytes(line))

    def read_lines(self, file: str) -> list[bytes]:
        """The lines of a file of the run."""
        return list(self.lines.get(check_name(file), []))

    def point(self, pointer: str, name: str | None) -> bool:
        """Remember where `pointer` leads."""
        if name is None:
            self.pointers.pop(check_name(pointer), None)
        else:
            self.pointers[check_name(pointer)] = check_name(name)
        return True

    def free_bytes(self) -> int | None:
        """What is left of the capacity; None if that is unlimited."""
        if self._capacity_bytes is None:
            return None
        folders = [*self.checkpoints.values(), *self.staged]
        return self._capacity_bytes - sum(len(data) for files in folders for data in files.values())

    def check_space(self, needed_bytes: int) -> None:
        """Raise NoSpaceError if fewer bytes are left."""
        available = self.free_bytes()
        if available is not None and needed_bytes > available:
            raise NoSpaceError(
                f"The disk is full: {needed_bytes} bytes are needed and {available} are free",
                needed_bytes=needed_bytes,
                available_bytes=available,
                where=self.place,
                fix="give the MemoryRun more capacity",
            )

    def commit(self, name: str, files: Files) -> None:
        """Make a checkpoint visible. Raises NameTakenError."""
        with self._lock:
            if name in self.checkpoints:
                raise NameTakenError(f"Something named {name} exists already", where=self.place)
            self.checkpoints[name] = files

    def _files(self, name: str) -> Files:
        if check_name(name) not in self.checkpoints:
            raise CheckpointNotFoundError(f"There is no checkpoint {name}", where=self.place)
        return self.checkpoints[name]


class MemoryLock:
    """`Lock` in memory."""

    valid = True

    def release(self) -> None:
        """Give it up."""
        self.valid = False


class MemoryStaged:
    """`Staged` in memory."""

    def __init__(self, run: MemoryRun, name: str) -> None:
        self._run = run
        self._name = name
        self._files: Files | None = {}
        run.staged.append(self._files)

    @property
    def name(self) -> str:
        """The name it will be published under unless `publish` is given another."""
        return self._name

    def write_bytes(self, file: str, data: Block) -> None:
        """Write one small file."""
        self.write_blocks(file, len(data), [data])

    def write_blocks(
        self,
        file: str,
        total_bytes: int,
        blocks: Iterable[Block],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Write one file from blocks in file order."""
        files = self._open_files()
        if check_name(file) in files:
            raise NameTakenError(f"The file {file} exists already", where=self._run.place)
        self._run.check_space(total_bytes)
        data = bytearray()
        for block in blocks:
            data += memoryview(block).cast("B")
            if progress is not None:
                progress(len(data))
        if len(data) != total_bytes:
            raise SaveError(
                f"The blocks of a file add up to {len(data)} bytes, announced were {total_bytes}",
                where=f"{self._run.place}/{file}",
            )
        files[file] = bytes(data)

    def link_from(self, name: str, file: str) -> bool:
        """Share `file` of the committed checkpoint `name`."""
        files = self._open_files()
        if check_name(file) in files:
            raise NameTakenError(f"The file {file} exists already", where=self._run.place)
        source = self._run.checkpoints.get(check_name(name), {}).get(file)
        if source is None:
            return False
        files[file] = source
        return True

    def publish(self, name: str | None = None) -> str:
        """Commit."""
        files = self._open_files()
        name = check_name(self._name if name is None else name)
        self._run.commit(name, files)
        self.abort()
        return name

    def abort(self) -> None:
        """Forget what was staged."""
        if self._files is not None:
            self._run.staged = [files for files in self._run.staged if files is not self._files]
            self._files = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _open_files(self) -> Files:
        if self._files is None:
            raise SaveError("The staged folder was already published or removed")
        return self._files


class MemoryOpened:
    """`Opened` in memory."""

    def __init__(self, files: Files, place: str) -> None:
        self._files = files
        self._place = place

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        return self._place

    def files(self) -> list[str]:
        """Names of the files, sorted."""
        return sorted(self._files)

    def size(self, file: str) -> int:
        """Size in bytes."""
        return len(self._data(file))

    def read_bytes(self, file: str, max_bytes: int) -> bytes:
        """Read a whole small file."""
        data = self._data(file)
        if len(data) > max_bytes:
            raise FormatError(
                f"The file has {len(data)} bytes, the limit is {max_bytes}",
                where=f"{self._place}/{file}",
            )
        return data

    def read_into(self, file: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`."""
        part = self._data(file)[offset : offset + len(buffer)]
        if len(part) != len(buffer):
            raise DamagedError("The file ends too early", where=f"{self._place}/{file}")
        buffer[:] = part

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _data(self, file: str) -> bytes:
        if file not in self._files:
            raise DamagedError(f"There is no file {file}", where=self._place)
        return self._files[file]
