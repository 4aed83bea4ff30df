"""The seam between the engine and the places where checkpoints live.

A run is one folder (or prefix) of committed checkpoints and a few files beside them. Everything
an implementation must promise is said here; `holdfast.testing.storage_contract` checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Protocol, TypeAlias, runtime_checkable

from typing_extensions import Self

from holdfast.errors import SaveError

Block: TypeAlias = bytes | bytearray | memoryview
"""Some bytes of a file, C-contiguous. Must not change until `write_blocks` has returned."""

Progress: TypeAlias = Callable[[int], None]
"""Called in the caller's thread with the bytes of this file handed to the disk so far."""


class NameTakenError(SaveError, FileExistsError):
    """Something already has this name; nothing was changed."""


class InUseError(SaveError):
    """Someone is reading this checkpoint; nothing was changed."""


class Lock(Protocol):
    """This process's right to write a run, until `release`."""

    @property
    def valid(self) -> bool:
        """Whether it is still held, by this very process."""
        ...

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        ...


class Staged(Protocol):
    """A checkpoint being written: invisible until published, gone if it is not.

    Every file is durable when the call that wrote it returns. A process that dies half-way leaves
    a hidden leftover that `RunStorage.sweep` removes; it never leaves a visible checkpoint.
    As a context manager it aborts on leaving unless published.
    Not safe for concurrent use, except that different files may be written from several threads.
    """

    @property
    def name(self) -> str:
        """The name it will be published under unless `publish` is given another."""
        ...

    def write_bytes(self, file: str, data: Block) -> None:
        """Write one small file, durably. Raises NameTakenError if it exists, else SaveError."""
        ...

    def write_blocks(
        self,
        file: str,
        total_bytes: int,
        blocks: Iterable[Block],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Write one file from `blocks`, in file order, adding up to `total_bytes`; durably.

        At most 64 MiB of blocks and buffers are held at a time. An exception from `blocks` or
        `progress` ends the attempt and passes through.
        Raises NoSpaceError if the disk fills up, NameTakenError if the file exists, SaveError for
        any other failure or if the blocks do not add up. A failed flush is never retried.
        """
        ...

    def link_from(self, name: str, file: str) -> bool:
        """Take `file` over from the committed checkpoint `name` without writing it again.

        Returns False, having changed nothing, where the place cannot share files or has none.
        """
        ...

    def publish(self, name: str | None = None) -> str:
        """Commit: make the checkpoint visible under its final name, durably; return that name.

        Either the whole folder has the name or nothing does, whenever the process dies. Raises
        NameTakenError, still staged, if anything has the name; SaveError for any other failure.
        """
        ...

    def abort(self) -> None:
        """Remove what was staged; does nothing after `publish` or a second time; never raises."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Joined(Protocol):
    """A checkpoint staged by another process, to write further files into: `SharedRun.join`.

    Every file is durable when the call that wrote it returns. Whether it is ever published is for
    the one who staged it. As a context manager it closes itself.
    """

    def write_bytes(self, file: str, data: Block) -> None:
        """As `Staged.write_bytes`."""
        ...

    def write_blocks(
        self,
        file: str,
        total_bytes: int,
        blocks: Iterable[Block],
        *,
        progress: Progress | None = None,
    ) -> None:
        """As `Staged.write_blocks`."""
        ...

    def link_from(self, name: str, file: str) -> bool:
        """As `Staged.link_from`."""
        ...

    def settle(self) -> None:
        """Make the names of the files written here durable. Raises SaveError."""
        ...

    def close(self) -> None:
        """Leave it; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class SharedStaged(Staged, Protocol):
    """A staged checkpoint that other processes can join."""

    @property
    def handle(self) -> str:
        """What they join it by."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of each file in it, whoever wrote it. Raises SaveError."""
        ...


class Opened(Protocol):
    """A committed checkpoint opened for reading: stays whole even while it is being discarded."""

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        ...

    def files(self) -> list[str]:
        """Names of the regular files in it, sorted."""
        ...

    def size(self, file: str) -> int:
        """Size in bytes. Raises DamagedError if there is no such regular file."""
        ...

    def read_bytes(self, file: str, max_bytes: int) -> bytes:
        """Read a whole small file. Raises FormatError if it is larger than `max_bytes`."""
        ...

    def read_into(self, file: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` (writable bytes) from `offset`. Raises DamagedError if the file ends."""
        ...

    def close(self) -> None:
        """Release it; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class RunStorage(Protocol):
    """The place of one training run. It has one writer at a time and any number of readers.

    Names of checkpoints and files are single path parts: no separator, no leading dot.
    """

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        ...

    def names(self) -> list[str]:
        """Names of the visible folders, sorted; nothing is opened. Empty if there is no run yet."""
        ...

    def stage(self, name: str, *, needed_bytes: int = 0) -> Staged:
        """Begin a checkpoint. The run's folder and its parents are made, durably, if missing.

        needed_bytes: refuse with NoSpaceError now, before any write, if fewer are free.
        The name need not be free yet: `publish` decides.
        """
        ...

    def open(self, name: str) -> Opened:
        """Open a committed checkpoint. Raises CheckpointNotFoundError if there is none."""
        ...

    def rename(self, name: str, new_name: str) -> None:
        """Give a checkpoint another name, atomically and durably.

        Raises NameTakenError if `new_name` is taken, SaveError if it fails: then either name may
        hold the whole checkpoint, never both and never part of it.
        """
        ...

    def discard(self, name: str, *, owned: Iterable[str] | None = None) -> list[str]:
        """Delete a checkpoint: first its name, durably, then its files.

        owned: names of the files holdfast wrote into it. Anything else in the folder is somebody's
        own and is moved to `kept-from-<name>` beside it before anything is deleted. None: only
        what the place can tell for itself to be foreign is kept.
        A process that dies half-way leaves the checkpoint whole or a hidden leftover, never a
        part under the name. Returns the paths of what was kept. Raises InUseError where the place
        knows of a reader, SaveError if it fails.
        """
        ...

    def in_use(self, name: str) -> bool:
        """Whether anyone is known to have the checkpoint open; False if there is none."""
        ...

    def lock(self) -> Lock:
        """Become the one process that writes the run; readers need no lock.

        A lock whose process has ended is taken over, with a message in the log. Managers of one
        process share it. Raises LockedError naming the holder.
        """
        ...

    def sweep(self) -> list[str]:
        """Remove the leftovers of writers that are provably gone; return their names.

        One that may have a live writer, here or on another host, stays.
        """
        ...

    def replace_bytes(self, name: str, file: str, data: Block) -> None:
        """Replace one small file of a committed checkpoint, atomically and durably.

        A process that dies half-way leaves the old content or the new. Raises SaveError.
        """
        ...

    def update_bytes(
        self, name: str, file: str, change: Callable[[bytes], bytes], *, max_bytes: int
    ) -> None:
        """As `replace_bytes`, by what `change` makes of the old content; no change gets lost.

        Of several processes that do so, each sees what the one before it wrote. An exception from
        `change` passes through. Raises FormatError over `max_bytes`, SaveError if it fails.
        """
        ...

    def take(self, file: str) -> bool:
        """Remove a file of the run that someone put there as a sign; whether it was there."""
        ...

    def append_line(self, file: str, line: bytes) -> None:
        """Append one line to a file of the run, durably. `line` holds no newline.

        A process that dies half-way may leave a torn last line; it is not repaired in place: the
        next line starts on a new one, so a fragment may stand between whole lines.
        """
        ...

    def read_lines(self, file: str) -> list[bytes]:
        """The lines of a file of the run without their newlines; a torn last line is left out.

        Empty if there is no such file.
        """
        ...

    def point(self, pointer: str, name: str | None) -> bool:
        """Make `pointer` lead people to `name`; None removes it. Raises for no fault of the place.

        Returns False if it could not be done: pointers are a convenience nothing depends on.
        """
        ...

    def free_bytes(self) -> int | None:
        """Bytes that can still be written here; None where the place cannot say."""
        ...


@runtime_checkable
class StampedRun(Protocol):
    """A run that can tell, more cheaply than by reading, whether a small file was replaced."""

    def stamp(self, name: str, file: str) -> Hashable | None:
        """A value that is another once `file` of the checkpoint was replaced; None if unknown.

        It may lag behind what another host did a moment ago.
        """
        ...


@runtime_checkable
class SharedRun(RunStorage, Protocol):
    """A run that several processes can write one checkpoint to, one of them its writer."""

    def stage(self, name: str, *, needed_bytes: int = 0) -> SharedStaged:
        """As `RunStorage.stage`."""
        ...

    def join(self, handle: str) -> Joined:
        """Join a checkpoint that another process has staged. Raises SaveError if it is not there.

        Nobody but the one who staged it may publish or remove it.
        """
        ...
