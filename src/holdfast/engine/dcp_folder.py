"""A folder that stock `torch.distributed.checkpoint` wrote, tensor by tensor, without its code.

Stock checkpoints have no digests: what can be proven is that pieces cover every tensor exactly
once, that each lies inside its file, and the checksums inside each piece.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holdfast.engine.boxes import Box, coverage_problem
from holdfast.engine.dcp_metadata import Made, Name, read_records
from holdfast.engine.original import read_archive
from holdfast.errors import CheckpointNotFoundError, DamagedError, FormatError
from holdfast.state import StoredTensor
from holdfast.tensorfile.dtypes import STORED

METADATA_FILE = ".metadata"
_METADATA_MAX_BYTES = 256 << 20
_ARCHIVE_EXTRA_BYTES = 1 << 20
_MODEL_PREFIX = "model."


@dataclass(frozen=True, slots=True)
class _Slice:
    """Where a piece lies: a file in the folder, offset and length in bytes."""

    file: str
    offset: int
    length: int


class DcpFolder:
    """An opened folder. tensors: facts by stored name. others: names of what are no tensors.

    Raises CheckpointNotFoundError, FormatError for an index that is more or less than one of a
    distributed checkpoint, or that does not cover its tensors.
    """

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        top = read_records(_index(path), where=str(path / METADATA_FILE))
        described = self._field(top, "state_dict_metadata", dict)
        self.tensors: dict[str, StoredTensor] = {}
        self.others: list[str] = []
        self._pieces: dict[str, list[tuple[Box, _Slice]]] = {}
        slices = self._slices(self._field(top, "storage_data", dict))
        for name, entry in described.items():
            if not isinstance(name, str) or not isinstance(entry, Made):
                raise self._broken("an entry without a name")
            if entry.kind.endswith(".BytesStorageMetadata"):
                self.others.append(name)
                continue
            facts = StoredTensor(self._dtype(entry), self._sizes(entry, "size"))
            self.tensors[name] = facts
            self._pieces[name] = self._covering(name, facts, entry, slices)

    def model(self) -> dict[str, str]:
        """The model's FQN to stored name: what is under "model" where that is, else all tensors."""
        found = {n.removeprefix(_MODEL_PREFIX): n for n in self.tensors if _of_model(n)}
        return found or {name: name for name in self.tensors}

    def read(self, name: str) -> Tensor:
        """One tensor in new memory. Raises DamagedError or FormatError."""
        facts = self.tensors[name]
        whole = torch.empty(facts.shape, dtype=facts.dtype)
        for box, place in self._pieces[name]:
            piece = self._read_piece(name, place, facts, box)
            target = whole
            for dimension, (begin, size) in enumerate(zip(box.offsets, box.sizes, strict=True)):
                target = target.narrow(dimension, begin, size)
            target.copy_(piece)
        return whole

    def _read_piece(self, name: str, place: _Slice, facts: StoredTensor, box: Box) -> Tensor:
        where = f"{self.place}/{place.file}: {name[:200]}"
        with (self._path / place.file).open("rb") as stream:
            stream.seek(place.offset)
            data = stream.read(place.length)
        if len(data) != place.length:
            raise DamagedError("The file ends before its data does", where=where)
        found = read_archive(io.BytesIO(data), where)
        if not isinstance(found, Tensor):
            raise FormatError(f"A {type(found).__name__} lies where a tensor should", where=where)
        if tuple(found.shape) != tuple(box.sizes) or found.dtype != facts.dtype:
            raise FormatError(
                f"The piece is {found.dtype} {list(found.shape)}, the index says {facts.dtype} "
                f"{list(box.sizes)}",
                where=where,
            )
        return found

    def _covering(
        self,
        name: str,
        facts: StoredTensor,
        entry: Made,
        slices: Mapping[tuple[str, tuple[int, ...]], _Slice],
    ) -> list[tuple[Box, _Slice]]:
        boxes = [
            Box(self._sizes(chunk, "offsets"), self._sizes(chunk, "sizes"))
            for chunk in self._field(entry, "chunks", list)
        ]
        rank = len(facts.shape)
        if any(len(box.offsets) != rank or len(box.sizes) != rank for box in boxes):
            raise self._broken(f"a piece of {name[:200]!r} with another number of dimensions")
        problem = coverage_problem(facts.shape, boxes)
        lost = [box for box in boxes if (name, tuple(box.offsets)) not in slices]
        if problem is not None or lost:
            raise FormatError(
                f"The tensor {name[:200]!r} is not whole: {problem or 'a piece is nowhere'}",
                where=self.place,
                fix="take another checkpoint",
            )
        found = [(box, slices[name, tuple(box.offsets)]) for box in boxes]
        for box, place in found:
            # Neither more memory than there are bytes, nor a whole storage for a small view of it.
            expected = math.prod(box.sizes) * facts.dtype.itemsize
            if not expected <= place.length <= expected + _ARCHIVE_EXTRA_BYTES:
                raise self._broken(f"a piece of {expected} bytes takes {place.length}")
        return found

    @property
    def files(self) -> int:
        """How many files hold tensors."""
        return len({place.file for pieces in self._pieces.values() for _, place in pieces})

    def _slices(self, entries: Mapping[Any, Any]) -> dict[tuple[str, tuple[int, ...]], _Slice]:
        found = {}
        for key, value in entries.items():
            fqn = self._field(key, "fqn", str)
            at = self._sizes(key, "offset") if key.state.get("offset") is not None else ()
            if self._fields(value).get("transform_descriptors"):
                raise FormatError(
                    "Its data was transformed (compressed, say) as it was written",
                    where=self.place,
                    fix="save it again without extensions",
                )
            file = self._field(value, "relative_path", str)
            if os.path.basename(file) != file or file.startswith(".") or "\0" in file:
                raise self._broken(f"the file name {file[:200]!r}")
            offset, length = (self._field(value, key, int) for key in ("offset", "length"))
            if offset < 0 or length < 0:
                raise self._broken(f"the place {offset} of {file[:200]!r}")
            path = self._path / file
            if not path.is_file() or offset + length > path.stat().st_size:
                raise DamagedError("The file is missing or cut short", where=str(path))
            found[fqn, at] = _Slice(file, offset, length)
        return found

    def _dtype(self, entry: Made) -> torch.dtype:
        properties = self._fields(entry).get("properties")
        state = properties.state if isinstance(properties, Made) else None
        name = state[0] if isinstance(state, tuple) and state else None
        dtype = getattr(torch, name.name, None) if isinstance(name, Name) else None
        if not isinstance(dtype, torch.dtype) or dtype not in STORED:
            raise self._broken("a tensor without a dtype that is known here")
        return dtype

    def _sizes(self, entry: Any, key: str) -> tuple[int, ...]:
        size = self._field(entry, key, Made)
        sizes = size.args[0] if size.kind == "torch.Size" and size.args else None
        fits = isinstance(sizes, tuple) and all(type(n) is int and 0 <= n < 1 << 63 for n in sizes)
        if not fits:
            raise self._broken(f"{key} is no shape")
        return tuple(sizes or ())

    def _fields(self, entry: Any) -> Mapping[str, Any]:
        if not isinstance(entry, Made) or not isinstance(entry.state, dict):
            raise self._broken("an entry without fields")
        return entry.state

    def _field(self, entry: Any, key: str, kind: type) -> Any:
        value = self._fields(entry).get(key)
        if type(value) is not kind:
            raise self._broken(f"{key} is a {type(value).__name__}")
        return value

    def _broken(self, what: str) -> FormatError:
        return FormatError(
            f"Its index is not that of a distributed checkpoint: {what}", where=self.place
        )


def is_dcp_folder(path: Path) -> bool:
    """Whether a stock distributed checkpoint lies there."""
    return (path / METADATA_FILE).is_file()


def _index(path: Path) -> bytes:
    if not is_dcp_folder(path):
        raise CheckpointNotFoundError("There is no distributed checkpoint", where=str(path))
    with (path / METADATA_FILE).open("rb") as stream:
        data = stream.read(_METADATA_MAX_BYTES + 1)
    if len(data) > _METADATA_MAX_BYTES:
        raise FormatError(f"Its index has over {_METADATA_MAX_BYTES} bytes", where=str(path))
    return data


def _of_model(name: str) -> bool:
    return name.startswith(_MODEL_PREFIX)
