"""Proving a checkpoint's bytes: every byte read and hashed, nothing live touched. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from holdfast.digest import PREFIX, Hasher, raw_digest
from holdfast.engine.ranges import (
    CHUNK_BYTES,
    Progress,
    Unit,
    chunks,
    cut_units,
    run_units,
    serialised,
    threads_for,
)
from holdfast.engine.tensor_file import TensorFile
from holdfast.errors import DamagedError
from holdfast.manifest import FileRecord
from holdfast.storage.protocol import Opened

_FIX = "restore the file from a copy, or fall back to an older checkpoint"


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are not what was committed. tensor: None if a whole file is meant."""

    file: str
    tensor: str | None
    expected: str
    found: str

    def __str__(self) -> str:
        subject = self.file if self.tensor is None else f"{self.file}: tensor {self.tensor!r}"
        return f"{subject}: committed was {self.expected}, found {self.found}"

    def error(self, place: str) -> DamagedError:
        """The error that says so. place: where the checkpoint is."""
        subject = "file" if self.tensor is None else f"tensor {self.tensor!r}"
        return DamagedError(
            f"The bytes of the {subject} are not what was committed: "
            f"digest {self.found}, committed was {self.expected}",
            where=f"{place}/{self.file}",
            fix=_FIX,
        )


def prove_tensors(
    file: TensorFile, names: Iterable[str] | None = None, *, progress: Progress | None = None
) -> None:
    """Hash the data of all tensors (or of `names`) and compare with what was committed.

    Memory: one chunk (512 KiB) per thread. Raises DamagedError naming file, tensor and digests at
    the first difference.
    """

    def stop(damage: Damage) -> None:
        raise damage.error(file.opened.place)

    _hash_tensors(file, names, stop, serialised(progress))


def find_damage(
    file: TensorFile, names: Iterable[str] | None = None, *, progress: Progress | None = None
) -> list[Damage]:
    """As `prove_tensors`, but read on to the end and list all damage, in offset order.

    What cannot be read is damage too: a bad sector does not hide what lies behind it.
    """
    found: dict[str, Damage] = {}

    def note(damage: Damage) -> None:
        found[damage.tensor or ""] = damage

    def unreadable(unit: Unit, error: DamagedError) -> None:
        for name in unit.names:
            note(Damage(file.file, name, PREFIX + file.digests[name].hex(), error.what))

    _hash_tensors(file, names, note, serialised(progress), unreadable)
    return [found[name] for name in file.specs if name in found]


def find_file_damage(
    opened: Opened, file: str, record: FileRecord, *, progress: Progress | None = None
) -> Damage | None:
    """Check a plain (not a tensor) file against the manifest; None if it is what was committed.

    Raises DamagedError or FormatError if it is missing, no regular file or unreadable.
    """
    report = serialised(progress)
    size = opened.size(file)
    if size != record.bytes:
        return Damage(file, None, f"{record.bytes} bytes", f"{size} bytes")
    hasher = Hasher()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
    for begin, end in chunks(0, size):
        part = buffer[: end - begin]
        opened.read_into(file, begin, part)
        hasher.update(part)
        report(len(part))
    if hasher.text() != record.digest:
        return Damage(file, None, record.digest, hasher.text())
    return None


def prove_file(opened: Opened, file: str, record: FileRecord) -> None:
    """Check a plain file against the manifest. Raises DamagedError if it differs."""
    damage = find_file_damage(opened, file, record)
    if damage is not None:
        raise damage.error(opened.place)


def read_proven(opened: Opened, file: str, record: FileRecord, *, max_bytes: int) -> bytes:
    """Read a small plain file and prove exactly the bytes that are returned.

    Raises DamagedError if they are not what was committed, FormatError over `max_bytes`.
    """
    size = opened.size(file)
    if size != record.bytes:
        raise Damage(file, None, f"{record.bytes} bytes", f"{size} bytes").error(opened.place)
    data = opened.read_bytes(file, max_bytes)
    found = PREFIX + raw_digest(data).hex()
    if found != record.digest:
        raise Damage(file, None, record.digest, found).error(opened.place)
    return data


def _hash_tensors(
    file: TensorFile,
    names: Iterable[str] | None,
    mismatch: Callable[[Damage], None],
    report: Progress,
    unreadable: Callable[[Unit, DamagedError], None] | None = None,
) -> None:
    """Hash in parallel. unreadable: told of units the disk cannot give back; None: raise."""

    def work(units: Iterator[Unit]) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for unit in units:
            try:
                digests = list(_unit_digests(file, unit, buffer, report))
            except DamagedError as error:
                if unreadable is None:
                    raise
                unreadable(unit, error)
                continue
            for name, found in digests:
                if found != file.digests[name]:
                    mismatch(tensor_damage(file, name, found))

    units = cut_units(file.specs, names)
    run_units(units, work, threads=threads_for(units))


def _unit_digests(
    file: TensorFile, unit: Unit, buffer: memoryview, report: Progress
) -> Iterator[tuple[str, bytes]]:
    start = file.data_start
    if unit.end - unit.begin <= len(buffer):
        data = buffer[: unit.end - unit.begin]
        file.opened.read_into(file.file, start + unit.begin, data)
        for name in unit.names:
            spec = file.specs[name]
            yield name, raw_digest(data[spec.begin - unit.begin : spec.end - unit.begin])
        report(len(data))
        return
    hasher = Hasher()
    for begin, end in chunks(unit.begin, unit.end, len(buffer)):
        part = buffer[: end - begin]
        file.opened.read_into(file.file, start + begin, part)
        hasher.update(part)
        report(len(part))
    yield unit.names[0], hasher.raw()


def tensor_damage(file: TensorFile, name: str, found: bytes) -> Damage:
    """The damage of one tensor whose bytes have the digest `found`."""
    return Damage(file.file, name, PREFIX + file.digests[name].hex(), PREFIX + found.hex())
