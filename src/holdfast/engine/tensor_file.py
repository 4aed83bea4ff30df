"""A tensor file as the checkpoint describes it, proven as far as its header goes. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.digest import PREFIX, combine, raw_digest
from holdfast.engine.state_file import TensorFileEntry
from holdfast.errors import DamagedError, FormatError
from holdfast.jsontext import Json
from holdfast.manifest import FileRecord
from holdfast.storage.protocol import Opened
from holdfast.tensorfile import TensorSpec, header_length, parse_header
from holdfast.tensorfile.header import PREFIX_BYTES

_FIX = "restore the file from a copy, or fall back to an older checkpoint"


@dataclass(frozen=True, slots=True)
class TensorFile:
    """One tensor file whose header is proven: what may be asked of it, and where the bytes lie.

    specs: in offset order, offsets relative to `data_start`. digests: 16 raw bytes per tensor, as
    committed. notes: see `holdfast.tensorfile.notes`. The data section is not proven yet.
    """

    opened: Opened
    file: str
    data_start: int
    specs: Mapping[str, TensorSpec]
    digests: Mapping[str, bytes]
    notes: Mapping[str, Mapping[str, Json]]

    @property
    def where(self) -> str:
        """The file, for error messages."""
        return place_of(self.opened, self.file)


def open_tensor_file(
    opened: Opened, file: str, entry: TensorFileEntry, record: FileRecord
) -> TensorFile:
    """Read and prove the header of one tensor file.

    entry: the file's part of state.json. record: its part of the manifest. Proven are the size,
    the header's digest, the safetensors rules, that header and digest table name the same
    tensors, and that the digest table is the one the manifest was committed with.
    Raises DamagedError if the file is not what was committed, FormatError if what was committed
    breaks a rule.
    """
    where = place_of(opened, file)
    size = opened.size(file)
    if size != record.bytes:
        raise DamagedError(
            f"The file has {size} bytes, committed were {record.bytes}", where=where, fix=_FIX
        )
    header = _read_header(opened, file, size, where)
    found = raw_digest(header)
    if PREFIX + found.hex() != entry.header:
        raise DamagedError(
            f"The header's digest is {PREFIX}{found.hex()}, committed was {entry.header}",
            where=where,
            fix=_FIX,
        )
    specs, _ = parse_header(header, size, where=where)
    digests = _digests(specs, entry, where)
    whole = combine([found, *digests.values()])
    if whole != record.digest:
        raise DamagedError(
            f"The tensor digests in state.json combine to {whole}, the manifest has "
            f"{record.digest}",
            where=where,
            fix=_FIX,
        )
    if len(specs) != record.tensors:
        raise FormatError(
            f"The file holds {len(specs)} tensors, the manifest counts {record.tensors}",
            where=where,
        )
    return TensorFile(opened, file, len(header), specs, digests, entry.notes)


def place_of(opened: Opened, file: str) -> str:
    """A file of a checkpoint, for error messages."""
    return f"{opened.place}/{file}"


def _read_header(opened: Opened, file: str, size: int, where: str) -> bytes:
    prefix = bytearray(min(PREFIX_BYTES, size))
    opened.read_into(file, 0, memoryview(prefix))
    header = bytearray(header_length(bytes(prefix), size, where=where))
    opened.read_into(file, 0, memoryview(header))
    return bytes(header)


def _digests(
    specs: Mapping[str, TensorSpec], entry: TensorFileEntry, where: str
) -> dict[str, bytes]:
    """The committed digests in offset order."""
    if specs.keys() != entry.tensors.keys():
        odd = min(specs.keys() ^ entry.tensors.keys())
        side = "the file" if odd in specs else "state.json"
        raise FormatError(
            f"The file and state.json name different tensors: {odd[:200]!r} is only in {side}",
            where=where,
        )
    return {name: bytes.fromhex(entry.tensors[name]) for name in specs}
