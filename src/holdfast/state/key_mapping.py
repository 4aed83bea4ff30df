"""A mapping from the names of a checkpoint to those of a model, as a file people can read and edit.

    {"format": "holdfast-mapping", "version": 1, "entries": [
      {"to": "encoder.weight", "from": ["module.encoder.weight"], "rule": "...", "confidence": 1},
      {"to": "attn.q.weight", "from": ["attn.qkv.weight"], "rows": [0, 512], ...},
      {"to": "attn.kv.weight", "from": ["attn.k.weight", "attn.v.weight"], ...}]}

One source without rows is a rename; with rows a part of it along the first dimension; several
sources are put together along the first dimension, in order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import CheckpointNotFoundError, FormatError
from holdfast.jsontext import Json, dump, parse_object

FORMAT, VERSION = "holdfast-mapping", 1
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class MappingEntry:
    """Where one tensor of the model comes from. rows: begin and end in its only source.

    rule: why, in words. confidence: 0 to 1, how likely it is to be right.
    """

    to: str
    sources: tuple[str, ...]
    rows: tuple[int, int] | None = None
    rule: str = ""
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class KeyMapping:
    """Entries for tensors of a model; those not named keep their names."""

    entries: tuple[MappingEntry, ...]

    def to_bytes(self) -> bytes:
        """The mapping as a file."""
        entries: list[Json] = [
            {
                "to": entry.to,
                "from": list(entry.sources),
                **({} if entry.rows is None else {"rows": list(entry.rows)}),
                "rule": entry.rule,
                "confidence": entry.confidence,
            }
            for entry in self.entries
        ]
        return dump({"format": FORMAT, "version": VERSION, "entries": entries}, indent=2) + b"\n"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> KeyMapping:
        """Read a mapping file. Raises CheckpointNotFoundError or FormatError."""
        where = os.fspath(path)
        try:
            with Path(where).open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise CheckpointNotFoundError(
                f"The mapping cannot be read: {error.strerror}", where=where
            ) from error
        fields = parse_object(data, where=where, max_bytes=_MAX_BYTES)
        entries = fields.get("entries")
        if fields.get("format") != FORMAT or fields.get("version") != VERSION:
            raise FormatError(f"That is no {FORMAT} of version {VERSION}", where=where)
        if not isinstance(entries, list):
            raise FormatError("The mapping has no list of entries", where=where)
        parsed = tuple(_entry(entry, where) for entry in entries)
        names = [entry.to for entry in parsed]
        if len(set(names)) < len(names):
            raise FormatError("The mapping names a tensor of the model twice", where=where)
        return cls(parsed)


def as_mapping(mapping: str | os.PathLike[str] | KeyMapping | None) -> KeyMapping | None:
    """A mapping, read if it is the path of one."""
    if mapping is None or isinstance(mapping, KeyMapping):
        return mapping
    return KeyMapping.read(mapping)


def _entry(data: Json, where: str) -> MappingEntry:
    if isinstance(data, dict):
        to, sources, rows = data.get("to"), data.get("from"), data.get("rows")
        rule, confidence = data.get("rule", ""), data.get("confidence", 1.0)
        texts = isinstance(sources, list) and all(isinstance(name, str) for name in sources)
        if isinstance(to, str) and texts and sources and isinstance(rule, str):
            return MappingEntry(
                to,
                tuple(map(str, sources)),
                _rows(rows, len(sources), where),
                rule,
                float(confidence) if isinstance(confidence, (int, float)) else 1.0,
            )
    raise FormatError(f"{str(data)[:200]} is no entry of a mapping", where=where)


def _rows(rows: Json, sources: int, where: str) -> tuple[int, int] | None:
    if rows is None:
        return None
    if isinstance(rows, Sequence) and len(rows) == 2 and sources == 1:
        begin, end = rows
        if type(begin) is int and type(end) is int and 0 <= begin < end:
            return begin, end
    raise FormatError(f"{str(rows)[:200]} are no rows of one source", where=where)
